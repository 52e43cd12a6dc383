// Drives a policy as the store would, on paper.
#include "cache/policies/ghost_cache.h"

#include <algorithm>

namespace stoker {

GhostCache::GhostCache(const PolicyChoice& choice, const PolicyShape& shape,
                       const LayerIndex& layers, int index)
    : policy_(choice.Make(shape)),
      layers_(&layers),
      bit_(uint32_t{1} << index),
      slot_count_(shape.slot_count),
      layer_floor_(shape.layer_floor),
      rounds_(shape.layers.size()),
      quotas_bind_requests_(shape.quotas_bind_requests),
      layer_counts_(shape.layers.size(), 0) {
  int32_t expert_count_max = 0;
  for (const PolicyShape::Layer& layer : shape.layers) {
    expert_count_max = std::max(expert_count_max, layer.expert_count);
  }
  gave_up_.reserve(expert_count_max);
}

int GhostCache::Play(const GhostRequest& request, Holders& holders) {
  int hit_count = 0;
  gave_up_.clear();
  policy_->BeginRequest();
  rounds_.Ask(request.layer);
  for (const ExpertKey key : request.keys) {
    if (Holds(holders, key)) {
      ++hit_count;
      policy_->Touched(key);
      continue;
    }
    MakeRoom(key, request, holders);
    policy_->Inserted(key, Arrival::kDemand);
    holders[key] |= bit_;
    ++resident_count_;
    ++layer_counts_[request.layer];
  }
  return hit_count;
}

void GhostCache::MakeRoom(ExpertKey incoming, const GhostRequest& request, Holders& holders) {
  const auto may_go = [&](ExpertKey key) {
    if (request.is_member[key] != 0) return false;
    const int layer = layers_->of(key);
    return layer == request.layer || layer_counts_[layer] > layer_floor_ || rounds_.IsIdle(layer);
  };
  const auto is_member = [&](ExpertKey key) { return request.is_member[key] != 0; };
  ExpertKey victim = policy_->PickCrowded(incoming, may_go);
  if (victim < 0 && quotas_bind_requests_) victim = policy_->PickCrowded(incoming, is_member);
  const bool is_full = resident_count_ >= slot_count_;
  if (victim < 0 && is_full) victim = policy_->PickVictim(incoming, may_go);
  if (victim < 0 && is_full) victim = policy_->PickVictim(incoming, is_member);
  if (victim < 0) return;
  policy_->Removed(victim);
  gave_up_.push_back(victim);
  holders[victim] &= ~bit_;
  --resident_count_;
  --layer_counts_[layers_->of(victim)];
}

ExpertKey GhostCache::Pick(ExpertKey incoming, Evictable evictable) const {
  const ExpertKey crowded = policy_->PickCrowded(incoming, evictable);
  return crowded >= 0 ? crowded : policy_->PickVictim(incoming, evictable);
}

}  // namespace stoker
