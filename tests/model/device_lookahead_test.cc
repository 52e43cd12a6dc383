// Guesses of the next layers' routers on a device: the host's, bit for bit, and nothing for none.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/status.h"
#include "model/step_observer.h"
#include "tests/model/plain_device_ops.h"
#include "tests/model/settled_model.h"

namespace stoker {
namespace {

constexpr int kRowsMax = 6;
constexpr int kTop = kLookaheadLayersMax;

LoadedModel::Options WithLookahead() {
  LoadedModel::Options options;
  options.model.lookahead_rows_max = kRowsMax;
  return options;
}

// All that is told, in order. Asks for `layers_ahead`, but at layers that are silent for none.
class Listener final : public StepObserver {
 public:
  struct Told {
    int layer = 0;
    int target = -1;  // -1: a routing
    int count = 0;
    std::vector<int32_t> experts;
    std::vector<float> scores;
    friend bool operator==(const Told&, const Told&) = default;
  };
  explicit Listener(int layers_ahead, std::vector<int> silent = {})
      : layers_ahead_(layers_ahead), silent_(std::move(silent)) {}

  void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts,
                 absl::Span<const float> weights) override {
    told.push_back({layer, -1, top_k, Of(experts), Of(weights)});
  }
  int lookahead_layers(int layer) override {
    return std::count(silent_.begin(), silent_.end(), layer) > 0 ? 0 : layers_ahead_;
  }
  void OnLookahead(int layer, int target, int count, absl::Span<const int32_t> experts,
                   absl::Span<const float> scores) override {
    told.push_back({layer, target, count, Of(experts), Of(scores)});
  }
  std::vector<Told> Guesses() const {
    std::vector<Told> guesses;
    std::copy_if(told.begin(), told.end(), std::back_inserter(guesses),
                 [](const Told& t) { return t.target >= 0; });
    return guesses;
  }
  std::vector<Told> told;

 private:
  template <typename T>
  static std::vector<T> Of(absl::Span<const T> values) {
    return {values.begin(), values.end()};
  }
  const int layers_ahead_;
  const std::vector<int> silent_;
};

std::vector<Listener::Told> Hear(LoadedModel& model, const std::vector<int32_t>& tokens, int chunk,
                                 Listener listener) {
  model.Observe(&listener);
  model.Reset();
  model.Run(tokens, chunk);
  model.Observe(nullptr);
  return listener.told;
}

// Softmax over all and over those chosen, sigmoid with groups and a bias, leading dense layers.
class DeviceLookahead : public testing::TestWithParam<const char*> {};

TEST_P(DeviceLookahead, TellsWhatTheHostTellsInItsOrder) {
  SKIP_WITHOUT_SHARED();
  const std::string path = SharedPath(GetParam());
  const auto host = OnHost(path, WithLookahead());
  const std::vector<int32_t> tokens = SomeTokens(12, host->config().vocab_count);
  for (const DeviceOps* ops : {&kPlainDeviceOps, FindDeviceOps("modelled")}) {
    for (const ModelledRates& rates : {kSlowCopies, kSlowKernels}) {
      OnDevice device(path, *ops, WithLookahead(), rates);
      device.Place({.seed = 3});
      for (const int chunk : {1, kRowsMax}) {
        const auto expected = Hear(*host, tokens, chunk, Listener(kTop));
        ASSERT_TRUE(std::any_of(expected.begin(), expected.end(),
                                [](const auto& told) { return told.target >= 0; }));
        EXPECT_TRUE(Hear(device.model(), tokens, chunk, Listener(kTop)) == expected) << chunk;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, DeviceLookahead,
                         testing::Values("oracles/families/qwen3-moe/model.bf16.gguf",
                                         "oracles/families/mixtral/model.bf16.gguf",
                                         "oracles/families/qwen2-moe/model.bf16.gguf",
                                         "oracles/families/deepseek-v3/model.bf16.gguf"),
                         [](const auto& row) { return fmt::format("file{}", row.index); });

class DeviceGuesses : public testing::Test {
 protected:
  DeviceGuesses()
      : host_(OnHost(ShippedModel(), WithLookahead())),
        tokens_(SomeTokens(12, host_->config().vocab_count)),
        layer_count_(host_->config().layer_count) {}
  std::vector<Listener::Told> FromHost(const Listener& listener, int chunk = 1) {
    return Hear(*host_, tokens_, chunk, listener);
  }
  const std::unique_ptr<LoadedModel> host_;
  const std::vector<int32_t> tokens_;
  const int layer_count_;
};

TEST_F(DeviceGuesses, AreOfTheLayersAskedForAndChangeNoLogits) {
  const std::vector<float> expected = host_->Run(tokens_, 1).logits;
  for (const int layers : {0, 1, 3}) {
    OnDevice device(ShippedModel(), kPlainDeviceOps, WithLookahead());
    device.Place({.seed = 3});
    Listener listener(layers, {0, 2});
    device.model().Observe(&listener);
    EXPECT_TRUE(device.model().Run(tokens_, 1).logits == expected) << layers;
    EXPECT_TRUE(listener.told == FromHost(Listener(layers, {0, 2}))) << layers;
  }
}

TEST_F(DeviceGuesses, AreNotMadeOfStepsWithMoreRows) {
  OnDevice device(ShippedModel(), kPlainDeviceOps, WithLookahead());
  device.Place({.seed = 3});
  Listener listener(kTop);
  device.model().Observe(&listener);
  device.model().Run(SomeTokens(kRowsMax + 1, 100), kRowsMax + 1);
  EXPECT_TRUE(listener.Guesses().empty());
}

// What a step costs the device, beside what it computes.
struct Cost {
  uint64_t launches = 0;
  uint64_t copies_out = 0;
  uint64_t waits = 0;
};
Cost CostOfAStep(OnDevice& device, Listener& listener) {
  const auto now = [&] {
    return Cost{device.Count("device_launches"), device.Count("device_copies_out"),
                device.Count("device_waits")};
  };
  device.model().Observe(&listener);
  const Cost before = now();
  device.model().Run({1}, 1);
  const Cost after = now();
  return {after.launches - before.launches, after.copies_out - before.copies_out,
          after.waits - before.waits};
}

TEST_F(DeviceGuesses, CostThreeLaunchesEachAndNoCopyOrWait) {
  OnDevice device(ShippedModel(), kPlainDeviceOps, WithLookahead());
  device.Place({.places = PlacedExperts::Places::kHost, .pins = 40});
  std::vector<int> all_layers;
  for (int layer = 0; layer < layer_count_; ++layer) all_layers.push_back(layer);
  Listener quiet(0), silent(kTop, all_layers), guessing(1);
  const Cost none = CostOfAStep(device, quiet);
  const Cost of_silent = CostOfAStep(device, silent);
  const Cost of_guesses = CostOfAStep(device, guessing);
  EXPECT_EQ(of_silent.launches, none.launches);
  ASSERT_FALSE(guessing.Guesses().empty());
  EXPECT_EQ(of_guesses.launches, none.launches + 3 * guessing.Guesses().size());
  EXPECT_EQ(of_guesses.copies_out, none.copies_out);
  EXPECT_EQ(of_guesses.waits, none.waits);
}

TEST_F(DeviceGuesses, AreNeitherMadeAtResidentLayersNorOfThem) {
  const auto is_odd = [](int layer) { return layer % 2 == 1; };
  std::vector<Listener::Told> expected;
  for (const Listener::Told& told : FromHost(Listener(kTop))) {
    if (told.target >= 0 && !is_odd(told.layer) && !is_odd(told.target)) expected.push_back(told);
  }
  ASSERT_FALSE(expected.empty());
  Settled device(kPlainDeviceOps, WithLookahead());
  device.experts().Settle(is_odd);
  Listener listener(kTop);
  for (int32_t i = 0; i < static_cast<int32_t>(tokens_.size()); ++i) {
    const StepRow row = {tokens_[static_cast<size_t>(i)], 0, i, true};
    ASSERT_TRUE(device.Step({row}, &listener).ok());
  }
  EXPECT_TRUE(listener.Guesses() == expected);
}

// Steps of resident layers are recorded and repeated; a layer that stops being waited for in the
// middle of a run takes its guesses with it.
TEST_F(DeviceGuesses, EndWhenEveryLayerHasSettledAndStepsRepeat) {
  const std::vector<float> expected = host_->Run(tokens_, 1).logits;
  Settled device(kPlainDeviceOps, WithLookahead());
  int settled = 0;
  device.experts().Settle([&](int layer) { return layer < settled; });
  Listener listener(kTop);
  std::vector<float> logits;
  for (int32_t i = 0; i < static_cast<int32_t>(tokens_.size()); ++i) {
    listener.told.clear();
    const StepRow row = {tokens_[static_cast<size_t>(i)], 0, i, true};
    ASSERT_TRUE(device.Step({row}, &listener).ok());
    logits.insert(logits.end(), device.logits().begin(), device.logits().end());
    EXPECT_EQ(listener.Guesses().empty(), settled >= layer_count_ - 1) << settled;
    ++settled;
  }
  EXPECT_TRUE(logits == expected);
  EXPECT_GT(device.Count("device_repeats"), 0u);
}

}  // namespace
}  // namespace stoker
