// Putting groups together, and their tables.
#include "model/device_blocks/expert_groups.h"

#include <algorithm>

#include "base/check.h"

namespace stoker {
namespace {

size_t AlignUp(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

ExpertGroupArgs ExpertGroupOf(const DeviceStep& step, const ExpertShape& shape,
                              const DeviceRows& input) {
  const DeviceWorkspace& work = step.work;
  return {.top_k = step.config.experts_used,
          .gate = shape.views.gate,
          .up = shape.views.up,
          .down = shape.views.down,
          .x = input.view(),
          .gated = work.gate,
          .gated_stride = RowStride(step.config.expert_ffn),
          .gated_q8x32 = work.inner.q8x32,
          .gated_q8x256 = work.inner.q8x256,
          .counters = work.counters,
          .partial = work.partial,
          .partial_stride = RowStride(step.config.hidden)};
}

ExpertGroups::ExpertGroups(const DeviceStep& step, const ExpertShape& shape,
                           const DeviceRows& input, const ExpertPlan& plan, std::byte* tables)
    : step_(step), shape_(shape), input_(input), plan_(plan), tables_(tables) {
  CHECK(reinterpret_cast<std::byte*>(plan.places) == tables);
  written_ = AlignUp(static_cast<size_t>(step.rows * step.config.experts_used) * sizeof(int32_t));
}

void ExpertGroups::Launch(absl::Span<ExpertRef> experts) {
  const auto is_here = [&](const ExpertRef& ref) {
    return ref.valid() && ref.place() == ExpertPlace::kDevice;
  };
  for (ExpertRef& ref : experts) {
    if (is_here(ref) && step_.device.IsDone(ref.ready())) Add(ref);
  }
  Flush();
  for (ExpertRef& ref : experts) {
    if (!is_here(ref)) continue;
    step_.device.WaitFor(step_.stream, ref.ready());
    Add(ref);
    Flush();
  }
}

void ExpertGroups::Add(ExpertRef& ref) {
  const int32_t expert = ref.id().expert;
  const int32_t pairs = plan_.pair_begin[expert + 1] - plan_.pair_begin[expert];
  if (pair_count_ + pairs > step_.work.pairs_max || member_count_ == kHeldExpertsMax) Flush();
  members_[member_count_++] = &ref;
  pair_count_ += pairs;
}

void ExpertGroups::SendTables() {
  if (sent_ == written_) return;
  step_.device.CopyIn(step_.stream, step_.work.tables + sent_, tables_ + sent_, written_ - sent_);
  sent_ = written_;
}

void ExpertGroups::Flush() {
  if (member_count_ == 0) return;
  const size_t tasks_at = written_;
  const size_t pairs_at =
      tasks_at + AlignUp(static_cast<size_t>(member_count_) * sizeof(ExpertTask));
  written_ = pairs_at + AlignUp(static_cast<size_t>(pair_count_) * sizeof(int32_t));
  auto* tasks = reinterpret_cast<ExpertTask*>(tables_ + tasks_at);
  auto* pairs = reinterpret_cast<int32_t*>(tables_ + pairs_at);
  int32_t first = 0;
  for (int i = 0; i < member_count_; ++i) {
    const ExpertRef& ref = *members_[i];
    const int32_t begin = plan_.pair_begin[ref.id().expert];
    const int32_t count = plan_.pair_begin[ref.id().expert + 1] - begin;
    std::copy_n(plan_.pairs + begin, count, pairs + first);
    tasks[i] = {.gate = ref.part(0),
                .up = shape_.is_fused ? ref.part(0) + shape_.views.gate.bytes() : ref.part(1),
                .down = ref.part(shape_.is_fused ? 1 : 2),
                .first_pair = first,
                .pair_count = count};
    first += count;
  }
  SendTables();
  ExpertGroupArgs group = ExpertGroupOf(step_, shape_, input_);
  group.tasks = reinterpret_cast<const ExpertTask*>(step_.work.tables + tasks_at);
  group.pairs = reinterpret_cast<const int32_t*>(step_.work.tables + pairs_at);
  group.task_count = member_count_;
  group.pair_total = pair_count_;
  group.places = places();
  step_.Queue(step_.ops.expert_group, group);
  const DeviceEvent done = step_.device.Record(step_.stream);
  for (int i = 0; i < member_count_; ++i) members_[i]->ReleaseAfter(done);
  member_count_ = 0;
  pair_count_ = 0;
}

}  // namespace stoker
