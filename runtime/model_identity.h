// What a model is known by to files that outlive a run: usage profiles and traces.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "io/gguf.h"

namespace stoker {

// A hash (XXH3) of what can be known without reading the weights: the sizes of the files, the
// tensor directory with formats and places, and the scalar metadata. Names of files do not count,
// so a model that is moved stays the same. Never 0. Two fine-tunes with equal directories and
// metadata are not told apart: what is kept under an identity may guide, never decide.
uint64_t IdentifyModel(const GgufModel& gguf);

// A hash (XXH3) of samples of the weights: 4 KiB from the middle of each of 256 tensors spread over
// the model. Tells fine-tunes apart that differ there, where IdentifyModel alone may not decide.
// The errors of reading.
absl::StatusOr<uint64_t> IdentifyWeights(const GgufModel& gguf);

// As 16 hexadecimal digits.
std::string FormatIdentity(uint64_t identity);

}  // namespace stoker
