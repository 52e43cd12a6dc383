// What the expert store promises its one caller.
#include "cache/expert_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <numeric>

#include "cache/miss_log.h"
#include "tests/cache/memory_store.h"

namespace stoker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;
using Wait = ExpertProvider::Wait;

std::vector<int32_t> FirstExperts(int count) {
  std::vector<int32_t> experts(count);
  std::iota(experts.begin(), experts.end(), 0);
  return experts;
}

TEST(ExpertCache, HandsOverEveryExpertOnceWithItsBytes) {
  MemoryStore store({});
  EXPECT_THAT(*store.Ask(0, {3, 1, 5}), UnorderedElementsAre(1, 3, 5));
  EXPECT_THAT(*store.Ask(1, {0, 7}), UnorderedElementsAre(0, 7));
  EXPECT_EQ(store.cache->counts().misses, 5u);
  EXPECT_EQ(store.cache->counts().resident, 5);
  EXPECT_EQ(store.cache->outstanding(), 0);
}

TEST(ExpertCache, BytesAreRightWhateverTheAlignment) {
  for (const size_t alignment : {1, 2, 64, 512, 4096}) {
    for (const uint64_t start_bytes : {0, 1, 31, 511, 5000}) {
      SCOPED_TRACE(testing::Message() << alignment << ", " << start_bytes);
      MemoryStore store({.files = {.part_bytes = {777, 1, 4096, 1300},
                                   .start_bytes = start_bytes,
                                   .is_split = true},
                         .slot_count = 3,
                         .alignment = alignment});
      for (int layer = 0; layer < 4; ++layer) EXPECT_TRUE(store.Ask(layer, FirstExperts(8)).ok());
    }
  }
}

TEST(ExpertCache, ResidentsComeFirst) {
  MemoryStore store({});
  ASSERT_TRUE(store.Ask(0, {1, 2}).ok());
  const auto order = *store.Ask(0, {7, 2, 6, 1, 5});
  EXPECT_EQ(order[0], 2);
  EXPECT_EQ(order[1], 1);
}

TEST(ExpertCache, ResidentsAreThereBeforeAnyReadCompletes) {
  MemoryStore store({.is_manual = true});
  ASSERT_TRUE(store.Ask(0, {1}).ok());
  ASSERT_TRUE(store.cache->Request(0, {{4, 1}}).ok());
  ExpertRef refs[2];
  EXPECT_EQ(*store.cache->Collect(absl::MakeSpan(refs), Wait::kUntilOne), 1);
  EXPECT_EQ(refs[0].id().expert, 1);
  EXPECT_EQ(*store.cache->Collect(absl::MakeSpan(refs).subspan(1), Wait::kNo), 0);
  EXPECT_EQ(store.cache->outstanding(), 1);
  EXPECT_EQ(*store.cache->Collect(absl::MakeSpan(refs).subspan(1), Wait::kUntilOne), 1);
  EXPECT_EQ(refs[1].id().expert, 4);
}

TEST(ExpertCache, AllReadsOfARequestAreSubmittedAtOnce) {
  MemoryStore store({.is_manual = true});
  ASSERT_TRUE(store.cache->Request(2, {{0, 1, 2}}).ok());
  EXPECT_EQ(store.memory.entered().size(), 9u);  // three parts each
  ExpertRef refs[3];
  for (int held = 0; held < 3;) {
    held += *store.cache->Collect(absl::MakeSpan(refs).subspan(held), Wait::kUntilOne);
  }
}

TEST(ExpertCache, PinnedExpertIsNeverEvicted) {
  for (const std::string& policy : PolicyNames()) {
    SCOPED_TRACE(policy);
    MemoryStore store({.slot_count = 4, .policy = policy});
    const std::vector<ExpertRef> held = store.Hold(0, {2, 6});
    for (int round = 0; round < 3; ++round) {
      for (int layer = 0; layer < 4; ++layer) {
        ASSERT_TRUE(store.Ask(layer, FirstExperts(8)).ok());
        for (const ExpertRef& ref : held) EXPECT_TRUE(store.files.Matches(ref));
      }
    }
    EXPECT_TRUE(store.Hits(0, 2));
    EXPECT_TRUE(store.Hits(0, 6));
  }
}

TEST(ExpertCache, ExpertPinnedTwiceStaysUntilBothAreReleased) {
  MemoryStore store({.slot_count = 2});
  std::vector<ExpertRef> first = store.Hold(0, {5});
  std::vector<ExpertRef> second = store.Hold(0, {5});
  EXPECT_EQ(first[0].part(0), second[0].part(0));
  first.clear();
  ASSERT_TRUE(store.Ask(1, FirstExperts(8)).ok());
  EXPECT_TRUE(store.files.Matches(second[0]));
  second.clear();
  ASSERT_TRUE(store.Ask(1, FirstExperts(8)).ok());
  EXPECT_FALSE(store.Hits(0, 5));
}

TEST(ExpertCache, RequestLargerThanSlotsCompletes) {
  for (int slot_count = 1; slot_count <= 8; ++slot_count) {
    for (int held_max = 1; held_max <= slot_count; ++held_max) {
      SCOPED_TRACE(testing::Message() << slot_count << " slots, " << held_max << " held");
      MemoryStore store({.slot_count = slot_count});
      ASSERT_EQ(store.cache->pins_max(0), slot_count);
      ASSERT_TRUE(store.cache->Request(0, FirstExperts(8)).ok());
      std::vector<bool> is_seen(8, false);
      while (store.cache->outstanding() > 0) {
        std::vector<ExpertRef> refs(held_max);  // as many as may be held, all released together
        for (int held = 0; held < held_max && store.cache->outstanding() > 0;) {
          const int count =
              *store.cache->Collect(absl::MakeSpan(refs).subspan(held), Wait::kUntilOne);
          for (int i = held; i < held + count; ++i) {
            EXPECT_TRUE(store.files.Matches(refs[i]));
            EXPECT_FALSE(is_seen[refs[i].id().expert]);
            is_seen[refs[i].id().expert] = true;
          }
          held += count;
        }
      }
      EXPECT_THAT(is_seen, testing::Each(true));
    }
  }
}

TEST(ExpertCache, WindowRollsOnWhileRefsAreReleased) {
  MemoryStore store({.slot_count = 2, .is_manual = true});
  ASSERT_TRUE(store.cache->Request(0, {{0, 1, 2}}).ok());
  EXPECT_EQ(store.memory.history().size(), 6u);
  {
    ExpertRef ref;
    ASSERT_EQ(*store.cache->Collect({&ref, 1}, Wait::kUntilOne), 1);
    EXPECT_EQ(store.memory.history().size(), 6u);  // no slot for the third yet
  }
  EXPECT_EQ(store.memory.history().size(), 9u);  // its reads are under way before Collect
  for (int i = 0; i < 2; ++i) {
    ExpertRef ref;
    ASSERT_EQ(*store.cache->Collect({&ref, 1}, Wait::kUntilOne), 1);
  }
}

TEST(ExpertCache, RequestDoesNotEvictItsOwnResidents) {
  MemoryStore store({.slot_count = 4});
  ASSERT_TRUE(store.Ask(0, {0, 1, 2, 3}).ok());
  // Expert 0 is the oldest and comes last: the misses before it must not take its slot.
  ASSERT_TRUE(store.Ask(0, {4, 5, 0}).ok());
  EXPECT_EQ(store.cache->counts().hits, 1u);
  EXPECT_TRUE(store.Hits(0, 0));
  EXPECT_TRUE(store.Hits(0, 3));
}

TEST(ExpertCache, CollectAfterTheLastIsZero) {
  MemoryStore store({});
  ASSERT_TRUE(store.Ask(0, {0}).ok());
  ExpertRef ref;
  EXPECT_EQ(*store.cache->Collect({&ref, 1}, Wait::kUntilOne), 0);
  ASSERT_TRUE(store.cache->Request(0, {}).ok());
  EXPECT_EQ(*store.cache->Collect({&ref, 1}, Wait::kUntilOne), 0);
}

TEST(ExpertCache, SizeClassesDoNotTakeEachOthersSlots) {
  MemoryStore store({.files = {.large_layers = 2}, .slot_count = 4});
  ASSERT_EQ(store.plan.classes.size(), 2u);
  ASSERT_TRUE(store.Ask(0, {0, 1, 2, 3}).ok());
  for (int layer = 2; layer < 4; ++layer) ASSERT_TRUE(store.Ask(layer, FirstExperts(8)).ok());
  for (const int32_t expert : {0, 1, 2, 3}) EXPECT_TRUE(store.Hits(0, expert));
  EXPECT_FALSE(store.Hits(2, 0));
}

// Layers 0..3 ask for the same three experts again and again: a cycle of 12 through 8 slots, on
// which least-recently-used alone always evicts what is needed next.
double CyclicHitRate(int layer_floor) {
  MemoryStore store({.slot_count = 8, .layer_floor = layer_floor});
  for (int token = 0; token < 20; ++token) {
    for (int layer = 0; layer < 4; ++layer) EXPECT_TRUE(store.Ask(layer, {0, 1, 2}).ok());
  }
  const CacheCounts& counts = store.cache->counts();
  return static_cast<double>(counts.hits) / static_cast<double>(counts.hits + counts.misses);
}

TEST(ExpertCache, CacheSmallerThanACycleNeverHitsWithoutFloor) { EXPECT_EQ(CyclicHitRate(0), 0); }

TEST(ExpertCache, FloorKeepsSomethingOfEachLayer) {
  // An even split leaves two experts a layer, of which one is hit each time: the miss before it
  // takes the other one's slot. 19 of 20 tokens find their layers so.
  EXPECT_GE(CyclicHitRate(-1), 19.0 / 20 / 3);
  EXPECT_GT(CyclicHitRate(1), 0);
}

TEST(ExpertCache, LayerAtItsFloorIsNotEvictedForAnotherButForItself) {
  MemoryStore store({.slot_count = 6, .layer_floor = 1});
  ASSERT_TRUE(store.Ask(0, {0}).ok());
  ASSERT_TRUE(store.Ask(2, {0, 1}).ok());
  for (int round = 0; round < 5; ++round) ASSERT_TRUE(store.Ask(1, FirstExperts(8)).ok());
  EXPECT_TRUE(store.Hits(0, 0));
  EXPECT_TRUE(store.Hits(2, 1));  // the younger of two is what the floor keeps
  EXPECT_FALSE(store.Hits(2, 0));
  MemoryStore full({.slot_count = 4, .layer_floor = 1});
  for (int layer = 0; layer < 4; ++layer) ASSERT_TRUE(full.Ask(layer, {0}).ok());
  EXPECT_FALSE(full.Hits(0, 1));  // all layers are at their floor: its own resident gives way
  EXPECT_FALSE(full.Hits(0, 0));
  for (int layer = 1; layer < 4; ++layer) EXPECT_TRUE(full.Hits(layer, 0));
}

// The layer that drafts tokens, while no drafts are made.
TEST(ExpertCache, NoFloorHoldsALayerThatStepsDoNotComeByAnyMore) {
  MemoryStore store({.slot_count = 6, .layer_floor = 1});
  ASSERT_TRUE(store.Ask(3, {0, 1}).ok());
  const auto steps = [&](int count) {
    for (int step = 0; step < count; ++step) {
      for (int layer = 0; layer < 3; ++layer) ASSERT_TRUE(store.Ask(layer, {step % 7, 7}).ok());
    }
  };
  steps(5);
  EXPECT_TRUE(store.Hits(3, 1));  // drafts may go on any time
  steps(20);
  EXPECT_FALSE(store.Hits(3, 1));
}

TEST(ExpertCache, FloorAskedForIsCutToWhatLeavesRoom) {
  // (6 slots - 1) / 3 other layers = 1, whatever was asked: 3 slots stay for any one layer.
  MemoryStore store({.slot_count = 6, .layer_floor = 2});
  EXPECT_EQ(store.cache->pins_max(1), 3);
}

TEST(ExpertCache, FloorLeavesThePinsThatWerePlanned) {
  for (int pins_min = 1; pins_min <= 8; ++pins_min) {
    for (int slot_count = pins_min; slot_count <= 20; ++slot_count) {
      for (const int floor : {-1, 0, 1, 3, 100}) {
        MemoryStore store({.files = {.expert_count = 16},
                           .slot_count = slot_count,
                           .pins_min = pins_min,
                           .layer_floor = floor});
        EXPECT_GE(store.cache->pins_max(0), pins_min);
      }
    }
  }
}

TEST(ExpertCache, MissesSayWhyAndHowLong) {
  MemoryStore store({.slot_count = 2, .is_manual = true});
  store.cache->BeginStep(5);
  ASSERT_TRUE(store.cache->Request(0, {{0, 1}}).ok());
  store.clock.AdvanceNs(700);
  {
    ExpertRef refs[2];
    for (int held = 0; held < 2;) {
      held += *store.cache->Collect(absl::MakeSpan(refs).subspan(held), Wait::kUntilOne);
    }
  }
  ASSERT_EQ(store.cache->misses().size(), 2u);
  EXPECT_EQ(store.cache->misses()[0].reason, MissReason::kNeverSeen);
  EXPECT_EQ(store.cache->misses()[0].read_ns, 700);
  EXPECT_GE(store.cache->misses()[0].read_bytes, 3500u);
  store.cache->BeginStep(6);
  EXPECT_TRUE(store.cache->misses().empty());
  ASSERT_TRUE(store.Ask(0, {2, 3}).ok());
  store.cache->BeginStep(9);
  ASSERT_TRUE(store.Ask(0, {1}).ok());
  ASSERT_EQ(store.cache->misses().size(), 1u);
  const MissRecord& miss = store.cache->misses()[0];
  EXPECT_EQ(miss.id, (ExpertId{0, 1}));
  EXPECT_EQ(miss.reason, MissReason::kEvicted);
  EXPECT_EQ(miss.evicted_step, 6);
}

TEST(MissLog, KeepsTheSlowestInOrderOfArrival) {
  MissLog log;
  const int64_t count = 3 * static_cast<int64_t>(MissLog::kCountMax);
  // 0, count - 1, 1, count - 2, ...: slow and fast alternate.
  for (int64_t i = 0; i < count; ++i) log.Add({.read_ns = i % 2 == 0 ? i / 2 : count - 1 - i / 2});
  ASSERT_EQ(log.records().size(), MissLog::kCountMax);
  int64_t last = count;
  for (const MissRecord& record : log.records()) {
    EXPECT_GE(record.read_ns, count - static_cast<int64_t>(MissLog::kCountMax));
    EXPECT_LT(record.read_ns, last);  // the slow ones came slowest first
    last = record.read_ns;
  }
}

// Moves time on whenever it is waited for.
class SlowReader final : public BlockReader {
 public:
  SlowReader(BlockReader& inner, VirtualClock& clock) : inner_(inner), clock_(clock) {}
  std::string_view name() const override { return inner_.name(); }
  absl::StatusOr<int> AddFile(const std::string& path) override { return inner_.AddFile(path); }
  size_t alignment(int file) const override { return inner_.alignment(file); }
  absl::StatusOr<FileIdentity> Identify(int file) const override { return inner_.Identify(file); }
  void RegisterMemory(absl::Span<std::byte> memory) override { inner_.RegisterMemory(memory); }
  void Submit(const ReadRequest& r, ReadPriority priority) override { inner_.Submit(r, priority); }
  bool Promote(uint64_t tag) override { return inner_.Promote(tag); }
  bool Cancel(uint64_t tag) override { return inner_.Cancel(tag); }
  void Kick() override { inner_.Kick(); }
  size_t Reap(absl::Span<ReadCompletion> completions, Wait wait) override {
    if (wait == Wait::kUntilOne) clock_.AdvanceNs(1000);
    return inner_.Reap(completions, wait);
  }
  size_t in_flight() const override { return inner_.in_flight(); }
  std::string notice() const override { return inner_.notice(); }
  void Report(CounterVisitor& visitor) const override { inner_.Report(visitor); }

 private:
  BlockReader& inner_;
  VirtualClock& clock_;
};

TEST(ExpertCache, WaitingIsChargedToTheDriveAndOnlyWaiting) {
  const ExpertFiles files({});
  MemoryReader memory(MemoryOptions(512, 1, true));
  files.AddTo(memory);
  VirtualClock clock;
  SlowReader reader(memory, clock);
  TimeLedger ledger(clock);
  auto cache = *ExpertCache::Create(files.catalog(), PlanWithSlots(files, 8, 512), RamOnly(),
                                    reader, clock, &ledger);
  ledger.Switch(Cause::kExpertCompute);
  ExpertRef ref;
  ASSERT_TRUE(cache->Request(0, {{0}}).ok());
  clock.AdvanceNs(50);  // computing while the reads are under way
  ASSERT_EQ(*cache->Collect({&ref, 1}, Wait::kUntilOne), 1);
  clock.AdvanceNs(7);
  const int64_t waits = 3 * 1000;  // one Reap a part
  EXPECT_EQ(cache->counts().wait_ns, waits);
  EXPECT_EQ(cache->counts().busy_ns, waits + 50);
  const CauseTimes times = ledger.Take();
  EXPECT_EQ(times[static_cast<size_t>(Cause::kWaitDrive)], waits);
  EXPECT_EQ(times[static_cast<size_t>(Cause::kExpertCompute)], 57);
}

TEST(ExpertCache, WrongTiersAndPoliciesAreRefused) {
  const ExpertFiles files({});
  MemoryReader reader;
  files.AddTo(reader);
  const VirtualClock clock;
  const CachePlan plan = PlanWithSlots(files, 4, 512);
  const auto create = [&](const CachePlan& of, const CacheOptions& options) {
    return ExpertCache::Create(files.catalog(), of, options, reader, clock, nullptr).status();
  };
  CacheOptions two = RamOnly();
  two.tiers.push_back(two.tiers[0]);
  CacheOptions small = RamOnly();
  small.tiers[0].budget_bytes = plan.arena_bytes - 1;
  for (const CacheOptions& options :
       {CacheOptions{}, two, small, RamOnly("belady"), RamOnly("lru", -2)}) {
    EXPECT_EQ(create(plan, options).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(create(PlanWithSlots(files, 4, 4096), RamOnly()).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(create(plan, RamOnly()).ok());
}

TEST(ExpertCache, StaticPolicyWithoutAProfileSaysHowToMakeOne) {
  const ExpertFiles files({});
  MemoryReader reader;
  files.AddTo(reader);
  const VirtualClock clock;
  for (const char* policy : {"static", "static-per-layer"}) {
    const auto created = ExpertCache::Create(files.catalog(), PlanWithSlots(files, 4, 512),
                                             RamOnly(policy), reader, clock, nullptr);
    EXPECT_EQ(created.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(created.status()),
                testing::AllOf(HasSubstr(policy), HasSubstr("--profile")));
  }
}

TEST(ExpertCache, ModelWithoutExpertsHasAnEmptyStore) {
  MemoryReader reader;
  const VirtualClock clock;
  const CachePlan plan = *PlanCache(ExpertCatalog{}, {.ram_bytes = 0}, 1, {});
  EXPECT_TRUE(ExpertCache::Create({}, plan, RamOnly(), reader, clock, nullptr).ok());
}

TEST(ExpertCacheDeathTest, MisuseIsCaught) {
  MemoryStore store({.slot_count = 2});
  EXPECT_DEATH((void)store.cache->Request(9, {{0}}), "check failed");
  EXPECT_DEATH((void)store.cache->Request(0, {{8}}), "check failed");
  EXPECT_DEATH((void)store.cache->Request(0, {{1, 1}}), "check failed");
  // Holding as many as may be held and asking for more would wait for ever.
  EXPECT_DEATH((void)store.Hold(0, {0, 1, 2}), "check failed");
}

}  // namespace
}  // namespace stoker
