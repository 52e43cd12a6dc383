// The same questions to every drafter that needs no model (tests/runtime/speculation_test.cc asks
// "draft_model" and "mtp"), and what the choice of one refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "speculative/drafter.h"

namespace stoker {
namespace {

using testing::HasSubstr;

TEST(Drafters, AnUnknownNameIsAnErrorThatListsTheKnownOnes) {
  const absl::StatusOr<DrafterChoice> choice = ChooseDrafter("magic");
  ASSERT_FALSE(choice.ok());
  EXPECT_THAT(MessageOf(choice.status()), HasSubstr("none, ngram, FILE.gguf, mtp"));
}

TEST(Drafters, ThePathOfAFileMeansADraftModel) {
  for (const std::string path : {"small.gguf", "models/small.gguf", "./small"}) {
    const absl::StatusOr<DrafterChoice> choice = ChooseDrafter(path);
    ASSERT_TRUE(choice.ok()) << path;
    EXPECT_EQ(choice->row->name, "draft_model");
    EXPECT_EQ(choice->model_path, path);
  }
}

TEST(Drafters, AParameterOutOfRangeIsAnError) {
  const std::vector<Setting> settings = {{"ngram.longest", 99}};
  const absl::StatusOr<DrafterChoice> choice = ChooseDrafter("ngram", settings);
  ASSERT_FALSE(choice.ok());
  EXPECT_THAT(MessageOf(choice.status()), HasSubstr("longest"));
}

class DrafterContract : public testing::TestWithParam<std::string> {};

TEST_P(DrafterContract, DraftsNoMoreThanIsWantedAndLeavesTheRestAlone) {
  const absl::StatusOr<DrafterChoice> choice = ChooseDrafter(GetParam());
  ASSERT_TRUE(choice.ok());
  DrafterParts parts = {
      .sequence_count = 2, .context = 128, .length_max = 8, .rows_max = 8, .vocab_count = 8};
  EXPECT_GT(choice->row->plan_bytes(parts, {}, choice->values), 0u);
  const std::unique_ptr<Drafter> drafter = choice->row->make(std::move(parts), choice->values);
  std::vector<int32_t> tokens;
  for (int i = 0; i < 96; ++i) tokens.push_back(i % 5);
  tokens.resize(128, -7);
  for (const int wanted : {0, 1, 3, 8}) {
    for (const int known : {1, 2, 17, 96}) {
      std::vector<int32_t> text = tokens;
      DraftJob jobs[] = {{.slot = 1, .tokens = text.data(), .known = known, .wanted = wanted}};
      while (*drafter->Draft(absl::MakeSpan(jobs))) {
      }
      EXPECT_LE(jobs[0].drafted, wanted);
      for (int i = 0; i < 128; ++i) {
        const auto at = static_cast<size_t>(i);
        if (i < known || i >= known + jobs[0].drafted) {
          EXPECT_EQ(text[at], tokens[at]) << i;
        } else {
          EXPECT_GE(text[at], 0);
        }
      }
    }
  }
}

std::vector<std::string> WithoutModels() {
  std::vector<std::string> names;
  for (const DrafterRow& row : Drafters()) {
    if (row.make != nullptr && row.needs == DrafterRow::Needs::kNothing) {
      names.emplace_back(row.name);
    }
  }
  return names;
}
INSTANTIATE_TEST_SUITE_P(All, DrafterContract, testing::ValuesIn(WithoutModels()));

}  // namespace
}  // namespace stoker
