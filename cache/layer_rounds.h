// Which layers of a size class steps still ask for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace stoker {

// Steps ask for layers in ascending order, so a round is over where a request is of a lower layer
// than the one before it. A layer that nobody asked for in kRoundsMax rounds is idle: the one that
// drafts tokens, while no drafts are made. Its residents are worth no more than their rank, and no
// floor holds them back.
class LayerRounds {
 public:
  static constexpr int64_t kRoundsMax = 8;  // drafts pause for a few steps and go on

  explicit LayerRounds(size_t layer_count) : asked_in_(layer_count, 0) {}

  void Ask(int layer) {
    if (layer < last_layer_) ++round_;
    last_layer_ = layer;
    asked_in_[static_cast<size_t>(layer)] = round_;
  }
  bool IsIdle(int layer) const {
    return round_ - asked_in_[static_cast<size_t>(layer)] > kRoundsMax;
  }

 private:
  int64_t round_ = 0;
  int last_layer_ = 0;
  std::vector<int64_t> asked_in_;  // the last round, by layer
};

}  // namespace stoker
