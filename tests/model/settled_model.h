// A model on a modelled device that holds its experts for good, for the tests of what then needs no
// host.
#pragma once

#include <memory>
#include <vector>

#include "tests/model/on_device.h"
#include "tests/model/plain_device_ops.h"
#include "tests/model/settled_experts.h"

namespace stoker {

// A model on a device with stores of both kinds.
class Settled : public OnDevice {
 public:
  explicit Settled(const DeviceOps& ops = kPlainDeviceOps, LoadedModel::Options options = {},
                   const ModelledRates& rates = kSlowCopies)
      : OnDevice(ShippedModel(), ops, options, rates) {
    ExpertProvider& host = model().experts();
    PlacedExperts& others = Place({.pins = 6, .seed = 4});
    model().Use(nullptr);
    experts_ = *SettledExperts::Create(host, others, model().spec().experts, device());
    model().Use(experts_.get());
  }
  SettledExperts& experts() { return *experts_; }
  absl::Span<const float> logits() const { return logits_; }  // of the last step
  int layer_count() { return static_cast<int>(model().spec().experts.layers.size()); }

  absl::Status Step(const std::vector<StepRow>& rows, StepObserver* observer = nullptr) {
    logits_.resize(rows.size() * static_cast<size_t>(model().config().vocab_count));
    return model().model().Forward(rows, model().kv(), experts(), observer, nullptr,
                                   {.logits = logits_.data()});
  }

 private:
  std::unique_ptr<SettledExperts> experts_;
  std::vector<float> logits_;
};

}  // namespace stoker
