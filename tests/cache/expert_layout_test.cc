// Parts have room for the aligned supersets that bring them.
#include "cache/expert_layout.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/cache/expert_files.h"

namespace stoker {
namespace {

TEST(ExpertLayout, AlignedTensorsTakeTheirOwnSize) {
  const ExpertFiles files({.part_bytes = {4096, 8192}, .start_bytes = 4096 * 3});
  const ExpertLayout layout(files.catalog(), files.Alignments(4096));
  EXPECT_EQ(layout.layers()[0].slot_bytes, 4096u + 8192);
  EXPECT_EQ(layout.Read(5, 1).skip, 0u);
}

TEST(ExpertLayout, AlignedStridesNeedNoMoreThanTheFirstSuperset) {
  const ExpertFiles files({.part_bytes = {8192}, .start_bytes = 100});
  const ExpertLayout layout(files.catalog(), files.Alignments(4096));
  EXPECT_EQ(layout.layers()[0].slot_bytes, 8192u + 4096);
  for (ExpertKey key = 0; key < 8; ++key) EXPECT_EQ(layout.Read(key, 0).skip, 100u);
}

TEST(ExpertLayout, SupersetsFitAndDoNotOverlapWhateverTheOffsets) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 500; ++round) {
    SCOPED_TRACE(round);
    const ExpertFiles files({.layer_count = 3,
                             .expert_count = 9,
                             .part_bytes = {1 + random() % 3000, 1 + random() % 3000, 32},
                             .start_bytes = random() % 9000,
                             .stride_padding = random() % 2 * (random() % 100)});
    const size_t alignment = size_t{1} << random() % 13;
    const ExpertLayout layout(files.catalog(), files.Alignments(alignment));
    for (ExpertKey key = 0; key < layout.key_count(); ++key) {
      size_t end = 0;
      for (int p = 0; p < 3; ++p) {
        const ExpertLayout::PartRead read = layout.Read(key, p);
        const ByteRange range = files.Range(layout.id(key), p);
        EXPECT_EQ(read.read_offset % alignment, 0u);
        EXPECT_EQ(read.read_bytes % alignment, 0u);
        EXPECT_EQ(read.position % alignment, 0u);
        EXPECT_EQ(read.position % ExpertLayout::kPartAlignment, 0u);
        EXPECT_EQ(read.read_offset + read.skip, range.offset);
        EXPECT_GE(read.read_bytes, read.skip + range.bytes);
        EXPECT_GE(read.position, end);
        end = read.position + read.read_bytes;
      }
      EXPECT_LE(end, layout.layer_of(key).slot_bytes);
      EXPECT_LE(layout.layer_of(key).slot_bytes,
                layout.classes()[layout.layer_of(key).size_class].slot_bytes);
    }
  }
}

TEST(ExpertLayout, KeysCountLayersInOrder) {
  const ExpertFiles files({.layer_count = 3, .expert_count = 5, .first_layer = 2});
  const ExpertLayout layout(files.catalog(), files.Alignments(1));
  EXPECT_EQ(layout.key_count(), 15);
  EXPECT_EQ(layout.id(0), (ExpertId{2, 0}));
  EXPECT_EQ(layout.id(14), (ExpertId{4, 4}));
  EXPECT_EQ(layout.layer_index(3), 1);
  EXPECT_EQ(layout.layer_index_of(5), 1);
}

TEST(ExpertLayoutDeathTest, LayerWithoutExpertsIsOurMistake) {
  const ExpertFiles files({.first_layer = 1});
  const ExpertLayout layout(files.catalog(), files.Alignments(1));
  EXPECT_DEATH(layout.layer_index(0), "check failed");
}

}  // namespace
}  // namespace stoker
