// Dots of two rows of weights with a few activation rows, by one warp: what the experts' kernel
// does with every row it walks.
//
// The lanes of a warp are 8 strands of 4. Block b of a quantized row is strand b % 8's, and each of
// its lanes takes a quarter of the block, for both rows of weights and all activation rows. As the
// quarters are added, the lanes share out what they add: each goes on with some of the products
// only, so that no lane scales or folds what another does.
#pragma once

#include "kernels/cuda/dot.cuh"
#include "kernels/cuda/lane_part.cuh"
#include "kernels/cuda/port.cuh"

namespace stoker::STOKER_DEVICE_NAMESPACE {

inline constexpr int kWarpLanes = 32;
inline constexpr int kStrands = 8;
inline constexpr int kStrandLanes = kWarpLanes / kStrands;

// Rows that are walked side by side.
struct TwoRows {
  const std::byte* first;
  const std::byte* second;
};

// A few activation rows. Rows start at multiples of 64 bytes, which is how offsets are counted:
// that is half the registers of pointers.
inline constexpr int kColumnUnit = 64;
template <int kCols>
struct Columns {
  const std::byte* base;
  uint32_t offset[kCols];
  __device__ __forceinline__ const std::byte* operator[](int j) const {
    return base + static_cast<uint64_t>(offset[j]) * kColumnUnit;
  }
};

// What they give with the activation row of the lane's number.
struct TwoDots {
  float first;
  float second;
};

// Adds values over the lanes that differ in the bits kApart, kApart / 2, ... kApartMin, the halving
// tree of the exactness contract, and shares them out: at each step the lane with the bit clear
// goes on with the first half of the values, the other with the second, until one is left.
template <int kCount, int kApart, int kApartMin, typename T>
__device__ __forceinline__ void AddAndShare(T* values, int lane) {
  if constexpr (kApart >= kApartMin) {
    constexpr int kHalf = kCount > 1 ? kCount / 2 : 1;
    const bool is_upper = (lane & kApart) != 0;
    for (int i = 0; i < kHalf; ++i) {
      const T upper = values[kCount > 1 ? i + kHalf : i];
      const T kept = is_upper ? upper : values[i];
      const T given = is_upper ? values[i] : upper;
      values[i] = kept + __shfl_xor_sync(kAllLanes, given, kApart);
    }
    AddAndShare<kHalf, kApart / 2, kApartMin>(values, lane);
  }
}

// The products [row of weights][column], one in each lane after they were shared out by the bits
// kBits in turn, given to the lanes of their columns.
template <int kCols, int... kBits>
__device__ __forceinline__ TwoDots GiveToColumns(float product, int lane) {
  constexpr int kBitOf[] = {kBits...};
  int source = 0;
  for (int i = 1, half = kCols / 2; half > 0; ++i, half /= 2) {
    if ((lane & half) != 0) source |= kBitOf[i];
  }
  return {__shfl_sync(kAllLanes, product, source),
          __shfl_sync(kAllLanes, product, source | kBitOf[0])};
}

template <typename Format, int kCols>
__device__ __forceinline__ TwoDots DotFloatRows(const TwoRows& rows, const Columns<kCols>& x,
                                                int64_t cols, int lane) {
  float sums[2 * kCols] = {};
  for (int64_t i = lane; i < cols; i += kWarpLanes) {
    const float first = LoadFloatWeight<Format>(rows.first, i);
    const float second = LoadFloatWeight<Format>(rows.second, i);
    STOKER_UNROLL
    for (int j = 0; j < kCols; ++j) {
      const float input = reinterpret_cast<const float*>(x[j])[i];
      sums[j] = __fmaf_rn(first, input, sums[j]);
      sums[kCols + j] = __fmaf_rn(second, input, sums[kCols + j]);
    }
  }
  AddAndShare<2 * kCols, 16, 1>(sums, lane);
  return GiveToColumns<kCols, 16, 8, 4, 2, 1>(sums[0], lane);
}

// Adds what a part of both rows gives with one activation row. The row is read as what other blocks
// may have written just now: not by way of the read-only cache, which DotPart may use.
template <typename Format>
__device__ __forceinline__ void DotParts(const LanePart<Format> (&w)[2], const Q8x256Group& x,
                                         int /*strand*/, int part, BlockSums& first,
                                         BlockSums& second) {
  STOKER_UNROLL
  for (int r = 0; r < LanePart256::kRuns; ++r) {
    const int run = LanePart<Format>::Run(part, r);
    const uint4 q = reinterpret_cast<const uint4*>(x.q)[run];
    const uint32_t words[] = {q.x, q.y, q.z, q.w};
    int dots[2] = {};
    STOKER_UNROLL
    for (int i = 0; i < 4; ++i) {
      dots[0] = Dp4a(w[0].q[4 * r + i], words[i], dots[0]);
      dots[1] = Dp4a(w[1].q[4 * r + i], words[i], dots[1]);
    }
    first.isum += w[0].scale[r] * dots[0];
    second.isum += w[1].scale[r] * dots[1];
    if constexpr (LanePart<Format>::kHasMinima) {
      const int sum = x.sums[run];
      first.msum += w[0].minimum[r] * sum;
      second.msum += w[1].minimum[r] * sum;
    }
  }
}

template <typename Format>
__device__ __forceinline__ void DotParts(const LanePart<Format> (&w)[2], const Q8x32Group& x,
                                         int strand, int part, BlockSums& first,
                                         BlockSums& second) {
  const auto* words = reinterpret_cast<const uint32_t*>(x.q) + 8 * strand;
  STOKER_UNROLL
  for (int i = 0; i < 2; ++i) {
    const uint32_t word = words[LanePart<Format>::Word(part, i)];
    first.isum = Dp4a(w[0].q[i], word, first.isum);
    second.isum = Dp4a(w[1].q[i], word, second.isum);
  }
}

__device__ __forceinline__ float InputScale(const Q8x256Group& x, int /*strand*/) { return x.d; }
__device__ __forceinline__ float InputScale(const Q8x32Group& x, int strand) { return x.d[strand]; }

template <typename Format, bool kWide, int kCols>
__device__ __forceinline__ TwoDots DotBlockRows(const TwoRows& rows, const Columns<kCols>& x,
                                                int64_t cols, int lane) {
  using Group = ActivationGroup<Format>;
  constexpr int kGroupBlocks = 256 / Format::kBlockValues;
  constexpr bool kHasMinima = LanePart<Format>::kHasMinima;
  // What a lane goes on with: row lane & 2, and the half of the columns that lane & 1 tells.
  constexpr int kMine = kCols > 1 ? kCols / 2 : 1;
  const bool has_upper_columns = kCols > 1 && (lane & 1) != 0;
  const auto* first = reinterpret_cast<const typename Format::Block*>(rows.first);
  const auto* second = reinterpret_cast<const typename Format::Block*>(rows.second);
  const int strand = lane / kStrandLanes;
  const int part = lane % kStrandLanes;
  const auto block_count = static_cast<int>(cols / Format::kBlockValues);
  float sums[kMine] = {};
  for (int base = 0; base < block_count; base += kStrands) {
    // Strands past the end do the last block once more, to nobody's notice.
    const bool is_there = base + strand < block_count;
    const int b = is_there ? base + strand : block_count - 1;
    const LanePart<Format> w[2] = {LanePart<Format>::template Load<kWide>(first[b], part),
                                   LanePart<Format>::template Load<kWide>(second[b], part)};
    int isum[kCols];
    int msum[kCols];
    STOKER_UNROLL
    for (int j = 0; j < kCols; ++j) {
      const Group& group = reinterpret_cast<const Group*>(x[j])[b / kGroupBlocks];
      BlockSums sums_of[2];
      DotParts(w, group, strand, part, sums_of[0], sums_of[1]);
      // The rows are shared out column by column, which leaves one row's sums to hold, not two.
      int isums[] = {sums_of[0].isum, sums_of[1].isum};
      AddAndShare<2, 2, 2>(isums, lane);
      isum[j] = isums[0];
      if constexpr (kHasMinima) {
        int msums[] = {sums_of[0].msum, sums_of[1].msum};
        AddAndShare<2, 2, 2>(msums, lane);
        msum[j] = msums[0];
      }
    }
    AddAndShare<kCols, 1, 1>(isum, lane);
    if constexpr (kHasMinima) AddAndShare<kCols, 1, 1>(msum, lane);
    if (!is_there) continue;
    const bool is_second = (lane & 2) != 0;
    const float d = is_second ? w[1].d : w[0].d;
    STOKER_UNROLL
    for (int i = 0; i < kMine; ++i) {
      const std::byte* column = has_upper_columns ? x[i + kCols / 2] : x[i];
      const float dx = InputScale(reinterpret_cast<const Group*>(column)[b / kGroupBlocks], strand);
      sums[i] = __fmaf_rn(d * dx, static_cast<float>(isum[i]), sums[i]);
      if constexpr (kHasMinima) {
        const float dmin = is_second ? w[1].dmin : w[0].dmin;
        sums[i] = __fmaf_rn(-(dmin * dx), static_cast<float>(msum[i]), sums[i]);
      }
    }
  }
  AddAndShare<kMine, 16, 4>(sums, lane);
  return GiveToColumns<kCols, 2, 1, 16, 8, 4>(sums[0], lane);
}

// The same for rows that may be at a 16-byte border, of a format that gains from it.
template <typename Format, int kCols>
__device__ __forceinline__ TwoDots DotWideRows(const TwoRows& rows, const Columns<kCols>& x,
                                               int64_t cols, int lane) {
  static_assert(LanePart<Format>::kCanBeWide);
  const auto addresses =
      reinterpret_cast<uintptr_t>(rows.first) | reinterpret_cast<uintptr_t>(rows.second);
  return addresses % 16 == 0 ? DotBlockRows<Format, true>(rows, x, cols, lane)
                             : DotBlockRows<Format, false>(rows, x, cols, lane);
}

// Dots of `rows`, of format `dtype` and `cols` columns, with the rows x. What x points to may have
// been written by other blocks of the launch; what `rows` points to may not.
template <int kCols>
__device__ __forceinline__ TwoDots DotTwoRows(Dtype dtype, const TwoRows& rows,
                                              const Columns<kCols>& x, int64_t cols, int lane) {
  switch (dtype) {
    case Dtype::kF32:
      return DotFloatRows<F32>(rows, x, cols, lane);
    case Dtype::kF16:
      return DotFloatRows<F16>(rows, x, cols, lane);
    case Dtype::kBF16:
      return DotFloatRows<BF16>(rows, x, cols, lane);
    case Dtype::kQ8_0:
      return DotBlockRows<Q8_0, false>(rows, x, cols, lane);
    case Dtype::kQ4_0:
      return DotBlockRows<Q4_0, false>(rows, x, cols, lane);
    case Dtype::kQ4_K:
      return DotWideRows<Q4_K>(rows, x, cols, lane);
    case Dtype::kQ5_K:
      return DotWideRows<Q5_K>(rows, x, cols, lane);
    case Dtype::kQ6_K:
      return DotBlockRows<Q6_K, false>(rows, x, cols, lane);
    default:
      return {};  // the launcher has looked at the format
  }
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
