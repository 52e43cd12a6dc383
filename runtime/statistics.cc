// Sums over steps and exact percentiles.
#include "runtime/statistics.h"

#include <algorithm>

namespace stoker {
namespace {

void AddTo(PhaseSummary& phase, const StepRecord& step) {
  ++phase.steps;
  phase.wall_ns += step.wall_ns;
  for (size_t cause = 0; cause < step.causes.size(); ++cause) {
    phase.causes[cause] += step.causes[cause];
  }
  phase.hits += step.hits;
  phase.misses += step.misses;
  phase.vram_hits += step.vram_hits;
  phase.read_bytes += step.read_bytes;
  phase.hints = phase.hints + step.hints;
  phase.copied_in_bytes += step.copied_in_bytes;
  phase.copied_out_bytes += step.copied_out_bytes;
  phase.host_experts += step.host_experts;
  phase.device_experts += step.device_experts;
  phase.drive_busy_ns += step.drive_busy_ns;
  phase.system_ns += step.system_ns;
}

// Nearest rank: the value of rank ceil(share * n), counted from 1. `sorted` is not empty.
int64_t Percentile(const std::vector<int64_t>& sorted, int percent) {
  const size_t rank = (sorted.size() * static_cast<size_t>(percent) + 99) / 100;
  return sorted[std::max<size_t>(rank, 1) - 1];
}

}  // namespace

double PhaseSummary::tokens_per_second() const {
  return wall_ns == 0 ? 0 : static_cast<double>(tokens) * 1e9 / static_cast<double>(wall_ns);
}

double PhaseSummary::hit_rate() const {
  const uint64_t asked = hits + misses;
  return asked == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(asked);
}

double PhaseSummary::system_share() const {
  return wall_ns == 0 ? 0 : static_cast<double>(system_ns) / static_cast<double>(wall_ns);
}

void RunStatistics::Add(const StepRecord& step) {
  AddTo(totals_.all, step);
  totals_.all.tokens += step.tokens;
  totals_.prompt_rows += step.prompt_rows;
  totals_.generated += step.tokens;
  if (step.tokens > 0 && totals_.first_token_ns == 0) totals_.first_token_ns = totals_.all.wall_ns;

  const bool is_prompt = step.prompt_rows > 0;
  PhaseSummary& phase = is_prompt ? totals_.prompt : totals_.decode;
  AddTo(phase, step);
  phase.tokens += is_prompt ? step.prompt_rows : step.tokens;

  if (step.tokens == 0 || step.decode_rows == 0) return;  // failed, or first tokens only
  gaps_ns_.insert(gaps_ns_.end(), static_cast<size_t>(step.decode_rows), step.wall_ns);
  if (step.wall_ns > totals_.slowest.wall_ns) totals_.slowest = step;
}

RunSummary RunStatistics::Summarize() const {
  RunSummary summary = totals_;
  std::vector<int64_t> sorted = gaps_ns_;
  std::sort(sorted.begin(), sorted.end());
  summary.gaps.count = static_cast<int64_t>(sorted.size());
  if (sorted.empty()) return summary;
  summary.gaps.p50_ns = Percentile(sorted, 50);
  summary.gaps.p90_ns = Percentile(sorted, 90);
  summary.gaps.p99_ns = Percentile(sorted, 99);
  summary.gaps.max_ns = sorted.back();
  return summary;
}

}  // namespace stoker
