// The forward pass on a device: the host's bits, wherever experts are, however a step is cut.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/status.h"
#include "tests/cache/allocation_count.h"
#include "tests/model/on_device.h"
#include "tests/model/plain_device_ops.h"

namespace stoker {
namespace {

using ::testing::HasSubstr;
using Places = PlacedExperts::Places;

// Of every kind of attention, mixture, head and format, files whose every product is different.
struct File {
  const char* name;
  const char* path;  // in the reference data
};
void PrintTo(const File& file, std::ostream* os) { *os << file.name; }
// The twin computes thread by thread, some hundred times as slowly: it is given fewer rows.
enum class Kernels { kPlain, kTwin };
const DeviceOps& OpsOf(Kernels kernels) {
  return kernels == Kernels::kPlain ? kPlainDeviceOps : *FindDeviceOps("modelled");
}

class DeviceFiles : public testing::TestWithParam<std::tuple<File, Kernels>> {};

TEST_P(DeviceFiles, LogitsAndHiddenStatesAreTheHosts) {
  SKIP_WITHOUT_SHARED();
  const auto [file, kernels] = GetParam();
  const std::string path = SharedPath(file.path);
  const int count = kernels == Kernels::kPlain ? 70 : 10;
  const auto host = OnHost(path);
  OnDevice device(path, OpsOf(kernels));
  const std::vector<int32_t> tokens =
      SomeTokens(static_cast<size_t>(count), host->config().vocab_count);
  const RunResult expected = host->Run(tokens, count);
  for (const int chunk : {count, 7, 1}) {
    if (kernels == Kernels::kTwin && chunk == 7) continue;
    device.Place({.seed = static_cast<uint32_t>(chunk)});
    device.model().Reset();
    const RunResult got = device.model().Run(tokens, chunk);
    EXPECT_TRUE(got.logits == expected.logits) << "chunk " << chunk;
    EXPECT_TRUE(got.exp_sums == expected.exp_sums) << "chunk " << chunk;
    if (chunk == count) {
      EXPECT_TRUE(got.hidden == expected.hidden);
    }
    EXPECT_TRUE(got.normed == expected.normed) << "chunk " << chunk;
  }
}

#define FAMILY(name) "oracles/families/" name "/model.bf16.gguf"
INSTANTIATE_TEST_SUITE_P(
    All, DeviceFiles,
    testing::Combine(testing::Values(File{"llama", FAMILY("llama")},
                                     File{"mixtral", FAMILY("mixtral")},
                                     File{"qwen2", FAMILY("qwen2")}, File{"qwen3", FAMILY("qwen3")},
                                     File{"qwen2_moe", FAMILY("qwen2-moe")},
                                     File{"qwen3_moe", FAMILY("qwen3-moe")},
                                     File{"olmoe", FAMILY("olmoe")},
                                     File{"deepseek_v2_lite", FAMILY("deepseek-v2-lite")},
                                     File{"deepseek_v3", FAMILY("deepseek-v3")},
                                     File{"kimi_k2", FAMILY("kimi-k2")},
                                     File{"moe_q8_0", "models/moe-27m.q8_0.gguf"},
                                     File{"moe_q4_k", "models/moe-27m.q4_k.gguf"},
                                     File{"draft_bf16", "models/draft-1m.bf16.gguf"},
                                     File{"draft_q8_0", "models/draft-1m.q8_0.gguf"},
                                     File{"stories", "data/models/stories260K.gguf"}),
                     testing::Values(Kernels::kPlain, Kernels::kTwin)),
    [](const auto& row) {
      return std::string(std::get<0>(row.param).name) +
             (std::get<1>(row.param) == Kernels::kPlain ? "_plain" : "_twin");
    });

class DeviceForward : public testing::Test {
 protected:
  void SetUp() override {
    host_ = OnHost(ShippedModel(), {.sequence_count = 3});
    tokens_ = SomeTokens(90, host_->config().vocab_count);
    expected_ = host_->Run(tokens_, 90).logits;
    host_->Reset();
  }
  std::unique_ptr<LoadedModel> host_;
  std::vector<int32_t> tokens_;
  std::vector<float> expected_;
};

TEST_F(DeviceForward, PlacesOfExpertsDoNotShow) {
  for (const ModelledRates& rates : {kSlowCopies, kSlowKernels}) {
    OnDevice device(ShippedModel(), kPlainDeviceOps, {}, rates);
    for (const Places places : {Places::kHost, Places::kDevice, Places::kMixed}) {
      for (const int pins : {1, 4, 40}) {
        PlacedExperts& experts = device.Place({.places = places, .pins = pins, .seed = 5});
        device.model().Reset();
        EXPECT_TRUE(device.model().Run(tokens_, 33).logits == expected_)
            << static_cast<int>(places) << ", " << pins;
        EXPECT_EQ(experts.host_count() == 0, places == Places::kDevice);
        EXPECT_EQ(experts.device_count() == 0, places == Places::kHost);
      }
    }
  }
}

// Long enough for a second page of the cache, and for tiles of rows.
TEST_F(DeviceForward, TheDevicesOwnKernelsGiveTheHostsBits) {
  OnDevice device(ShippedModel(), *FindDeviceOps("modelled"));
  device.Place({.pins = 10, .seed = 9});
  const std::vector<int32_t> some(tokens_.begin(), tokens_.begin() + 68);
  std::vector<float> logits = device.model().Run({some.begin(), some.begin() + 65}, 65).logits;
  const std::vector<float> rest = device.model().Run({some.begin() + 65, some.end()}, 1).logits;
  logits.insert(logits.end(), rest.begin(), rest.end());
  EXPECT_TRUE(std::equal(logits.begin(), logits.end(), expected_.begin()));
}

// Two models on one device, one of which waits for nothing that the other has queued.
TEST_F(DeviceForward, AModelInTheBackgroundRunsBesideWhatIsComputed) {
  OnDevice device(ShippedModel(), kPlainDeviceOps, {.device = {.stream = Stream::kBackground}});
  device.Place({.seed = 3});
  constexpr auto kHour = static_cast<uint64_t>(3600 * kSlowCopies.memory_bytes_per_second);
  const auto nothing = [](const void*, void*) { return 0; };
  device.device().Launch(Stream::kCompute,
                         {.name = "hour", .run = nothing, .touched_bytes = kHour});
  const DeviceEvent hour = device.device().Record(Stream::kCompute);
  const int64_t end_ns = device.device().EndNs(hour);
  EXPECT_TRUE(device.model().Run(tokens_, 33).logits == expected_);
  EXPECT_FALSE(device.device().IsDone(hour));
  EXPECT_EQ(device.device().EndNs(device.device().Record(Stream::kCompute)), end_ns);
  EXPECT_GT(device.Count("modelled_background_busy_ns"), 0u);
}

TEST_F(DeviceForward, ThreadsOfTheHostDoNotShow) {
  OnDevice device(ShippedModel(), kPlainDeviceOps, {.threads = 3});
  device.Place({.pins = 10, .seed = 2});
  EXPECT_TRUE(device.model().Run(tokens_, 50).logits == expected_);
}

TEST_F(DeviceForward, AStoreWithoutADeviceServesAsWell) {
  OnDevice device(ShippedModel(), kPlainDeviceOps);
  EXPECT_TRUE(device.model().Run(tokens_, 90).logits == expected_);
}

TEST_F(DeviceForward, NeighboursInTheBatchDoNotShow) {
  OnDevice device(ShippedModel(), kPlainDeviceOps, {.sequence_count = 3});
  device.Place({.pins = 8});
  device.model().Run({1, 2, 3, 4, 5}, 5, 0);
  std::vector<StepRow> rows = {{9, 0, 5, true}, {8, 0, 6, true}};
  for (size_t i = 0; i < tokens_.size(); ++i) {
    rows.push_back({tokens_[i], 1, static_cast<int32_t>(i), true});
  }
  rows.push_back({17, 2, 0, true});
  const std::vector<float> together = device.model().Step(rows).logits;
  const auto vocab = static_cast<size_t>(host_->config().vocab_count);
  EXPECT_TRUE(std::equal(expected_.begin(), expected_.end(), together.begin() + 2 * vocab));
}

// Sequences grow in turn, so that their pages lie among each other, and give pages to each other.
TEST_F(DeviceForward, TruncatedSequencesGoOnAsIfNeverLonger) {
  OnDevice device(ShippedModel(), kPlainDeviceOps, {.sequence_count = 2});
  LoadedModel& model = device.model();
  device.Place({.pins = 8});
  model.Run(SomeTokens(100, 50), 50, 1);
  model.Run({tokens_.begin(), tokens_.begin() + 20}, 7, 0);
  model.Run(SomeTokens(130, 60), 64, 0);
  model.kv().Truncate(1, 30);
  model.Run(SomeTokens(200, 70), 64, 1);
  model.kv().Truncate(0, 20);
  const std::vector<float> again = model.Run({tokens_.begin() + 20, tokens_.end()}, 64, 0).logits;
  const auto vocab = static_cast<size_t>(host_->config().vocab_count);
  EXPECT_TRUE(std::equal(again.begin(), again.end(), expected_.begin() + 20 * vocab));
}

TEST_F(DeviceForward, AHalfPrecisionCacheGivesTheHostsBits) {
  const auto host = OnHost(ShippedModel(), {.kv_dtype = Dtype::kF16});
  const std::vector<float> expected = host->Run(tokens_, 90).logits;
  OnDevice device(ShippedModel(), kPlainDeviceOps, {.kv_dtype = Dtype::kF16});
  device.Place({.pins = 8});
  EXPECT_TRUE(device.model().Run(tokens_, 13).logits == expected);
  EXPECT_NE(expected, expected_);
}

TEST_F(DeviceForward, OnlyRowsThatWantLogitsGetThem) {
  OnDevice device(ShippedModel(), kPlainDeviceOps);
  const auto vocab = static_cast<size_t>(host_->config().vocab_count);
  std::vector<float> some(2 * vocab + 1, -1.0f);
  std::vector<StepRow> rows;
  for (int32_t i = 0; i < 5; ++i) rows.push_back({tokens_[static_cast<size_t>(i)], 0, i, false});
  rows[1].wants_logits = rows[4].wants_logits = true;
  Model& model = device.model().model();
  ASSERT_TRUE(model
                  .Forward(rows, device.model().kv(), device.model().experts(), nullptr, nullptr,
                           {.logits = some.data()})
                  .ok());
  EXPECT_TRUE(std::equal(some.begin(), some.begin() + vocab, expected_.begin() + vocab));
  EXPECT_TRUE(std::equal(some.begin() + vocab, some.end() - 1, expected_.begin() + 4 * vocab));
  EXPECT_EQ(some.back(), -1.0f);
}

struct Seen final : StepObserver {
  std::map<int, std::vector<int32_t>> experts;
  std::map<int, std::vector<float>> weights;
  void OnRouting(int layer, int, absl::Span<const int32_t> chosen,
                 absl::Span<const float> weight) override {
    experts[layer].assign(chosen.begin(), chosen.end());
    weights[layer].assign(weight.begin(), weight.end());
  }
};

TEST_F(DeviceForward, ObserversSeeWhatTheySeeOnTheHost) {
  OnDevice device(ShippedModel(), kPlainDeviceOps);
  std::vector<StepRow> rows;
  for (int32_t i = 0; i < 9; ++i) rows.push_back({tokens_[static_cast<size_t>(i)], 0, i, false});
  Seen on_host, on_device;
  ASSERT_TRUE(
      host_->model().Forward(rows, host_->kv(), host_->experts(), &on_host, nullptr, {}).ok());
  LoadedModel& model = device.model();
  ASSERT_TRUE(
      model.model().Forward(rows, model.kv(), model.experts(), &on_device, nullptr, {}).ok());
  EXPECT_EQ(on_device.experts, on_host.experts);
  EXPECT_EQ(on_device.weights, on_host.weights);
}

TEST_F(DeviceForward, TheStoreIsToldRowsAndHostWork) {
  OnDevice device(ShippedModel(), kPlainDeviceOps);
  PlacedExperts& experts = device.Place({.places = Places::kHost, .pins = 8});
  device.model().Run({tokens_.begin(), tokens_.begin() + 10}, 10);
  const ModelSpec& spec = device.model().spec();
  const int64_t pairs = 10 * spec.config.experts_used;
  EXPECT_EQ(experts.rows_asked(), pairs * static_cast<int64_t>(spec.experts.layers.size()));
  uint64_t row_bytes = 0;
  for (const LayerExperts& layer : spec.experts.layers) {
    row_bytes += ExpertCatalog::ExpertBytes(layer) * static_cast<uint64_t>(pairs);
  }
  EXPECT_EQ(experts.noted_row_bytes(), row_bytes);
  EXPECT_LT(experts.noted_bytes(), row_bytes);
  EXPECT_GT(experts.noted_bytes(), 0u);
}

TEST_F(DeviceForward, WhatIsTakenIsWhatWasPlanned) {
  const LoadedModel::Options options = {.sequence_count = 2, .kv_dtype = Dtype::kF16};
  OnDevice device(ShippedModel(), kPlainDeviceOps, options);
  const ModelSpec& spec = device.model().spec();
  const WorkspaceNeeds needs = Model::WorkspaceBytes(spec, options.model, 1, true);
  const uint64_t kv_bytes = KvCache::PlanBytes(
      spec.config,
      {.sequence_count = 2, .context = options.model.context_max, .dtype = Dtype::kF16}, true);
  EXPECT_EQ(device.Count("device_taken_bytes"), spec.trunk_bytes + needs.device_bytes + kv_bytes);
  EXPECT_LE(device.Count("device_pinned_bytes"), needs.host_bytes);
  EXPECT_GT(device.Count("device_pinned_bytes"), 0u);
}

// A step's copies do not hold up the host, but for the table of pages, which changes rarely.
TEST_F(DeviceForward, CopiesOfAStepArePinned) {
  OnDevice device(ShippedModel(), kPlainDeviceOps);
  std::vector<float> logits(static_cast<size_t>(host_->config().vocab_count));
  LoadedModel& model = device.model();
  uint64_t before = 0;
  for (int32_t i = 0; i < 3; ++i) {
    const std::vector<StepRow> rows = {{tokens_[static_cast<size_t>(i)], 0, i, true}};
    ASSERT_TRUE(
        model.model()
            .Forward(rows, model.kv(), model.experts(), nullptr, nullptr, {.logits = logits.data()})
            .ok());
    const uint64_t unpinned = device.Count("device_unpinned_copies");
    if (i > 0) {
      EXPECT_EQ(unpinned, before);
    }
    before = unpinned;
  }
}

// One thread, so that the count, which is the calling thread's, misses nothing. The first steps are
// for what the kernels of tests take once.
TEST_F(DeviceForward, AStepAllocatesNothing) {
  for (const Kernels kernels : {Kernels::kPlain, Kernels::kTwin}) {
    OnDevice device(ShippedModel(), OpsOf(kernels), {.kv_dtype = Dtype::kF16});
    LoadedModel& model = device.model();
    PlacedExperts& experts = device.Place({.pins = 6});
    model.Run({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 9);
    model.Reset();
    std::vector<float> logits(8 * static_cast<size_t>(model.config().vocab_count));
    int32_t position = 0;
    for (const int32_t count : {1, 1, 8, 1}) {
      std::vector<StepRow> rows;
      for (int32_t i = 0; i < count; ++i, ++position) rows.push_back({position, 0, position, true});
      const AllocationCount allocations;
      const absl::Status status = model.model().Forward(rows, model.kv(), experts, nullptr, nullptr,
                                                        {.logits = logits.data()});
      EXPECT_EQ(allocations.Count(), 0) << count << " rows";
      EXPECT_TRUE(status.ok());
    }
  }
}

class Broken final : public ExpertProvider {
 public:
  int pins_max(int) const override { return 8; }
  absl::Status Request(int, absl::Span<const int32_t>, absl::Span<const int32_t>) override {
    return absl::OkStatus();
  }
  absl::StatusOr<int> Collect(absl::Span<ExpertRef>, Wait) override {
    return absl::DataLossError("blk.1 expert 3 cannot be read");
  }
  int outstanding() const override { return 0; }

 protected:
  void Unpin(int32_t) override {}
};

TEST_F(DeviceForward, AnExpertThatCannotBeReadLeavesTheSequenceAsItWas) {
  OnDevice device(ShippedModel(), kPlainDeviceOps);
  LoadedModel& model = device.model();
  model.Run({tokens_.begin(), tokens_.begin() + 63}, 63);
  const int free_pages = model.kv().free_page_count();
  Broken broken;
  std::vector<StepRow> rows = {{4, 0, 63, true}, {5, 0, 64, true}};
  std::vector<float> logits(2 * static_cast<size_t>(model.config().vocab_count));
  const absl::Status status =
      model.model().Forward(rows, model.kv(), broken, nullptr, nullptr, {.logits = logits.data()});
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(model.kv().length(0), 63);
  EXPECT_EQ(model.kv().free_page_count(), free_pages);
  const auto vocab = static_cast<size_t>(model.config().vocab_count);
  EXPECT_TRUE(std::ranges::equal(model.Run({tokens_.begin() + 63, tokens_.end()}, 27).logits,
                                 absl::MakeSpan(expected_).subspan(63 * vocab)));
}

// Whichever operation of a step it is: at the start, in a layer, in the head.
TEST_F(DeviceForward, AFaultOfTheDeviceIsNamedAndLeavesTheLengths) {
  for (const uint64_t nth : {1, 2, 3, 11, 29, 60, 100}) {
    OnDevice device(ShippedModel(), kPlainDeviceOps);
    LoadedModel& model = device.model();
    PlacedExperts& experts = device.Place({.pins = 8});
    model.Run({tokens_.begin(), tokens_.begin() + 5}, 5);
    device.device().FailOperation(nth);
    std::vector<float> logits(static_cast<size_t>(model.config().vocab_count));
    const std::vector<StepRow> rows = {{tokens_[5], 0, 5, true}};
    const absl::Status status = model.model().Forward(rows, model.kv(), experts, nullptr, nullptr,
                                                      {.logits = logits.data()});
    EXPECT_THAT(std::string(MessageOf(status)), ::testing::ContainsRegex("(kernel|copy) .*failed"))
        << nth;
    EXPECT_EQ(model.kv().length(0), 5) << nth;
  }
}

TEST_F(DeviceForward, ADeviceTooSmallSaysWhatDidNotFit) {
  const auto load = [&](uint64_t memory_bytes) {
    VirtualClock clock;
    const std::unique_ptr<ModelledDevice> device = MakeDevice(clock, kSlowCopies, memory_bytes);
    return std::string(MessageOf(
        LoadedModel::Open(ShippedModel(), {.device = {device.get(), &kPlainDeviceOps}}).status()));
  };
  const uint64_t trunk_bytes = host_->spec().trunk_bytes;
  EXPECT_THAT(load(trunk_bytes / 2), HasSubstr("the resident weights"));
  EXPECT_THAT(load(trunk_bytes + 100000), HasSubstr("the workspace"));
}

}  // namespace
}  // namespace stoker
