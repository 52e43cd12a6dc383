// operator new and delete over malloc, with a count a thread.
#include "tests/cache/allocation_count.h"

#include <malloc.h>

#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

thread_local int64_t allocation_count = 0;
thread_local int64_t held_bytes = 0;
thread_local int uncounted_depth = 0;

void* Allocate(size_t bytes, size_t alignment) {
  if (uncounted_depth == 0) ++allocation_count;
  const size_t rounded = (bytes + alignment) / alignment * alignment;  // never 0
  void* const memory = alignment <= alignof(std::max_align_t) ? std::malloc(rounded)
                                                              : aligned_alloc(alignment, rounded);
  if (memory == nullptr) std::abort();
  held_bytes += static_cast<int64_t>(malloc_usable_size(memory));
  return memory;
}

void Free(void* memory) {
  held_bytes -= static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}

}  // namespace

void* operator new(size_t bytes) { return Allocate(bytes, alignof(std::max_align_t)); }
void* operator new(size_t bytes, std::align_val_t alignment) {
  return Allocate(bytes, static_cast<size_t>(alignment));
}
// std::stable_sort asks so; a sanitizer's own would not know our delete.
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return Allocate(bytes, alignof(std::max_align_t));
}
void operator delete(void* memory) noexcept { Free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { Free(memory); }
void operator delete(void* memory, size_t) noexcept { Free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { Free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { Free(memory); }

namespace stoker {

AllocationCount::AllocationCount() : count_before_(allocation_count), held_before_(held_bytes) {}
int64_t AllocationCount::Count() const { return allocation_count - count_before_; }
int64_t AllocationCount::HeldBytes() const { return held_bytes - held_before_; }

AllocationsUncounted::AllocationsUncounted() { ++uncounted_depth; }
AllocationsUncounted::~AllocationsUncounted() { --uncounted_depth; }

}  // namespace stoker
