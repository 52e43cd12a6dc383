// The block dot of any format through its plain integers. It serves the formats and instruction
// sets that have no kernel of their own.
#pragma once

#include "kernels/formats/integers.h"
#include "kernels/ops.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

// The strands of one dot product, and their sum in the order of the contract.
struct Strands {
  float s[8] = {};

  float Sum() const {
    const float a = (s[0] + s[4]) + (s[2] + s[6]);
    const float b = (s[1] + s[5]) + (s[3] + s[7]);
    return a + b;
  }
};

inline int32_t IntegerDot(const int8_t* a, const int8_t* b, int length) {
  int32_t sum = 0;
  for (int i = 0; i < length; ++i) sum += a[i] * b[i];
  return sum;
}

// Adds block `b` of a row to its strand.
template <typename Format>
void AddBlock(const Integers32& w, const std::byte* x, int64_t b, Strands& strands) {
  const Q8x32Group& group = reinterpret_cast<const Q8x32Group*>(x)[b / 8];
  const int32_t isum = IntegerDot(w.q, group.q + 32 * (b % 8), 32);
  float& s = strands.s[b % 8];
  s = __builtin_fmaf(w.d * group.d[b % 8], static_cast<float>(isum), s);
}

template <typename Format>
void AddBlock(const Integers256& w, const std::byte* x, int64_t b, Strands& strands) {
  const Q8x256Group& group = reinterpret_cast<const Q8x256Group*>(x)[b];
  int32_t isum = 0;
  int32_t msum = 0;
  for (int j = 0; j < 16; ++j) {
    isum += w.scale[j] * IntegerDot(w.q + 16 * j, group.q + 16 * j, 16);
    msum += w.minimum[j] * group.sums[j];
  }
  float& s = strands.s[b % 8];
  s = __builtin_fmaf(w.d * group.d, static_cast<float>(isum), s);
  if constexpr (Format::kHasMinima) {
    s = __builtin_fmaf(-(w.dmin * group.d), static_cast<float>(msum), s);
  }
}

// One row of weights against up to kAnyCount rows of activations, each block unpacked once.
inline constexpr int64_t kAnyCount = 16;

template <typename Format>
void AnyRow(const typename Format::Block* blocks, int64_t block_count, const std::byte* const* x,
            int64_t count, float* const* out, int64_t r) {
  Strands strands[kAnyCount];
  for (int64_t b = 0; b < block_count; ++b) {
    const auto unpacked = Format::Unpack(blocks[b]);
    for (int64_t j = 0; j < count; ++j) AddBlock<Format>(unpacked, x[j], b, strands[j]);
  }
  for (int64_t j = 0; j < count; ++j) out[j][r] = strands[j].Sum();
}

template <typename Format>
void AnyMatmul(const MatmulArgs& args) {
  const int64_t block_count = args.w.cols / Format::kBlockValues;
  const auto* blocks = reinterpret_cast<const typename Format::Block*>(args.w.data);
  for (int64_t j = 0; j < args.count; j += kAnyCount) {
    const int64_t count = args.count - j < kAnyCount ? args.count - j : kAnyCount;
    for (int64_t r = args.row_begin; r < args.row_end; ++r) {
      AnyRow<Format>(blocks + r * block_count, block_count, args.x + j, count, args.out + j, r);
    }
  }
}

}  // namespace
}  // namespace stoker::cpu::STOKER_ISA
