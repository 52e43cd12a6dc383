// Adds up what a run takes, and says what to do about it when that is too much.
#include "runtime/budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "base/status.h"
#include "base/units.h"
#include "runtime/plan_table.h"
#include "runtime/sampler.h"
#include "runtime/step_limits.h"
#include "runtime/trace/trace_recorder.h"
#include "runtime/warm_start.h"

namespace stoker {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

// Left to the rest of the machine by a budget of "auto".
constexpr uint64_t kAutoMarginBytes = 512 * kMiB;
constexpr uint64_t kAutoMarginParts = 20;  // or a 20th (5 %), whichever is more

// The same of a GPU's memory, where the driver and other programs allocate too: a 50th (2 %) or so
// many bytes, whichever is more, and of a small one a 16th.
constexpr uint64_t kAutoVramMarginBytes = 256 * kMiB;
constexpr uint64_t kAutoVramMarginParts = 50, kAutoVramMarginPartsMin = 16;

uint64_t AutoVram(uint64_t available_bytes) {
  const uint64_t least = std::min(kAutoVramMarginBytes, available_bytes / kAutoVramMarginPartsMin);
  return available_bytes - std::max(least, available_bytes / kAutoVramMarginParts);
}

// Two readers (trunk and experts), each with a ring of 64, a backlog of 4096 requests of 40 bytes
// and the bookkeeping of a read in flight: below 1 MiB.
constexpr uint64_t kReaderBytes = 2 * kMiB;

// What an engine holds that no part plans: program and libraries, their tables, heap slack, and the
// stacks of its threads as far as they are used. Resident memory less all planned parts was 6.6 MiB
// for the program on Debian 12 (tests/runtime/memory_test.cc prints it for itself); the rest is for
// other libraries and loaders.
constexpr uint64_t kProcessBytes = 10 * kMiB;
constexpr uint64_t kThreadBytes = 256 << 10;

// What a device needs of the process: a modelled one its streams, 3 times 1024 operations of 1.2
// KiB; a GPU its driver's tables and code (a margin: how much differs from driver to driver).
constexpr uint64_t kModelledProcessBytes = 4 * kMiB;
constexpr uint64_t kCudaProcessBytes = 384 * kMiB;
// Of a GPU's memory, what its driver may take after it was opened: code of kernels, their stacks.
constexpr uint64_t kCudaDriverBytes = 256 * kMiB;

constexpr std::string_view kModelled = "modelled";

bool IsOnDevice(const PlannedMachine& machine) { return !machine.device_kind.empty(); }

// More than any slots of the catalog can take in one tier, staging among them: each part as an
// aligned superset.
uint64_t SlotsBound(const ExpertCatalog& catalog) {
  constexpr uint64_t kAlignmentMax = 4096;
  constexpr uint64_t kPaddingMax = kExpertPartsMax * 2 * kAlignmentMax;
  uint64_t largest_bytes = 0;
  for (const LayerExperts& layer : catalog.layers) {
    largest_bytes = std::max(largest_bytes, ExpertCatalog::ExpertBytes(layer));
  }
  return catalog.total_bytes() + static_cast<uint64_t>(catalog.expert_count()) * kPaddingMax +
         kStagingSlots * (largest_bytes + kPaddingMax);
}

uint64_t ProcessBytes(const PlannedMachine& machine) {
  const uint64_t bytes = kProcessBytes + kThreadBytes * static_cast<uint64_t>(machine.thread_count);
  if (!IsOnDevice(machine)) return bytes;
  return bytes + (machine.device_kind == kModelled ? kModelledProcessBytes : kCudaProcessBytes);
}

// Everything but the cache, for these limits.
MemoryPlan PlanFixedParts(const ModelSpec& spec, const EngineOptions& options,
                          const PlannedMachine& machine, uint64_t tokenizer_bytes,
                          const DraftSource& draft) {
  const bool on_device = IsOnDevice(machine);
  const StepLimits limits = ResolveLimits(spec.config, options);
  const WorkspaceNeeds workspace =
      Model::WorkspaceBytes(spec, limits.model_options(), machine.thread_count, on_device);
  const uint64_t kv_bytes = KvCache::PlanBytes(spec.config, KvOptions(limits, options), on_device);
  MemoryPlan plan;
  plan.context = limits.context;
  plan.embedding_bytes = spec.embedding_cache_bytes;
  plan.workspace_bytes = workspace.host_bytes + OutputBytes(spec.config, limits) +
                         Sampler::PlanBytes(spec.config.vocab_count, limits.context + 1);
  plan.reader_bytes = kReaderBytes;
  plan.prefetch_bytes =
      Prefetcher::PlanBytes(spec.experts, PrefetcherOptions(spec.config, options));
  const DraftNeeds drafting =
      PlanDraft(draft, spec, limits, options, machine.thread_count, on_device);
  plan.draft_bytes = drafting.host_bytes;
  plan.tokenizer_bytes = tokenizer_bytes;
  if (!options.trace_path.empty()) plan.trace_bytes = TraceRecorder::kPlanBytes;
  if (options.profile != "none") plan.profile_bytes = UsagePlanBytes(spec.experts);
  plan.process_bytes = ProcessBytes(machine);
  if (!on_device) {
    plan.trunk_bytes = spec.trunk_bytes;
    plan.kv_bytes = kv_bytes;
    return plan;
  }
  plan.loading_bytes = std::max(spec.trunk_bytes, drafting.loading_bytes);
  plan.device.kind = machine.device_kind;
  plan.device.available_bytes = machine.device.available_bytes;
  plan.device.trunk_bytes = spec.trunk_bytes;
  plan.device.kv_bytes = kv_bytes;
  plan.device.workspace_bytes = workspace.device_bytes;
  plan.device.draft_bytes = drafting.device_bytes;
  plan.device.driver_bytes = machine.device_kind == kModelled ? 0 : kCudaDriverBytes;
  return plan;
}

uint64_t FixedBytes(const MemoryPlan& plan) {
  return plan.trunk_bytes + plan.embedding_bytes + plan.kv_bytes + plan.workspace_bytes +
         plan.reader_bytes + plan.prefetch_bytes + plan.draft_bytes + plan.tokenizer_bytes +
         plan.trace_bytes + plan.profile_bytes + plan.process_bytes;
}

uint64_t FixedBytes(const DevicePlan& plan) {
  return plan.trunk_bytes + plan.kv_bytes + plan.workspace_bytes + plan.draft_bytes +
         plan.driver_bytes;
}

// With a store of this size, which comes when loading has ended.
uint64_t TotalBytes(const MemoryPlan& plan, uint64_t store_bytes) {
  return FixedBytes(plan) + std::max(plan.loading_bytes, store_bytes);
}

// A budget that is too small: for the error, and to find a context that fits.
struct Shortage {
  std::string_view flag;  // "--ram", "--vram"
  std::string_view what;  // "memory", "VRAM"
  uint64_t budget_bytes = 0;
  uint64_t minimum_bytes = 0;
  std::string origin;  // of an automatic budget, or empty
  std::string table;   // of what takes the minimum
  int context = 0;
  std::function<uint64_t(int context)> minimum_at;
  std::string_view last_resort;  // further advice, or empty

  // The longest context below the one asked for that fits; 0 when none does.
  int LongestContext() const {
    int fits = 0, too_long = context;
    while (too_long - fits > 1) {
      const int middle = fits + (too_long - fits) / 2;
      (minimum_at(middle) <= budget_bytes ? fits : too_long) = middle;
    }
    return fits;
  }
};

std::string Advice(const Shortage& shortage, const EngineOptions& options) {
  std::string advice;
  const int context = shortage.LongestContext();
  if (context > 0) {
    advice = fmt::format("The context of {} positions is what does not fit: --ctx {} would. Or",
                         shortage.context, context);
  } else {
    advice = "A smaller --ctx alone is not enough;";
  }
  advice += fmt::format(" try {} {} or more", shortage.flag, shortage.minimum_bytes);
  if (options.chunk != 1) advice += ", a smaller --chunk";
  if (options.kv == "f32") advice += ", --kv f16";
  if (options.sequences_max > 1) advice += ", fewer sequences at once";
  advice += shortage.last_resort;
  return advice + ".";
}

absl::Status BelowMinimum(const Shortage& shortage, const EngineOptions& options) {
  return absl::ResourceExhaustedError(fmt::format(
      "the {} budget of {}{} is below the minimum of {} bytes ({}) for this model:\n{}{}",
      shortage.what, FormatBytes(shortage.budget_bytes), shortage.origin, shortage.minimum_bytes,
      FormatBytes(shortage.minimum_bytes), shortage.table, Advice(shortage, options)));
}

// Plans one run.
class Planner {
 public:
  Planner(const ModelSpec& spec, const EngineOptions& options, const PlannedMachine& machine,
          uint64_t tokenizer_bytes, const DraftSource& draft)
      : spec_(spec),
        options_(options),
        machine_(machine),
        tokenizer_bytes_(tokenizer_bytes),
        draft_(draft),
        plan_(PlanFixedParts(spec, options, machine, tokenizer_bytes, draft)) {}

  absl::StatusOr<MemoryPlan> Plan() {
    uint64_t vram_slot_bytes = 0;
    if (IsOnDevice(machine_)) {
      RETURN_IF_ERROR(PlanDevice());
      vram_slot_bytes = plan_.device.budget_bytes - FixedBytes(plan_.device);
    }
    RETURN_IF_ERROR(PlanHost(vram_slot_bytes));
    return std::move(plan_);
  }

 private:
  bool has_experts() const { return spec_.experts.expert_count() > 0; }
  absl::StatusOr<CachePlan> PlanSlots(uint64_t ram_bytes, uint64_t vram_bytes) const {
    if (!has_experts()) return CachePlan();
    return PlanCache(
        spec_.experts,
        {.ram_bytes = ram_bytes, .vram_bytes = vram_bytes, .has_device = IsOnDevice(machine_)},
        spec_.config.experts_used, machine_.alignments);
  }
  MemoryPlan AtContext(int context) const {
    EngineOptions shorter = options_;
    shorter.context = context;
    return PlanFixedParts(spec_, shorter, machine_, tokenizer_bytes_, draft_);
  }

  absl::Status PlanDevice();
  absl::Status CheckDeviceBudget() const;
  absl::Status CheckDeviceSlots() const;
  absl::Status PlanHost(uint64_t vram_slot_bytes);
  uint64_t ResolveHostBudget() const;
  absl::Status HostBelowMinimum(uint64_t store_bytes) const;

  const ModelSpec& spec_;
  const EngineOptions& options_;
  const PlannedMachine& machine_;
  const uint64_t tokenizer_bytes_;
  const DraftSource& draft_;
  MemoryPlan plan_;
};

absl::Status Planner::PlanDevice() {
  DevicePlan& device = plan_.device;
  const uint64_t bound = SlotsBound(spec_.experts);
  ASSIGN_OR_RETURN(const CachePlan whole, PlanSlots(bound, bound));
  device.minimum_bytes = FixedBytes(device);
  device.full_bytes = device.minimum_bytes + whole.vram_bytes;
  const MemoryBudget asked = options_.vram.value_or(MemoryBudget());
  switch (asked.kind) {
    case MemoryBudget::Kind::kBytes:
      device.budget_bytes = asked.bytes;
      break;
    case MemoryBudget::Kind::kMinimum:
      device.budget_bytes = device.minimum_bytes;
      break;
    case MemoryBudget::Kind::kAuto:
      device.budget_bytes = std::min(AutoVram(device.available_bytes), device.full_bytes);
      break;
  }
  return CheckDeviceBudget();
}

absl::Status Planner::CheckDeviceBudget() const {
  const DevicePlan& device = plan_.device;
  if (device.budget_bytes < device.minimum_bytes) {
    Shortage shortage = {
        .flag = "--vram",
        .what = "VRAM",
        .budget_bytes = device.budget_bytes,
        .minimum_bytes = device.minimum_bytes,
        .context = plan_.context,
        .minimum_at = [this](int context) { return FixedBytes(AtContext(context).device); },
        .last_resort = ", or --device cpu"};
    if (!options_.vram.has_value() || options_.vram->kind == MemoryBudget::Kind::kAuto) {
      shortage.origin =
          fmt::format(" (auto: what {} has left, less a margin)", machine_.device.name);
    }
    AppendFixedRows(shortage.table, device, plan_.context);
    AppendRow(shortage.table, "minimum", device.minimum_bytes,
              fmt::format("{} bytes, without room for any expert", device.minimum_bytes));
    return BelowMinimum(shortage, options_);
  }
  if (std::min(device.budget_bytes, device.full_bytes) <= device.available_bytes) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(fmt::format(
      "the VRAM budget of {} is more than the {} that {} has left: it is smaller than that, or "
      "another program holds memory there\n  try: --vram auto, or at most --vram {}",
      FormatBytes(device.budget_bytes), FormatBytes(device.available_bytes), machine_.device.name,
      device.available_bytes));
}

bool HasSlotsOfEachClass(const CachePlan& cache) {
  return std::all_of(cache.vram_classes.begin(), cache.vram_classes.end(),
                     [](const SlotClass& c) { return c.slot_count > 0; });
}

// A device that computes every expert needs a place to put one.
absl::Status Planner::CheckDeviceSlots() const {
  const PlaceRule rule = options_.place.value_or(PlaceRule::kAuto);
  if (rule != PlaceRule::kGpu && rule != PlaceRule::kCopy) return absl::OkStatus();
  if (HasSlotsOfEachClass(plan_.cache)) return absl::OkStatus();
  uint64_t step_bytes = 0;
  for (const SlotClass& c : plan_.cache.vram_classes) step_bytes += c.slot_bytes;
  uint64_t slot_bytes = step_bytes;
  const uint64_t bound = SlotsBound(spec_.experts);
  for (; slot_bytes < bound; slot_bytes += step_bytes) {
    ASSIGN_OR_RETURN(const CachePlan roomier, PlanSlots(bound, slot_bytes));
    if (HasSlotsOfEachClass(roomier)) break;
  }
  return absl::FailedPreconditionError(fmt::format(
      "place {} has the device compute experts that are copied to it, but the VRAM budget of {} "
      "leaves no room for one of each size\n  try: --vram {} or more, --place auto or --place cpu",
      NameOf(rule), FormatBytes(plan_.device.budget_bytes), FixedBytes(plan_.device) + slot_bytes));
}

absl::Status Planner::PlanHost(uint64_t vram_slot_bytes) {
  const uint64_t bound = SlotsBound(spec_.experts);
  ASSIGN_OR_RETURN(const CachePlan whole, PlanSlots(bound, vram_slot_bytes));
  const uint64_t least_bytes = whole.minimum_budget_bytes + whole.overhead_bytes;
  plan_.minimum_bytes = TotalBytes(plan_, least_bytes);
  plan_.full_bytes = TotalBytes(plan_, whole.full_budget_bytes + whole.overhead_bytes);
  plan_.device.slot_bytes = whole.vram_bytes;
  plan_.device.total_bytes = FixedBytes(plan_.device) + whole.vram_bytes;
  plan_.budget_bytes = ResolveHostBudget();
  if (plan_.budget_bytes < plan_.minimum_bytes) return HostBelowMinimum(least_bytes);
  const uint64_t slot_bytes = plan_.budget_bytes - FixedBytes(plan_) - whole.overhead_bytes;
  ASSIGN_OR_RETURN(plan_.cache,
                   PlanSlots(std::min(slot_bytes, whole.full_budget_bytes), vram_slot_bytes));
  plan_.total_bytes = TotalBytes(
      plan_, plan_.cache.arena_bytes + plan_.cache.staging_bytes + plan_.cache.overhead_bytes);
  return CheckDeviceSlots();
}

uint64_t Planner::ResolveHostBudget() const {
  switch (options_.ram.kind) {
    case MemoryBudget::Kind::kBytes:
      return options_.ram.bytes;
    case MemoryBudget::Kind::kMinimum:
      return plan_.minimum_bytes;
    case MemoryBudget::Kind::kAuto:
      break;
  }
  const MemoryLimits& limits = machine_.limits;
  uint64_t taken = std::max(kAutoMarginBytes, limits.total_bytes / kAutoMarginParts);
  // What a modelled device takes is memory of this machine, beside the budget.
  if (machine_.device_kind == kModelled) taken += plan_.device.total_bytes;
  const uint64_t available = limits.available_bytes > taken ? limits.available_bytes - taken : 0;
  return std::min(available, plan_.full_bytes);
}

absl::Status Planner::HostBelowMinimum(uint64_t store_bytes) const {
  Shortage shortage = {.flag = "--ram",
                       .what = "memory",
                       .budget_bytes = plan_.budget_bytes,
                       .minimum_bytes = plan_.minimum_bytes,
                       .context = plan_.context,
                       .minimum_at = [this, store_bytes](int context) {
                         return TotalBytes(AtContext(context), store_bytes);
                       }};
  if (options_.ram.kind == MemoryBudget::Kind::kAuto) {
    shortage.origin =
        fmt::format(" (auto: {} available by {}, less a margin)",
                    FormatBytes(machine_.limits.available_bytes), machine_.limits.source);
  }
  AppendFixedRows(shortage.table, plan_);
  if (plan_.loading_bytes > store_bytes) {
    AppendRow(shortage.table, "while loading", plan_.loading_bytes,
              "weights on their way to the device");
  } else {
    AppendRow(shortage.table, "experts, the fewest", store_bytes, "those of one token, and tables");
  }
  AppendRow(shortage.table, "minimum", plan_.minimum_bytes,
            fmt::format("{} bytes", plan_.minimum_bytes));
  return BelowMinimum(shortage, options_);
}

}  // namespace

PlannedMachine ThisMachine(int thread_count, absl::Span<const size_t> alignments,
                           const Device* device) {
  PlannedMachine machine = {
      .limits = ReadMemoryLimits(), .thread_count = thread_count, .alignments = alignments};
  if (device == nullptr) return machine;
  machine.device_kind = device->kind();
  machine.device = device->info();
  return machine;
}

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
                                      const PlannedMachine& machine, uint64_t tokenizer_bytes,
                                      const DraftSource& draft) {
  return Planner(spec, options, machine, tokenizer_bytes, draft).Plan();
}

}  // namespace stoker
