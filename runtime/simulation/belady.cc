// A heap of residents by next use.
#include "runtime/simulation/belady.h"

#include <algorithm>

#include "base/check.h"

namespace stoker {

std::vector<int32_t> NextRequests(const UseStream& stream) {
  CHECK(stream.requests.size() < static_cast<size_t>(kNeverAgain));
  std::vector<int32_t> next(stream.uses.size());
  std::vector<int32_t> upcoming(stream.layer_of_key.size(), kNeverAgain);
  for (auto request = static_cast<int64_t>(stream.requests.size()) - 1; request >= 0; --request) {
    const absl::Span<const ExpertKey> uses = stream.uses_of(request);
    const int64_t first = stream.requests[request].first_use;
    for (size_t i = 0; i < uses.size(); ++i) next[first + i] = upcoming[uses[i]];
    for (const ExpertKey key : uses) upcoming[key] = static_cast<int32_t>(request);
  }
  return next;
}

FarthestFirst::FarthestFirst(ExpertKey key_count) : place_(key_count, -1), next_(key_count, 0) {
  heap_.reserve(static_cast<size_t>(key_count));
  frontier_.reserve(static_cast<size_t>(key_count) + 2);
}

void FarthestFirst::Set(ExpertKey key, int32_t next) {
  next_[key] = next;
  if (!Contains(key)) {
    heap_.push_back(key);
    Put(heap_.size() - 1, key);
  }
  Rise(static_cast<size_t>(place_[key]));
  Sink(static_cast<size_t>(place_[key]));
}

void FarthestFirst::Remove(ExpertKey key) {
  CHECK(Contains(key));
  const auto at = static_cast<size_t>(place_[key]);
  place_[key] = -1;
  const ExpertKey last = heap_.back();
  heap_.pop_back();
  if (last == key) return;
  Put(at, last);
  Rise(at);
  Sink(static_cast<size_t>(place_[last]));
}

// Walks the heap from the top, best first: as a rule the top itself will do.
ExpertKey FarthestFirst::Pick(Evictable evictable) const {
  if (heap_.empty()) return -1;
  const auto is_worse = [this](size_t a, size_t b) { return IsFarther(heap_[b], heap_[a]); };
  frontier_.assign(1, 0);
  while (!frontier_.empty()) {
    std::pop_heap(frontier_.begin(), frontier_.end(), is_worse);
    const size_t at = frontier_.back();
    frontier_.pop_back();
    if (evictable(heap_[at])) return heap_[at];
    for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < heap_.size(); ++child) {
      frontier_.push_back(child);
      std::push_heap(frontier_.begin(), frontier_.end(), is_worse);
    }
  }
  return -1;
}

void FarthestFirst::Put(size_t at, ExpertKey key) {
  heap_[at] = key;
  place_[key] = static_cast<int32_t>(at);
}

void FarthestFirst::Rise(size_t at) {
  const ExpertKey key = heap_[at];
  for (; at > 0 && IsFarther(key, heap_[(at - 1) / 2]); at = (at - 1) / 2) {
    Put(at, heap_[(at - 1) / 2]);
  }
  Put(at, key);
}

void FarthestFirst::Sink(size_t at) {
  const ExpertKey key = heap_[at];
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && IsFarther(heap_[child + 1], heap_[child])) ++child;
    if (!IsFarther(heap_[child], key)) break;
    Put(at, heap_[child]);
    at = child;
  }
  Put(at, key);
}

}  // namespace stoker
