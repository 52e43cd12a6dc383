// Flags to traces, budgets and models of time.
#include "cli/trace_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "base/status.h"
#include "base/units.h"
#include "cli/parameter_flags.h"
#include "runtime/choices.h"
#include "runtime/options.h"
#include "runtime/usage_profile.h"

namespace stoker {
namespace {

constexpr std::string_view kOwnProfile = "trace";
constexpr std::string_view kShares = "6.25%,12.5%,25%,50%";

absl::Status NotAllowed(std::string_view flag, std::string_view value, std::string_view allowed) {
  return absl::InvalidArgumentError(
      fmt::format("{} is \"{}\", which is not allowed: it must be {}", flag, value, allowed));
}

absl::Status ReadRate(std::string_view flag, const std::string& text,
                      std::optional<double>& target) {
  if (text.empty()) return absl::OkStatus();
  const absl::StatusOr<double> rate = ParseRate(text);
  if (!rate.ok()) return WithContext(rate.status(), flag);
  target = *rate;
  return absl::OkStatus();
}

absl::Status ReadMicroseconds(std::string_view flag, double value, std::optional<double>& target) {
  if (value == -1) return absl::OkStatus();
  constexpr double kMicrosecondsMax = 1e9;
  if (!(value >= 0 && value <= kMicrosecondsMax)) {
    return NotAllowed(flag, fmt::format("{}", value), "microseconds, from 0 to 1e9");
  }
  target = value * 1e3;
  return absl::OkStatus();
}

// A share of all experts, or bytes, above 0.
absl::StatusOr<uint64_t> ParseBudget(std::string_view flag, std::string_view text,
                                     const Trace& trace) {
  constexpr std::string_view kAllowed = "a share of all experts such as 25%, or bytes such as 4GiB";
  const uint64_t total_bytes = trace.header.total_expert_bytes();
  if (text.ends_with('%')) {
    double percent = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size() - 1, percent);
    const bool is_number = error == std::errc() && end == text.data() + text.size() - 1;
    if (!is_number || !(percent > 0) || percent > 100) return NotAllowed(flag, text, kAllowed);
    return static_cast<uint64_t>(std::llround(percent / 100 * static_cast<double>(total_bytes)));
  }
  const absl::StatusOr<uint64_t> bytes = ParseBytes(text);
  if (!bytes.ok() || *bytes == 0) return NotAllowed(flag, text, kAllowed);
  if (!KnowsExpertBytes(trace)) {
    return absl::InvalidArgumentError(fmt::format(
        "{} is {}, but the trace does not say how large experts are\n  try: a share such as 25%, "
        "or --expert-bytes too",
        flag, text));
  }
  return *bytes;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> SplitList(std::string_view flag, std::string_view text) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    std::string_view part = text.substr(at, end - at);
    while (!part.empty() && part.front() == ' ') part.remove_prefix(1);
    while (!part.empty() && part.back() == ' ') part.remove_suffix(1);
    if (part.empty()) return NotAllowed(flag, text, "a list with something between its commas");
    parts.emplace_back(part);
    at = end + 1;
  }
  return parts;
}

void TraceFlags::Declare(CLI::App& app) {
  app.add_option("TRACE", path, "A trace: of stoker run --trace, or one of docs/TRACES.md");
  app.add_option("--budget", budgets,
                 "RAM for experts: shares of them all (25%) or bytes (4GiB), with commas; default: "
                 "as recorded, else 6.25%,12.5%,25%,50%");
  app.add_option("--store", store,
                 "pool: a pool of bytes, each token counted; slots: stoker's own store, as it is "
                 "asked; auto: slots for its own traces")
      ->capture_default_str();
  app.add_option("--layer-floor", layer_floor,
                 "slots: experts of a layer that others cannot evict; -1: chosen; default: as "
                 "recorded")
      ->default_str("recorded");
  app.add_flag("--cold-per-prompt", cold_per_prompt, "Begin each prompt with an empty store");
  app.add_option("--profile", profile,
                 "For policies that rank by earlier uses: a file of stoker run --profile, or "
                 "trace: the uses of this trace itself");
  app.add_flag("--keep-repetition", keep_repetition,
               "Use sequences too that are marked as ending in loops");
  app.add_option("--expert-bytes", expert_bytes, "Size of an expert, where the trace has none");
  app.add_option("--threads", threads, "Replays at once; 0: one per processor")
      ->capture_default_str();
  const std::string group = "Timing";
  app.add_option("--drive", drive, "Rate of the drive, as 3.5GB/s")->group(group);
  app.add_option("--drive-latency-us", drive_latency_us, "Microseconds before a read's first byte")
      ->default_str("")
      ->group(group);
  app.add_option("--expert-rate", expert_rate, "Bytes of experts computed a second, as 20GB/s")
      ->group(group);
  app.add_option("--layer-us", layer_us, "Microseconds of everything else, per layer of experts")
      ->default_str("")
      ->group(group);
  DeclareParameterFlags(app, TunableRows(), settings);
}

void TraceFlags::DeclareVram(CLI::App& app) {
  takes_vram_ = true;
  app.add_option("--vram", vram,
                 "slots: VRAM for experts beside --budget, each with each: shares or bytes, or 0; "
                 "default: as recorded");
  app.add_option("--vram-policy", vram_policy, "Policy of experts in VRAM; default: as in RAM");
  app.add_option("--place", place,
                 "Who computes the experts in RAM, with VRAM: as of stoker run; default: as "
                 "recorded");
  const std::string group = "Timing";
  app.add_option("--copy-in", copy_in, "Rate of copies to the device, as 24GB/s")->group(group);
  app.add_option("--copy-out", copy_out, "Rate of copies from the device")->group(group);
  app.add_option("--copy-latency-us", copy_latency_us, "Microseconds before a copy's first byte")
      ->default_str("")
      ->group(group);
  app.add_option("--device-rate", device_rate, "Bytes of experts that the device computes a second")
      ->group(group);
  app.add_option("--device-latency-us", device_latency_us,
                 "Microseconds to start a group of experts on the device")
      ->default_str("")
      ->group(group);
}

absl::Status TraceFlags::Check() {
  const StoreKind kinds[] = {StoreKind::kAuto, StoreKind::kPool, StoreKind::kSlots};
  const auto* const kind = std::find_if(std::begin(kinds), std::end(kinds),
                                        [this](StoreKind k) { return NameOf(k) == store; });
  if (kind == std::end(kinds)) return NotAllowed("--store", store, "one of auto, pool, slots");
  store_ = *kind;
  constexpr int kThreadsMax = 1024;
  constexpr int kFloorMax = 1 << 20;
  if (threads < 0 || threads > kThreadsMax) {
    return NotAllowed("--threads", fmt::format("{}", threads), "from 0 to 1024");
  }
  if (layer_floor < -2 || layer_floor > kFloorMax) {
    return NotAllowed("--layer-floor", fmt::format("{}", layer_floor),
                      "a number of experts, or -1");
  }
  RETURN_IF_ERROR(ReadRate("--drive", drive, timing_.drive_rate));
  RETURN_IF_ERROR(ReadRate("--expert-rate", expert_rate, timing_.expert_rate));
  RETURN_IF_ERROR(
      ReadMicroseconds("--drive-latency-us", drive_latency_us, timing_.drive_latency_ns));
  RETURN_IF_ERROR(ReadRate("--copy-in", copy_in, timing_.copy_in_rate));
  RETURN_IF_ERROR(ReadRate("--copy-out", copy_out, timing_.copy_out_rate));
  RETURN_IF_ERROR(ReadRate("--device-rate", device_rate, timing_.device_rate));
  RETURN_IF_ERROR(ReadMicroseconds("--copy-latency-us", copy_latency_us, timing_.copy_latency_ns));
  RETURN_IF_ERROR(
      ReadMicroseconds("--device-latency-us", device_latency_us, timing_.device_latency_ns));
  return ReadMicroseconds("--layer-us", layer_us, timing_.layer_ns);
}

absl::Status TraceFlags::SetExpertBytes(Trace& trace) const {
  if (expert_bytes.empty()) return absl::OkStatus();
  const absl::StatusOr<uint64_t> bytes = ParseBytes(expert_bytes);
  if (!bytes.ok() || *bytes == 0) {
    return NotAllowed("--expert-bytes", expert_bytes, "a number of bytes such as 12MiB");
  }
  if (KnowsExpertBytes(trace)) {
    return absl::InvalidArgumentError(
        "--expert-bytes is given, but the trace says how large experts are\n  try: leave it out");
  }
  for (TraceHeader::Layer& layer : trace.header.layers) layer.expert_bytes = *bytes;
  return absl::OkStatus();
}

// Those of --vram; without it the recorded one, or none.
absl::StatusOr<std::vector<uint64_t>> TraceFlags::VramBudgets(const Trace& trace) const {
  if (!takes_vram_ || ResolveStore(trace, store_) != StoreKind::kSlots) {
    return std::vector<uint64_t>{0};
  }
  if (vram.empty()) return std::vector<uint64_t>{trace.header.vram_budget_bytes};
  std::vector<uint64_t> result;
  ASSIGN_OR_RETURN(const std::vector<std::string> texts, SplitList("--vram", vram));
  for (const std::string& text : texts) {
    result.push_back(0);
    if (text == "0") continue;
    ASSIGN_OR_RETURN(result.back(), ParseBudget("--vram", text, trace));
  }
  return result;
}

absl::StatusOr<std::vector<SimulatedBudget>> TraceFlags::Budgets(const Trace& trace) const {
  const TraceHeader& header = trace.header;
  std::vector<uint64_t> ram;
  ASSIGN_OR_RETURN(const std::vector<uint64_t> vram_bytes, VramBudgets(trace));
  const bool is_own = ResolveStore(trace, store_) == StoreKind::kSlots;
  if (budgets.empty() && is_own && header.budget_bytes > 0) {
    ram.push_back(header.budget_bytes + (takes_vram_ ? 0 : header.vram_budget_bytes));
  } else {
    ASSIGN_OR_RETURN(const std::vector<std::string> texts,
                     SplitList("--budget", budgets.empty() ? kShares : std::string_view(budgets)));
    for (const std::string& text : texts) {
      ram.emplace_back();
      ASSIGN_OR_RETURN(ram.back(), ParseBudget("--budget", text, trace));
    }
  }
  std::vector<SimulatedBudget> result;
  for (const uint64_t bytes : ram) {
    for (const uint64_t in_vram : vram_bytes) {
      const bool is_recorded = bytes == header.budget_bytes && in_vram == header.vram_budget_bytes;
      result.push_back({.bytes = bytes, .vram_bytes = in_vram, .is_recorded = is_recorded});
    }
  }
  const auto key = [](const SimulatedBudget& budget) {
    return std::pair(budget.total_bytes(), budget.vram_bytes);
  };
  std::sort(result.begin(), result.end(),
            [&](const auto& a, const auto& b) { return key(a) < key(b); });
  result.erase(std::unique(result.begin(), result.end(),
                           [&](const auto& a, const auto& b) { return key(a) == key(b); }),
               result.end());
  return result;
}

// What goes with budgets of VRAM.
absl::Status TraceFlags::SetVram(Loaded& loaded) const {
  const bool is_asked = !vram.empty() || !vram_policy.empty() || !place.empty();
  if (is_asked && loaded.options.store == StoreKind::kPool) {
    return absl::InvalidArgumentError(
        "--vram, --vram-policy or --place is given, but a pool has no tiers\n  try: --store slots, "
        "or leave it out");
  }
  loaded.vram_policy = vram_policy;
  const std::string& rule = place.empty() ? loaded.trace.header.place : place;
  if (rule.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(loaded.place, ParsePlaceRule(rule));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint32_t>> TraceFlags::Profile(const Trace& trace) const {
  if (profile.empty()) return std::vector<uint32_t>();
  if (profile == kOwnProfile) return ProfileOf(trace);
  int64_t expert_count = 0;
  for (const TraceHeader::Layer& layer : trace.header.layers) expert_count += layer.expert_count;
  UsageProfile read = ReadProfile(profile, trace.header.model_hash, expert_count);
  if (!read.uses.empty()) return std::move(read.uses);
  return absl::InvalidArgumentError(fmt::format(
      "--profile is {}, which says nothing of this trace's model: {}\n  try: a file that stoker "
      "run --profile wrote for it, or trace: the uses of the trace itself",
      profile, read.notice.empty() ? "there is no such file" : read.notice));
}

absl::StatusOr<TraceFlags::Loaded> TraceFlags::Load() const {
  if (path.empty()) {
    return absl::InvalidArgumentError(
        "no trace was named\n  try: stoker simulate FILE, of stoker run --trace FILE");
  }
  Loaded loaded;
  ASSIGN_OR_RETURN(loaded.trace, ReadTrace(path, {.keep_repetition = keep_repetition}));
  RETURN_IF_ERROR(SetExpertBytes(loaded.trace));
  if (loaded.trace.ids.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{} has no routing in it: there is nothing to replay; the model may be a dense "
                    "one, or the run ended before its first step",
                    path));
  }
  ASSIGN_OR_RETURN(loaded.budgets, Budgets(loaded.trace));
  loaded.options.store = ResolveStore(loaded.trace, store_);
  if (loaded.options.store == StoreKind::kSlots && !KnowsExpertBytes(loaded.trace)) {
    return absl::InvalidArgumentError(
        "--store is slots, but the trace does not say how large experts are, and so not how many "
        "fit\n  try: --expert-bytes too, or --store pool");
  }
  if (layer_floor != -2 && loaded.options.store == StoreKind::kPool) {
    return absl::InvalidArgumentError(
        "--layer-floor is given, but a pool has no floors\n  try: --store slots, or leave it out");
  }
  loaded.layer_floor = layer_floor == -2 ? loaded.trace.header.layer_floor : layer_floor;
  loaded.options.cold_per_prompt = cold_per_prompt;
  loaded.options.threads = threads;
  ASSIGN_OR_RETURN(loaded.options.profile, Profile(loaded.trace));
  RETURN_IF_ERROR(SetVram(loaded));
  loaded.timing = loaded.has_vram() ? FitTimingByReplay(loaded.trace, timing_)
                                    : FitTiming(loaded.trace, timing_);
  return loaded;
}

std::string DescribeSimulation(const TraceFlags::Loaded& loaded) {
  const TraceHeader& header = loaded.trace.header;
  int64_t prompt_rows = 0;
  for (const TraceRow& row : loaded.trace.rows) prompt_rows += row.is_prompt ? 1 : 0;
  int64_t expert_count = 0;
  for (const TraceHeader::Layer& layer : header.layers) expert_count += layer.expert_count;
  const bool has_bytes = KnowsExpertBytes(loaded.trace);
  std::string text = fmt::format(
      "trace    {}: {} tokens of prompts, {} decoded; {} experts in {} layers{}\n", header.model,
      prompt_rows, static_cast<int64_t>(loaded.trace.rows.size()) - prompt_rows, expert_count,
      header.layers.size(),
      has_bytes ? fmt::format(", {}", FormatBytes(header.total_expert_bytes())) : std::string());
  text += loaded.options.store == StoreKind::kPool
              ? "store    a pool of bytes, each token's experts counted\n"
              : "store    stoker's own, each step's experts counted once\n";
  if (has_bytes) text += fmt::format("timing   {}\n", FormatTiming(loaded.timing));
  if (has_bytes && loaded.has_vram()) {
    text += fmt::format("         {}\n", FormatDeviceTiming(loaded.timing));
  } else if (header.vram_budget_bytes > 0) {
    text += "note     recorded with VRAM: replayed as one store, by default of both tiers' size\n";
  }
  if (!loaded.trace.notice.empty()) text += fmt::format("note     {}\n", loaded.trace.notice);
  return text;
}

}  // namespace stoker
