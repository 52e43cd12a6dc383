// Plays the ghosts, keeps score, and turns residents into what the followed one holds.
#include "cache/policies/auto.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "cache/policies/least_stale.h"

namespace stoker {
namespace {

int64_t UsesOf(const PolicyShape& shape, double per_key) {
  int64_t key_count = 0;
  for (const PolicyShape::Layer& layer : shape.layers) key_count += layer.expert_count;
  return std::max<int64_t>(1, std::llround(per_key * static_cast<double>(key_count)));
}

int32_t ExpertCountMax(const PolicyShape& shape) {
  int32_t count = 0;
  for (const PolicyShape::Layer& layer : shape.layers) count = std::max(count, layer.expert_count);
  return count;
}

std::string CounterName(std::string policy) {
  std::replace(policy.begin(), policy.end(), '-', '_');
  return "auto_follows_" + policy;
}

}  // namespace

std::unique_ptr<EvictionPolicy> AutoPolicy::Make(const PolicyShape& shape,
                                                 absl::Span<const double> values) {
  return std::make_unique<AutoPolicy>(shape,
                                      Options{.window_per_key = values[0], .lead = values[1]});
}

AutoPolicy::AutoPolicy(const PolicyShape& shape, const Options& options)
    : layers_(shape),
      slot_count_(shape.slot_count),
      window_uses_(UsesOf(shape, options.window_per_key)),
      lead_hits_(std::llround(options.lead * static_cast<double>(window_uses_))),
      holders_(shape.key_count, 0),
      is_member_(shape.key_count, 0),
      lists_(shape.key_count, kLists),
      list_of_key_(shape.key_count, kFollowed),
      last_use_(shape.key_count, 0) {
  request_.reserve(ExpertCountMax(shape));
  AddCandidates(shape);
}

void AutoPolicy::AddCandidates(const PolicyShape& shape) {
  for (const PolicyRow& row : Policies()) {
    if (row.make == &AutoPolicy::Make || (row.needs_profile && shape.profile.empty())) continue;
    for (const bool is_per_layer : {false, true}) {
      // Alone, a layer is all the layers there are; and within one the stalest is the least
      // recently used.
      if (is_per_layer && (shape.layers.size() == 1 || row.make == &LeastStalePolicy::Make)) {
        continue;
      }
      const PolicyChoice choice = {.row = &row, .is_per_layer = is_per_layer};
      const auto index = static_cast<int>(candidates_.size());
      CHECK(index < GhostCache::kGhostsMax);
      candidates_.push_back({.counter = CounterName(choice.name()),
                             .ghost = GhostCache(choice, shape, layers_, index)});
      // Followed until the ghosts have told: best or nearly so on every recorded routing.
      if (choice.name() == "lfu") followed_ = candidates_.size() - 1;
    }
  }
}

void AutoPolicy::Move(List list, ExpertKey key) {
  lists_.Remove(key);
  lists_.PushBack(list, key);
  list_of_key_[key] = list;
}

void AutoPolicy::BeginRequest() {
  if (!request_.empty()) PlayRequest();
}

void AutoPolicy::Inserted(ExpertKey key, Arrival arrival) {
  lists_.PushBack(kGuess, key);
  list_of_key_[key] = kGuess;
  last_use_[key] = use_count_;
  if (arrival == Arrival::kDemand) Touched(key);
}

// Until the ghosts have seen the use, it is as if the followed one held the key: it will.
void AutoPolicy::Touched(ExpertKey key) {
  Use(key);
  Move(kFollowed, key);
}

void AutoPolicy::Removed(ExpertKey key) { lists_.Remove(key); }

// Where nobody tells: a key used twice is used by two requests, and a request is of one layer.
void AutoPolicy::Use(ExpertKey key) {
  const bool is_next = !request_.empty() &&
                       (is_member_[key] != 0 || layers_.of(key) != layers_.of(request_.front()));
  if (is_next) PlayRequest();
  request_.push_back(key);
  is_member_[key] = 1;
  last_use_[key] = ++use_count_;
}

void AutoPolicy::PlayRequest() {
  const GhostRequest request = {
      .keys = request_, .is_member = is_member_, .layer = layers_.of(request_.front())};
  for (Candidate& candidate : candidates_) {
    candidate.hit_count += candidate.ghost.Play(request, holders_);
  }
  for (const ExpertKey key : candidates_[followed_].ghost.gave_up()) {
    if (lists_.Contains(key) && list_of_key_[key] == kFollowed) Move(kStray, key);
  }
  window_use_count_ += static_cast<int64_t>(request_.size());
  for (const ExpertKey key : request_) is_member_[key] = 0;
  request_.clear();
  FollowBest();
  if (window_use_count_ < window_uses_) return;
  window_use_count_ /= 2;
  for (Candidate& candidate : candidates_) candidate.hit_count /= 2;
}

void AutoPolicy::FollowBest() {
  size_t best = followed_;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (candidates_[i].hit_count > candidates_[best].hit_count) best = i;
  }
  const int64_t lead = candidates_[best].hit_count - candidates_[followed_].hit_count;
  if (best == followed_ || lead <= lead_hits_) return;
  followed_ = best;
  ++switch_count_;
  SortResidents();
}

// Sorts what was used by whether the followed ghost holds it. Strays are merged by last use; both
// lists are in that order nearly, so it does for what is given up first.
void AutoPolicy::SortResidents() {
  const GhostCache& ghost = candidates_[followed_].ghost;
  for (const List list : {kStray, kFollowed}) {
    const ExpertKey last = lists_.Last(list);
    for (ExpertKey key = lists_.First(list); key != KeyLists::kNone;) {
      const ExpertKey next = key == last ? KeyLists::kNone : lists_.Next(key);
      const List wanted = ghost.Holds(holders_, key) ? kFollowed : kStray;
      if (wanted != list) Move(wanted, key);
      key = next;
    }
  }
}

ExpertKey AutoPolicy::PickVictim(ExpertKey incoming, Evictable evictable) {
  const auto first_of = [&](List list) {
    for (ExpertKey key = lists_.First(list); key != KeyLists::kNone; key = lists_.Next(key)) {
      if (evictable(key)) return key;
    }
    return KeyLists::kNone;
  };
  const ExpertKey stray = first_of(kStray);
  if (stray >= 0) return stray;
  const ExpertKey guess = first_of(kGuess);
  if (guess >= 0 && use_count_ - last_use_[guess] >= slot_count_) return guess;
  const auto is_followed = [&](ExpertKey key) {
    return lists_.Contains(key) && list_of_key_[key] == kFollowed && evictable(key);
  };
  const ExpertKey next = candidates_[followed_].ghost.Pick(incoming, is_followed);
  if (next >= 0) return next;
  const ExpertKey oldest = first_of(kFollowed);
  return oldest >= 0 ? oldest : guess;
}

void AutoPolicy::Report(CounterVisitor& visitor) const {
  visitor.Counter("auto_switches", switch_count_);
  for (size_t i = 0; i < candidates_.size(); ++i) {
    visitor.Gauge(candidates_[i].counter, i == followed_ ? 1 : 0);
  }
}

}  // namespace stoker
