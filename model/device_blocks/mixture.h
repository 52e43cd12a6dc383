// A layer's mixture of experts on a device and the host: routing there, the plan here, each expert
// where the store hands it out, and the ordered sum there.
#pragma once

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/parallel.h"
#include "cache/expert_provider.h"
#include "kernels/ops.h"
#include "model/device_blocks/step.h"
#include "model/step_observer.h"

namespace stoker {

class ResidentMixtures;

// A mixture and the host's share in it.
struct DeviceMixture {
  const DeviceStep& step;
  absl::Span<const LayerWeights> layers;  // all of the model's
  const LayerWeights& weights;            // the layer's
  const PinnedBlock& pinned;
  HostPart& host;
  const Ops& host_ops;
  ThreadTeam& team;
  ResidentMixtures& residents;  // of the layers before this one
};

// Where the norm before a mixture puts its rows, and their forms: what the host's experts may want
// lies in the outbox.
DeviceRows MixtureInput(const DeviceStep& step, const LayerWeights& weights);

// Reads MixtureInput, writes work.delta [rows, hidden]. Waits for the router, once; what it leaves
// queued ends in work.delta. The device's error, or the provider's.
absl::Status QueueMixture(const DeviceMixture& mixture, int layer, ExpertProvider& provider,
                          StepObserver* observer);

// Parts of it that others have too, as launches. What a layer's router chooses of rows of its
// input, choices.top_k experts a row:
void QueueRouter(const DeviceStep& step, const LayerWeights& weights, const DeviceRows& input,
                 const RouterChoices& choices);
void QueueSharedExpert(const DeviceMixture& mixture, const DeviceRows& input);
// work.delta from work.partial. Both arrays on the device; `places` as SumPartsArgs.
void QueueSum(const DeviceMixture& mixture, const float* weights, const int32_t* places);

}  // namespace stoker
