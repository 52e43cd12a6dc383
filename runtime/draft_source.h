// What drafts come from: the drafter that was asked for, its model if it has one, and what both
// take.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "io/gguf.h"
#include "model/model.h"
#include "runtime/options.h"
#include "runtime/step_limits.h"
#include "speculative/drafter.h"
#include "speculative/governor.h"
#include "speculative/shadow_cache.h"

namespace stoker {

struct DraftSource {
  DrafterChoice choice;
  std::optional<GgufModel> gguf;  // of the draft model
  std::optional<ModelSpec> spec;

  bool is_none() const { return choice.is_none(); }
};
// How the target's file is to be read for that drafter. Requires valid options.
ModelSpec::ReadOptions SpecOptions(const EngineOptions& options);
// Requires valid options. The errors of opening the draft model, naming it. InvalidArgument when it
// is not dense, or when its vocabulary is not that of the target (with the first difference).
absl::StatusOr<DraftSource> OpenDraftSource(const EngineOptions& options, const GgufModel& target,
                                            const ModelSpec& target_spec);

// What drafting takes, on the host and on the run's device.
struct DraftNeeds {
  uint64_t host_bytes = 0;
  uint64_t device_bytes = 0;
  uint64_t loading_bytes = 0;  // of the host, while weights are on their way to the device
};
DraftNeeds PlanDraft(const DraftSource& source, const ModelSpec& target, const StepLimits& limits,
                     const EngineOptions& options, int thread_count, bool on_device);

// The sizes that drafters are made for; no parts.
DrafterParts DraftShape(const ModelSpec& target, const StepLimits& limits);
// Of the attention cache of the target's layer for multi-token prediction.
KvCache::Options MtpKvOptions(const StepLimits& limits, const EngineOptions& options);
Model::Options DraftModelOptions(const StepLimits& limits);
// Requires valid options.
// Without the slots of the store, which are not known while it is planned.
ShadowCache::Options ShadowOptions(const ModelSpec& target, const StepLimits& limits);
Governor::Options GovernorOptions(const DraftSource& source, const ModelSpec& target,
                                  const StepLimits& limits, const EngineOptions& options);

}  // namespace stoker
