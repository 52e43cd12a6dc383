// Decides how many drafts each sequence has checked in a step, none included.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/parameter.h"
#include "speculative/acceptance.h"
#include "speculative/draft_cost.h"
#include "speculative/step_cost.h"

namespace stoker {

// Picks the lengths that promise the most tokens a second:
//
//     rate = (sequences + sum of chances that a draft and all before it are right)
//            / (time of a step of so many rows + time to draft)
//
// by adding, one after another, the draft with the best chance and keeping the best prefix: a
// step's time depends on the number of its rows alone, so no other choice of as many drafts is
// better. (It is the throughput objective of Cascade, arXiv 2506.20675, with a cost that counts
// missing experts.)
//
// Speculation is off, or on; it goes on when that promises `gain_to_start`, and off when it
// promises less than none.
//
// What a step takes depends on what those before it left in the cache: behind steps with drafts it
// is full of what wrong drafts asked for. So a step counts only behind kSettling others of about as
// many rows, a half more or less, unless nothing is known of its size yet; or where one with drafts
// took longer than was thought, so that a few cheap ones do not turn drafts on.
//
// And what drafts pushed out of the cache is missed by steps without drafts for as long as the
// cache takes to settle. So where it is told what the text alone would miss (ShadowCache), times
// the ratio that this has to what the store misses while nothing is drafted, that counts if it is
// less.
//
// On, a few steps are without drafts now and then, so that what the others are held against stays
// true: kPlainRun after kCheckedRun, sooner at first. Also, kShorterRun of kShorterEvery steps have
// half as many drafts, so that a better length is found.
//
// Off, drafts of a drafter that costs nothing are compared with what comes, unchecked. One that
// costs is asked now and then, for a few steps in a row, twice as rarely each time that does not
// change the verdict, and after the first verdict for no more than a two-hundredth of the time;
// never while it would not pay if nearly all of its drafts were right. What wider steps cost is not
// known before they were tried, and need not grow evenly: the experts of three tokens may be nearly
// those of two. So up to twice the widest size that is known is then checked a few times, if it
// would pay well in case it took no longer than that one. With a shadow, which tells what steps of
// any size miss, only computing is hoped to take no longer, and sizes of up to four times the
// widest known are believed in.
//
// What drafts may lose is bounded where there is a shadow to tell it: a loss budget holds
// kLossBudget steps' time at first, gains a two-hundredth of all time and what drafts win, and pays
// what they lose. From when it is empty until it is half full again, none are checked.
//
// Needs no clock: times come in with Observe. One thread.
class Governor {
 public:
  static constexpr int kCheckedRun = 128, kCheckedRunAtFirst = 4;  // steps with drafts in a row
  static constexpr int kPlainRun = 4;                              // and without
  static constexpr int kShorterEvery = 64, kShorterRun = 4;
  static constexpr int kSettling = 2;
  static constexpr double kLossBudget = 8;    // steps' time that may be lost at first
  static constexpr int kPureAfter = 32;       // steps behind one with drafts that still feel them
  static constexpr double kMemoryOfAll = 64;  // see Acceptance
  static constexpr ParameterRow kParameters[] = {
      {.name = "gain_to_start",
       .value = 0.1,
       .minimum = 0,
       .maximum = 1,
       .reason = "share that drafts must promise before they are checked: more starts later and "
                 "is misled by noise less often"},
      {.name = "steps_between_trials",
       .value = 64,
       .minimum = 1,
       .maximum = 65536,
       .is_whole = true,
       .reason = "steps without drafts before a drafter that takes time is asked again; doubles "
                 "each time that it stays off, up to 16 times as many"},
  };
  struct Options {
    int sequence_count = 1;
    int length_max = 0;
    int fixed_length = -1;         // not negative: always so many
    bool is_drafting_free = true;  // the drafter takes no time worth counting
    double missing_max = 0;        // experts that a row can miss at most
    // Told of every step before ObserveStep is; null: no experts are missing, or nobody knows.
    const ShadowCache* shadow = nullptr;
    std::vector<double> values;  // of kParameters
  };
  explicit Governor(const Options& options);
  static uint64_t PlanBytes(const Options& options);

  // A sequence of the next step.
  struct Candidate {
    int slot = 0;
    int room = 0;   // drafts that it has use for
    int draft = 0;  // out: drafts to have
    int check = 0;  // out: of those, drafts to check in this step; at most `draft`
  };
  void Choose(absl::Span<Candidate> candidates);

  // What a sequence's drafts came to: the first `accepted` of `drafted` were right, and the next
  // one, if there is one, was not.
  void ObserveDrafts(int slot, int drafted, int accepted);
  // A new sequence is in the slot.
  void Begin(int slot);

  // A step with no prompt rows.
  struct StepSample {
    StepCost::Sample cost;
    int sequences = 0;
    int tokens = 0;
    int checked = 0;       // drafts among its rows
    int64_t draft_ns = 0;  // drafting, outside of waits
    // Experts that its tokens would have missed, one after another, had there never been drafts;
    // below 0: not known.
    double undrafted_missing = -1;
    absl::Span<const DraftCost::Round> draft_rounds;
  };
  void ObserveStep(const StepSample& sample);

  // What a step of so many rows would take, without drafting; 0: not known yet.
  double PredictNs(int rows) const { return cost_.Ns(rows); }
  // What waiting for so many experts would take, and another round of drafts; 0: not known yet.
  double WaitNs(int missing) const { return missing * cost_.wait_per_missing_ns(); }
  double DraftRoundNs(int sequences) const { return draft_cost_.RoundNs(1, sequences); }
  bool is_on() const { return is_on_; }

  // What the latest verdict rests on; zeros before the first.
  struct Belief {
    double promise = 0;            // best rate, by that without drafts
    double chance = 0;             // that the first draft is right
    double cost = 0;               // of a step that checks one draft, by one that checks none
    bool is_budget_spent = false;  // drafts have lost as much as they may
  };
  const Belief& belief() const { return belief_; }

  // Since the start.
  struct Totals {
    uint64_t steps = 0;          // that only decoded
    uint64_t steps_checked = 0;  // of those, with drafts among their rows
    double step_ns = 0;          // of all steps, with drafting
    // Of steps with drafts and of drafting, while steps without were seen not long ago: what the
    // same tokens would have taken without, less what they took. Negative: lost.
    double won_ns = 0;
    double compared_ns = 0;  // of the steps for which that could be said
  };
  const Totals& totals() const { return totals_; }

 private:
  void PlanBest(absl::Span<Candidate> candidates);
  Candidate* AddDraft(absl::Span<Candidate> candidates);
  double HopedNs(int rows, int known_rows) const;
  double MoreDraftNs(int round);
  int NearLength(int best) const;
  void NoteVerdict(int sequences, double best_rate);
  void Listen(absl::Span<Candidate> candidates);
  bool CouldChargeLoss(int sequences) const;
  void BeginTrial();
  void ChargeTrial(const StepSample& sample);
  double PlainNs(int sequences) const;
  double ShadowRatio() const;
  void NoteUndrafted(const StepSample& sample);
  void ChargeLoss(double won_ns, double step_ns, double plain_ns);
  void CompareWithNone(const StepSample& sample, double step_ns);
  void CompareWithPlainSteps(const StepSample& sample, double step_ns);
  bool HasSettled(int rows);
  void NoteRun(const StepSample& sample, double step_ns);
  double Chance(const Candidate& candidate) const;

  const Options options_;
  StepCost cost_;
  DraftCost draft_cost_;
  std::vector<Acceptance> by_slot_;
  Acceptance of_all_{kMemoryOfAll};
  std::vector<double> reached_;  // by candidate: chance that all drafts so far are right
  std::vector<int> probe_;       // by candidate: drafts of the size to be tried
  std::vector<int> wanting_;     // by round of drafts: candidates that want one
  bool has_joined_ = false;      // a sequence, since the last step
  bool is_on_ = false;
  int checked_run_ = 0;  // steps with drafts since the last one without, and the other way round
  int plain_run_ = kPlainRun;
  int rows_before_ = 0;  // of the last step
  int alike_run_ = 0;    // steps before the last of about as many
  int checked_max_ = kCheckedRunAtFirst;
  int64_t steps_to_trial_ = 0;
  bool has_tried_ = false;
  int trial_steps_ = 0;  // left of the running trial
  double trial_ns_ = 0;  // lost to drafts since it began, while off
  int64_t trial_interval_ = 0;
  double loss_budget_ = kLossBudget;  // in steps without drafts
  bool is_budget_spent_ = false;
  double undrafted_missing_ = -1;  // a token's, of late; below 0: not known
  // Steps since one with drafts, and what those behind kPureAfter missed, in truth and by
  // undrafted_missing: fading sums.
  int pure_run_ = kPureAfter;
  double missing_pure_ = 0;
  double missing_shadow_ = 0;
  double none_ns_ = 0;          // of the tokens since the last run of steps without drafts
  double plain_ns_before_ = 0;  // a sequence's share of a step without, as the running one began
  Belief belief_;
  Totals totals_;
};

}  // namespace stoker
