// How far a batch has come, as arithmetic and words.
#include "cli/batch/batch_progress.h"

#include <gtest/gtest.h>

namespace stoker {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

TEST(BatchProgress, ShowsShareRateAndTimeLeft) {
  EXPECT_EQ(FormatBatchProgress({.prompt_count = 1000,
                                 .done_count = 450,
                                 .done_before_count = 400,
                                 .failed_count = 2,
                                 .tokens = 1234,
                                 .elapsed_ns = 100 * kSecondNs}),
            "batch   45 %  [=========           ]  450 of 1000 prompts, 2 failed  12.3 tokens/s  "
            "ETA 18 min 20 s");
}

TEST(BatchProgress, SaysNothingThatIsNotKnownYet) {
  EXPECT_EQ(FormatBatchProgress({.prompt_count = 8}),
            "batch    0 %  [                    ]  0 of 8 prompts");
  EXPECT_EQ(FormatBatchProgress({.prompt_count = 8,
                                 .done_count = 4,
                                 .done_before_count = 4,
                                 .tokens = 10,
                                 .elapsed_ns = kSecondNs}),
            "batch   50 %  [==========          ]  4 of 8 prompts  10.0 tokens/s");
}

TEST(BatchProgress, EndsFullWithNothingLeft) {
  EXPECT_EQ(FormatBatchProgress(
                {.prompt_count = 3, .done_count = 3, .tokens = 6, .elapsed_ns = 2 * kSecondNs}),
            "batch  100 %  [====================]  3 of 3 prompts  3.0 tokens/s  ETA 0 s");
}

TEST(BatchProgress, WaitsAreToldInTwoUnits) {
  EXPECT_EQ(FormatWait(0), "0 s");
  EXPECT_EQ(FormatWait(1), "1 s");
  EXPECT_EQ(FormatWait(59 * kSecondNs), "59 s");
  EXPECT_EQ(FormatWait(200 * kSecondNs), "3 min 20 s");
  EXPECT_EQ(FormatWait(7500 * kSecondNs), "2 h 5 min");
  EXPECT_EQ(FormatWait((76 * 3600 + 59) * kSecondNs), "3 d 4 h");
}

}  // namespace
}  // namespace stoker
