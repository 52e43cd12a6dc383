// Shares, rates and the time left.
#include "cli/batch/batch_progress.h"

#include <fmt/format.h>

namespace stoker {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr int64_t kSharesShown = 20;
constexpr int kBarWidth = 20;

}  // namespace

std::string FormatWait(int64_t ns) {
  const int64_t seconds = (ns + kNsPerSecond - 1) / kNsPerSecond;
  const int64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;
  if (days > 0) return fmt::format("{} d {} h", days, hours % 24);
  if (hours > 0) return fmt::format("{} h {} min", hours, minutes % 60);
  if (minutes > 0) return fmt::format("{} min {} s", minutes, seconds % 60);
  return fmt::format("{} s", seconds);
}

std::string FormatBatchProgress(const BatchProgress& p) {
  const int64_t filled =
      p.prompt_count == 0 ? kBarWidth : kBarWidth * p.done_count / p.prompt_count;
  const int64_t percent = p.prompt_count == 0 ? 100 : 100 * p.done_count / p.prompt_count;
  std::string line = fmt::format("batch  {:3} %  [{:<{}}]  {} of {} prompts", percent,
                                 std::string(static_cast<size_t>(filled), '='), kBarWidth,
                                 p.done_count, p.prompt_count);
  if (p.failed_count > 0) line += fmt::format(", {} failed", p.failed_count);
  if (p.elapsed_ns <= 0 || p.tokens == 0) return line;
  const double elapsed_ns = static_cast<double>(p.elapsed_ns);
  line += fmt::format("  {:.1f} tokens/s", static_cast<double>(p.tokens) * 1e9 / elapsed_ns);
  const int64_t ended_count = p.done_count - p.done_before_count;
  if (ended_count == 0) return line;
  const double left = static_cast<double>(p.prompt_count - p.done_count);
  const double left_ns = elapsed_ns * left / static_cast<double>(ended_count);
  return line + fmt::format("  ETA {}", FormatWait(static_cast<int64_t>(left_ns)));
}

void BatchProgressView::Update(const BatchProgress& progress) {
  if (console_.quiet()) return;
  if (console_.stderr_is_terminal()) {
    console_.ProgressLine([&] { return FormatBatchProgress(progress); });
    return;
  }
  const int64_t share = kSharesShown * progress.done_count / progress.prompt_count;
  const bool is_first = shown_share_ < 0;
  if (share == shown_share_) return;
  shown_share_ = share;
  if (!is_first) console_.Note(FormatBatchProgress(progress));
}

}  // namespace stoker
