// Rows of name, bytes and remark.
#include "runtime/plan_table.h"

#include <fmt/format.h>

#include <iterator>
#include <vector>

#include "base/units.h"

namespace stoker {
namespace {

std::string ShareOf(int64_t slots, int64_t experts) {
  return fmt::format("{} of {} experts ({:.1f} %)", slots, experts,
                     100.0 * static_cast<double>(slots) / static_cast<double>(experts));
}

struct SlotCounts {
  int64_t slots = 0;
  int64_t experts = 0;
  int64_t transit = 0;
};

SlotCounts CountsOf(const std::vector<SlotClass>& classes) {
  SlotCounts counts;
  for (const SlotClass& c : classes) {
    counts.slots += c.slot_count;
    counts.experts += c.expert_count;
    counts.transit += c.transit_count;
  }
  return counts;
}

std::string Bounds(uint64_t minimum_bytes, uint64_t full_bytes) {
  return fmt::format("at least {}, at best {}", FormatBytes(minimum_bytes),
                     FormatBytes(full_bytes));
}

std::string FormatDevicePlan(const DevicePlan& device, const MemoryPlan& plan) {
  std::string table = fmt::format("memory plan of the {} device\n", device.kind);
  AppendFixedRows(table, device, plan.context);
  const SlotCounts counts = CountsOf(plan.cache.vram_classes);
  if (counts.experts > 0) {
    std::string remark = ShareOf(counts.slots - counts.transit, counts.experts);
    if (counts.transit > 0) {
      remark += fmt::format(", and {} slots for those that pass through", counts.transit);
    }
    AppendRow(table, "expert slots", device.slot_bytes, remark);
  }
  AppendRow(table, "total", device.total_bytes);
  AppendRow(table, "budget", device.budget_bytes, Bounds(device.minimum_bytes, device.full_bytes));
  return table;
}

}  // namespace

void AppendRow(std::string& table, std::string_view name, uint64_t bytes, std::string_view remark) {
  fmt::format_to(std::back_inserter(table), "  {:<26}{:>12}{}{}\n", name, FormatBytes(bytes),
                 remark.empty() ? "" : "   ", remark);
}

void AppendFixedRows(std::string& table, const MemoryPlan& plan) {
  if (!plan.device.is_used()) AppendRow(table, "resident weights", plan.trunk_bytes);
  AppendRow(table, "embedding rows", plan.embedding_bytes);
  if (!plan.device.is_used()) {
    AppendRow(table, "kv cache", plan.kv_bytes, fmt::format("context {}", plan.context));
  }
  AppendRow(table, "workspace", plan.workspace_bytes);
  AppendRow(table, "readers", plan.reader_bytes);
  if (plan.prefetch_bytes > 0) AppendRow(table, "prefetch", plan.prefetch_bytes);
  if (plan.draft_bytes > 0) AppendRow(table, "drafts", plan.draft_bytes);
  AppendRow(table, "tokenizer", plan.tokenizer_bytes);
  if (plan.trace_bytes > 0) AppendRow(table, "trace", plan.trace_bytes);
  if (plan.profile_bytes > 0) AppendRow(table, "usage profile", plan.profile_bytes);
  AppendRow(table, "process", plan.process_bytes);
}

void AppendFixedRows(std::string& table, const DevicePlan& plan, int context) {
  AppendRow(table, "resident weights", plan.trunk_bytes);
  AppendRow(table, "kv cache", plan.kv_bytes, fmt::format("context {}", context));
  AppendRow(table, "workspace", plan.workspace_bytes);
  if (plan.draft_bytes > 0) AppendRow(table, "draft model", plan.draft_bytes);
  if (plan.driver_bytes > 0) AppendRow(table, "driver", plan.driver_bytes, "left free for it");
}

std::string FormatPlan(const MemoryPlan& plan) {
  std::string table = "memory plan\n";
  AppendFixedRows(table, plan);
  const SlotCounts counts = CountsOf(plan.cache.classes);
  if (counts.experts > 0) {
    AppendRow(table, "expert slots", plan.cache.arena_bytes, ShareOf(counts.slots, counts.experts));
    if (plan.cache.staging_bytes > 0) {
      AppendRow(table, "staging", plan.cache.staging_bytes, "from the drive to the device");
    }
    AppendRow(table, "expert tables", plan.cache.overhead_bytes);
  }
  if (plan.loading_bytes > 0) {
    AppendRow(table, "while loading", plan.loading_bytes,
              "weights on their way to the device; in place of the experts");
  }
  AppendRow(table, "total", plan.total_bytes);
  AppendRow(table, "budget", plan.budget_bytes, Bounds(plan.minimum_bytes, plan.full_bytes));
  if (plan.device.is_used()) table += FormatDevicePlan(plan.device, plan);
  return table;
}

}  // namespace stoker
