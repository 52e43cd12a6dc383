// The fields of a plan under their names.
#include "cli/plan_json.h"

#include <nlohmann/json.hpp>
#include <vector>

namespace stoker {
namespace {

using nlohmann::ordered_json;

ordered_json ClassesJson(const std::vector<SlotClass>& classes) {
  ordered_json json = ordered_json::array();
  for (const SlotClass& c : classes) {
    json.push_back({{"expert_bytes", c.expert_bytes},
                    {"slot_bytes", c.slot_bytes},
                    {"experts", c.expert_count},
                    {"slots", c.slot_count},
                    {"transit_slots", c.transit_count}});
  }
  return json;
}

ordered_json DevicePlanJson(const MemoryPlan& plan) {
  const DevicePlan& device = plan.device;
  if (!device.is_used()) return nullptr;
  return {{"kind", device.kind},
          {"available_bytes", device.available_bytes},
          {"budget_bytes", device.budget_bytes},
          {"trunk_bytes", device.trunk_bytes},
          {"kv_bytes", device.kv_bytes},
          {"workspace_bytes", device.workspace_bytes},
          {"draft_bytes", device.draft_bytes},
          {"slot_bytes", device.slot_bytes},
          {"driver_bytes", device.driver_bytes},
          {"total_bytes", device.total_bytes},
          {"minimum_bytes", device.minimum_bytes},
          {"full_bytes", device.full_bytes},
          {"size_classes", ClassesJson(plan.cache.vram_classes)}};
}

}  // namespace

ordered_json PlanJson(const MemoryPlan& plan) {
  return {{"context", plan.context},
          {"budget_bytes", plan.budget_bytes},
          {"trunk_bytes", plan.trunk_bytes},
          {"embedding_bytes", plan.embedding_bytes},
          {"kv_bytes", plan.kv_bytes},
          {"workspace_bytes", plan.workspace_bytes},
          {"reader_bytes", plan.reader_bytes},
          {"draft_bytes", plan.draft_bytes},
          {"tokenizer_bytes", plan.tokenizer_bytes},
          {"trace_bytes", plan.trace_bytes},
          {"profile_bytes", plan.profile_bytes},
          {"prefetch_bytes", plan.prefetch_bytes},
          {"process_bytes", plan.process_bytes},
          {"slot_bytes", plan.cache.arena_bytes},
          {"staging_bytes", plan.cache.staging_bytes},
          {"table_bytes", plan.cache.overhead_bytes},
          {"loading_bytes", plan.loading_bytes},
          {"total_bytes", plan.total_bytes},
          {"minimum_bytes", plan.minimum_bytes},
          {"full_bytes", plan.full_bytes},
          {"size_classes", ClassesJson(plan.cache.classes)},
          {"device", DevicePlanJson(plan)}};
}

}  // namespace stoker
