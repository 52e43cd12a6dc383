// Claims about the table of storage types.
#include "base/dtype.h"

#include <gtest/gtest.h>

namespace stoker {
namespace {

TEST(Dtype, HolesInTheNumberingAreUnknown) {
  for (const uint32_t id : {4u, 5u, 31u, 32u, 33u, 36u, 37u, 38u, 43u, 0xffffffffu}) {
    EXPECT_EQ(FindDtype(id), nullptr) << id;
  }
}

TEST(Dtype, RowsAreWholeBlocks) {
  EXPECT_EQ(RowBytes(Dtype::kQ4_K, 7168), 7168u / 256 * 144);
  EXPECT_EQ(RowBytes(Dtype::kQ6_K, 256), 210u);
  EXPECT_EQ(RowBytes(Dtype::kQ8_0, 64), 68u);
  EXPECT_EQ(RowBytes(Dtype::kBF16, 48), 96u);
}

TEST(Dtype, NamesFindTheirRow) {
  for (uint32_t id = 0; id < 64; ++id) {
    const DtypeInfo* info = FindDtype(id);
    if (info != nullptr) {
      EXPECT_EQ(FindDtype(info->name), info);
    }
  }
}

TEST(DtypeDeath, PartOfABlockIsAProgrammingError) {
  EXPECT_DEATH(RowBytes(Dtype::kQ4_K, 100), "check failed");
}

}  // namespace
}  // namespace stoker
