// A decode step takes no memory: everything was planned and taken when the engine was opened.
//
// A program of its own, because it replaces operator new.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/runtime/shipped_model.h"

namespace {

std::atomic<int64_t> allocation_count{0};

}  // namespace

void* operator new(size_t bytes) {
  allocation_count.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(bytes);
  if (memory == nullptr) std::abort();
  return memory;
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return operator new(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void* operator new(size_t bytes, std::align_val_t alignment) {
  allocation_count.fetch_add(1, std::memory_order_relaxed);
  const auto align = static_cast<size_t>(alignment);
  void* memory = std::aligned_alloc(align, (bytes + align - 1) / align * align);
  if (memory == nullptr) std::abort();
  return memory;
}
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace stoker {
namespace {

void ExpectNoAllocations(const EngineOptions& options, const SamplingOptions& sampling) {
  const auto engine = OpenOrDie(options);
  SequenceRequest request = GreedyRequest(PromptIds(*engine), 60);
  request.sampling = sampling;
  request.stops = {"\n\n\n"};
  ASSERT_TRUE(engine->Add(std::move(request)).ok());
  for (int step = 0; step < 10; ++step) ASSERT_TRUE(engine->Step().ok());
  uint64_t misses = 0;
  const int64_t before = allocation_count.load();
  for (int step = 0; step < 40; ++step) {
    ASSERT_TRUE(engine->Step().ok());
    misses += engine->last_step().misses;
  }
  EXPECT_EQ(allocation_count.load(), before);
  EXPECT_GT(misses, 0u);  // steps that read are among them
}

TEST(Allocation, AGreedyDecodeStepTakesNoMemory) {
  ExpectNoAllocations(SmallOptions(), {.temperature = 0});
}

TEST(Allocation, ASampledDecodeStepTakesNoMemory) {
  EngineOptions options = SmallOptions();
  options.policy = "lfu";
  ExpectNoAllocations(options, {.repetition_penalty = 1.1f, .seed = 3});
}

}  // namespace
}  // namespace stoker
