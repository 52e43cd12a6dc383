// Multi-token prediction on a device: the host's bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"
#include "tests/cache/allocation_count.h"
#include "tests/model/mtp_passes.h"
#include "tests/model/on_device.h"
#include "tests/model/plain_device_ops.h"
#include "tests/model/settled_experts.h"

namespace stoker {
namespace {

using ::testing::HasSubstr;
using Places = PlacedExperts::Places;

class DeviceMtp : public testing::Test {
 protected:
  void SetUp() override {
    host_ = OnHost(ShippedModel(), WithMtp());
    tokens_ = SomeTokens(80, host_->config().vocab_count);
    states_ = host_->Run(tokens_, 80).normed;
    expected_ = Guesses(*host_, tokens_, states_, 80);
  }
  void ExpectTheHosts(const MtpResult& got, const std::string& what) const {
    EXPECT_TRUE(got.logits == expected_.logits) << what;
    EXPECT_TRUE(got.normed == expected_.normed) << what;
  }

  std::unique_ptr<LoadedModel> host_;
  std::vector<int32_t> tokens_;
  std::vector<float> states_;
  MtpResult expected_;
};

TEST_F(DeviceMtp, PlacesOfExpertsAndChunksDoNotShow) {
  OnDevice device(ShippedModel(), kPlainDeviceOps, WithMtp());
  for (const Places places : {Places::kHost, Places::kDevice, Places::kMixed}) {
    for (const size_t chunk : {1, 7, 80}) {
      device.Place({.places = places, .pins = 5, .seed = 3});
      ExpectTheHosts(Guesses(device.model(), tokens_, states_, chunk),
                     std::to_string(static_cast<int>(places)) + ", " + std::to_string(chunk));
    }
  }
}

TEST_F(DeviceMtp, TheDevicesOwnKernelsGiveTheHostsBits) {
  OnDevice device(ShippedModel(), *FindDeviceOps("modelled"), WithMtp());
  device.Place({.pins = 8});
  const std::vector<int32_t> tokens(tokens_.begin(), tokens_.begin() + 12);
  const std::vector<float> states(states_.begin(), states_.begin() + 12 * 256);
  const MtpResult got = Guesses(device.model(), tokens, states, 9);
  ASSERT_EQ(got.logits.size(), 11u * 4096);
  EXPECT_TRUE(std::equal(got.logits.begin(), got.logits.end(), expected_.logits.begin()));
  EXPECT_TRUE(std::equal(got.normed.begin(), got.normed.end(), expected_.normed.begin()));
}

// States come from the device's own steps, which are recorded and repeated with passes in between.
TEST_F(DeviceMtp, PassesBetweenRecordedStepsGiveTheHostsBits) {
  OnDevice device(ShippedModel(), kPlainDeviceOps, WithMtp());
  LoadedModel& model = device.model();
  PlacedExperts& others = device.Place({.pins = 6});
  model.Use(nullptr);
  const auto experts =
      *SettledExperts::Create(model.experts(), others, model.spec().experts, device.device());
  model.Use(experts.get());
  std::vector<float> logits(4096), normed(256);
  for (size_t i = 0; i < 40; ++i) {
    const std::vector<StepRow> rows = {{tokens_[i], 0, static_cast<int32_t>(i), true}};
    const absl::Status status =
        model.model().Forward(rows, model.kv(), *experts, nullptr, nullptr,
                              {.logits = logits.data(), .normed = normed.data()});
    ASSERT_TRUE(status.ok()) << MessageOf(status);
    MtpRow row = RowAt(tokens_, states_, i);
    EXPECT_TRUE(std::equal(normed.begin(), normed.end(), row.hidden)) << i;
    row.hidden = normed.data();
    const absl::StatusOr<MtpResult> pass = model.RunMtp({row});
    ASSERT_TRUE(pass.ok()) << MessageOf(pass.status());
    EXPECT_TRUE(std::equal(pass->logits.begin(), pass->logits.end(),
                           expected_.logits.begin() + static_cast<ptrdiff_t>(i * 4096)))
        << i;
    EXPECT_EQ(experts->uses().back().layer, 7);
  }
  EXPECT_EQ(experts->request_count(), 0);
  EXPECT_GT(device.Count("device_repeats"), 0u);
}

TEST_F(DeviceMtp, WhatIsTakenIsWhatWasPlanned) {
  LoadedModel::Options options = WithMtp();
  options.model.mtp_rows_max = 40;
  OnDevice device(ShippedModel(), kPlainDeviceOps, options);
  const ModelSpec& spec = device.model().spec();
  const WorkspaceNeeds needs = Model::WorkspaceBytes(spec, options.model, 1, true);
  KvCache::Options kv = {.context = options.model.context_max, .dtype = Dtype::kF32};
  uint64_t kv_bytes = KvCache::PlanBytes(spec.config, kv, true);
  kv.layer_count = 1;
  kv_bytes += KvCache::PlanBytes(spec.config, kv, true);
  EXPECT_EQ(device.Count("device_taken_bytes"), spec.trunk_bytes + needs.device_bytes + kv_bytes);
  EXPECT_LE(device.Count("device_pinned_bytes"), needs.host_bytes);
}

// The first passes are for what the kernels of tests take once.
TEST_F(DeviceMtp, APassAllocatesNothing) {
  OnDevice device(ShippedModel(), kPlainDeviceOps, WithMtp());
  LoadedModel& model = device.model();
  PlacedExperts& experts = device.Place({.pins = 6});
  Guesses(model, tokens_, states_, 9);
  model.Reset();
  std::vector<float> logits(8 * 4096), normed(8 * 256);
  size_t position = 0;
  for (const size_t count : {1, 1, 8, 1}) {
    std::vector<MtpRow> rows;
    for (size_t i = 0; i < count; ++i) rows.push_back(RowAt(tokens_, states_, position++));
    const AllocationCount allocations;
    const absl::Status status =
        model.model().ForwardMtp(rows, model.mtp_kv(), experts, nullptr, nullptr,
                                 {.logits = logits.data(), .normed = normed.data()});
    EXPECT_EQ(allocations.Count(), 0) << count << " rows";
    EXPECT_TRUE(status.ok());
  }
}

// Whichever operation of a pass it is: at the start, in the layer, in the head.
TEST_F(DeviceMtp, AFaultOfTheDeviceIsNamedAndLeavesTheLengths) {
  OnDevice device(ShippedModel(), kPlainDeviceOps, WithMtp());
  LoadedModel& model = device.model();
  device.Place({.pins = 8});
  ASSERT_TRUE(model.RunMtp({RowAt(tokens_, states_, 0)}).ok());
  for (const uint64_t nth : {1, 3, 6, 12, 20}) {
    device.device().FailOperation(nth);
    const absl::Status status = model.RunMtp({RowAt(tokens_, states_, 1)}).status();
    EXPECT_THAT(std::string(MessageOf(status)), ::testing::ContainsRegex("(kernel|copy) .*failed"))
        << nth;
    EXPECT_EQ(model.mtp_kv().length(0), 1) << nth;
  }
}

TEST_F(DeviceMtp, AWidthThatDevicesCannotJoinIsRefused) {
  VirtualClock clock;
  const std::unique_ptr<ModelledDevice> device = MakeDevice(clock, kSlowCopies);
  const GgufModel gguf = *GgufModel::Open(ShippedModel());
  ModelSpec spec = *ModelSpec::Read(gguf, {.with_mtp = true});
  spec.config.hidden = 200;
  const std::unique_ptr<BlockReader> reader = MakePreadReader({});
  ThreadTeam team({.thread_count = 1, .cpus = {}});
  const absl::Status status = Model::Load(gguf, spec, {}, **SelectOps("auto"), team, *reader,
                                          nullptr, {device.get(), &kPlainDeviceOps})
                                  .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(MessageOf(status)),
              HasSubstr("and the model's is 200; try --device cpu"));
}

}  // namespace
}  // namespace stoker
