// The offline optimum: who is used again last gives way.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/policy.h"
#include "runtime/simulation/use_stream.h"

namespace stoker {

// For each use of a stream, the request in which its expert is used next; kNeverAgain: in none.
inline constexpr int32_t kNeverAgain = INT32_MAX;
std::vector<int32_t> NextRequests(const UseStream& stream);

// Residents ranked by their next use, the farthest first. Each change costs log(residents).
class FarthestFirst {
 public:
  explicit FarthestFirst(ExpertKey key_count);

  bool Contains(ExpertKey key) const { return place_[key] >= 0; }
  int32_t next(ExpertKey key) const { return next_[key]; }
  // Inserts it, or moves it to its new place.
  void Set(ExpertKey key, int32_t next);
  void Remove(ExpertKey key);
  // The first for which `evictable` holds; -1: none.
  ExpertKey Pick(Evictable evictable) const;

 private:
  bool IsFarther(ExpertKey a, ExpertKey b) const {
    return next_[a] != next_[b] ? next_[a] > next_[b] : a < b;
  }
  void Put(size_t at, ExpertKey key);
  void Rise(size_t at);
  void Sink(size_t at);

  std::vector<ExpertKey> heap_;
  std::vector<int32_t> place_;  // by key: in the heap; -1: not here
  std::vector<int32_t> next_;   // by key
  mutable std::vector<size_t> frontier_;
};

}  // namespace stoker
