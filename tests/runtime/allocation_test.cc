// A decode step takes no memory: everything was planned and taken when the engine was opened.
//
// A program of its own, because it replaces operator new.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "runtime/inspection.h"
#include "tests/runtime/shipped_model.h"
#include "tests/testing/temporary_directory.h"

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

TEST(Allocation, ADecodeStepThatGuessesTakesNoMemory) {
  for (const char* prefetch :
       {"lookahead", "co-occurrence", "previous-token", "popularity", "token"}) {
    EngineOptions options = SmallOptions();
    const absl::StatusOr<MemoryPlan> plan = PlanRun(options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    // Room for guesses: a quarter of the slots is theirs.
    options.ram = {.kind = MemoryBudget::Kind::kBytes,
                   .bytes = plan->minimum_bytes + (plan->full_bytes - plan->minimum_bytes) / 3};
    options.prefetch = prefetch;
    ExpectNoAllocations(options, {.temperature = 0});
  }
}

TEST(Allocation, ADecodeStepThatChecksDraftsTakesNoMemory) {
  for (const std::string& draft :
       {std::string("ngram"), std::string("mtp"), SourceDir() + "/models/draft-1m.q8_0.gguf"}) {
    for (const int length : {-1, 3}) {
      EngineOptions options = SmallOptions();
      options.draft = draft;
      options.draft_length = length;
      ExpectNoAllocations(options, {.temperature = 0.8f});
    }
  }
}

TEST(Allocation, ADecodeStepThatGuessesByDraftsTakesNoMemory) {
  EngineOptions options = SmallOptions();
  options.prefetch = "token";
  options.draft = "ngram";
  options.draft_length = 0;
  ExpectNoAllocations(options, {.temperature = 0});
}

// A recorded step: encoded into a buffer, which is written out when it is full.
TEST(Allocation, ARecordedDecodeStepTakesNoMemory) {
  const TemporaryDirectory folder;
  EngineOptions options = SmallOptions();
  options.trace_path = folder.File("run.trace");
  ExpectNoAllocations(options, {.temperature = 0});
}

// Some experts in VRAM, some computed by the processor, some copied.
void ExpectNoAllocationsOnADevice(const std::string& prefetch) {
  EngineOptions options = SmallOptions();
  options.prefetch = prefetch;
  options.chunk = 16;
  options.device = "modelled";
  options.modelled.memory_bytes = uint64_t{1} << 30;
  const absl::StatusOr<MemoryPlan> whole = PlanRun(options);
  ASSERT_TRUE(whole.ok()) << whole.status();
  const DevicePlan& device = whole->device;
  options.vram =
      MemoryBudget{.kind = MemoryBudget::Kind::kBytes,
                   .bytes = device.minimum_bytes + (device.full_bytes - device.minimum_bytes) / 4};
  const auto engine = OpenOrDie(
      options, {.links = LinkRates{.host = 1e9, .host_row = 4e9, .copy_in = 1e9, .copy_out = 1e9}});
  std::vector<TokenId> prompt = PromptIds(*engine);
  prompt.resize(8);
  ASSERT_TRUE(engine->Add(GreedyRequest(prompt, 20)).ok());
  for (int step = 0; step < 4; ++step) ASSERT_TRUE(engine->Step().ok());
  uint64_t misses = 0, device_experts = 0, host_experts = 0;
  const int64_t before = allocation_count.load();
  for (int step = 0; step < 12; ++step) {
    ASSERT_TRUE(engine->Step().ok());
    misses += engine->last_step().misses;
    device_experts += engine->last_step().device_experts;
    host_experts += engine->last_step().host_experts;
  }
  EXPECT_EQ(allocation_count.load(), before);
  EXPECT_TRUE(engine->last_error().ok()) << engine->last_error();
  EXPECT_GT(misses, 0u);
  EXPECT_GT(device_experts, 0u);
  EXPECT_GT(host_experts, 0u);
}

TEST(Allocation, ADecodeStepOnADeviceTakesNoMemory) { ExpectNoAllocationsOnADevice("none"); }

TEST(Allocation, ADecodeStepThatGuessesOnADeviceTakesNoMemory) {
  ExpectNoAllocationsOnADevice("lookahead");
}

}  // namespace
}  // namespace stoker
