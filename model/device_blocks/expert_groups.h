// A layer's experts in device memory, launched in groups as they are handed out.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "cache/expert_provider.h"
#include "model/device_blocks/step.h"
#include "model/expert_plan.h"
#include "model/weights.h"

namespace stoker {

// A group of a layer's experts; tasks, pairs and their counts are to be set.
ExpertGroupArgs ExpertGroupOf(const DeviceStep& step, const ExpertShape& shape,
                              const DeviceRows& input);

// Tables (the places of pairs, then each group's experts and pairs) are written one after another
// into pinned memory and copied to the same offsets on the device, on the stream of the launches
// that read them. So nothing is overwritten within a layer; and the next layer's are written after
// its routing was awaited, which comes after all of this.
class ExpertGroups {
 public:
  // `plan` has its places in front of `tables`, pinned memory laid out as step.work.tables.
  ExpertGroups(const DeviceStep& step, const ExpertShape& shape, const DeviceRows& input,
               const ExpertPlan& plan, std::byte* tables);

  // Launches those of the experts that are in device memory and lets go of them; the refs of the
  // others stay valid. Those still being copied come after those that are there, one by one, so
  // that each starts when it has arrived.
  void Launch(absl::Span<ExpertRef> experts);
  // Queues the copy of tables not copied yet. For a layer without launches.
  void SendTables();
  // On the device, once the tables are.
  const int32_t* places() const { return reinterpret_cast<const int32_t*>(step_.work.tables); }

 private:
  void Add(ExpertRef& expert);
  void Flush();

  const DeviceStep& step_;
  const ExpertShape& shape_;
  const DeviceRows input_;
  const ExpertPlan& plan_;
  std::byte* const tables_;
  size_t written_ = 0;  // bytes of the tables
  size_t sent_ = 0;
  ExpertRef* members_[kHeldExpertsMax];  // of the group that is being put together
  int member_count_ = 0;
  int32_t pair_count_ = 0;
};

}  // namespace stoker
