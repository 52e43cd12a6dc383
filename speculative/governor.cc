// Greedy by chance, with a verdict that does not flicker.
#include "speculative/governor.h"

#include <algorithm>

#include "base/check.h"

namespace stoker {
namespace {

enum Value : size_t { kGainToStart, kStepsBetweenTrials };

// Before anything was checked; a wrong guess costs a few drafts.
constexpr double kPriorAcceptance = 0.5;
// Drafts that must have been checked before the chances are believed.
constexpr double kCheckedMin = 4;
// Drafts asked for to compare them with what comes: of a drafter that costs nothing, of others.
constexpr int kListenLength = 4, kDearListenLength = 1;
// Of the time of a run, that may go into drafts which are only listened to, once there is a
// verdict.
constexpr double kListenShare = 0.01;
constexpr int64_t kTrialDoublings = 16;
// In a row: a drafter that was not asked for long has to catch up first, which is most of the cost.
constexpr int kTrialSteps = 6;
// What was seen before a trial is of another part of the text.
constexpr double kTrialFade = 0.25;
constexpr double kDraftMemory = 16;  // rounds
// The most that is hoped of a drafter, and the rounds after which its cost is believed.
constexpr double kBestChance = 0.95;
constexpr int kDraftRoundsMin = 3;

}  // namespace

Governor::Governor(const Options& options)
    : options_(options),
      cost_(options.sequence_count * (1 + options.length_max), options.missing_max),
      by_slot_(static_cast<size_t>(options.sequence_count)),
      reached_(static_cast<size_t>(options.sequence_count)),
      trial_interval_(static_cast<int64_t>(options.values[kStepsBetweenTrials])) {}

uint64_t Governor::PlanBytes(const Options& options) {
  const auto sequences = static_cast<uint64_t>(options.sequence_count);
  const auto rows = sequences * static_cast<uint64_t>(1 + options.length_max);
  return sequences * (sizeof(Acceptance) + sizeof(double)) + (rows + 1) * 4 * sizeof(double);
}

void Governor::Choose(absl::Span<Candidate> candidates) {
  for (Candidate& candidate : candidates) {
    candidate.room = std::min(candidate.room, options_.length_max);
    candidate.draft = candidate.check = 0;
    if (options_.fixed_length >= 0) {
      candidate.draft = candidate.check = std::min(candidate.room, options_.fixed_length);
    }
  }
  if (options_.fixed_length >= 0 || candidates.empty()) return;
  const bool is_judged =
      cost_.IsSeen(static_cast<int>(candidates.size())) && of_all_.checked(0) >= kCheckedMin;
  if (is_judged) PlanBest(candidates);
  const bool is_checking = std::any_of(candidates.begin(), candidates.end(),
                                       [](const Candidate& c) { return c.check > 0; });
  if (!is_checking && !is_on_) Listen(candidates);
}

// Adds drafts by their chance as long as there are any, and keeps the number with the best rate.
void Governor::PlanBest(absl::Span<Candidate> candidates) {
  const int sequences = static_cast<int>(candidates.size());
  const double plain_rate = sequences / cost_.Ns(sequences);
  double tokens = sequences, best_rate = plain_rate;
  int rows = sequences, longest = 0;
  std::fill(reached_.begin(), reached_.end(), 1.0);
  // Step by step into the unknown: what twice as many rows cost is a guess, beyond it is nothing.
  const int rows_max = 2 * std::max(sequences, cost_.SureRows());
  while (rows < rows_max) {
    Candidate* next = nullptr;
    double next_chance = 0;
    for (Candidate& candidate : candidates) {
      if (candidate.draft >= candidate.room) continue;
      const double chance =
          reached_[static_cast<size_t>(&candidate - candidates.data())] * Chance(candidate);
      if (chance > next_chance) next = &candidate, next_chance = chance;
    }
    if (next == nullptr) break;
    ++next->draft;
    reached_[static_cast<size_t>(next - candidates.data())] = next_chance;
    tokens += next_chance;
    longest = std::max(longest, next->draft);
    const double rate = tokens / (cost_.Ns(++rows) + DraftNs(longest));
    if (rate <= best_rate) continue;
    best_rate = rate;
    for (Candidate& candidate : candidates) candidate.check = candidate.draft;
  }
  const double gain_min = is_on_ ? 0 : options_.values[kGainToStart];
  is_on_ = best_rate > plain_rate * (1 + gain_min);
  belief_ = {.promise = best_rate / plain_rate,
             .chance = of_all_.At(0, kPriorAcceptance),
             .cost = cost_.Ns(sequences + 1) / cost_.Ns(sequences)};
  const bool is_plain = !is_on_ || steps_since_plain_ >= plain_interval_ - 1;
  for (Candidate& candidate : candidates) {
    if (is_plain) candidate.check = 0;
    candidate.draft = candidate.check;
  }
  if (is_on_) trial_interval_ = static_cast<int64_t>(options_.values[kStepsBetweenTrials]);
}

// Drafts that are not checked, to know their chances.
void Governor::Listen(absl::Span<Candidate> candidates) {
  if (!options_.is_drafting_free && of_all_.checked(0) >= kCheckedMin) {
    if (trial_steps_ == 0) {
      if (steps_to_trial_-- > 0) return;
      BeginTrial();
    }
    --trial_steps_;
  }
  if (!CouldPay(static_cast<int>(candidates.size()))) return;
  for (Candidate& candidate : candidates) {
    candidate.draft =
        std::min(candidate.room, options_.is_drafting_free ? kListenLength : kDearListenLength);
  }
}

bool Governor::CouldPay(int sequences) const {
  if (draft_rounds_ < kDraftRoundsMin || !cost_.IsSeen(sequences)) return true;
  const double rate_min = sequences / cost_.Ns(sequences) * (1 + options_.values[kGainToStart]);
  double tokens = 1, reached = 1;
  for (int length = 1; length <= options_.length_max; ++length) {
    tokens += reached *= kBestChance;
    const double ns = cost_.Ns(sequences * (1 + length)) + DraftNs(length);
    if (sequences * tokens > rate_min * ns) return true;
  }
  return false;
}

void Governor::BeginTrial() {
  trial_steps_ = kTrialSteps;
  trial_ns_ = 0;
  of_all_.Fade(kTrialFade);
  for (Acceptance& acceptance : by_slot_) acceptance.Fade(kTrialFade);
  steps_to_trial_ = trial_interval_;
  const auto interval_min = static_cast<int64_t>(options_.values[kStepsBetweenTrials]);
  trial_interval_ = std::min(trial_interval_ * 2, interval_min * kTrialDoublings);
}

void Governor::ObserveDrafts(int slot, int drafted, int accepted) {
  of_all_.Observe(drafted, accepted);
  by_slot_[static_cast<size_t>(slot)].Observe(drafted, accepted);
}

void Governor::Begin(int slot) { by_slot_[static_cast<size_t>(slot)].Forget(); }

void Governor::ObserveStep(const StepSample& sample) {
  const double step_ns = sample.cost.compute_ns + sample.cost.wait_ns;
  const auto draft_ns = static_cast<double>(sample.draft_ns);
  if (sample.draft_round_ns > 0) {
    const auto round_ns = static_cast<double>(sample.draft_round_ns);
    // As of steps: the first rounds find caches cold.
    if (draft_round_ns_ == 0 || round_ns < draft_round_ns_) draft_round_ns_ = round_ns;
    draft_round_ns_ += (round_ns - draft_round_ns_) / kDraftMemory;
    draft_rounds_ = std::min(draft_rounds_ + 1, kDraftRoundsMin);
  }
  if (sample.checked == 0 && draft_ns > 0 && step_ns > 0) {
    trial_ns_ += draft_ns;
    steps_to_trial_ =
        std::max(steps_to_trial_, static_cast<int64_t>(trial_ns_ / (kListenShare * step_ns)));
  }
  steps_since_plain_ = sample.checked == 0 ? 0 : steps_since_plain_ + 1;
  if (!is_on_) {
    plain_interval_ = kPlainEveryAtFirst;
  } else if (sample.checked == 0) {
    plain_interval_ = std::min(2 * plain_interval_, kPlainEvery);
  }
  ++totals_.steps;
  totals_.step_ns += step_ns + draft_ns;
  if (sample.checked > 0) ++totals_.steps_checked;
  if (cost_.IsSeen(sample.sequences)) {
    totals_.compared_ns += step_ns + draft_ns;
    totals_.won_ns -= draft_ns;
    if (sample.checked > 0) {
      totals_.won_ns += cost_.Ns(sample.sequences) * sample.tokens / sample.sequences - step_ns;
    }
  }
  cost_.Observe(sample.cost);
}

double Governor::Chance(const Candidate& candidate) const {
  return by_slot_[static_cast<size_t>(candidate.slot)].At(candidate.draft, of_all_,
                                                          kPriorAcceptance);
}

double Governor::DraftNs(int rounds) const { return draft_round_ns_ * rounds; }

}  // namespace stoker
