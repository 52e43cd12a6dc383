// Rotary position embedding: frequencies with their scaling, and the tables of cosines and sines.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/gguf.h"
#include "model/config.h"

namespace stoker {

// Frequencies and magnitude from the rope.* keys: none, linear, or YaRN (arXiv:2309.00071), whose
// magnitude is the file's attention factor, else 0.1 ln(factor) + 1. `default_dims` holds where
// rope.dimension_count is absent. Unimplemented for other scalings.
absl::StatusOr<RopeConfig> ReadRope(const GgufModel& gguf, std::string_view arch, int default_dims);

// YaRN's factor on magnitudes: 0.1 * multiplier * ln(factor) + 1, or 1 when nothing is stretched.
double YarnMagnitude(double factor, double multiplier);

struct RopeArrays {  // [context, dims / 2] each
  float* cosines = nullptr;
  float* sines = nullptr;
};
// Fills positions [begin, end), computed in double and rounded once. `divisors` (may be null)
// divide the frequencies: the tensor rope_freqs.weight, in which converters leave Llama-3's
// scaling.
void FillRopeTable(const RopeConfig& rope, const float* divisors, int64_t begin, int64_t end,
                   const RopeArrays& table);

}  // namespace stoker
