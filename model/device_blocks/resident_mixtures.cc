// The router, the plan and the experts as launches of fixed size, and the choices on their way
// back.
#include "model/device_blocks/resident_mixtures.h"

#include <algorithm>

#include "base/check.h"
#include "model/device_blocks/expert_groups.h"
#include "model/expert_plan.h"

namespace stoker {
namespace {

// The choices of the layer noted as number `index` of a step.
RouterChoices ChoicesAt(const ModelConfig& config, int64_t rows, int index, std::byte* memory) {
  Carver counting;
  const size_t bytes = RouterChoices::Carve(config, rows, counting).bytes;
  Carver carver(memory + static_cast<size_t>(index) * bytes);
  return RouterChoices::Carve(config, rows, carver);
}

}  // namespace

bool ResidentMixtures::Takes(const DeviceStep& step, int layer, ExpertProvider& provider) {
  if (step.rows * config_.experts_used > GroupedPairsMax(work_)) return false;
  const ResidentLayer resident = provider.Resident(layer);
  if (resident.parts == nullptr) return false;
  ResidentLayer& known = host_.residents[layer];
  if (known.parts != resident.parts || known.since.sequence != resident.since.sequence) {
    const size_t bytes =
        static_cast<size_t>(config_.expert_count) * kExpertPartsMax * sizeof(const std::byte*);
    step.device.CopyIn(step.stream, work_.expert_parts + static_cast<size_t>(layer) * bytes,
                       reinterpret_cast<const std::byte*>(resident.parts), bytes);
    known = resident;
  }
  return true;
}

void ResidentMixtures::Queue(const DeviceMixture& m, int layer) {
  const DeviceRows input = MixtureInput(m.step, m.weights);
  const RouterChoices choices = ChoicesAt(config_, m.step.rows, noted_count_, work_.choices);
  Note(layer);
  {
    const CauseScope cause(m.step.ledger, Cause::kRouter);
    QueueRouter(m.step, m.weights, input, choices);
  }
  if (config_.shared_ffn > 0) QueueSharedExpert(m, input);
  const CauseScope cause(m.step.ledger, Cause::kExpertCompute);
  QueueExperts(m, layer, choices, input);
}

ExpertAddresses ResidentMixtures::AddressesOf(const ExpertShape& shape, int layer) const {
  const auto* parts = reinterpret_cast<const std::byte* const*>(work_.expert_parts);
  return {.parts = parts + int64_t{layer} * config_.expert_count * kExpertPartsMax,
          .part_stride = kExpertPartsMax,
          .gate_part = 0,
          .up_part = shape.is_fused ? 0 : 1,
          .down_part = shape.is_fused ? 1 : 2,
          .up_offset_bytes = shape.is_fused ? static_cast<int64_t>(shape.views.gate.bytes()) : 0};
}

void ResidentMixtures::QueueExperts(const DeviceMixture& m, int layer, const RouterChoices& choices,
                                    const DeviceRows& input) {
  const DeviceStep& step = m.step;
  const ExpertShape& shape = m.weights.experts;
  const auto pairs = static_cast<int32_t>(step.rows * config_.experts_used);
  const ExpertAddresses addresses = AddressesOf(shape, layer);
  ExpertGroupArgs group = ExpertGroupOf(step, shape, input);
  group.pair_total = pairs;
  if (step.rows == 1) {  // which chose each expert once: there is nothing to group
    group.chosen = choices.experts;
    group.addresses = addresses;
    group.task_count = pairs;
  } else {
    Carver carver(work_.tables);
    const GroupedTables tables = GroupedTables::Carve(pairs, carver);
    step.Queue(step.ops.group_pairs, {.experts = choices.experts,
                                      .pair_count = pairs,
                                      .addresses = addresses,
                                      .tasks = tables.tasks,
                                      .pairs = tables.pairs,
                                      .task_count = tables.task_count});
    group.tasks = tables.tasks;
    group.pairs = tables.pairs;
    group.task_count = std::min(pairs, config_.expert_count);
    group.tasks_there = tables.task_count;
  }
  step.Queue(step.ops.expert_group, group);
  QueueSum(m, choices.weights, nullptr);
}

void ResidentMixtures::SendChoices(const DeviceStep& step) {
  if (sent_count_ == noted_count_) return;
  Carver carver;
  const size_t bytes = RouterChoices::Carve(config_, step.rows, carver).bytes;
  const size_t from = static_cast<size_t>(sent_count_) * bytes;
  step.device.CopyOut(step.stream, pinned_.choices + from, work_.choices + from,
                      static_cast<size_t>(noted_count_ - sent_count_) * bytes);
  sent_count_ = noted_count_;
}

void ResidentMixtures::Tell(int64_t rows, ExpertProvider& provider, StepObserver* observer) {
  const auto pairs = static_cast<size_t>(rows * config_.experts_used);
  for (int i = 0; i < noted_count_; ++i) {
    const RouterChoices choices = ChoicesAt(config_, rows, i, pinned_.choices);
    const int layer = host_.noted_layers[i];
    if (observer != nullptr) {
      observer->OnRouting(layer, config_.experts_used, {choices.experts, pairs},
                          {choices.weights, pairs});
    }
    if (rows == 1) {
      provider.NoteUses(layer, {choices.experts, pairs}, {});
      continue;
    }
    ExpertPlan& plan = host_.plan;
    PlanExperts(config_, choices.experts, rows, plan);
    const auto count = static_cast<size_t>(plan.wanted_count);
    provider.NoteUses(layer, {plan.wanted, count}, {plan.rows, count});
  }
  Forget();
}

}  // namespace stoker
