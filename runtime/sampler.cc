// The chain of filters and the keyed draw.
#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/status.h"
#include "runtime/sampling_math.h"

namespace stoker {

Sampler::Sampler(int vocab_count, int history_max) {
  candidates_.reserve(static_cast<size_t>(vocab_count));
  window_.reserve(static_cast<size_t>(history_max));
}

uint64_t Sampler::PlanBytes(int vocab_count, int history_max) {
  return static_cast<uint64_t>(vocab_count) * sizeof(Candidate) +
         static_cast<uint64_t>(history_max) * sizeof(TokenId);
}

absl::StatusOr<TokenId> Sampler::Sample(absl::Span<float> logits, absl::Span<const TokenId> history,
                                        const SamplingOptions& options) {
  Penalize(logits, history, options);
  GatherTopK(logits, options.temperature == 0 ? 1 : options.top_k);
  if (candidates_.empty()) {
    return absl::DataLossError(
        "the model gave no finite logit: its weights are probably damaged; check the file against "
        "its source");
  }
  if (options.temperature == 0) return candidates_.front().id;
  KeepTopP(options.top_p);
  KeepMinP(options.min_p);
  return Draw(options, static_cast<int64_t>(history.size()));
}

void Sampler::Penalize(absl::Span<float> logits, absl::Span<const TokenId> history,
                       const SamplingOptions& options) {
  if (options.penalty_window == 0 ||
      (options.repetition_penalty == 1 && options.frequency_penalty == 0 &&
       options.presence_penalty == 0)) {
    return;
  }
  size_t count = history.size();
  if (options.penalty_window > 0) {
    count = std::min(count, static_cast<size_t>(options.penalty_window));
  }
  window_.assign(history.end() - static_cast<ptrdiff_t>(count), history.end());
  std::sort(window_.begin(), window_.end());
  for (auto begin = window_.begin(); begin != window_.end();) {
    const auto end = std::upper_bound(begin, window_.end(), *begin);
    float& logit = logits[static_cast<size_t>(*begin)];
    logit = logit > 0 ? logit / options.repetition_penalty : logit * options.repetition_penalty;
    logit -= static_cast<float>(end - begin) * options.frequency_penalty;
    logit -= options.presence_penalty;
    begin = end;
  }
}

// One pass with a heap of the k best, its worst on top: almost every logit costs one comparison.
// What is not finite is no candidate.
void Sampler::GatherTopK(absl::Span<const float> logits, int top_k) {
  CHECK(logits.size() <= candidates_.capacity());
  const size_t limit = top_k == 0 ? logits.size() : static_cast<size_t>(top_k);
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    const Candidate candidate = {logits[i], static_cast<TokenId>(i)};
    if (!std::isfinite(candidate.logit)) continue;
    if (candidates_.size() < limit) {
      candidates_.push_back(candidate);
      if (limit < logits.size()) std::push_heap(candidates_.begin(), candidates_.end(), Better);
    } else if (Better(candidate, candidates_.front())) {
      std::pop_heap(candidates_.begin(), candidates_.end(), Better);
      candidates_.back() = candidate;
      std::push_heap(candidates_.begin(), candidates_.end(), Better);
    }
  }
}

// Sorts only as far as the sum needs, in growing pieces. The sum runs best first.
void Sampler::KeepTopP(float top_p) {
  if (top_p >= 1) return;
  double best = -std::numeric_limits<double>::infinity();
  for (const Candidate& c : candidates_) best = std::max(best, static_cast<double>(c.logit));
  double total = 0;
  for (const Candidate& c : candidates_) total += PortableExp(c.logit - best);

  const double wanted = static_cast<double>(top_p) * total;
  double sum = 0;
  size_t kept = 0, sorted = 0;
  for (size_t piece = 256; kept < candidates_.size() && sum < wanted; piece *= 4) {
    const size_t end = std::min(candidates_.size(), sorted + piece);
    std::partial_sort(candidates_.begin() + static_cast<ptrdiff_t>(sorted),
                      candidates_.begin() + static_cast<ptrdiff_t>(end), candidates_.end(), Better);
    sorted = end;
    for (; kept < sorted && sum < wanted; ++kept)
      sum += PortableExp(candidates_[kept].logit - best);
  }
  candidates_.resize(std::max<size_t>(kept, 1));
}

void Sampler::KeepMinP(float min_p) {
  if (min_p <= 0) return;
  double best = -std::numeric_limits<double>::infinity();
  for (const Candidate& c : candidates_) best = std::max(best, static_cast<double>(c.logit));
  const double least = best + PortableLog(min_p);
  std::erase_if(candidates_, [&](const Candidate& c) { return c.logit < least; });
}

TokenId Sampler::Draw(const SamplingOptions& options, int64_t position) const {
  const double temperature = options.temperature;
  double best_score = -std::numeric_limits<double>::infinity();
  TokenId best_id = std::numeric_limits<TokenId>::max();
  for (const Candidate& c : candidates_) {
    const double score = c.logit / temperature + GumbelNoise(options.seed, position, c.id);
    if (score > best_score || (score == best_score && c.id < best_id)) {
      best_score = score;
      best_id = c.id;
    }
  }
  return best_id;
}

}  // namespace stoker
