// Products of small integer matrices by a whole warp: the tensor cores' instructions, and the same
// in plain words for the twin.
//
// How a warp holds the matrices is the PTX ISA's, sections "Matrix Fragments for mma.m16n8k16 with
// integer type", "... for mma.m16n8k32" (9.7.14.5) and "ldmatrix" (9.7.14.5.15, version 9.2). With
// group = lane / 4 and place = lane % 4, four bytes to a word, lowest first:
//
//   A [16, depth]   word i:  row group + 8 (i % 2),  values 16 (i / 2) + 4 place to + 3
//   B [depth, 8]    word i:  column group,           values 16 i + 4 place to + 3
//   C [16, 8]       int i:   row group + 8 (i / 2),  column 2 place + i % 2
//
// All lanes of the warp take part in each function; shared memory that one of them reads stays as
// it is until the warp meets again. Compute capability 8.0 and up.
#pragma once

#include "kernels/cuda/port.cuh"

namespace stoker::STOKER_DEVICE_NAMESPACE {

// A lane's part of 16 rows by 8 columns.
inline constexpr int kMatrixRows = 16;
inline constexpr int kMatrixColumns = 8;
using MatrixSums = int[4];

#ifdef __CUDACC__

// sums += A * B, of signed bytes; exact while the sums fit 32 bits. kDepth 16: two words of A and
// one of B; 32: four and two.
template <int kDepth>
__device__ __forceinline__ void MultiplyAdd(const uint32_t* a, const uint32_t* b,
                                            MatrixSums& sums) {
  static_assert(kDepth == 16 || kDepth == 32);
  if constexpr (kDepth == 16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

// Four matrices of 8 rows of 16 bytes from shared memory: lane 8 m + r names row r of matrix m, at
// a 16-byte border; word m of a lane is word `place` of row `group` of matrix m.
__device__ __forceinline__ void LoadMatrices(const uint4* row, uint32_t (&words)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row))));
}

#else

// What a lane lays open to the others of its warp.
struct LaneWords {
  uint32_t a[4];
  uint32_t b[2];
  const uint4* row;
};
// Each OS thread runs a machine of its own, one lane at a time. Operations take turns in two sets:
// whoever has met the others for the next one has read what they laid open for this. (As much by
// shuffles would be sixteen meetings for a product, and meetings are what takes a twin its time.)
struct WarpWords {
  LaneWords lanes[2][32];
  uint32_t operations[32];  // of each lane so far
};
inline constinit thread_local WarpWords warp_words[32] = {};

// Lays open `mine`, meets the warp, and returns what its lanes have laid open.
inline const LaneWords* MeetWith(const LaneWords& mine) {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  WarpWords& words = warp_words[thread / 32];
  LaneWords* lanes = words.lanes[words.operations[thread % 32]++ % 2];
  lanes[thread % 32] = mine;
  __syncwarp();
  return lanes;
}

template <int kDepth>
void MultiplyAdd(const uint32_t* a, const uint32_t* b, MatrixSums& sums) {
  static_assert(kDepth == 16 || kDepth == 32);
  LaneWords mine = {};
  for (int i = 0; i < kDepth / 8; ++i) mine.a[i] = a[i];
  for (int i = 0; i < kDepth / 16; ++i) mine.b[i] = b[i];
  const LaneWords* lanes = MeetWith(mine);
  const int group = LaneIndex() / 4;
  const int place = LaneIndex() % 4;
  for (int i = 0; i < 4; ++i) {
    const int column = 2 * place + i % 2;
    for (int k = 0; k < kDepth; k += 4) {
      const LaneWords& row_lane = lanes[4 * group + k / 4 % 4];
      const LaneWords& column_lane = lanes[4 * column + k / 4 % 4];
      sums[i] = __dp4a(static_cast<int>(row_lane.a[i / 2 + 2 * (k / 16)]),
                       static_cast<int>(column_lane.b[k / 16]), sums[i]);
    }
  }
}

inline void LoadMatrices(const uint4* row, uint32_t (&words)[4]) {
  const LaneWords* lanes = MeetWith({.a = {}, .b = {}, .row = row});
  for (int m = 0; m < 4; ++m) {
    const uint4& from = *lanes[8 * m + LaneIndex() / 4].row;
    const uint32_t of_row[] = {from.x, from.y, from.z, from.w};
    words[m] = of_row[LaneIndex() % 4];
  }
}

#endif

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
