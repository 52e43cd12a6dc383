// Weights and activations for kernel tests: random, extreme and vanishing, at guarded addresses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/backends.h"
#include "kernels/ops.h"

namespace stoker {

inline constexpr Dtype kComputableDtypes[] = {Dtype::kF32,  Dtype::kF16,  Dtype::kBF16,
                                              Dtype::kQ8_0, Dtype::kQ4_0, Dtype::kQ4_K,
                                              Dtype::kQ5_K, Dtype::kQ6_K};

enum class WeightStyle {
  kRandom,   // every bit random, scales of either sign near 2^-6
  kLargest,  // every integer and sub-scale at its largest or most negative, one a block
  kTiny,     // random integers, subnormal scales of either sign
  kZero,     // all bits zero, but scales of -0
};
inline constexpr WeightStyle kWeightStyles[] = {WeightStyle::kRandom, WeightStyle::kLargest,
                                                WeightStyle::kTiny, WeightStyle::kZero};

enum class ActivationStyle {
  kNormal,   // standard normal
  kSpikes,   // normal, with a few values a thousand times as large: most integers vanish
  kLargest,  // +-1 at random: every integer is +-127
  kSame,     // all ones: sums are at their largest
  kTiny,     // normal times 2^-118: some blocks vanish
  kZero,     // zeros of either sign
};
inline constexpr ActivationStyle kActivationStyles[] = {
    ActivationStyle::kNormal, ActivationStyle::kSpikes, ActivationStyle::kLargest,
    ActivationStyle::kSame,   ActivationStyle::kTiny,   ActivationStyle::kZero};

// Bytes that end at an unreadable page (reading past the end faults), `slack` bytes before it.
class GuardedBytes {
 public:
  explicit GuardedBytes(size_t bytes, size_t slack = 0);
  ~GuardedBytes();
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  std::byte* data() const { return data_; }

 private:
  std::byte* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
  std::byte* data_ = nullptr;
};

using Random = std::mt19937_64;

// Valid blocks of `dtype`: finite scales.
void FillWeights(Dtype dtype, WeightStyle style, std::byte* data, size_t bytes, Random& random);
std::vector<float> MakeActivations(ActivationStyle style, int64_t cols, Random& random);

// Quantized activation rows of one kind, with their panels.
class ActivationRows {
 public:
  ActivationRows(const Ops& ops, ActivationKind kind, int64_t cols,
                 const std::vector<std::vector<float>>& rows);
  const std::byte* const* rows() const { return pointers_.data(); }
  const std::byte* panels() const { return panels_; }

 private:
  std::vector<std::byte> storage_;
  std::vector<const std::byte*> pointers_;
  std::byte* panels_ = nullptr;
};

// For INSTANTIATE_TEST_SUITE_P: every backend but the reference, which the others are held to.
std::vector<BackendRow> FastBackends();
std::string BackendTestName(const BackendRow& row);

}  // namespace stoker

// Skips the running test, aloud, on a processor that lacks the backend's instructions.
#define SKIP_UNLESS_RUNNABLE(backend)                                              \
  do {                                                                             \
    if (!(backend).runs_here()) {                                                  \
      GTEST_SKIP() << "this processor cannot run " << (backend).name << ": needs " \
                   << (backend).description;                                       \
    }                                                                              \
  } while (0)
