// Random weights of a wanted spread, as valid blocks of any computable format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/dtype.h"

namespace stoker {

// xoshiro256** (Blackman, Vigna 2018), seeded by SplitMix64: fast enough to write gigabytes.
class FastRandom {
 public:
  explicit FastRandom(uint64_t seed);
  uint64_t Next();
  double Uniform();  // [0, 1)
  void Fill(absl::Span<uint8_t> bytes);

 private:
  uint64_t state_[4];
};

// Whether RandomBlocks can make this format.
bool CanMakeBlocks(Dtype dtype);

// `values` weights of mean about 0 and standard deviation about `deviation`. Quants are uniform
// over their range, with sub-block scales varying by a third; requires whole blocks.
std::vector<uint8_t> RandomBlocks(Dtype dtype, int64_t values, double deviation,
                                  FastRandom& random);

// Plain values in F32, F16, BF16 or Q8_0, for tensors whose contents matter.
std::vector<uint8_t> EncodeValues(Dtype dtype, absl::Span<const float> values);

}  // namespace stoker
