// The operations of a device are found by its kind, and say what memory they touch.
#include "kernels/device_ops.h"

#include "gtest/gtest.h"

namespace stoker {
namespace {

TEST(DeviceOps, TheModelledDeviceHasTheTwin) {
  ASSERT_NE(FindDeviceOps("modelled"), nullptr);
  EXPECT_EQ(FindDeviceOps("modelled")->name, "twin");
}

TEST(DeviceOps, AnUnknownKindHasNone) { EXPECT_EQ(FindDeviceOps("abacus"), nullptr); }

TEST(DeviceOps, WhereCudaIsBuiltInItHasTheOperationsOfTheTwin) {
  const DeviceOps* cuda = FindDeviceOps("cuda");
  if (cuda == nullptr) GTEST_SKIP() << "built without CUDA";
  const DeviceOps& twin = *FindDeviceOps("modelled");
  EXPECT_EQ(cuda->name, "cuda");
  EXPECT_EQ(cuda->norm_rows.run == nullptr, twin.norm_rows.run == nullptr);
  EXPECT_EQ(cuda->matmul_rows.run == nullptr, twin.matmul_rows.run == nullptr);
  EXPECT_NE(cuda->matmul_rows.run, twin.matmul_rows.run);
}

TEST(TouchedBytes, OfAProductAreItsWeightsOutputsAndEachFormOfItsRowsOnce) {
  MatmulRowsArgs args{.rows = 2, .cols = 256};
  const auto add = [&](Dtype dtype, int64_t rows) {
    args.products[args.product_count++] = {.w = {nullptr, dtype, rows, 256}};
  };
  add(Dtype::kQ4_K, 10);
  constexpr uint64_t kFirst = 10 * 144 + 2 * 10 * 4;
  constexpr uint64_t kRows = 2 * 320;
  EXPECT_EQ(TouchedBytes(args), kFirst + kRows);
  add(Dtype::kQ6_K, 5);
  constexpr uint64_t kSecond = 5 * 210 + 2 * 5 * 4;
  EXPECT_EQ(TouchedBytes(args), kFirst + kSecond + kRows);
  add(Dtype::kF32, 1);
  EXPECT_EQ(TouchedBytes(args), kFirst + kSecond + kRows + (1024 + 2 * 4) + 2 * 1024);
}

TEST(TouchedBytes, OfExpertsAreMostlyTheirWeightsOncePerExpert) {
  ExpertGroupArgs args{.task_count = 3,
                       .pair_total = 4,
                       .gate = {nullptr, Dtype::kQ4_K, 512, 256},
                       .up = {nullptr, Dtype::kQ4_K, 512, 256},
                       .down = {nullptr, Dtype::kQ6_K, 256, 512}};
  constexpr uint64_t kWeights = 3 * (2 * 512 * 144 + 256 * 420);
  EXPECT_EQ(TouchedBytes(args), kWeights + 4 * (320 + 2 * 512 * 4 + 640 + 256 * 4));
}

TEST(TouchedBytes, OfGroupedPairsAreTheChoicesListsTasksAndAddresses) {
  EXPECT_EQ(TouchedBytes(GroupPairsArgs{.pair_count = 8}),
            8 * (4 + 4 + 3 * 8 + sizeof(ExpertTask)));
}

TEST(TouchedBytes, OfAttentionAreTheKeysAndValuesOfEveryPosition) {
  std::byte keys[1];
  std::byte values[1];
  AttendRowsArgs args{.rows = 1,
                      .heads = 8,
                      .kv_heads = 2,
                      .key_dim = 64,
                      .value_dim = 32,
                      .kv = {.keys = keys, .values = values, .dtype = Dtype::kF16},
                      .keys_total = 1000};
  EXPECT_EQ(TouchedBytes(args), 1000u * 2 * 96 * 2 + 8 * 96 * 4);
  args.kv.values = keys;  // latent attention reads a position once
  EXPECT_EQ(TouchedBytes(args), 1000u * 2 * 64 * 2 + 8 * 96 * 4);
}

TEST(TouchedBytes, OfRowwiseOperationsCountWhatIsWanted) {
  float floats[1];
  std::byte bytes[1];
  NormRowsArgs norm{.residual = floats, .out = floats, .rows = 3, .cols = 256};
  constexpr uint64_t kRows = 3 * 1024;
  EXPECT_EQ(TouchedBytes(norm), 2 * kRows + 1024);
  norm.delta = floats;
  EXPECT_EQ(TouchedBytes(norm), 4 * kRows + 1024);
  norm.q8x256 = bytes;
  EXPECT_EQ(TouchedBytes(norm), 4 * kRows + 1024 + 3 * 320);
  EXPECT_EQ(TouchedBytes(GateRowsArgs{.rows = 3, .cols = 256, .q8x32 = bytes}),
            3 * kRows + 3 * 320);
  EXPECT_EQ(TouchedBytes(QuantizeRowsArgs{.rows = 3, .cols = 256}), kRows);
  EXPECT_EQ(TouchedBytes(SumPartsArgs{.rows = 3, .cols = 256, .top_k = 2}), 3 * kRows + 3 * 8);
  EXPECT_EQ(TouchedBytes(SumPartsArgs{.shared = floats, .rows = 3, .cols = 256, .top_k = 2}),
            4 * kRows + 3 * 8);
  EXPECT_EQ(TouchedBytes(EmbedRowsArgs{.table = {nullptr, Dtype::kQ8_0, 9, 256}, .rows = 3}),
            3 * 8 * 34 + kRows);
  EXPECT_EQ(TouchedBytes(LogSumExpArgs{.rows = 3, .cols = 256}), kRows + 3 * 8);
  EXPECT_EQ(TouchedBytes(RouteRowsArgs{.rows = 3, .expert_count = 60, .top_k = 2}), 3u * 64 * 4);
}

TEST(TouchedBytes, OfHeadsAndLatentsCountWhatIsWrittenToTheCache) {
  FinishHeadsArgs heads{.heads = 4, .kv_heads = 2, .key_dim = 64, .value_dim = 32, .rows = 3};
  heads.rope.pairs = 16;
  heads.kv.dtype = Dtype::kF16;
  EXPECT_EQ(TouchedBytes(heads), 3u * (4 * 64 * 2 * 4 + 2 * 96 * (4 + 2) + 2 * 16 * 4));
  FinishLatentArgs latent{.kv_rank = 512, .q_rank = 256, .rows = 3};
  latent.rope.pairs = 32;
  latent.kv.dtype = Dtype::kF32;
  EXPECT_EQ(TouchedBytes(latent), 3u * (576 * (4 + 4) + 2 * 256 * 4 + 2 * 32 * 4));
  HeadProductArgs product{.w = {nullptr, Dtype::kQ8_0, 4 * 128, 64},
                          .head_rows = 128,
                          .row_count = 100,
                          .rows = 3,
                          .heads = 4};
  EXPECT_EQ(TouchedBytes(product), 4u * 100 * 68 + 12 * (64 + 100) * 4);
}

}  // namespace
}  // namespace stoker
