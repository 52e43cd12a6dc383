// Which experts are worth a place in VRAM.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/policy.h"

namespace stoker {

// An expert that was just used takes a resident's place only if its use before this one is later
// than the resident's last: it came back sooner than the resident did, so it earned the place with
// two uses, and a long run of experts used once each moves nobody. One thread; allocates nothing
// after creation.
class PromotionRule {
 public:
  explicit PromotionRule(ExpertKey key_count) : uses_(key_count) {}

  // Every use, wherever the expert is.
  void Used(ExpertKey key) { uses_[key] = {.last = ++use_count_, .before = uses_[key].last}; }
  bool Admits(ExpertKey candidate, ExpertKey resident) const {
    return uses_[candidate].before > uses_[resident].last;
  }

 private:
  struct Uses {
    int64_t last = 0;  // number of the use; 0: none
    int64_t before = 0;
  };
  std::vector<Uses> uses_;  // by key
  int64_t use_count_ = 0;
};

}  // namespace stoker
