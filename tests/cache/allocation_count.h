// Counts what this thread allocates, by replacing operator new in the test program that links it.
#pragma once

#include <cstdint>

namespace stoker {

// Allocations of this thread since construction, and the bytes of those that it still holds.
class AllocationCount {
 public:
  AllocationCount();
  int64_t Count() const;
  int64_t HeldBytes() const;

 private:
  int64_t count_before_;
  int64_t held_before_;
};

// Leaves what a scope allocates out of every count: for fakes that allocate where the real thing
// does not.
class AllocationsUncounted {
 public:
  AllocationsUncounted();
  ~AllocationsUncounted();
};

}  // namespace stoker
