// Products of small matrices by a warp: fragments laid out as the PTX ISA documents, byte by byte,
// against plain matrix products.
#include "kernels/cuda/mma.cuh"

#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace stoker::twin {
namespace {

constexpr int kWarps = 3;

// Integers of one warp's product.
struct Product {
  int8_t a[16][32];
  int8_t b[32][8];
  int32_t c[16][8];
};

std::vector<Product> MakeProducts(int lowest, int highest) {
  std::mt19937 random(7);
  std::uniform_int_distribution<int> byte(lowest, highest);
  std::uniform_int_distribution<int32_t> sum(-1'000'000, 1'000'000);
  std::vector<Product> products(kWarps);
  for (Product& product : products) {
    for (auto& row : product.a) {
      for (int8_t& value : row) value = static_cast<int8_t>(byte(random));
    }
    for (auto& row : product.b) {
      for (int8_t& value : row) value = static_cast<int8_t>(byte(random));
    }
    for (auto& row : product.c) {
      for (int32_t& value : row) value = sum(random);
    }
  }
  return products;
}

template <typename Body>
int Launch(int threads, const Body& body) {
  const auto run = [](const Body* kernel) { (*kernel)(); };
  return LaunchKernel(static_cast<void (*)(const Body*)>(run),
                      {.kernel = "mma_test", .grid = 1, .block = static_cast<unsigned>(threads)},
                      nullptr, &body);
}

// Element i of a fragment, by the formulas of the PTX ISA: groupID is laneid >> 2,
// threadID_in_group is laneid % 4.
struct Place {
  int row, col;
};
Place PlaceInA(int depth, int lane, int i) {
  if (depth == 16) return {i < 4 ? lane >> 2 : (lane >> 2) + 8, lane % 4 * 4 + (i & 3)};
  const bool is_upper = i < 4 || (8 <= i && i < 12);
  const int col = lane % 4 * 4 + (i & 3);
  return {is_upper ? lane >> 2 : (lane >> 2) + 8, i < 8 ? col : col + 16};
}
Place PlaceInB(int depth, int lane, int i) {
  const int row = lane % 4 * 4 + (i & 3);
  return {depth == 16 || i < 4 ? row : row + 16, lane >> 2};
}
Place PlaceInC(int lane, int i) {
  return {i < 2 ? lane >> 2 : (lane >> 2) + 8, lane % 4 * 2 + (i & 1)};
}

// products[w].c += products[w].a * products[w].b, the first kDepth of 32, by warp w.
template <int kDepth>
void MultiplyByWarps(std::vector<Product>& products) {
  const auto body = [&] {
    Product& product = products[threadIdx.x / 32];
    const int lane = LaneIndex();
    int8_t a_bytes[kDepth / 2];
    int8_t b_bytes[kDepth / 4];
    for (int i = 0; i < kDepth / 2; ++i) {
      const Place place = PlaceInA(kDepth, lane, i);
      a_bytes[i] = product.a[place.row][place.col];
    }
    for (int i = 0; i < kDepth / 4; ++i) {
      const Place place = PlaceInB(kDepth, lane, i);
      b_bytes[i] = product.b[place.row][place.col];
    }
    uint32_t a[kDepth / 8];
    uint32_t b[kDepth / 16];
    std::memcpy(a, a_bytes, sizeof(a));
    std::memcpy(b, b_bytes, sizeof(b));
    MatrixSums c;
    for (int i = 0; i < 4; ++i) {
      c[i] = product.c[PlaceInC(lane, i).row][PlaceInC(lane, i).col];
    }
    MultiplyAdd<kDepth>(a, b, c);
    for (int i = 0; i < 4; ++i) {
      product.c[PlaceInC(lane, i).row][PlaceInC(lane, i).col] = c[i];
    }
  };
  ASSERT_EQ(Launch(kWarps * 32, body), 0);
}

template <int kDepth>
void ExpectPlainProducts(int lowest, int highest) {
  for (const bool backward : {false, true}) {
    SCOPED_TRACE(testing::Message() << "threads " << (backward ? "backward" : "forward"));
    const ScopedMachineOptions scope({.threads_backward = backward});
    std::vector<Product> products = MakeProducts(lowest, highest);
    const std::vector<Product> before = products;
    MultiplyByWarps<kDepth>(products);
    for (int w = 0; w < kWarps; ++w) {
      for (int row = 0; row < 16; ++row) {
        for (int col = 0; col < 8; ++col) {
          int32_t sum = before[w].c[row][col];
          for (int k = 0; k < kDepth; ++k) sum += before[w].a[row][k] * before[w].b[k][col];
          ASSERT_EQ(products[w].c[row][col], sum) << w << ", " << row << ", " << col;
        }
      }
    }
  }
}

TEST(WarpMatrix, MultipliesFragmentsOfDepth16) {
  ExpectPlainProducts<16>(-128, 127);
  ExpectPlainProducts<16>(-128, -128);
}

TEST(WarpMatrix, MultipliesFragmentsOfDepth32) {
  ExpectPlainProducts<32>(-128, 127);
  ExpectPlainProducts<32>(-128, -128);
}

TEST(WarpMatrix, LoadsFourMatricesWhoseRowsLieAnywhere) {
  constexpr int kRows = 32;
  constexpr int kStride = 3;  // of uint4
  std::array<std::array<uint32_t, 4>, 32> found;
  // Row r of matrix m holds 1000 m + 10 r + its word's number, and lies at another row's place.
  const auto place_of = [](int row) { return (row * 13 + 5) % kRows; };
  const auto body = [&] {
    STOKER_SHARED_ARRAY(uint4, rows, kRows * kStride);
    const int lane = LaneIndex();
    const unsigned base = 1000u * static_cast<unsigned>(lane / 8) + 10u * (lane % 8);
    uint4* const mine = rows + place_of(lane) * kStride;
    *mine = make_uint4(base, base + 1, base + 2, base + 3);
    __syncthreads();
    uint32_t words[4];
    LoadMatrices(mine, words);
    for (int m = 0; m < 4; ++m) found[lane][m] = words[m];
  };
  ASSERT_EQ(Launch(32, body), 0);
  for (int lane = 0; lane < 32; ++lane) {
    for (int m = 0; m < 4; ++m) {
      EXPECT_EQ(found[lane][m], 1000u * m + 10u * (lane / 4) + lane % 4) << lane << ", " << m;
    }
  }
}

// One warp waits in a product while others come to theirs: what lanes lay open is their warp's.
TEST(WarpMatrix, KeepsWarpsApart) {
  std::vector<int> sums(4 * 32);
  const auto body = [&] {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const uint32_t ones = 0x01010101u * static_cast<unsigned>(warp + 1);
    const uint32_t a[4] = {ones, ones, ones, ones};
    const uint32_t b[2] = {0x01010101u, 0x01010101u};
    MatrixSums c = {};
    for (int i = 0; i <= warp; ++i) MultiplyAdd<32>(a, b, c);
    sums[threadIdx.x] = c[0];
  };
  ASSERT_EQ(Launch(4 * 32, body), 0);
  for (int t = 0; t < 4 * 32; ++t) {
    const int warp = t / 32;
    EXPECT_EQ(sums[t], 32 * (warp + 1) * (warp + 1)) << t;
  }
}

}  // namespace
}  // namespace stoker::twin
