// Options, model and plan as a trace's header.
#include "runtime/trace/run_header.h"

#include <fmt/format.h>

#include "runtime/model_identity.h"

namespace stoker {
namespace {

// Options that no field of the header holds, and parameters, as lines of a configuration file.
std::string SettingsText(const EngineOptions& options, const MemoryPlan& plan) {
  std::string text =
      fmt::format("ctx = {}\nchunk = {}\nthreads = {}\nkv = \"{}\"\nsequences = {}\n", plan.context,
                  options.chunk, options.threads, options.kv, options.sequences_max);
  for (const Setting& setting : options.settings) {
    text += fmt::format("\"{}\" = {}\n", setting.key, setting.value);
  }
  return text;
}

std::vector<int64_t> SlotCounts(const std::vector<SlotClass>& classes) {
  std::vector<int64_t> counts;
  for (const SlotClass& c : classes) counts.push_back(c.slot_count);
  return counts;
}

}  // namespace

TraceHeader DescribeRun(const GgufModel& gguf, const ModelSpec& spec, const EngineOptions& options,
                        const MemoryPlan& plan, absl::Span<const size_t> alignments) {
  TraceHeader header;
  header.format = "stoker";
  header.model = options.model_path;
  header.model_hash = IdentifyModel(gguf);
  header.top_k = spec.config.experts_used;
  header.weights_known = !options.trace_ids_only;
  for (const LayerExperts& layer : spec.experts.layers) {
    header.layers.push_back({.layer = layer.layer,
                             .expert_count = layer.expert_count,
                             .expert_bytes = ExpertCatalog::ExpertBytes(layer)});
  }
  header.budget_bytes = plan.cache.arena_bytes + plan.cache.staging_bytes;
  header.vram_budget_bytes = plan.cache.vram_bytes;
  header.policy = options.policy;
  if (plan.device.is_used()) {
    header.vram_policy = options.vram_policy_or_policy();
    header.place = NameOf(options.place.value_or(PlaceRule::kAuto));
  }
  header.admission = options.admission;
  header.prefetch = options.prefetch;
  header.layer_floor = options.layer_floor;
  header.alignments.assign(alignments.begin(), alignments.end());
  header.catalog = spec.experts;
  header.slot_counts = SlotCounts(plan.cache.classes);
  header.vram_slot_counts = SlotCounts(plan.cache.vram_classes);
  header.settings = SettingsText(options, plan);
  return header;
}

}  // namespace stoker
