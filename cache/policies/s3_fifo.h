// Three queues: newcomers prove themselves in a small one before they may stay in the main one.
#pragma once

#include <memory>
#include <vector>

#include "cache/policies/key_lists.h"
#include "cache/policy.h"

namespace stoker {

// S3-FIFO (Yang et al., SOSP 2023). A newcomer enters the small queue, or the main one if it is
// among the ghosts: keys that left the small queue lately. Uses of a resident are counted up to
// kUsesMax. The head of the small queue, while that is longer than its share, goes to the main
// queue if it was used enough, else it is the victim and becomes a ghost. The head of the main
// queue goes around again with one use less while it has any, else it is the victim.
//
// Events are O(1). A victim is sought by looking only; what it overtook is moved when it is
// removed, each move paid for by a use.
class S3FifoPolicy final : public EvictionPolicy {
 public:
  static constexpr int kUsesMax = 3;
  static constexpr ParameterRow kParameters[] = {
      {.name = "small_share",
       .value = 0.1,
       .minimum = 0.01,
       .maximum = 0.9,
       .reason = "of the slots, how many newcomers may hold; larger gives them longer to be used "
                 "again"},
      {.name = "ghost_share",
       .value = 0.9,
       .minimum = 0,
       .maximum = 10,
       .reason = "ghosts remembered, in slots; larger lets what comes back late skip the small "
                 "queue"},
      {.name = "promote_uses",
       .value = 1,
       .minimum = 1,
       .maximum = kUsesMax,
       .is_whole = true,
       .reason = "uses after the first that take a newcomer to the main queue; larger lets fewer "
                 "stay"},
  };
  struct Options {
    double small_share = 0;
    double ghost_share = 0;
    int promote_uses = 0;
  };
  static std::unique_ptr<EvictionPolicy> Make(const PolicyShape& shape,
                                              absl::Span<const double> values) {
    return std::make_unique<S3FifoPolicy>(shape,
                                          Options{.small_share = values[0],
                                                  .ghost_share = values[1],
                                                  .promote_uses = static_cast<int>(values[2])});
  }
  S3FifoPolicy(const PolicyShape& shape, const Options& options);

  void Inserted(ExpertKey key, Arrival arrival) override;
  void Touched(ExpertKey key) override;
  void Removed(ExpertKey key) override;
  ExpertKey PickVictim(ExpertKey incoming, Evictable evictable) override;
  void Report(CounterVisitor& visitor) const override;

 private:
  enum Queue : uint8_t { kSmall, kMain, kGhost, kQueues };
  struct Key {
    Queue queue = kGhost;
    int8_t uses = 0;  // since it came; -1: brought on a guess and not used yet
  };
  void Push(Queue queue, ExpertKey key);
  void Leave(ExpertKey key);
  ExpertKey PickSmall(Evictable evictable) const;
  ExpertKey PickMain(Evictable evictable) const;
  void SweepSmall(ExpertKey end);
  void SweepMain(ExpertKey end);

  const int64_t small_count_max_;
  const int64_t ghost_count_max_;
  const int promote_uses_;
  KeyLists lists_;
  std::vector<Key> keys_;
  int64_t counts_[kQueues] = {};
  ExpertKey picked_ = KeyLists::kNone;  // by the last PickVictim
  uint64_t ghost_hits_ = 0;
};

}  // namespace stoker
