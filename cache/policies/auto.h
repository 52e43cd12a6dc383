// Follows whichever of the other policies does best on the live stream.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cache/policies/ghost_cache.h"
#include "cache/policies/key_lists.h"
#include "cache/policies/layer_index.h"
#include "cache/policy.h"

namespace stoker {

// Which causal policy wins depends on the model, the size of the cache and the text, by up to 17
// points, and changes while a model runs. So every other one of the registry, over all layers and
// layer by layer, is played as a ghost on the uses as they come, with its default parameters; those
// that need a profile if there is one. The hits of each are counted over a window that fades, and
// the best is followed once it leads the followed one by some.
//
// To follow is to hold what the ghost holds: residents that it has given up go first, oldest first;
// when there are none the ghost says who is next. So the cache turns into the ghost's at the pace
// of the misses, without a read more.
//
// Uses reach the ghosts a request at a time, when the next one begins, so that none gives up for
// one expert of a request what another of the same is about to use. What a guess brought is spared
// until as many uses have gone by as there are slots.
class AutoPolicy final : public EvictionPolicy {
 public:
  static constexpr ParameterRow kParameters[] = {
      {.name = "window_per_key",
       .value = 2,
       .minimum = 0.25,
       .maximum = 256,
       .reason = "uses, in experts, over which ghosts are compared; larger follows more slowly and "
                 "is misled less; 2 to 8 were within 0.6 points on recorded routings"},
      {.name = "lead",
       .value = 0.005,
       .minimum = 0,
       .maximum = 0.5,
       .reason = "share of the window by which a ghost's hits must exceed those of the followed "
                 "one; larger switches less"},
  };
  static std::unique_ptr<EvictionPolicy> Make(const PolicyShape& shape,
                                              absl::Span<const double> values);
  struct Options {
    double window_per_key = 0;
    double lead = 0;
  };
  AutoPolicy(const PolicyShape& shape, const Options& options);

  void BeginRequest() override;
  void Inserted(ExpertKey key, Arrival arrival) override;
  void Touched(ExpertKey key) override;
  void Removed(ExpertKey key) override;
  ExpertKey PickVictim(ExpertKey incoming, Evictable evictable) override;
  void Report(CounterVisitor& visitor) const override;

 private:
  struct Candidate {
    std::string counter;  // its name in reports
    GhostCache ghost;
    int64_t hit_count = 0;  // faded
  };
  enum List { kFollowed, kStray, kGuess, kLists };

  void AddCandidates(const PolicyShape& shape);
  void Use(ExpertKey key);
  void PlayRequest();
  void FollowBest();
  void SortResidents();
  void Move(List list, ExpertKey key);

  const LayerIndex layers_;
  const int64_t slot_count_;
  const int64_t window_uses_;
  const int64_t lead_hits_;
  GhostCache::Holders holders_;
  std::vector<Candidate> candidates_;
  size_t followed_ = 0;

  std::vector<ExpertKey> request_;  // the running one's uses so far
  std::vector<uint8_t> is_member_;  // by key: whether it is among them
  int64_t window_use_count_ = 0;    // faded

  // Residents: those that the followed ghost holds, oldest use first; those that it does not, in
  // the order in which it gave them up; and those that a guess brought and no step has used.
  KeyLists lists_;
  std::vector<uint8_t> list_of_key_;
  std::vector<int64_t> last_use_;  // by key: number of the use; of a guess: when it came
  int64_t use_count_ = 0;
  uint64_t switch_count_ = 0;
};

}  // namespace stoker
