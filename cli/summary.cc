// What a run cost, for people and for programs.
#include "cli/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <numeric>
#include <vector>

#include "base/units.h"
#include "runtime/trace/trace_names.h"

namespace stoker {
namespace {

using nlohmann::ordered_json;

constexpr double kShareShown = 0.005;
constexpr size_t kMissesShown = 3;

int64_t SumOf(const CauseTimes& causes) {
  return std::accumulate(causes.begin(), causes.end(), int64_t{0});
}

std::string FormatPhase(std::string_view name, const PhaseSummary& phase) {
  if (phase.tokens == 0) return "";
  return fmt::format("  {:<12}{} tokens in {}, {:.1f} tokens/s\n", name, phase.tokens,
                     FormatDuration(phase.wall_ns), phase.tokens_per_second());
}

std::string FormatSlowest(const StepRecord& step) {
  std::string text = fmt::format("  {:<12}{}: {}\n", "slowest", FormatDuration(step.wall_ns),
                                 FormatCauses(step.causes));
  const size_t shown = std::min(kMissesShown, step.worst_misses.size());
  for (size_t i = 0; i < shown; ++i) {
    text += fmt::format("  {:<12}{}\n", "", FormatMiss(step.worst_misses[i]));
  }
  return text;
}

ordered_json HintsJson(const HintCounts& hints) {
  return {{"issued", hints.issued},
          {"used", hints.used},
          {"late", hints.late},
          {"dropped", hints.dropped},
          {"wasted", hints.wasted},
          {"unread", hints.unread},
          {"issued_bytes", hints.issued_bytes},
          {"used_bytes", hints.used_bytes},
          {"late_bytes", hints.late_bytes},
          {"wasted_bytes", hints.wasted_bytes},
          {"saved_bytes", hints.saved_bytes},
          {"delay_bytes", hints.delay_bytes},
          {"displaced_bytes", hints.displaced_bytes}};
}

std::string FormatHints(const HintCounts& hints) {
  if (hints.issued == 0) return "";
  return fmt::format(
      "  {:<12}{} experts read on guesses: {} used in time, {} late, {} dropped, {} "
      "evicted unused\n",
      "prefetch", hints.issued, hints.used, hints.late, hints.dropped, hints.wasted);
}

double Share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

// "0.81 0.70 0.66": how many were right at each place, if all before them were.
std::string FormatPlaces(const DraftTotals& drafts) {
  std::string text;
  for (size_t place = 0; place < drafts.checked_at.size(); ++place) {
    if (drafts.checked_at[place] == 0) break;
    text += fmt::format("{}{:.2f}", text.empty() ? "" : " ",
                        Share(drafts.right_at[place], drafts.checked_at[place]));
  }
  return text;
}

std::string ReasonText(const DraftTotals& drafts) {
  if (drafts.has_failed) return "stopped: the drafter failed";
  if (drafts.fixed_length >= 0) return fmt::format("always {}, as asked", drafts.fixed_length);
  const Governor::Belief& belief = drafts.belief;
  if (belief.promise == 0) return "off: too little was drafted to judge";
  const std::string why = fmt::format(
      "a first draft is right in {:.0f} % of cases, and a step that checks one takes "
      "{:.2f} times one that checks none",
      belief.chance * 100, belief.cost);
  if (drafts.is_on)
    return fmt::format("on at the end: {:.2f} times the speed: {}", belief.promise, why);
  const std::string_view spent = "drafts have lost as much as they may; ";
  return fmt::format("off at the end: {}{}", belief.is_budget_spent ? spent : "", why);
}

ordered_json PhaseJson(const PhaseSummary& phase) {
  return {{"tokens", phase.tokens},
          {"steps", phase.steps},
          {"wall_ns", phase.wall_ns},
          {"tokens_per_second", phase.tokens_per_second()},
          {"hits", phase.hits},
          {"misses", phase.misses},
          {"hit_rate", phase.hit_rate()},
          {"vram_hits", phase.vram_hits},
          {"read_bytes", phase.read_bytes},
          {"hints", HintsJson(phase.hints)},
          {"copied_in_bytes", phase.copied_in_bytes},
          {"copied_out_bytes", phase.copied_out_bytes},
          {"host_experts", phase.host_experts},
          {"device_experts", phase.device_experts},
          {"drive_busy_ns", phase.drive_busy_ns},
          {"system_ns", phase.system_ns},
          {"system_share", phase.system_share()},
          {"causes", CausesJson(phase.causes)}};
}

ordered_json MissJson(const MissRecord& miss) {
  ordered_json json = {{"layer", miss.id.layer},
                       {"expert", miss.id.expert},
                       {"reason", NameOf(miss.reason)},
                       {"read_ns", miss.read_ns},
                       {"read_bytes", miss.read_bytes}};
  if (miss.evicted_step >= 0) json["evicted_step"] = miss.evicted_step;
  return json;
}

std::string FormatDeviceShare(const PhaseSummary& all) {
  if (all.device_experts == 0 && all.copied_in_bytes == 0) return "";
  return fmt::format(
      "  {:<12}{} experts ({} hits in VRAM), the processor {}; {} copied in, {} out\n", "device",
      all.device_experts, all.vram_hits, all.host_experts, FormatBytes(all.copied_in_bytes),
      FormatBytes(all.copied_out_bytes));
}

ordered_json LinksJson(const LinkRates& links) {
  return {{"host", links.host},
          {"host_row", links.host_row},
          {"copy_in", links.copy_in},
          {"copy_out", links.copy_out},
          {"host_beside_copy", links.host_beside_copy},
          {"copy_beside_host", links.copy_beside_host},
          {"device", links.device},
          {"drive", links.drive}};
}

}  // namespace

std::string FormatDevice(const EngineInfo& info) {
  const std::string text = fmt::format("device: {}", info.device_description);
  if (!info.links.has_value()) return text;
  const LinkRates& links = *info.links;
  return text + fmt::format(
                    "\nlinks: experts by the processor {}, copies in {} (together {} and {}), out "
                    "{}, drive {}",
                    FormatRate(links.host), FormatRate(links.copy_in),
                    FormatRate(links.host_beside_copy), FormatRate(links.copy_beside_host),
                    FormatRate(links.copy_out), FormatRate(links.drive));
}

ordered_json DeviceJson(const Engine& engine) {
  const EngineInfo& info = engine.info();
  if (info.device.empty()) return nullptr;
  const CacheCounts& counts = engine.cache_counts();
  ordered_json json = {{"name", info.device},
                       {"description", info.device_description},
                       {"place", NameOf(info.place)},
                       {"vram_experts", counts.vram_resident},
                       {"ram_experts", counts.resident - counts.vram_resident}};
  if (info.links.has_value()) json["links"] = LinksJson(*info.links);
  const std::optional<LinkRates> links = engine.links();
  if (links.has_value()) json["links_at_end"] = LinksJson(*links);
  return json;
}

std::string FormatDrafts(const DraftTotals& drafts) {
  if (drafts.drafter.empty()) return "";
  std::string text = fmt::format("  {:<12}{} drafted, {} checked, {} right", "drafts",
                                 drafts.drafted, drafts.checked, drafts.right);
  if (drafts.checked > 0) {
    text += fmt::format(" (by place {})", FormatPlaces(drafts));
  }
  if (drafts.compared_ns > 0) {
    text +=
        fmt::format("; about {} {} in {} of decoding", FormatDuration(std::llabs(drafts.won_ns)),
                    drafts.won_ns < 0 ? "lost" : "won", FormatDuration(drafts.compared_ns));
  }
  return text + fmt::format("; {}\n", ReasonText(drafts));
}

ordered_json DraftsJson(const DraftTotals& drafts) {
  if (drafts.drafter.empty()) return nullptr;
  return {{"drafter", drafts.drafter},
          {"fixed_length", drafts.fixed_length},
          {"is_on", drafts.is_on},
          {"has_failed", drafts.has_failed},
          {"drafted", drafts.drafted},
          {"checked", drafts.checked},
          {"right", drafts.right},
          {"checked_at", drafts.checked_at},
          {"right_at", drafts.right_at},
          {"steps", drafts.steps},
          {"steps_checked", drafts.steps_checked},
          {"step_ns", drafts.step_ns},
          {"draft_ns", drafts.draft_ns},
          {"ahead_ns", drafts.ahead_ns},
          {"compared_ns", drafts.compared_ns},
          {"won_ns", drafts.won_ns},
          {"promise", drafts.belief.promise},
          {"chance", drafts.belief.chance},
          {"cost", drafts.belief.cost},
          {"is_budget_spent", drafts.belief.is_budget_spent}};
}

std::string FormatCauses(const CauseTimes& causes) {
  const double sum = static_cast<double>(std::max<int64_t>(1, SumOf(causes)));
  std::vector<size_t> order(causes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return causes[a] > causes[b]; });
  std::string text;
  for (const size_t i : order) {
    const double share = static_cast<double>(causes[i]) / sum;
    if (share < kShareShown) break;
    text += fmt::format("{}{} {:.0f} %", text.empty() ? "" : ", ", NameOf(static_cast<Cause>(i)),
                        share * 100);
  }
  return text;
}

std::string ReasonText(const MissRecord& miss) {
  switch (miss.reason) {
    case MissReason::kNeverSeen:
      return "never used before";
    case MissReason::kEvicted:
      return fmt::format("evicted in step {}", miss.evicted_step);
    case MissReason::kHintLate:
      return "guessed, but too late";
    case MissReason::kHintDropped:
      return "guessed, but given up before it was read";
  }
  return "";
}

std::string FormatMiss(const MissRecord& miss) {
  return fmt::format("layer {} expert {}: {}, read in {}", miss.id.layer, miss.id.expert,
                     ReasonText(miss), FormatDuration(miss.read_ns));
}

std::string FormatSummary(const RunSummary& summary) {
  const PhaseSummary& all = summary.all;
  std::string text = FormatPhase("prompt", summary.prompt) + FormatPhase("decode", summary.decode);
  if (summary.first_token_ns > 0) {
    text +=
        fmt::format("  {:<12}after {}\n", "first token", FormatDuration(summary.first_token_ns));
  }
  if (all.hits + all.misses > 0) {
    text += fmt::format("  {:<12}hit rate {:.1f} % ({} hits, {} misses), {} read\n", "experts",
                        all.hit_rate() * 100, all.hits, all.misses, FormatBytes(all.read_bytes));
  }
  text += FormatHints(all.hints) + FormatDeviceShare(all);
  if (all.wall_ns > 0) text += fmt::format("  {:<12}{}\n", "time", FormatCauses(all.causes));
  if (summary.gaps.count > 0) {
    text += fmt::format("  {:<12}p50 {}, p99 {}, longest {}\n", "token gaps",
                        FormatDuration(summary.gaps.p50_ns), FormatDuration(summary.gaps.p99_ns),
                        FormatDuration(summary.gaps.max_ns));
    text += FormatSlowest(summary.slowest);
  }
  return text;
}

ordered_json CausesJson(const CauseTimes& causes) {
  ordered_json json = ordered_json::object();
  for (size_t i = 0; i < causes.size(); ++i) {
    json[std::string(NameOf(static_cast<Cause>(i)))] = causes[i];
  }
  return json;
}

ordered_json SummaryJson(const RunSummary& summary) {
  ordered_json misses = ordered_json::array();
  for (const MissRecord& miss : summary.slowest.worst_misses) misses.push_back(MissJson(miss));
  return {{"type", "summary"},
          {"prompt_tokens", summary.prompt_rows},
          {"generated_tokens", summary.generated},
          {"first_token_ns", summary.first_token_ns},
          {"prompt", PhaseJson(summary.prompt)},
          {"decode", PhaseJson(summary.decode)},
          {"all", PhaseJson(summary.all)},
          {"gaps",
           {{"count", summary.gaps.count},
            {"p50_ns", summary.gaps.p50_ns},
            {"p90_ns", summary.gaps.p90_ns},
            {"p99_ns", summary.gaps.p99_ns},
            {"max_ns", summary.gaps.max_ns}}},
          {"slowest",
           {{"step", summary.slowest.step},
            {"wall_ns", summary.slowest.wall_ns},
            {"causes", CausesJson(summary.slowest.causes)},
            {"misses", misses}}}};
}

std::string JsonLine(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace stoker
