// Steps that are recorded once and repeated: the same bits and the same things told, by a handful
// of calls.
#include "model/step_recordings.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/reference/reference.h"
#include "tests/cache/allocation_count.h"
#include "tests/model/settled_model.h"

namespace stoker {
namespace {

using ::testing::ContainsRegex;

TEST(RecordedPositions, AreTheNextPowerOfTwoWithinTheContext) {
  EXPECT_EQ(RecordedPositions(1, 4096), 256);
  EXPECT_EQ(RecordedPositions(256, 4096), 256);
  EXPECT_EQ(RecordedPositions(257, 4096), 512);
  EXPECT_EQ(RecordedPositions(3000, 4096), 4096);
  EXPECT_EQ(RecordedPositions(3000, 3500), 3500);
  EXPECT_EQ(RecordedPositions(5, 100), 100);
}

struct CountedRecording final : DeviceRecording {
  explicit CountedRecording(int& counter) : count(counter) { ++count; }
  ~CountedRecording() override { --count; }
  int& count;
};

TEST(StepRecordings, KeepThoseUsedLast) {
  StepRecordings recordings;
  int count = 0;
  for (int64_t rows = 1; rows <= StepRecordings::kRecordingsMax; ++rows) {
    recordings.Add({.rows = rows}, std::make_unique<CountedRecording>(count));
  }
  EXPECT_NE(recordings.Find({.rows = 1}), nullptr);
  EXPECT_EQ(recordings.Find({.rows = 1, .logits_rows = 1}), nullptr);
  recordings.Add({.rows = 100}, std::make_unique<CountedRecording>(count));
  EXPECT_EQ(count, StepRecordings::kRecordingsMax);
  EXPECT_NE(recordings.Find({.rows = 1}), nullptr);
  EXPECT_EQ(recordings.Find({.rows = 2}), nullptr);
  EXPECT_NE(recordings.Find({.rows = 100}), nullptr);
}

TEST(StepRecordings, AStepIsRepeatingWhenTheOneBeforeWasLikeIt) {
  StepRecordings recordings;
  EXPECT_FALSE(recordings.IsRepeating({.rows = 1}));
  EXPECT_TRUE(recordings.IsRepeating({.rows = 1}));
  EXPECT_FALSE(recordings.IsRepeating({.rows = 2}));
  EXPECT_FALSE(recordings.IsRepeating({.rows = 1}));
}

class RepeatedSteps : public testing::Test {
 protected:
  // More positions than one recording serves, and than a page holds.
  static constexpr int kCount = 300;
  void SetUp() override {
    const auto host = OnHost(ShippedModel());
    vocab_ = static_cast<size_t>(host->config().vocab_count);
    tokens_ = SomeTokens(kCount, host->config().vocab_count);
    expected_ = host->Run(tokens_, kCount).logits;
  }
  StepRow RowAt(int32_t position, int32_t sequence = 0) const {
    return {tokens_[static_cast<size_t>(position)], sequence, position, true};
  }
  std::vector<StepRow> Rows(int32_t first, int32_t count) const {
    std::vector<StepRow> rows;
    for (int32_t i = first; i < first + count; ++i) rows.push_back(RowAt(i));
    return rows;
  }
  absl::Span<const float> Expected(int32_t first, size_t count = 1) const {
    return absl::MakeSpan(expected_).subspan(static_cast<size_t>(first) * vocab_, count * vocab_);
  }
  // Steps of one row at [first, end).
  void ExpectBits(Settled& device, int32_t first, int32_t end) const {
    for (int32_t i = first; i < end; ++i) {
      ASSERT_TRUE(device.Step(Rows(i, 1)).ok());
      ASSERT_EQ(device.logits(), Expected(i)) << i;
    }
  }
  size_t vocab_ = 0;
  std::vector<int32_t> tokens_;
  std::vector<float> expected_;
};

TEST_F(RepeatedSteps, GiveTheHostsBits) {
  for (const ModelledRates& rates : {kSlowCopies, kSlowKernels}) {
    Settled device(kPlainDeviceOps, {}, rates);
    ExpectBits(device, 0, kCount);
    // All but the first step of each bound, which is queued, and of each bound's second a repeat.
    EXPECT_EQ(device.Count("device_repeats"), static_cast<uint64_t>(kCount - 2));
  }
}

TEST_F(RepeatedSteps, GiveTheHostsBitsByTheDevicesOwnKernels) {
  Settled device(*FindDeviceOps("modelled"));
  ExpectBits(device, 0, 6);
  EXPECT_EQ(device.Count("device_repeats"), 5u);
}

TEST_F(RepeatedSteps, GiveSumsToThoseThatWantThem) {
  Settled device;
  std::vector<float> logits(vocab_);
  for (int32_t i = 0; i < 24; ++i) {
    const bool wants_sum = i / 4 % 2 == 1;
    ExpSum sum = {-1, -1};
    const StepOutput output = {.logits = logits.data(), .exp_sums = wants_sum ? &sum : nullptr};
    ASSERT_TRUE(
        device.model()
            .model()
            .Forward(Rows(i, 1), device.model().kv(), device.experts(), nullptr, nullptr, output)
            .ok());
    ASSERT_EQ(absl::MakeSpan(logits), Expected(i)) << i;
    const ExpSum expected = reference::LogSumExp(logits.data(), static_cast<int64_t>(vocab_));
    EXPECT_TRUE(sum == (wants_sum ? expected : ExpSum{-1, -1})) << i;
  }
  EXPECT_GE(device.Count("device_repeats"), 22u);  // of each kind, all but the first
}

TEST_F(RepeatedSteps, MayBeOfAnyRowsInAnyOrder) {
  Settled device(kPlainDeviceOps, {.sequence_count = 3});
  std::vector<int32_t> lengths = {0, 0, 0};
  std::mt19937 random(11);
  for (int step = 0; step < 120; ++step) {
    std::vector<StepRow> rows;
    for (int32_t s = 0; s < 3; ++s) {
      const auto length = static_cast<size_t>(s);
      if (step / 7 % 2 == 0 && random() % 2 == 0 && s != step % 3) continue;
      if (random() % 40 == 0 && lengths[length] > 0) {
        lengths[length] /= 2;
        device.model().kv().Truncate(s, lengths[length]);
      }
      rows.push_back(RowAt(lengths[length]++, s));
    }
    ASSERT_TRUE(device.Step(rows).ok());
    for (size_t r = 0; r < rows.size(); ++r) {
      ASSERT_EQ(device.logits().subspan(r * vocab_, vocab_), Expected(rows[r].position));
    }
  }
  EXPECT_GT(device.Count("device_repeats"), 50u);
  EXPECT_LT(device.Count("device_repeats"), 120u);
}

TEST_F(RepeatedSteps, GoOnWhenLayersSettleMeanwhile) {
  Settled device;
  int settled = 0;
  device.experts().Settle([&](int layer) { return layer < settled; });
  for (int32_t i = 0; i < 40; ++i, settled += i % 3 == 0 ? 1 : 0) {
    ASSERT_TRUE(device.Step(Rows(i, 1)).ok());
    ASSERT_EQ(device.logits(), Expected(i)) << i;
  }
  EXPECT_GT(device.Count("device_repeats"), 5u);
}

TEST_F(RepeatedSteps, ADenseModelHasThemFromTheStart) {
  SKIP_WITHOUT_SHARED();
  const std::string path = SharedPath("models/draft-1m.q8_0.gguf");
  const auto host = OnHost(path);
  OnDevice device(path, kPlainDeviceOps);
  const std::vector<int32_t> tokens = SomeTokens(20, host->config().vocab_count);
  const std::vector<float> expected = host->Run(tokens, 20).logits;
  const auto vocab = static_cast<size_t>(host->config().vocab_count);
  std::vector<float> logits(vocab);
  LoadedModel& model = device.model();
  for (int32_t i = 0; i < 20; ++i) {
    const std::vector<StepRow> rows = {{tokens[static_cast<size_t>(i)], 0, i, true}};
    ASSERT_TRUE(
        model.model()
            .Forward(rows, model.kv(), model.experts(), nullptr, nullptr, {.logits = logits.data()})
            .ok());
    ASSERT_EQ(absl::MakeSpan(logits),
              absl::MakeSpan(expected).subspan(static_cast<size_t>(i) * vocab, vocab));
  }
  EXPECT_EQ(device.Count("device_repeats"), 19u);
}

// Seven calls a layer and more become five in all: the rows, their embeddings, the recording, an
// event and the wait for it.
TEST_F(RepeatedSteps, AreAHandfulOfCalls) {
  const auto calls_of = [&](Settled& device, int32_t position) {
    const uint64_t before = device.Count("device_calls");
    EXPECT_TRUE(device.Step(Rows(position, 1)).ok());
    return device.Count("device_calls") - before;
  };
  Settled asking;
  asking.experts().Settle([](int) { return false; });
  Settled resident;
  for (Settled* device : {&asking, &resident}) ASSERT_TRUE(device->Step(Rows(0, 1)).ok());
  const uint64_t asked = calls_of(asking, 1);
  resident.device().RefuseRecordings(1);
  const uint64_t queued = calls_of(resident, 1);
  Settled repeating;
  for (int32_t i = 0; i < 3; ++i) ASSERT_TRUE(repeating.Step(Rows(i, 1)).ok());
  const uint64_t launches = repeating.Count("device_launches");
  const uint64_t repeated = calls_of(repeating, 3);
  fmt::print("calls of a step: {} with a host that plans, {} queued one by one, {} repeated\n",
             asked, queued, repeated);
  EXPECT_EQ(repeated, 5u);
  EXPECT_GT(queued, static_cast<uint64_t>(10 * repeating.layer_count()));
  EXPECT_GT(asked, queued);
  EXPECT_GT(repeating.Count("device_launches") - launches,
            static_cast<uint64_t>(10 * repeating.layer_count()));
}

// What kernels wait for each other, where they take no time for anything else; and beside the time
// that they take at a card's rate for their bytes.
TEST_F(RepeatedSteps, TakeTheGapsBetweenKernelsOfARecording) {
  const auto step_ns = [&](double rate, bool is_recorded) {
    Settled device(kPlainDeviceOps, {},
                   {.memory_bytes_per_second = rate,
                    .copy_in_bytes_per_second = std::numeric_limits<double>::infinity(),
                    .copy_out_bytes_per_second = std::numeric_limits<double>::infinity(),
                    .launch_ns = 3'000,
                    .repeat_ns = 1'000,
                    .copy_in_ns = 0,
                    .copy_out_ns = 0});
    if (!is_recorded) device.device().RefuseRecordings(1);
    for (int32_t i = 0; i < 3; ++i) EXPECT_TRUE(device.Step(Rows(i, 1)).ok());
    const int64_t start_ns = device.clock().NowNs();
    const uint64_t launches = device.Count("device_launches");
    EXPECT_TRUE(device.Step(Rows(3, 1)).ok());
    return std::pair(device.clock().NowNs() - start_ns,
                     static_cast<int64_t>(device.Count("device_launches") - launches));
  };
  const double endless = std::numeric_limits<double>::infinity();
  const auto [queued_ns, launches] = step_ns(endless, false);
  const auto [repeated_ns, recorded_launches] = step_ns(endless, true);
  EXPECT_EQ(launches, recorded_launches);
  EXPECT_EQ(queued_ns, launches * 3'000);
  // The first of the recording is launched, and whatever comes before it.
  EXPECT_LE(repeated_ns, launches * 1'000 + 2 * 2'000);
  const double at_rate_ns = static_cast<double>(step_ns(1e10, true).first);
  fmt::print("{} kernels a step: gaps of {} us queued, {} us repeated\n", launches,
             queued_ns / 1000, repeated_ns / 1000);
  EXPECT_GT(at_rate_ns, static_cast<double>(repeated_ns));
}

TEST_F(RepeatedSteps, AllocateNothing) {
  Settled device;
  for (int32_t i = 0; i < 4; ++i) ASSERT_TRUE(device.Step(Rows(i, 1)).ok());
  device.experts().uses().clear();
  device.experts().Hear(false);
  for (int32_t i = 4; i < 12; ++i) {
    const std::vector<StepRow> rows = Rows(i, 1);
    const AllocationCount allocations;
    const absl::Status status = device.Step(rows);
    EXPECT_EQ(allocations.Count(), 0);
    EXPECT_TRUE(status.ok()) << status;
  }
}

TEST_F(RepeatedSteps, WithoutARecordingStepsAreQueued) {
  Settled device;
  device.device().RefuseRecordings(1);
  ExpectBits(device, 0, 20);
  EXPECT_EQ(device.Count("device_repeats"), 0u);
  EXPECT_EQ(device.Count("device_refused_recordings"), 1u);
}

TEST_F(RepeatedSteps, AFaultIsNamedAndTellsNobodyOfTheStep) {
  for (const uint64_t nth : {1, 3, 20, 41, 70}) {
    for (const int32_t before : {1, 4}) {  // the step that is recorded, and one that is repeated
      Settled device;
      for (int32_t i = 0; i < before; ++i) ASSERT_TRUE(device.Step(Rows(i, 1)).ok());
      device.experts().uses().clear();
      device.device().FailOperation(nth);
      const absl::Status status = device.Step(Rows(before, 1));
      EXPECT_THAT(std::string(MessageOf(status)), ContainsRegex("(kernel|copy) .*failed")) << nth;
      EXPECT_TRUE(device.experts().uses().empty());
      EXPECT_EQ(device.model().kv().length(0), before);
    }
  }
}

TEST_F(RepeatedSteps, TellObserverAndStoreWhatQueuedOnesTell) {
  struct Seen final : StepObserver {
    std::vector<std::pair<int, std::vector<int32_t>>> experts;
    std::vector<float> weights;
    void OnRouting(int layer, int, absl::Span<const int32_t> chosen,
                   absl::Span<const float> chosen_weights) override {
      experts.emplace_back(layer, std::vector<int32_t>(chosen.begin(), chosen.end()));
      weights.insert(weights.end(), chosen_weights.begin(), chosen_weights.end());
    }
  };
  Seen seen[2];
  std::vector<StoreUse> uses[2];
  for (const bool is_resident : {false, true}) {
    Settled device(kPlainDeviceOps, {.sequence_count = 2});
    device.experts().Settle([&](int) { return is_resident; });
    for (int32_t i = 0; i < 8; ++i) {
      ASSERT_TRUE(device.Step({RowAt(i, 0), RowAt(i, 1)}, &seen[is_resident ? 1 : 0]).ok());
    }
    EXPECT_EQ(device.Count("device_repeats"), is_resident ? 7u : 0u);
    uses[is_resident ? 1 : 0] = device.experts().uses();
  }
  EXPECT_FALSE(seen[0].experts.empty());
  EXPECT_EQ(seen[1].experts, seen[0].experts);
  EXPECT_EQ(seen[1].weights, seen[0].weights);
  EXPECT_TRUE(uses[1] == uses[0]);
}

}  // namespace
}  // namespace stoker
