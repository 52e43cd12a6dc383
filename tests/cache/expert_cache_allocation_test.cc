// The store takes its memory at creation, as much as was announced, and none later.
#include <gtest/gtest.h>

#include <random>
#include <utility>

#include "device/modelled_device.h"
#include "tests/cache/allocation_count.h"
#include "tests/cache/tiered_store.h"

namespace stoker {
namespace {

// Keeps what the fake reader allocates out of the count.
class UncountedReader final : public BlockReader {
 public:
  explicit UncountedReader(BlockReader& inner) : inner_(inner) {}
  std::string_view name() const override { return inner_.name(); }
  absl::StatusOr<int> AddFile(const std::string& path) override { return inner_.AddFile(path); }
  size_t alignment(int file) const override { return inner_.alignment(file); }
  absl::StatusOr<FileIdentity> Identify(int file) const override { return inner_.Identify(file); }
  void RegisterMemory(absl::Span<std::byte> memory) override { inner_.RegisterMemory(memory); }
  void Submit(const ReadRequest& request, ReadPriority priority) override {
    const AllocationsUncounted uncounted;
    inner_.Submit(request, priority);
  }
  bool Promote(uint64_t tag) override { return inner_.Promote(tag); }
  bool Cancel(uint64_t tag) override { return inner_.Cancel(tag); }
  void Kick() override {
    const AllocationsUncounted uncounted;
    inner_.Kick();
  }
  size_t Reap(absl::Span<ReadCompletion> completions, Wait wait) override {
    const AllocationsUncounted uncounted;
    return inner_.Reap(completions, wait);
  }
  size_t in_flight() const override { return inner_.in_flight(); }
  std::string notice() const override { return inner_.notice(); }
  void Report(CounterVisitor& visitor) const override { inner_.Report(visitor); }

 private:
  BlockReader& inner_;
};

TEST(ExpertCacheAllocation, NothingIsAllocatedAfterCreation) {
  for (const std::string& policy : PolicyNames()) {
    const ExpertFiles files({.expert_count = 20, .large_layers = 2});
    MemoryReader memory;
    files.AddTo(memory);
    FaultReader faults(memory, {.short_read = 0.2, .interrupted = 0.1});
    UncountedReader reader(faults);
    const VirtualClock clock;
    TimeLedger ledger(clock);
    CacheOptions options = RamOnly(policy, -1);
    options.tiers[0].admission = policy == "lru" ? "second-hit" : "bypass";
    options.profile = MadeUpProfile(files.key_count());
    options.hint_loads_max = 2;
    auto cache = *ExpertCache::Create(files.catalog(), PlanWithSlots(files, 6, 512), options,
                                      reader, clock, &ledger);
    std::vector<int32_t> experts(20);
    for (int i = 0; i < 20; ++i) experts[i] = i * 7 % 20;
    const AllocationCount allocations;
    uint64_t handed_over = 0;
    for (int step = 0; step < 50; ++step) {
      cache->BeginStep(step);
      for (int layer = 0; layer < 4; ++layer) {
        cache->Guess((layer + 1) % 4, absl::MakeSpan(experts).subspan(10, 3));
        ASSERT_TRUE(cache->Request(layer, absl::MakeSpan(experts).first(1 + step % 20)).ok());
        ExpertRef ref;
        while (*cache->Collect({&ref, 1}, ExpertProvider::Wait::kUntilOne) > 0) {
          ref.Release();
          ++handed_over;
        }
      }
    }
    EXPECT_EQ(allocations.Count(), 0) << policy;
    EXPECT_EQ(handed_over, cache->counts().hits + cache->counts().misses);
    EXPECT_GT(cache->counts().retries, 100u);
    EXPECT_GT(cache->counts().hints.issued, 10u);
  }
}

TEST(ExpertCacheAllocation, NothingIsAllocatedAfterCreationOverTwoTiersEither) {
  for (const PlaceRule rule :
       {PlaceRule::kAuto, PlaceRule::kGpu, PlaceRule::kCpu, PlaceRule::kCopy}) {
    const ExpertFiles files({.expert_count = 20, .large_layers = 2});
    MemoryReader memory;
    files.AddTo(memory);
    UncountedReader reader(memory);
    VirtualClock clock;
    const auto device = *MakeModelledDevice({}, &clock);
    CachePlan plan = PlanWithSlots(files, 6, 512);
    AddVram(9, plan);
    CacheOptions options;
    options.tiers = {{.kind = TierKind::kVram, .budget_bytes = UINT64_MAX},
                     {.kind = TierKind::kRam, .budget_bytes = UINT64_MAX}};
    options.device = device.get();
    options.place = rule;
    options.rates = {.host = 1e9, .host_row = 1e9, .copy_in = 1e9};
    auto cache = *ExpertCache::Create(files.catalog(), plan, options, reader, clock, nullptr);
    std::vector<int32_t> experts(20);
    for (int i = 0; i < 20; ++i) experts[i] = i * 7 % 20;
    std::mt19937 random(1);
    const AllocationCount allocations;
    for (int step = 0; step < 100; ++step) {
      cache->BeginStep(step);
      for (int layer = 0; layer < 4; ++layer) {
        std::swap(experts[random() % 20], experts[random() % 20]);
        ASSERT_TRUE(cache->Request(layer, absl::MakeSpan(experts).first(1 + random() % 6)).ok());
        ExpertRef ref;
        while (*cache->Collect({&ref, 1}, ExpertProvider::Wait::kUntilOne) > 0) {
          clock.AdvanceNs(1000);
          if (ref.place() == ExpertPlace::kHost) {
            ref.Release();
            continue;
          }
          const KernelCall call = {.name = "reads",
                                   .run = [](const void*, void*) { return 0; },
                                   .touched_bytes = 1 << 20};
          device->WaitFor(Stream::kCompute, ref.ready());
          device->Launch(Stream::kCompute, call);
          ref.ReleaseAfter(device->Record(Stream::kCompute));
        }
      }
    }
    EXPECT_EQ(allocations.Count(), 0);
    EXPECT_GT(cache->counts().copied_in_bytes, 0u);
    EXPECT_GT(cache->counts().copied_out_bytes, 0u);
  }
}

// The arena is mapped, not allocated; what is allocated is what the plan calls overhead.
void ExpectVramTablesWithinPlan(const ExpertFiles& files, const std::string& policy,
                                MemoryReader& reader) {
  VirtualClock clock;
  const auto device = *MakeModelledDevice({}, &clock);
  const uint64_t half =
      PlanCache(files.catalog(), {.ram_bytes = UINT64_MAX}, 1, files.Alignments(512))
          ->full_budget_bytes /
      2;
  const CachePlan plan =
      *PlanCache(files.catalog(), {.ram_bytes = UINT64_MAX, .vram_bytes = half, .has_device = true},
                 1, files.Alignments(512));
  CacheOptions options;
  for (const TierKind kind : {TierKind::kVram, TierKind::kRam}) {
    options.tiers.push_back({.kind = kind, .budget_bytes = UINT64_MAX, .policy = policy});
  }
  options.device = device.get();
  options.profile = MadeUpProfile(files.key_count());
  const AllocationCount allocations;
  auto cache = ExpertCache::Create(files.catalog(), plan, options, reader, clock, nullptr);
  ASSERT_TRUE(cache.ok()) << cache.status();
  EXPECT_LE(static_cast<uint64_t>(allocations.HeldBytes()), plan.overhead_bytes);
}

TEST(ExpertCacheAllocation, TablesStayWithinThePlannedOverhead) {
  for (const std::string& policy : PolicyNames()) {
    for (const int expert_count : {1, 8, 300}) {
      for (const int large_layers : {0, 3}) {
        const ExpertFiles files({.layer_count = 30,
                                 .expert_count = expert_count,
                                 .part_bytes = {64},
                                 .large_layers = large_layers});
        MemoryReader memory;
        files.AddTo(memory);
        const VirtualClock clock;
        const CachePlan plan =
            *PlanCache(files.catalog(), {.ram_bytes = UINT64_MAX}, 1, files.Alignments(512));
        CacheOptions options = RamOnly(policy);
        options.tiers[0].admission = "second-hit";
        options.profile = MadeUpProfile(files.key_count());
        const AllocationCount allocations;
        auto cache = ExpertCache::Create(files.catalog(), plan, options, memory, clock, nullptr);
        ASSERT_TRUE(cache.ok());
        EXPECT_LE(static_cast<uint64_t>(allocations.HeldBytes()), plan.overhead_bytes);
        ExpectVramTablesWithinPlan(files, policy, memory);
      }
    }
  }
}

}  // namespace
}  // namespace stoker
