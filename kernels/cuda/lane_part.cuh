// What one lane holds of a block of quantized weights: a quarter of it, unpacked, for any number of
// activation rows.
//
// The block dot of kernels/ops.h invites a warp to take eight blocks at once: block b goes to
// strand b % 8, which is lanes 4 (b % 8) to 4 (b % 8) + 3, a part of the block each. A part of 256
// values is four runs of 16; a part of 32 values is two words. Weights are unpacked to signed bytes
// once and meet each activation row by dp4a.
#pragma once

#include "kernels/cuda/port.cuh"
#include "kernels/formats/q4_0.h"
#include "kernels/formats/q4_k.h"
#include "kernels/formats/q5_k.h"
#include "kernels/formats/q6_k.h"
#include "kernels/formats/q8_0.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {

// Words from an even address, read as aligned words: what lies beside them in the first and the
// last is read too.
template <int kWords>
__device__ __forceinline__ void LoadWords(const uint8_t* p, uint32_t (&words)[kWords]) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  const auto* from = reinterpret_cast<const uint32_t*>(address & ~uintptr_t{3});
  const unsigned shift = static_cast<unsigned>(address & 2) * 8;
  uint32_t low = __ldg(from);
  STOKER_UNROLL
  for (int i = 0; i < kWords; ++i) {
    const uint32_t high = i + 1 < kWords || shift != 0 ? __ldg(from + i + 1) : 0;
    words[i] = __funnelshift_r(low, high, shift);
    low = high;
  }
}

// The same from a 16-byte border.
template <int kWords>
__device__ __forceinline__ void LoadWideWords(const uint8_t* p, uint32_t (&words)[kWords]) {
  static_assert(kWords % 4 == 0);
  STOKER_UNROLL
  for (int i = 0; i < kWords; i += 4) {
    const uint4 four = __ldg(reinterpret_cast<const uint4*>(p) + i / 4);
    words[i] = four.x, words[i + 1] = four.y, words[i + 2] = four.z, words[i + 3] = four.w;
  }
}

template <bool kWide, int kWords>
__device__ __forceinline__ void LoadWordsFrom(const uint8_t* p, uint32_t (&words)[kWords]) {
  if constexpr (kWide) {
    LoadWideWords(p, words);
  } else {
    LoadWords(p, words);
  }
}

// Two bytes at an even address.
__device__ __forceinline__ uint32_t LoadPair(const uint8_t* p) {
  return __ldg(reinterpret_cast<const uint16_t*>(p));
}
__device__ __forceinline__ float LoadScale(const uint8_t* p) {
  return WidenHalf(static_cast<uint16_t>(LoadPair(p)));
}

// Bytes of 0 to 127, each less kOffset, as signed bytes.
template <uint32_t kOffset>
__device__ __forceinline__ uint32_t LessOffset(uint32_t bytes) {
  return ((bytes | 0x80808080u) - kOffset * 0x01010101u) ^ 0x80808080u;
}

__device__ __forceinline__ int SignedByte(uint32_t word, int byte) {
  return static_cast<int8_t>(word >> (8 * byte));
}

// The integers of one block (or the part of it that a lane has seen) and one activation row.
struct BlockSums {
  int isum = 0;
  int msum = 0;
};

// A part of 256 values. The runs are those of the block from 4 part on for Q4_K and Q5_K; of Q6_K
// see there.
struct LanePart256 {
  static constexpr int kRuns = 4;
  uint32_t q[4 * kRuns];  // run r: words 4 r to 4 r + 3
  int scale[kRuns];
  int minimum[kRuns];  // unused without minima
  float d;
  float dmin;
};

// A part of 32 values: two words.
struct LanePart32 {
  uint32_t q[2];
  float d;
};

template <typename Format>
struct LanePart;

// The scales and minima of sub-blocks 2 part and 2 part + 1, as pairs of bytes.
__device__ __forceinline__ void LoadKHeader(const KHeader& header, int part, LanePart256& lane) {
  const uint8_t* pairs = header.scales + 2 * (part & 1);
  const uint32_t a = LoadPair(pairs);
  const uint32_t b = LoadPair(pairs + 4);
  const uint32_t c = LoadPair(pairs + 8);
  const bool low = part < 2;
  const uint32_t scales = low ? a & 0x3f3fu : (c & 0x0f0fu) | ((a >> 2) & 0x3030u);
  const uint32_t minima = low ? b & 0x3f3fu : ((c >> 4) & 0x0f0fu) | ((b >> 2) & 0x3030u);
  lane.scale[0] = lane.scale[1] = static_cast<int>(scales & 255u);
  lane.scale[2] = lane.scale[3] = static_cast<int>(scales >> 8);
  lane.minimum[0] = lane.minimum[1] = static_cast<int>(minima & 255u);
  lane.minimum[2] = lane.minimum[3] = static_cast<int>(minima >> 8);
  lane.d = LoadScale(header.d);
  lane.dmin = LoadScale(header.dmin);
}

template <>
struct LanePart<Q4_K> : LanePart256 {
  static constexpr bool kCanBeWide = true;  // rows at a 16-byte border are so block by block
  static constexpr bool kHasMinima = true;
  // Which of the block's runs of 16 values is run r.
  __device__ __forceinline__ static int Run(int part, int r) { return 4 * part + r; }

  template <bool kWide>
  __device__ __forceinline__ static LanePart Load(const Q4_K::Block& block, int part) {
    LanePart lane;
    uint32_t words[8];
    LoadWordsFrom<kWide>(block.q + 32 * part, words);
    STOKER_UNROLL
    for (int i = 0; i < 8; ++i) {
      lane.q[i] = words[i] & 0x0f0f0f0fu;
      lane.q[i + 8] = (words[i] >> 4) & 0x0f0f0f0fu;
    }
    LoadKHeader(block.header, part, lane);
    return lane;
  }
};

template <>
struct LanePart<Q5_K> : LanePart256 {
  static constexpr bool kCanBeWide = true;
  static constexpr bool kHasMinima = true;
  __device__ __forceinline__ static int Run(int part, int r) { return 4 * part + r; }

  template <bool kWide>
  __device__ __forceinline__ static LanePart Load(const Q5_K::Block& block, int part) {
    LanePart lane;
    uint32_t words[8];
    uint32_t high[8];
    LoadWordsFrom<kWide>(block.q + 32 * part, words);
    LoadWordsFrom<kWide>(block.high, high);
    STOKER_UNROLL
    for (int i = 0; i < 8; ++i) {
      const uint32_t bits = high[i] >> (2 * part);
      lane.q[i] = (words[i] & 0x0f0f0f0fu) | ((bits << 4) & 0x10101010u);
      lane.q[i + 8] = ((words[i] >> 4) & 0x0f0f0f0fu) | ((bits << 3) & 0x10101010u);
    }
    LoadKHeader(block.header, part, lane);
    return lane;
  }
};

// A part is 32 bytes of `low`, hence two times 32 values that lie 64 apart.
template <>
struct LanePart<Q6_K> : LanePart256 {
  static constexpr bool kCanBeWide = false;
  static constexpr bool kHasMinima = false;
  __device__ __forceinline__ static int Run(int part, int r) {
    return 8 * (part / 2) + 2 * (part % 2) + 4 * (r / 2) + r % 2;
  }

  template <bool kWide>
  __device__ __forceinline__ static LanePart Load(const Q6_K::Block& block, int part) {
    LanePart lane;
    uint32_t words[8];
    uint32_t high[8];
    LoadWords(block.low + 32 * part, words);
    LoadWords(block.high + 32 * (part / 2), high);
    STOKER_UNROLL
    for (int i = 0; i < 8; ++i) {
      const uint32_t bits = high[i] >> (2 * (part % 2));
      lane.q[i] = LessOffset<32>((words[i] & 0x0f0f0f0fu) | ((bits << 4) & 0x30303030u));
      lane.q[i + 8] = LessOffset<32>(((words[i] >> 4) & 0x0f0f0f0fu) | (bits & 0x30303030u));
    }
    const auto* scales = reinterpret_cast<const uint8_t*>(block.scale);
    const uint32_t first = LoadPair(scales + Run(part, 0));
    const uint32_t second = LoadPair(scales + Run(part, 2));
    lane.scale[0] = SignedByte(first, 0), lane.scale[1] = SignedByte(first, 1);
    lane.scale[2] = SignedByte(second, 0), lane.scale[3] = SignedByte(second, 1);
    lane.d = LoadScale(block.d);
    return lane;
  }
};

template <>
struct LanePart<Q8_0> : LanePart32 {
  static constexpr bool kCanBeWide = false;
  static constexpr bool kHasMinima = false;
  // Which of the block's words of 4 values is word i.
  __device__ __forceinline__ static int Word(int part, int i) { return 2 * part + i; }

  template <bool kWide>
  __device__ __forceinline__ static LanePart Load(const Q8_0::Block& block, int part) {
    LanePart lane;
    LoadWords(reinterpret_cast<const uint8_t*>(block.q) + 8 * part, lane.q);
    lane.d = LoadScale(block.d);
    return lane;
  }
};

template <>
struct LanePart<Q4_0> : LanePart32 {
  static constexpr bool kCanBeWide = false;
  static constexpr bool kHasMinima = false;
  __device__ __forceinline__ static int Word(int part, int i) { return part + 4 * i; }

  template <bool kWide>
  __device__ __forceinline__ static LanePart Load(const Q4_0::Block& block, int part) {
    LanePart lane;
    uint32_t word[1];
    LoadWords(block.q + 4 * part, word);
    lane.q[0] = LessOffset<8>(word[0] & 0x0f0f0f0fu);
    lane.q[1] = LessOffset<8>((word[0] >> 4) & 0x0f0f0f0fu);
    lane.d = LoadScale(block.d);
    return lane;
  }
};

__device__ __forceinline__ int Dp4a(uint32_t a, uint32_t b, int c) {
  return __dp4a(static_cast<int>(a), static_cast<int>(b), c);
}

// What a part and one activation row give; the row may lie in shared memory, or have been written
// by the same kernel. `strand` is the block's place in its group of 256 activations, of which a
// K-quant's block is all.
template <typename Format>
__device__ __forceinline__ BlockSums DotPart(const LanePart<Format>& w, const Q8x256Group& x,
                                             int /*strand*/, int part) {
  BlockSums sums;
  STOKER_UNROLL
  for (int r = 0; r < LanePart256::kRuns; ++r) {
    const int run = LanePart<Format>::Run(part, r);
    const uint4 words = reinterpret_cast<const uint4*>(x.q)[run];
    int dot = Dp4a(w.q[4 * r], words.x, 0);
    dot = Dp4a(w.q[4 * r + 1], words.y, dot);
    dot = Dp4a(w.q[4 * r + 2], words.z, dot);
    dot = Dp4a(w.q[4 * r + 3], words.w, dot);
    sums.isum += w.scale[r] * dot;
    if constexpr (Format::kHasMinima) sums.msum += w.minimum[r] * x.sums[run];
  }
  return sums;
}

template <typename Format>
__device__ __forceinline__ BlockSums DotPart(const LanePart<Format>& w, const Q8x32Group& x,
                                             int strand, int part) {
  const auto* words = reinterpret_cast<const uint32_t*>(x.q) + 8 * strand;
  const int first = Dp4a(w.q[0], words[LanePart<Format>::Word(part, 0)], 0);
  return {Dp4a(w.q[1], words[LanePart<Format>::Word(part, 1)], first), 0};
}

// The strand after a whole block with these sums.
template <typename Format>
__device__ __forceinline__ float AddBlock(const LanePart<Format>& w, const Q8x256Group& x,
                                          int /*strand*/, const BlockSums& sums, float s) {
  const float dx = x.d;
  s = __fmaf_rn(w.d * dx, static_cast<float>(sums.isum), s);
  if constexpr (Format::kHasMinima) {
    s = __fmaf_rn(-(w.dmin * dx), static_cast<float>(sums.msum), s);
  }
  return s;
}

template <typename Format>
__device__ __forceinline__ float AddBlock(const LanePart<Format>& w, const Q8x32Group& x,
                                          int strand, const BlockSums& sums, float s) {
  return __fmaf_rn(w.d * x.d[strand], static_cast<float>(sums.isum), s);
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
