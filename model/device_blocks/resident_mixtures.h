// Mixtures whose experts are all in device memory for good: the device works on them without the
// host, which learns afterwards what the routers chose.
#pragma once

#include <cstdint>

#include "cache/expert_provider.h"
#include "model/device_blocks/mixture.h"
#include "model/device_blocks/step.h"
#include "model/step_observer.h"

namespace stoker {

// Knows where each resident layer's experts are, and collects the choices of the running step's
// routers until somebody waits for the device anyway.
class ResidentMixtures {
 public:
  // All must outlive this object; `host` has its arrays for residents at zero.
  ResidentMixtures(const ModelConfig& config, const DeviceWorkspace& work,
                   const PinnedBlock& pinned, HostPart& host)
      : config_(config), work_(work), pinned_(pinned), host_(host) {}

  // Whether the device can work on the layer by itself: it is resident, and the step is of few
  // enough rows to be planned there. Queues the copy of where its experts are when that is news.
  bool Takes(const DeviceStep& step, int layer, ExpertProvider& provider);
  // For a layer that Takes: reads MixtureInput, writes work.delta [rows, hidden]; waits for
  // nothing.
  void Queue(const DeviceMixture& mixture, int layer);

  // Notes a layer as queued, as Queue does, for work that queues itself from a recording.
  void Note(int layer) { host_.noted_layers[noted_count_++] = layer; }
  // Queues the copy of the choices of all layers noted so far that were not copied yet.
  void SendChoices(const DeviceStep& step);
  // Tells what was sent, in the order of the layers, and forgets it; once the copy has come.
  void Tell(int64_t rows, ExpertProvider& provider, StepObserver* observer);
  // Forgets what was noted: a step begins, or one was abandoned.
  void Forget() { noted_count_ = sent_count_ = 0; }

 private:
  ExpertAddresses AddressesOf(const ExpertShape& shape, int layer) const;
  void QueueExperts(const DeviceMixture& mixture, int layer, const RouterChoices& choices,
                    const DeviceRows& input);

  const ModelConfig& config_;
  const DeviceWorkspace& work_;
  const PinnedBlock& pinned_;
  HostPart& host_;
  int noted_count_ = 0;
  int sent_count_ = 0;
};

}  // namespace stoker
