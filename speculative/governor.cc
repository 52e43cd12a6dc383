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
constexpr double kListenShare = 0.005;
constexpr int64_t kTrialDoublings = 16;
// Steps' time that may be lost at first, and that may be hoarded; and of all time, what comes to
// it.
constexpr double kLossBudgetMax = 24, kLossShare = 0.005;
// In a row: a drafter that was not asked for long has to catch up first, which is most of the cost.
constexpr int kTrialSteps = 6;
// Of what a step without drafts was thought to take: less, and it is looked at again soon.
constexpr double kMuchCheaper = 0.8;
// Of the chances seen before.
constexpr double kTrialFade = 0.25;
// The best that a size not known yet could promise, by what is known: less, and it is not tried.
constexpr double kProbeGain = 1.2;
// The widest size that is reckoned with, by the widest known; and where the shadow tells what it
// misses.
constexpr int kNearRows = 2, kFarRows = 4;
// Of what the text alone misses: tokens, and misses that weigh like those seen.
constexpr double kShadowMemory = 16;
constexpr double kShadowPrior = 16;
// The most that is hoped of a drafter.
constexpr double kBestChance = 0.95;

}  // namespace

Governor::Governor(const Options& options)
    : options_(options),
      cost_(options.sequence_count * (1 + options.length_max), options.missing_max, options.shadow),
      draft_cost_(options.sequence_count),
      by_slot_(static_cast<size_t>(options.sequence_count)),
      reached_(static_cast<size_t>(options.sequence_count)),
      probe_(static_cast<size_t>(options.sequence_count)),
      wanting_(static_cast<size_t>(options.length_max)),
      steps_to_trial_(static_cast<int64_t>(options.values[kStepsBetweenTrials])),
      trial_interval_(steps_to_trial_) {}

uint64_t Governor::PlanBytes(const Options& options) {
  const auto sequences = static_cast<uint64_t>(options.sequence_count);
  return sequences * (sizeof(Acceptance) + sizeof(double) + sizeof(int)) +
         static_cast<uint64_t>(options.length_max) * sizeof(int) +
         DraftCost::PlanBytes(options.sequence_count) +
         StepCost::PlanBytes(options.sequence_count * (1 + options.length_max));
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
      cost_.IsKnown(static_cast<int>(candidates.size())) && of_all_.checked(0) >= kCheckedMin;
  if (is_judged) PlanBest(candidates);
  const bool is_checking = std::any_of(candidates.begin(), candidates.end(),
                                       [](const Candidate& c) { return c.check > 0; });
  if (!is_checking && !is_on_) Listen(candidates);
}

// Adds drafts by their chance as long as there are any, and keeps the number with the best rate; or
// the one that would have it if steps wider than those known took no longer to compute.
void Governor::PlanBest(absl::Span<Candidate> candidates) {
  const int sequences = static_cast<int>(candidates.size());
  const int known_rows = std::max(sequences, cost_.SureRows());
  double best_rate = sequences / PlainNs(sequences), probe_rate = 0;
  double tokens = sequences, draft_ns = 0;
  std::fill(reached_.begin(), reached_.end(), 1.0);
  std::fill(wanting_.begin(), wanting_.end(), 0);
  const int rows_max = (options_.shadow != nullptr ? kFarRows : kNearRows) * known_rows;
  for (int rows = sequences + 1; rows <= rows_max; ++rows) {
    const Candidate* added = AddDraft(candidates);
    if (added == nullptr) break;
    tokens += reached_[static_cast<size_t>(added - candidates.data())];
    draft_ns += MoreDraftNs(added->draft - 1);
    const double rate = tokens / (cost_.Ns(rows) + draft_ns);
    if (rate > best_rate) {
      best_rate = rate;
      for (Candidate& candidate : candidates) candidate.check = candidate.draft;
    }
    const double rate_at_best = tokens / (HopedNs(rows, known_rows) + draft_ns);
    if (rows > known_rows && rows <= kNearRows * known_rows && rate_at_best > probe_rate) {
      probe_rate = rate_at_best;
      for (size_t i = 0; i < candidates.size(); ++i) probe_[i] = candidates[i].draft;
    }
  }
  NoteVerdict(sequences, best_rate);
  const bool is_probe =
      !is_budget_spent_ && trial_steps_ == 0 && probe_rate > best_rate * kProbeGain;
  for (size_t i = 0; i < candidates.size(); ++i) {
    Candidate& candidate = candidates[i];
    if (is_probe) candidate.check = probe_[i];
    if (!is_probe && !is_on_) candidate.check = 0;
    if (is_on_) candidate.check = std::min(NearLength(candidate.check), candidate.room);
    candidate.draft = candidate.check;
  }
}

// What a step wider than those known takes at best: computing as long as the widest of those, and
// waiting as long too, unless the shadow tells what it misses.
double Governor::HopedNs(int rows, int known_rows) const {
  const int missing_rows = options_.shadow != nullptr ? rows : known_rows;
  return cost_.ComputeNs(known_rows) + cost_.WaitNs(cost_.Missing(missing_rows));
}

// The length to be checked in this step where `best` seems to be the best.
int Governor::NearLength(int best) const {
  const bool is_plain = checked_run_ == 0 ? plain_run_ < kPlainRun : checked_run_ >= checked_max_;
  if (is_plain) return 0;
  const bool is_shorter = checked_run_ % kShorterEvery >= kShorterEvery - kShorterRun;
  return is_shorter ? (best + 1) / 2 : best;
}

// To the one whose next draft has the best chance; null when nobody has use for one.
Governor::Candidate* Governor::AddDraft(absl::Span<Candidate> candidates) {
  Candidate* best = nullptr;
  double best_chance = 0;
  for (Candidate& candidate : candidates) {
    if (candidate.draft >= candidate.room) continue;
    const double chance =
        reached_[static_cast<size_t>(&candidate - candidates.data())] * Chance(candidate);
    if (chance > best_chance) best = &candidate, best_chance = chance;
  }
  if (best == nullptr) return nullptr;
  ++best->draft;
  reached_[static_cast<size_t>(best - candidates.data())] = best_chance;
  return best;
}

// What one more draft in the round adds to drafting.
double Governor::MoreDraftNs(int round) {
  int& wanting = wanting_[static_cast<size_t>(round)];
  const double before = draft_cost_.RoundNs(round, wanting);
  return draft_cost_.RoundNs(round, ++wanting) - before;
}

void Governor::NoteVerdict(int sequences, double best_rate) {
  const double plain_rate = sequences / PlainNs(sequences);
  const double gain_min = is_on_ ? 0 : options_.values[kGainToStart];
  const bool is_to_doubt = !is_on_ || checked_run_ == 0;
  is_on_ = !is_budget_spent_ && best_rate > plain_rate * (1 + gain_min);
  belief_ = {.promise = best_rate / plain_rate,
             .chance = of_all_.At(0, kPriorAcceptance),
             .cost = cost_.Ns(sequences + 1) / PlainNs(sequences),
             .is_budget_spent = is_budget_spent_};
  if (!is_on_) return;
  if (is_to_doubt) cost_.Doubt();
  trial_interval_ = static_cast<int64_t>(options_.values[kStepsBetweenTrials]);
}

// Drafts that are not checked, to know their chances.
void Governor::Listen(absl::Span<Candidate> candidates) {
  if (!CouldChargeLoss(static_cast<int>(candidates.size()))) return;
  const bool has_verdict = of_all_.checked(0) >= kCheckedMin;
  if (has_verdict && trial_steps_ == 0 && steps_to_trial_-- <= 0) BeginTrial();
  if (!options_.is_drafting_free && has_verdict && trial_steps_-- == 0) {
    trial_steps_ = 0;
    return;
  }
  for (Candidate& candidate : candidates) {
    candidate.draft =
        std::min(candidate.room, options_.is_drafting_free ? kListenLength : kDearListenLength);
  }
}

bool Governor::CouldChargeLoss(int sequences) const {
  if (!draft_cost_.IsKnown() || !cost_.IsKnown(sequences)) return true;
  const double rate_min = sequences / PlainNs(sequences) * (1 + options_.values[kGainToStart]);
  double tokens = 1, reached = 1, draft_ns = 0;
  for (int length = 1; length <= options_.length_max; ++length) {
    tokens += reached *= kBestChance;
    draft_ns += draft_cost_.RoundNs(length - 1, sequences);
    const double ns = cost_.Ns(sequences * (1 + length)) + draft_ns;
    if (sequences * tokens > rate_min * ns) return true;
  }
  return false;
}

// What was seen before it is of another part of the text.
void Governor::BeginTrial() {
  trial_ns_ = 0;
  has_tried_ = true;
  cost_.Doubt();
  steps_to_trial_ = trial_interval_;
  const auto interval_min = static_cast<int64_t>(options_.values[kStepsBetweenTrials]);
  trial_interval_ = std::min(trial_interval_ * 2, interval_min * kTrialDoublings);
  if (options_.is_drafting_free) return;
  trial_steps_ = kTrialSteps;
  of_all_.Fade(kTrialFade);
  for (Acceptance& acceptance : by_slot_) acceptance.Fade(kTrialFade);
}

// Time lost while it is off, to drafts that are listened to or tried, puts off the next trial; but
// for what it took to come to the first verdict, which is often of an untypical beginning.
void Governor::ChargeTrial(const StepSample& sample) {
  const double step_ns = sample.cost.compute_ns + sample.cost.wait_ns;
  const double plain_ns = cost_.IsKnown(sample.sequences) ? PlainNs(sample.sequences) : step_ns;
  if (is_on_ || plain_ns == 0 || !has_tried_) return;
  auto lost_ns = static_cast<double>(sample.draft_ns);
  if (sample.checked > 0) lost_ns += step_ns - plain_ns * sample.tokens / sample.sequences;
  if (lost_ns <= 0) return;
  trial_ns_ += lost_ns;
  steps_to_trial_ =
      std::max(steps_to_trial_, static_cast<int64_t>(trial_ns_ / (kListenShare * plain_ns)));
}

void Governor::ObserveDrafts(int slot, int drafted, int accepted) {
  of_all_.Observe(drafted, accepted);
  by_slot_[static_cast<size_t>(slot)].Observe(drafted, accepted);
}

void Governor::Begin(int slot) {
  by_slot_[static_cast<size_t>(slot)].Forget();
  has_joined_ = true;
}

void Governor::ObserveStep(const StepSample& sample) {
  const double step_ns = sample.cost.compute_ns + sample.cost.wait_ns;
  const auto draft_ns = static_cast<double>(sample.draft_ns);
  draft_cost_.ObserveStep(sample.draft_rounds, has_joined_);
  has_joined_ = false;
  NoteUndrafted(sample);
  ChargeTrial(sample);
  const double won_before_ns = totals_.won_ns;
  ++totals_.steps;
  totals_.step_ns += step_ns + draft_ns;
  if (sample.checked > 0) ++totals_.steps_checked;
  if (cost_.IsKnown(sample.sequences)) {
    totals_.compared_ns += step_ns + draft_ns;
    totals_.won_ns -= draft_ns;
    CompareWithNone(sample, step_ns);
    if (sample.undrafted_missing >= 0) {
      ChargeLoss(totals_.won_ns - won_before_ns, step_ns, PlainNs(sample.sequences));
    }
  }
  NoteRun(sample, step_ns);
  const bool is_dearer = sample.checked > 0 && step_ns > cost_.Ns(sample.cost.rows);
  if (HasSettled(sample.cost.rows) || !cost_.IsKnown(sample.cost.rows) || is_dearer) {
    StepCost::Sample cost = sample.cost;
    if (sample.undrafted_missing >= 0) {
      cost.text_rows = sample.sequences;
      cost.text_missing =
          sample.undrafted_missing * ShadowRatio() * sample.sequences / sample.tokens;
    }
    cost_.Observe(cost);
  }
}

// Keeps the loss budget: what was won and lost, and the share of all time that may be lost.
void Governor::ChargeLoss(double won_ns, double step_ns, double plain_ns) {
  if (plain_ns <= 0) return;
  loss_budget_ += (won_ns + kLossShare * step_ns) / plain_ns;
  loss_budget_ = std::clamp(loss_budget_, -kLossBudget, kLossBudgetMax);
  if (loss_budget_ < 0) is_budget_spent_ = true;
  if (loss_budget_ >= kLossBudget / 2) is_budget_spent_ = false;
}

// Of a step without drafts, had there been none before it either.
double Governor::PlainNs(int sequences) const {
  const double ns = cost_.Ns(sequences);
  if (undrafted_missing_ < 0) return ns;
  const double missing = undrafted_missing_ * ShadowRatio() * sequences;
  return std::min(ns, cost_.ComputeNs(sequences) + cost_.WaitNs(missing));
}

// Of what is missed where there are no drafts, by what was said to be.
double Governor::ShadowRatio() const {
  return (missing_pure_ + kShadowPrior) / (missing_shadow_ + kShadowPrior);
}

void Governor::NoteUndrafted(const StepSample& sample) {
  pure_run_ = sample.checked > 0 ? 0 : std::min(pure_run_ + 1, kPureAfter);
  if (sample.undrafted_missing < 0 || sample.tokens == 0) return;
  const double of_token = sample.undrafted_missing / sample.tokens;
  const double share = std::min(1.0, sample.tokens / (kShadowMemory * sample.sequences));
  undrafted_missing_ = undrafted_missing_ < 0
                           ? of_token
                           : undrafted_missing_ + (of_token - undrafted_missing_) * share;
  if (pure_run_ < kPureAfter) return;
  constexpr double kKeep = 1 - 1 / (4 * kShadowMemory);
  missing_pure_ = missing_pure_ * kKeep + sample.cost.missing;
  missing_shadow_ = missing_shadow_ * kKeep + sample.undrafted_missing;
}

void Governor::CompareWithNone(const StepSample& sample, double step_ns) {
  if (sample.undrafted_missing < 0) return CompareWithPlainSteps(sample, step_ns);
  if (pure_run_ == kPureAfter) return;
  const double rounds = static_cast<double>(sample.tokens) / sample.sequences;
  const double missing = sample.undrafted_missing * ShadowRatio() / rounds;
  const double round_ns = cost_.ComputeNs(sample.sequences) + cost_.WaitNs(missing);
  totals_.won_ns += round_ns * rounds - step_ns;
}

// What none would have taken between two runs of steps without drafts is the mean of what it took
// before and after: in a cache that fills, what it took before says too much.
void Governor::CompareWithPlainSteps(const StepSample& sample, double step_ns) {
  const double plain_ns = cost_.Ns(sample.sequences);
  if (sample.checked > 0) {
    const double none_ns = plain_ns * sample.tokens / sample.sequences;
    totals_.won_ns += none_ns - step_ns;
    none_ns_ += none_ns;
    return;
  }
  if (plain_run_ == 0) plain_ns_before_ = plain_ns / sample.sequences;
  if (plain_run_ + 1 != kPlainRun || plain_ns_before_ == 0) return;
  totals_.won_ns += none_ns_ / 2 * (step_ns / sample.sequences / plain_ns_before_ - 1);
  none_ns_ = plain_ns_before_ = 0;
}

// Called for every step, in order.
bool Governor::HasSettled(int rows) {
  const bool is_alike = 2 * rows <= 3 * rows_before_ && 2 * rows_before_ <= 3 * rows;
  alike_run_ = is_alike ? alike_run_ + 1 : 0;
  rows_before_ = rows;
  return alike_run_ >= kSettling;
}

// How many steps in a row are with drafts, or without.
void Governor::NoteRun(const StepSample& sample, double step_ns) {
  if (sample.checked > 0) {
    ++checked_run_;
    plain_run_ = 0;
    return;
  }
  const bool is_cheaper = step_ns < kMuchCheaper * cost_.Ns(sample.sequences);
  if (checked_run_ > 0) checked_max_ = std::min(2 * checked_max_, kCheckedRun);
  checked_run_ = 0;
  plain_run_ = std::min(plain_run_ + 1, kPlainRun);
  if (!is_on_ || (plain_run_ == kPlainRun && is_cheaper)) checked_max_ = kCheckedRunAtFirst;
}

double Governor::Chance(const Candidate& candidate) const {
  return by_slot_[static_cast<size_t>(candidate.slot)].At(candidate.draft, of_all_,
                                                          kPriorAcceptance);
}

}  // namespace stoker
