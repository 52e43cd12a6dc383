// The choice among backends: names, refusals, and that each fills its whole table.
#include "kernels/backends.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace stoker {
namespace {

using testing::HasSubstr;

TEST(Backends, EachIsCompleteAndKnowsItsName) {
  for (const BackendRow& row : Backends()) {
    const Ops& ops = *row.ops;
    EXPECT_EQ(ops.name, row.name);
    EXPECT_FALSE(row.description.empty());
    EXPECT_TRUE(ops.quantize && ops.pack && ops.matmul && ops.rms_norm && ops.rope) << row.name;
    EXPECT_TRUE(ops.silu_multiply && ops.add && ops.multiply_add && ops.attention) << row.name;
    EXPECT_TRUE(ops.route && ops.log_sum_exp && ops.sigmoid && ops.to_f16 && ops.decode)
        << row.name;
  }
}

TEST(SelectOps, AutoIsTheFirstThatRunsHere) {
  const absl::StatusOr<const Ops*> chosen = SelectOps("auto");
  ASSERT_TRUE(chosen.ok());
  for (const BackendRow& row : Backends()) {
    if (!row.runs_here()) continue;
    EXPECT_EQ(*chosen, row.ops);
    break;
  }
}

TEST(SelectOps, EveryRunnableBackendIsFoundByName) {
  for (const BackendRow& row : Backends()) {
    const absl::StatusOr<const Ops*> chosen = SelectOps(row.name);
    if (row.runs_here()) {
      ASSERT_TRUE(chosen.ok()) << chosen.status();
      EXPECT_EQ(*chosen, row.ops);
    } else {
      EXPECT_EQ(chosen.status().code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_THAT(std::string(chosen.status().message()), HasSubstr(std::string(row.description)));
    }
  }
}

TEST(SelectOps, AnUnknownNameIsRefusedWithTheKnownOnes) {
  const absl::StatusOr<const Ops*> chosen = SelectOps("sse9");
  EXPECT_EQ(chosen.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(chosen.status().message()), HasSubstr("sse9"));
  EXPECT_THAT(std::string(chosen.status().message()), HasSubstr("avx2"));
}

}  // namespace
}  // namespace stoker
