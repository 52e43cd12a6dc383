// Counts passes, and compares each layer's stalest.
#include "cache/policies/least_stale.h"

namespace stoker {

LeastStalePolicy::LeastStalePolicy(const PolicyShape& shape)
    : layer_count_(static_cast<int>(shape.layers.size())),
      layers_(shape),
      lists_(shape.key_count, layer_count_),
      last_pass_(shape.key_count, -1) {}

// A key used twice in one layer's turn is used in two: the class has no other layer between.
LeastStalePolicy::Position LeastStalePolicy::At(ExpertKey key) const {
  const int layer = layers_.of(key);
  const bool is_wrapped =
      layer < now_.layer || (layer == now_.layer && last_pass_[key] == now_.pass);
  return {.pass = is_wrapped ? now_.pass + 1 : now_.pass, .layer = layer};
}

void LeastStalePolicy::Use(ExpertKey key) {
  now_ = At(key);
  last_pass_[key] = now_.pass;
  lists_.PushBack(now_.layer, key);
}

// A guess is taken for right until its layer has come up.
void LeastStalePolicy::Inserted(ExpertKey key, Arrival arrival) {
  if (arrival == Arrival::kDemand) return Use(key);
  const int layer = layers_.of(key);
  last_pass_[key] = LastPass(now_, layer);
  lists_.PushBack(layer, key);
}

void LeastStalePolicy::Touched(ExpertKey key) {
  lists_.Remove(key);
  Use(key);
}

ExpertKey LeastStalePolicy::PickVictim(ExpertKey incoming, Evictable evictable) {
  const Position now = At(incoming);
  ExpertKey best = KeyLists::kNone;
  int64_t best_missed = 0;
  int best_distance = 0;
  // The newcomer's own layer first: no floor protects it there, so there soon is one to beat.
  for (int i = 0; i < layer_count_; ++i) {
    const int layer = (now.layer + i) % layer_count_;
    const int distance = Distance(now, layer);
    for (ExpertKey key = lists_.First(layer); key != KeyLists::kNone; key = lists_.Next(key)) {
      const int64_t missed = LastPass(now, layer) - last_pass_[key];
      const bool is_better =
          missed > best_missed || (missed == best_missed && distance > best_distance);
      if (best != KeyLists::kNone && !is_better) break;  // nor is what follows
      if (!evictable(key)) continue;
      best = key;
      best_missed = missed;
      best_distance = distance;
      break;
    }
  }
  return best;
}

void LeastStalePolicy::Report(CounterVisitor& visitor) const {
  visitor.Counter("least_stale_passes", static_cast<uint64_t>(now_.pass));
}

}  // namespace stoker
