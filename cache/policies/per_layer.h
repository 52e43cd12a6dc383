// Any policy, layer by layer: one object a layer, each with its share of the slots.
#pragma once

#include <memory>
#include <vector>

#include "cache/policies/layer_index.h"
#include "cache/policy.h"

namespace stoker {

// Each layer has a quota of the slots in proportion to its experts, at least 1, and ranks its own
// residents by a policy object of its own, to which the layer is all there is: keys are numbered
// from 0 there. A layer at its quota gives up one of its own for a newcomer although there is room.
class PerLayerPolicy final : public EvictionPolicy {
 public:
  // `values`: of the row.
  PerLayerPolicy(const PolicyRow& row, const PolicyShape& shape, absl::Span<const double> values);

  void BeginRequest() override;
  void Inserted(ExpertKey key, Arrival arrival) override;
  void Touched(ExpertKey key) override;
  void Removed(ExpertKey key) override;
  // Of the layer that is most above its quota, if one is; else of the newcomer's own; else of any.
  ExpertKey PickVictim(ExpertKey incoming, Evictable evictable) override;
  ExpertKey PickCrowded(ExpertKey incoming, Evictable evictable) override;
  // The sum over the layers.
  void Report(CounterVisitor& visitor) const override;

  int64_t quota(int layer) const { return layers_[layer].quota; }

 private:
  struct Layer {
    ExpertKey first_key = 0;
    int64_t quota = 0;
    int64_t resident_count = 0;
    std::unique_ptr<EvictionPolicy> policy;
  };
  Layer& LayerOf(ExpertKey key) { return layers_[index_.of(key)]; }
  static ExpertKey PickFrom(Layer& layer, ExpertKey incoming, Evictable evictable);

  LayerIndex index_;
  std::vector<Layer> layers_;
};

}  // namespace stoker
