// Experts whose layer came up without using them go first.
#pragma once

#include <memory>
#include <vector>

#include "cache/policies/key_lists.h"
#include "cache/policies/layer_index.h"
#include "cache/policy.h"

namespace stoker {

// After the Least-Stale of SpecMD (arXiv 2602.03921). Layers are used in a fixed order, pass after
// pass, so an expert's next chance is known: when its layer comes up again. An expert is stale by
// the number of times that its layer came up since it was last used, without using it. The stalest
// goes; among equals the one whose layer comes up last; within a layer the oldest use. A pass ends
// where the layers wrap around.
//
// One list a layer, oldest first. Events are O(1); a victim compares one key a layer.
class LeastStalePolicy final : public EvictionPolicy {
 public:
  static std::unique_ptr<EvictionPolicy> Make(const PolicyShape& shape, absl::Span<const double>) {
    return std::make_unique<LeastStalePolicy>(shape);
  }
  explicit LeastStalePolicy(const PolicyShape& shape);

  void Inserted(ExpertKey key, Arrival arrival) override;
  void Touched(ExpertKey key) override;
  void Removed(ExpertKey key) override { lists_.Remove(key); }
  ExpertKey PickVictim(ExpertKey incoming, Evictable evictable) override;
  void Report(CounterVisitor& visitor) const override;

 private:
  // Where the model is: in this layer of this pass.
  struct Position {
    int64_t pass = 0;
    int layer = 0;
  };
  void Use(ExpertKey key);
  // Where the model is when it uses the key.
  Position At(ExpertKey key) const;
  // The last pass in which a layer came up.
  static int64_t LastPass(const Position& now, int layer) {
    return layer <= now.layer ? now.pass : now.pass - 1;
  }
  // Layers from now until a layer comes up again.
  int Distance(const Position& now, int layer) const {
    return layer <= now.layer ? layer + layer_count_ - now.layer : layer - now.layer;
  }

  const int layer_count_;
  LayerIndex layers_;
  KeyLists lists_;                  // one a layer
  std::vector<int64_t> last_pass_;  // by key: in which it was last used
  Position now_;
};

}  // namespace stoker
