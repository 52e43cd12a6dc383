// A model of a file on a modelled device of its own, for the tests of the forward pass there.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/counters.h"
#include "base/status.h"
#include "device/modelled_device.h"
#include "kernels/device_ops.h"
#include "tests/model/loaded_model.h"
#include "tests/model/placed_experts.h"
#include "tests/testing/shared_data.h"

namespace stoker {

inline std::string ShippedModel() { return SourceDir() + "/models/moe-27m.q4_k.gguf"; }

inline std::vector<int32_t> SomeTokens(size_t count, int vocab) {
  std::mt19937 random(7);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens)
    token = static_cast<int32_t>(random() % static_cast<uint32_t>(vocab));
  return tokens;
}

// Experts are still being copied when what computes them is queued, or still being computed when
// their slots are copied to again.
inline constexpr ModelledRates kSlowCopies = {.copy_in_bytes_per_second = 1e8};
inline constexpr ModelledRates kSlowKernels = {.memory_bytes_per_second = 1e7};

inline std::unique_ptr<ModelledDevice> MakeDevice(VirtualClock& clock, const ModelledRates& rates,
                                                  uint64_t memory_bytes = 1 << 30) {
  absl::StatusOr<std::unique_ptr<ModelledDevice>> device =
      MakeModelledDevice({.rates = rates, .modelled_memory_bytes = memory_bytes}, &clock);
  EXPECT_TRUE(device.ok()) << MessageOf(device.status());
  return *std::move(device);
}

// A model of a file on a modelled device of its own.
class OnDevice {
 public:
  OnDevice(const std::string& path, const DeviceOps& ops, LoadedModel::Options options = {},
           const ModelledRates& rates = kSlowCopies)
      : device_(MakeDevice(clock_, rates)) {
    options.device.device = device_.get();
    options.device.ops = &ops;
    absl::StatusOr<std::unique_ptr<LoadedModel>> model = LoadedModel::Open(path, options);
    EXPECT_TRUE(model.ok()) << MessageOf(model.status());
    model_ = *std::move(model);
  }
  LoadedModel& model() { return *model_; }
  ModelledDevice& device() { return *device_; }
  VirtualClock& clock() { return clock_; }
  uint64_t Count(std::string_view name) const;

  // From here on experts come from there.
  PlacedExperts& Place(const PlacedExperts::Options& options) {
    absl::StatusOr<std::unique_ptr<PlacedExperts>> experts =
        PlacedExperts::Create(model_->experts(), model_->spec().experts, *device_, options);
    EXPECT_TRUE(experts.ok()) << MessageOf(experts.status());
    model_->Use(nullptr);
    experts_ = *std::move(experts);
    model_->Use(experts_.get());
    return *experts_;
  }

 private:
  VirtualClock clock_;
  std::unique_ptr<ModelledDevice> device_;
  std::unique_ptr<LoadedModel> model_;
  std::unique_ptr<PlacedExperts> experts_;
};

struct DeviceNumbers final : CounterVisitor {
  std::map<std::string, uint64_t, std::less<>> values;
  void Counter(std::string_view name, uint64_t value) override {
    values[std::string(name)] = value;
  }
  void Gauge(std::string_view name, double value) override {
    values[std::string(name)] = static_cast<uint64_t>(value);
  }
};
inline uint64_t OnDevice::Count(std::string_view name) const {
  DeviceNumbers counts;
  device_->Report(counts);
  return counts.values.at(std::string(name));
}

inline std::unique_ptr<LoadedModel> OnHost(const std::string& path,
                                           const LoadedModel::Options& options = {}) {
  absl::StatusOr<std::unique_ptr<LoadedModel>> model = LoadedModel::Open(path, options);
  EXPECT_TRUE(model.ok()) << MessageOf(model.status());
  return *std::move(model);
}

}  // namespace stoker
