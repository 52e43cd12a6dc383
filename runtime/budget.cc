// Adds up what a run takes, and says what to do about it when that is too much.
#include "runtime/budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/status.h"
#include "base/units.h"
#include "runtime/sampler.h"
#include "runtime/step_limits.h"

namespace stoker {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

// Left to the rest of the machine by a budget of "auto".
constexpr uint64_t kAutoMarginBytes = 512 * kMiB;
constexpr uint64_t kAutoMarginParts = 20;  // or a 20th (5 %), whichever is more

// Two readers (trunk and experts), each with a ring of 64, a backlog of 4096 requests of 40 bytes
// and the bookkeeping of a read in flight: below 1 MiB.
constexpr uint64_t kReaderBytes = 2 * kMiB;

// What an engine holds that no part plans: program and libraries, their tables, heap slack, and the
// stacks of its threads as far as they are used. Resident memory less all planned parts was 6.6 MiB
// for the program on Debian 12 (tests/runtime/memory_test.cc prints it for itself); the rest is for
// other libraries and loaders.
constexpr uint64_t kProcessBytes = 10 * kMiB;
constexpr uint64_t kThreadBytes = 256 << 10;

// More than any slots of the catalog can take: each part as an aligned superset.
uint64_t SlotsBound(const ExpertCatalog& catalog) {
  constexpr uint64_t kAlignmentMax = 4096;
  return catalog.total_bytes() +
         static_cast<uint64_t>(catalog.expert_count()) * kExpertPartsMax * 2 * kAlignmentMax;
}

// Everything but the cache, for these limits.
MemoryPlan PlanFixedParts(const ModelSpec& spec, const EngineOptions& options,
                          const StepLimits& limits, int thread_count, uint64_t tokenizer_bytes) {
  MemoryPlan plan;
  plan.context = limits.context;
  plan.trunk_bytes = spec.trunk_bytes;
  plan.embedding_bytes = spec.embedding_cache_bytes;
  plan.kv_bytes = KvCache::PlanBytes(spec.config, KvOptions(limits, options));
  plan.workspace_bytes = Model::WorkspaceBytes(spec, limits.model_options(), thread_count) +
                         OutputBytes(spec.config, limits) +
                         Sampler::PlanBytes(spec.config.vocab_count, limits.context + 1);
  plan.reader_bytes = kReaderBytes;
  plan.tokenizer_bytes = tokenizer_bytes;
  plan.process_bytes = kProcessBytes + kThreadBytes * static_cast<uint64_t>(thread_count);
  return plan;
}

uint64_t FixedBytes(const MemoryPlan& plan) {
  return plan.trunk_bytes + plan.embedding_bytes + plan.kv_bytes + plan.workspace_bytes +
         plan.reader_bytes + plan.tokenizer_bytes + plan.process_bytes;
}

uint64_t ResolveBudget(const MemoryBudget& asked, const MemoryLimits& limits,
                       const MemoryPlan& plan) {
  switch (asked.kind) {
    case MemoryBudget::Kind::kBytes:
      return asked.bytes;
    case MemoryBudget::Kind::kMinimum:
      return plan.minimum_bytes;
    case MemoryBudget::Kind::kAuto:
      break;
  }
  const uint64_t margin = std::max(kAutoMarginBytes, limits.total_bytes / kAutoMarginParts);
  const uint64_t available = limits.available_bytes > margin ? limits.available_bytes - margin : 0;
  return std::min(available, plan.full_bytes);
}

void AppendRow(std::string& table, std::string_view name, uint64_t bytes,
               std::string_view remark = "") {
  fmt::format_to(std::back_inserter(table), "  {:<26}{:>12}{}{}\n", name, FormatBytes(bytes),
                 remark.empty() ? "" : "   ", remark);
}

void AppendFixedRows(std::string& table, const MemoryPlan& plan) {
  AppendRow(table, "resident weights", plan.trunk_bytes);
  AppendRow(table, "embedding rows", plan.embedding_bytes);
  AppendRow(table, "kv cache", plan.kv_bytes, fmt::format("context {}", plan.context));
  AppendRow(table, "workspace", plan.workspace_bytes);
  AppendRow(table, "readers", plan.reader_bytes);
  AppendRow(table, "tokenizer", plan.tokenizer_bytes);
  AppendRow(table, "process", plan.process_bytes);
}

// The plan's parts for other contexts, to find one that fits.
struct Need {
  const ModelSpec& spec;
  const EngineOptions& options;
  int thread_count;
  uint64_t tokenizer_bytes;
  uint64_t cache_bytes;  // the least

  uint64_t AtContext(int context) const {
    EngineOptions shorter = options;
    shorter.context = context;
    const StepLimits limits = ResolveLimits(spec.config, shorter);
    return cache_bytes +
           FixedBytes(PlanFixedParts(spec, shorter, limits, thread_count, tokenizer_bytes));
  }

  // The longest context below `context` that fits in `budget`; 0 when none does.
  int LongestContext(int context, uint64_t budget) const {
    int fits = 0, too_long = context;
    while (too_long - fits > 1) {
      const int middle = fits + (too_long - fits) / 2;
      (AtContext(middle) <= budget ? fits : too_long) = middle;
    }
    return fits;
  }
};

std::string Advice(const Need& need, const MemoryPlan& plan) {
  std::string advice;
  const int context = need.LongestContext(plan.context, plan.budget_bytes);
  if (context > 0) {
    advice = fmt::format("The context of {} positions is what does not fit: --ctx {} would. Or",
                         plan.context, context);
  } else {
    advice = "A smaller --ctx alone is not enough;";
  }
  advice += fmt::format(" try --ram {} or more", plan.minimum_bytes);
  if (need.options.chunk != 1) advice += ", a smaller --chunk";
  if (need.options.kv == "f32") advice += ", --kv f16";
  if (need.options.sequences_max > 1) advice += ", fewer sequences at once";
  return advice + ".";
}

absl::Status BelowMinimum(const Need& need, const MemoryPlan& plan, const MemoryLimits& limits) {
  std::string table;
  AppendFixedRows(table, plan);
  AppendRow(table, "experts, the fewest", need.cache_bytes, "those of one token, and tables");
  AppendRow(table, "minimum", plan.minimum_bytes, fmt::format("{} bytes", plan.minimum_bytes));
  std::string origin;
  if (need.options.ram.kind == MemoryBudget::Kind::kAuto) {
    origin = fmt::format(" (auto: {} available by {}, less a margin)",
                         FormatBytes(limits.available_bytes), limits.source);
  }
  return absl::ResourceExhaustedError(fmt::format(
      "the memory budget of {}{} is below the minimum of {} bytes ({}) for this model:\n{}{}",
      FormatBytes(plan.budget_bytes), origin, plan.minimum_bytes, FormatBytes(plan.minimum_bytes),
      table, Advice(need, plan)));
}

// Slots for as many experts as `bytes` hold, tables included.
absl::StatusOr<CachePlan> PlanSlots(const ExpertCatalog& catalog, const CachePlan& whole,
                                    uint64_t bytes, int pins_min,
                                    absl::Span<const size_t> alignments) {
  const uint64_t slots = bytes - std::min(bytes, whole.overhead_bytes);
  return PlanCache(catalog, {.ram_bytes = std::min(slots, whole.full_budget_bytes)}, pins_min,
                   alignments);
}

}  // namespace

uint64_t TokenizerBytes(const GgufModel& gguf) {
  // Peak resident memory of reading a vocabulary, less that of an idle program, against what this
  // gives: gpt-2 (50 k tokens, 50 k merges) 8.1 MiB against 11.4, deepseek-llm (102 k, 100 k) 16.6
  // against 23.9, llama-2 (32 k, no merges) 4.4 against 5.3.
  constexpr uint64_t kTokenBytes = 160;
  constexpr uint64_t kMergeBytes = 48;
  constexpr uint64_t kTextCopies = 2;
  uint64_t bytes = 0;
  const auto add = [&](std::string_view key, uint64_t entry_bytes) {
    const std::vector<std::string>* entries = gguf.Strings(key);
    if (entries == nullptr) return;
    for (const std::string& entry : *entries) bytes += entry_bytes + kTextCopies * entry.size();
  };
  add("tokenizer.ggml.tokens", kTokenBytes);
  add("tokenizer.ggml.merges", kMergeBytes);
  return bytes;
}

absl::StatusOr<MemoryPlan> PlanMemory(const ModelSpec& spec, const EngineOptions& options,
                                      const MemoryLimits& limits, int thread_count,
                                      absl::Span<const size_t> alignments,
                                      uint64_t tokenizer_bytes) {
  const StepLimits sizes = ResolveLimits(spec.config, options);
  MemoryPlan plan = PlanFixedParts(spec, options, sizes, thread_count, tokenizer_bytes);
  const uint64_t fixed_bytes = FixedBytes(plan);
  const int pins_min = spec.config.experts_used;

  CachePlan whole;  // with every expert resident
  const bool has_experts = spec.experts.expert_count() > 0;
  if (has_experts) {
    ASSIGN_OR_RETURN(whole, PlanCache(spec.experts, {.ram_bytes = SlotsBound(spec.experts)},
                                      pins_min, alignments));
  }
  plan.minimum_bytes = fixed_bytes + whole.minimum_budget_bytes + whole.overhead_bytes;
  plan.full_bytes = fixed_bytes + whole.full_budget_bytes + whole.overhead_bytes;
  plan.budget_bytes = ResolveBudget(options.ram, limits, plan);
  if (plan.budget_bytes < plan.minimum_bytes) {
    return BelowMinimum({.spec = spec,
                         .options = options,
                         .thread_count = thread_count,
                         .tokenizer_bytes = tokenizer_bytes,
                         .cache_bytes = plan.minimum_bytes - fixed_bytes},
                        plan, limits);
  }
  if (has_experts) {
    ASSIGN_OR_RETURN(plan.cache, PlanSlots(spec.experts, whole, plan.budget_bytes - fixed_bytes,
                                           pins_min, alignments));
  }
  plan.total_bytes = fixed_bytes + plan.cache.arena_bytes + plan.cache.overhead_bytes;
  return plan;
}

std::string FormatPlan(const MemoryPlan& plan) {
  std::string table = "memory plan\n";
  AppendFixedRows(table, plan);
  int64_t slots = 0, experts = 0;
  for (const SlotClass& c : plan.cache.classes) {
    slots += c.slot_count;
    experts += c.expert_count;
  }
  if (experts > 0) {
    AppendRow(table, "expert slots", plan.cache.arena_bytes,
              fmt::format("{} of {} experts ({:.1f} %)", slots, experts,
                          100.0 * static_cast<double>(slots) / static_cast<double>(experts)));
    AppendRow(table, "expert tables", plan.cache.overhead_bytes);
  }
  AppendRow(table, "total", plan.total_bytes);
  AppendRow(table, "budget", plan.budget_bytes,
            fmt::format("at least {}, at best {}", FormatBytes(plan.minimum_bytes),
                        FormatBytes(plan.full_bytes)));
  return table;
}

}  // namespace stoker
