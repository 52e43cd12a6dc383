// The three queues of S3-FIFO, with victims that are sought without moving anything.
#include "cache/policies/s3_fifo.h"

#include <algorithm>
#include <cmath>

namespace stoker {
namespace {

int64_t ShareOf(int64_t slot_count, double share) {
  return std::llround(share * static_cast<double>(slot_count));
}

}  // namespace

S3FifoPolicy::S3FifoPolicy(const PolicyShape& shape, const Options& options)
    : small_count_max_(std::max<int64_t>(1, ShareOf(shape.slot_count, options.small_share))),
      ghost_count_max_(ShareOf(shape.slot_count, options.ghost_share)),
      promote_uses_(options.promote_uses),
      lists_(shape.key_count, kQueues),
      keys_(shape.key_count) {}

void S3FifoPolicy::Push(Queue queue, ExpertKey key) {
  lists_.PushBack(queue, key);
  keys_[key].queue = queue;
  ++counts_[queue];
}

void S3FifoPolicy::Leave(ExpertKey key) {
  lists_.Remove(key);
  --counts_[keys_[key].queue];
}

void S3FifoPolicy::Inserted(ExpertKey key, Arrival arrival) {
  const bool is_ghost = lists_.Contains(key);
  if (is_ghost) {
    Leave(key);
    ++ghost_hits_;
  }
  keys_[key].uses = arrival == Arrival::kDemand ? 0 : -1;
  Push(is_ghost ? kMain : kSmall, key);
  picked_ = KeyLists::kNone;
}

void S3FifoPolicy::Touched(ExpertKey key) {
  if (keys_[key].uses < kUsesMax) ++keys_[key].uses;
}

ExpertKey S3FifoPolicy::PickVictim(ExpertKey /*incoming*/, Evictable evictable) {
  picked_ = KeyLists::kNone;
  if (counts_[kSmall] > small_count_max_) picked_ = PickSmall(evictable);
  if (picked_ == KeyLists::kNone) picked_ = PickMain(evictable);
  if (picked_ == KeyLists::kNone) picked_ = PickSmall(evictable);
  if (picked_ != KeyLists::kNone) return picked_;
  // All that is left was used enough to stay.
  for (ExpertKey key = lists_.First(kSmall); key != KeyLists::kNone; key = lists_.Next(key)) {
    if (evictable(key)) return key;
  }
  return KeyLists::kNone;
}

ExpertKey S3FifoPolicy::PickSmall(Evictable evictable) const {
  for (ExpertKey key = lists_.First(kSmall); key != KeyLists::kNone; key = lists_.Next(key)) {
    if (keys_[key].uses < promote_uses_ && evictable(key)) return key;
  }
  return KeyLists::kNone;
}

// Going around with one use less each time ends at the first key of those with the fewest uses.
ExpertKey S3FifoPolicy::PickMain(Evictable evictable) const {
  ExpertKey best = KeyLists::kNone;
  int best_uses = kUsesMax + 1;
  for (ExpertKey key = lists_.First(kMain); key != KeyLists::kNone; key = lists_.Next(key)) {
    const int uses = std::max<int>(keys_[key].uses, 0);
    if (uses >= best_uses || !evictable(key)) continue;
    best = key;
    best_uses = uses;
    if (uses == 0) break;
  }
  return best;
}

// Takes what precedes `end` in the small queue, and was used enough, to the main queue.
void S3FifoPolicy::SweepSmall(ExpertKey end) {
  for (ExpertKey key = lists_.First(kSmall); key != end;) {
    const ExpertKey next = lists_.Next(key);
    if (keys_[key].uses >= promote_uses_) {
      Leave(key);
      keys_[key].uses = 0;
      Push(kMain, key);
    }
    key = next;
  }
}

// Takes what precedes `end` in the main queue around, as often as it takes for `end` to be the
// first without a use.
void S3FifoPolicy::SweepMain(ExpertKey end) {
  const int8_t rounds = std::max<int8_t>(keys_[end].uses, 0);
  if (rounds > 0) {
    for (ExpertKey key = lists_.First(kMain); key != KeyLists::kNone; key = lists_.Next(key)) {
      keys_[key].uses = std::max<int8_t>(static_cast<int8_t>(keys_[key].uses - rounds), 0);
    }
  }
  for (ExpertKey key = lists_.First(kMain); key != end;) {
    const ExpertKey next = lists_.Next(key);
    if (keys_[key].uses > 0) {
      --keys_[key].uses;
      Leave(key);
      Push(kMain, key);
    }
    key = next;
  }
}

void S3FifoPolicy::Removed(ExpertKey key) {
  const bool is_victim = key == picked_;
  picked_ = KeyLists::kNone;
  const Queue queue = keys_[key].queue;
  if (is_victim) {
    const bool is_small_full = counts_[kSmall] > small_count_max_;
    if (queue == kSmall) SweepSmall(key);
    if (queue == kMain) {
      SweepMain(key);
      if (is_small_full) SweepSmall(KeyLists::kNone);
    }
  }
  Leave(key);
  if (!is_victim || queue != kSmall || ghost_count_max_ == 0) return;
  if (counts_[kGhost] == ghost_count_max_) Leave(lists_.First(kGhost));
  Push(kGhost, key);
}

void S3FifoPolicy::Report(CounterVisitor& visitor) const {
  visitor.Counter("s3_fifo_ghost_hits", ghost_hits_);
  visitor.Gauge("s3_fifo_small", static_cast<double>(counts_[kSmall]));
}

}  // namespace stoker
