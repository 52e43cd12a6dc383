// Guesses: what they keep, what they read ahead, and that no step ever pays for them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "cache/expert_hints.h"
#include "tests/cache/memory_store.h"

namespace stoker {
namespace {

using Wait = ExpertProvider::Wait;

// Counts what it is told.
class Residency final : public ResidencyObserver {
 public:
  void OnResidency(ResidencyChange change, ExpertId id, uint64_t bytes) override {
    ++counts_[change];
    last_ = id;
    last_bytes_ = bytes;
  }
  int Count(ResidencyChange change) { return counts_[change]; }
  ExpertId last() const { return last_; }
  uint64_t last_bytes() const { return last_bytes_; }

 private:
  std::map<ResidencyChange, int> counts_;
  ExpertId last_;
  uint64_t last_bytes_ = 0;
};

// Four layers of eight experts, three reads each; a quarter of the slots is for guesses.
class ExpertHintsTest : public testing::Test {
 protected:
  MemoryStoreOptions Options(int slot_count, bool is_manual = false) {
    return {.slot_count = slot_count,
            .is_manual = is_manual,
            .hint_loads_max = 2,
            .residency = &residency_};
  }
  // Has the reads in the device complete, and the store notice.
  static void Rest(MemoryStore& store) {
    for (int i = 0; i < 20; ++i) {
      while (store.memory.CompleteOne()) {
      }
      store.cache->IssueHints();
    }
  }
  static uint64_t ExpertBytes() { return 3500; }

  Residency residency_;
};

TEST_F(ExpertHintsTest, WhatWasGuessedIsThereWhenAskedFor) {
  MemoryStore store(Options(8));
  store.cache->Guess(1, {{5, 6}});
  EXPECT_EQ(store.cache->counts().hints.issued, 0u);  // a guess alone reads nothing
  ASSERT_TRUE(store.Ask(0, {0}).ok());
  Rest(store);
  EXPECT_EQ(store.cache->counts().misses, 1u);
  EXPECT_EQ(store.cache->counts().resident, 3);
  EXPECT_EQ(residency_.Count(ResidencyChange::kReadOnHint), 2);
  ASSERT_TRUE(store.Ask(1, {6, 2}).ok());
  EXPECT_EQ(store.cache->counts().hits, 1u);
  const HintCounts& hints = store.cache->counts().hints;
  EXPECT_EQ(hints.issued, 2u);
  EXPECT_EQ(hints.used, 1u);
  EXPECT_EQ(hints.used_bytes, ExpertBytes());
  EXPECT_EQ(store.cache->hint_counts()[1].used, 1u);
  EXPECT_EQ(store.cache->hint_counts()[0].issued, 0u);
  EXPECT_EQ(residency_.Count(ResidencyChange::kHintUsed), 1);
  // The other stays, as any resident does, and counts as used whenever that is.
  ASSERT_TRUE(store.Ask(1, {5}).ok());
  EXPECT_EQ(store.cache->counts().hints.used, 2u);
  EXPECT_EQ(store.cache->counts().misses, 2u);
}

TEST_F(ExpertHintsTest, DemandIsReadBeforeAnyGuess) {
  MemoryStore store(Options(8, true));
  store.cache->Guess(1, {{5, 6}});
  ASSERT_TRUE(store.cache->Request(0, {{0}}).ok());
  ExpertRef ref;
  ASSERT_EQ(*store.cache->Collect({&ref, 1}, Wait::kNo), 0);
  store.cache->IssueHints();
  EXPECT_EQ(store.memory.history().size(), 3u);  // the reads of the one expert asked for
  ASSERT_EQ(*store.cache->Collect({&ref, 1}, Wait::kUntilOne), 1);
  EXPECT_GT(store.memory.history().size(), 3u);
}

TEST_F(ExpertHintsTest, AGuessUnderWayIsJoined) {
  MemoryStore store(Options(8, true));
  store.cache->BeginStep(3);
  store.cache->Guess(1, {{5, 6}});
  ASSERT_TRUE(store.Ask(0, {0}).ok());
  EXPECT_EQ(store.memory.entered().size(), 4u);  // as many hints as a reader lets in
  store.clock.AdvanceNs(500);
  ASSERT_TRUE(store.cache->Request(1, {{6}}).ok());
  EXPECT_EQ(store.cache->outstanding(), 1);
  store.clock.AdvanceNs(70);
  ExpertRef ref;
  ASSERT_EQ(*store.cache->Collect({&ref, 1}, Wait::kUntilOne), 1);
  EXPECT_TRUE(store.files.Matches(ref));
  EXPECT_EQ(store.cache->counts().misses, 2u);
  EXPECT_EQ(store.cache->counts().hints.late, 1u);
  EXPECT_EQ(store.cache->counts().hints.late_bytes, ExpertBytes());
  const MissRecord& miss = store.cache->misses().back();
  EXPECT_EQ(miss.id, (ExpertId{1, 6}));
  EXPECT_EQ(miss.reason, MissReason::kHintLate);
  EXPECT_EQ(miss.read_ns, 70);  // what the step waited, not what the guess took
  EXPECT_EQ(store.cache->counts().hints.saved_bytes, ExpertBytes() * 500 / 570);
  EXPECT_EQ(residency_.Count(ResidencyChange::kHintUsed), 1);
}

// Two guesses have the drive for 100 ns between them before a step asks for both.
TEST_F(ExpertHintsTest, TheTimeBeforeAStepAskedCountsOnceHoweverManyWereBeingRead) {
  for (const bool is_together : {false, true}) {
    MemoryStore store(Options(8, true));
    store.cache->Guess(1, {{5, 6}});
    ASSERT_TRUE(store.Ask(0, {0}).ok());
    store.clock.AdvanceNs(100);
    ASSERT_TRUE(store.cache->Request(1, {{5, 6}}).ok());
    store.clock.AdvanceNs(100);
    ExpertRef ref;
    if (is_together) store.clock.AdvanceNs(200);
    ASSERT_EQ(*store.cache->Collect({&ref, 1}, Wait::kUntilOne), 1);
    ref = {};
    if (!is_together) store.clock.AdvanceNs(200);
    ASSERT_EQ(*store.cache->Collect({&ref, 1}, Wait::kUntilOne), 1);
    ref = {};
    EXPECT_EQ(store.cache->counts().hints.late, 2u);
    EXPECT_EQ(store.cache->counts().hints.saved_bytes, ExpertBytes() / 2);
  }
}

TEST_F(ExpertHintsTest, AGuessThatTurnsOutWrongIsCancelled) {
  MemoryStore store(Options(8, true));
  store.cache->Guess(1, {{5, 6}});
  ASSERT_TRUE(store.Ask(0, {0}).ok());
  ASSERT_EQ(store.memory.entered().size(), 4u);  // 5 is being read whole, 6 in part
  ASSERT_TRUE(store.Ask(1, {1}).ok());
  Rest(store);
  const HintCounts& hints = store.cache->counts().hints;
  EXPECT_EQ(hints.issued, 2u);
  EXPECT_EQ(hints.dropped, 1u);
  EXPECT_EQ(residency_.Count(ResidencyChange::kHintDropped), 1);
  EXPECT_TRUE(store.Hits(1, 5));  // could not be taken back
  EXPECT_FALSE(store.Hits(1, 6));
}

// A step waits for an expert of layer 1 behind all reads that are under way.
void WaitBehindGuesses(MemoryStore& store) {
  store.clock.AdvanceNs(300);
  ASSERT_TRUE(store.cache->Request(1, {{0}}).ok());
  store.clock.AdvanceNs(100);
  while (store.memory.CompleteOne()) {
  }
  ExpertRef ref;
  ASSERT_EQ(*store.cache->Collect({&ref, 1}, Wait::kUntilOne), 1);
}

TEST_F(ExpertHintsTest, WhatIsReadWhileAStepWaitsForOthersIsADelay) {
  MemoryStore store(Options(8, true));
  store.cache->Guess(1, {{5}});
  ASSERT_TRUE(store.Ask(0, {0}).ok());
  ASSERT_EQ(store.memory.entered().size(), 3u);  // all of it: nothing to cancel
  WaitBehindGuesses(store);
  const uint64_t read_bytes = residency_.last_bytes();  // of demand, as large
  EXPECT_NEAR(static_cast<double>(store.cache->counts().hints.delay_bytes),
              static_cast<double>(read_bytes) / 4, 512);
}

TEST_F(ExpertHintsTest, EveryGuessThatIsReadWhileAStepWaitsIsADelay) {
  MemoryStore store(Options(8, true));
  store.cache->Guess(2, {{5, 6}});
  ASSERT_TRUE(store.Ask(0, {0}).ok());
  ASSERT_EQ(store.cache->counts().hints.issued, 2u);
  WaitBehindGuesses(store);
  Rest(store);
  const HintCounts& hints = store.cache->counts().hints;
  EXPECT_EQ(hints.dropped, 0u);
  // Of both, a quarter of what was read, whole blocks.
  EXPECT_NEAR(static_cast<double>(hints.delay_bytes),
              static_cast<double>(2 * residency_.last_bytes()) / 4, 512);
}

TEST_F(ExpertHintsTest, AWarmStartFillsEmptySlotsInOrderAndCountsApart) {
  MemoryStore store(Options(4));
  store.cache->Warm({{9, 1, 30, 2, 5}});  // keys: eight a layer
  Rest(store);
  EXPECT_EQ(store.cache->counts().resident, 4);
  for (const auto& [layer, expert] : {std::pair(1, 1), {0, 1}, {3, 6}, {0, 2}}) {
    EXPECT_TRUE(store.Hits(layer, expert)) << layer << " " << expert;
  }
  EXPECT_FALSE(store.Hits(0, 5));  // no room was left, and nobody had to go
  const CacheCounts& counts = store.cache->counts();
  EXPECT_EQ(counts.warm.issued, 4u);
  EXPECT_EQ(counts.warm.used, 4u);
  EXPECT_EQ(counts.hints.issued, 0u);
  EXPECT_EQ(counts.hints.used, 0u);
  EXPECT_EQ(store.cache->hint_counts()[0].issued, 0u);
}

TEST_F(ExpertHintsTest, AWarmStartEvictsNobody) {
  MemoryStore store(Options(4));
  for (int expert = 0; expert < 4; ++expert) {
    ASSERT_TRUE(store.Ask(0, {expert}).ok());
  }
  store.cache->BeginStep(2);
  store.cache->Warm({{9, 10, 11}});
  Rest(store);
  EXPECT_EQ(store.cache->counts().evictions, 0u);
  EXPECT_EQ(store.cache->counts().warm.issued, 0u);
}

TEST_F(ExpertHintsTest, AWarmStartWaitsForDemandAndGuesses) {
  MemoryStore store(Options(12, true));
  ASSERT_TRUE(store.cache->Request(0, {{0}}).ok());
  store.cache->Guess(1, {{5, 6}});
  store.cache->Warm({{24}});
  EXPECT_EQ(store.cache->counts().warm.issued, 0u);
  ExpertRef ref;
  ASSERT_EQ(*store.cache->Collect({&ref, 1}, Wait::kUntilOne), 1);
  EXPECT_EQ(store.cache->counts().hints.issued, 2u);  // two at a time
  EXPECT_EQ(store.cache->counts().warm.issued, 0u);
  Rest(store);
  EXPECT_EQ(store.cache->counts().warm.issued, 1u);
  EXPECT_TRUE(store.Hits(3, 0));
}

TEST_F(ExpertHintsTest, AWarmReadThatAStepAsksForIsJoined) {
  MemoryStore store(Options(8, true));
  store.cache->Warm({{0}});
  EXPECT_EQ(store.cache->counts().warm.issued, 1u);
  ASSERT_TRUE(store.cache->Request(0, {{0}}).ok());
  ExpertRef ref;
  ASSERT_EQ(*store.cache->Collect({&ref, 1}, Wait::kUntilOne), 1);
  EXPECT_TRUE(store.files.Matches(ref));
  EXPECT_EQ(store.cache->counts().warm.late, 1u);
  EXPECT_EQ(store.cache->counts().hints.late, 0u);
}

TEST_F(ExpertHintsTest, ADroppedGuessIsTheReasonOfAMissInThatStep) {
  MemoryStore store(Options(8, true));
  store.cache->BeginStep(1);
  store.cache->Guess(1, {{4, 5, 6}});
  ASSERT_TRUE(store.Ask(0, {0}).ok());
  ASSERT_TRUE(store.Ask(1, {6}).ok());  // two at a time: 6 was not begun
  EXPECT_EQ(store.cache->misses().back().reason, MissReason::kHintDropped);
  EXPECT_EQ(store.cache->misses().back().evicted_step, -1);
  EXPECT_EQ(store.cache->counts().hints.unread, 1u);
  EXPECT_EQ(residency_.Count(ResidencyChange::kHintDropped), 2);  // and 5, given up
  Rest(store);
  store.cache->BeginStep(2);
  ASSERT_TRUE(store.Ask(1, {5}).ok());
  EXPECT_EQ(store.cache->misses().back().reason, MissReason::kNeverSeen);
}

// Given up and asked for at once: what was cancelled of it is read after all.
TEST_F(ExpertHintsTest, ACancelledGuessCanBeAskedFor) {
  for (const bool is_noticed : {false, true}) {
    MemoryStore store(Options(8, true));
    store.cache->Guess(1, {{5, 6}});
    ASSERT_TRUE(store.Ask(0, {0}).ok());
    store.cache->Guess(1, {{5}});  // 6 has one read in the drive, and two that are given up
    if (is_noticed) store.cache->IssueHints();
    ASSERT_EQ(store.memory.entered().size(), 4u);
    ASSERT_TRUE(store.Ask(1, {6}).ok());  // checks its bytes
    EXPECT_EQ(store.cache->counts().hints.late, 1u);
    Rest(store);
    EXPECT_EQ(store.cache->counts().hints.dropped, 0u);
  }
}

TEST_F(ExpertHintsTest, GuardedResidentsAreEvictedLast) {
  MemoryStore store(Options(8));
  ASSERT_TRUE(store.Ask(1, {0, 1, 2, 3, 4, 5, 6, 7}).ok());
  store.cache->Guess(1, {{0, 1}});
  ASSERT_TRUE(store.Ask(0, {0, 1, 2, 3, 4, 5}).ok());
  EXPECT_TRUE(store.Hits(1, 0));  // asked for: the guess has served
  EXPECT_TRUE(store.Hits(1, 1));
  store.cache->Guess(1, {{0, 1}});
  ASSERT_TRUE(store.Ask(0, {0, 1, 2, 3, 4, 5, 6, 7}).ok());  // there is nobody else
  EXPECT_FALSE(store.Hits(1, 0));
}

TEST_F(ExpertHintsTest, GuardEndsWhenTheLayerWasAskedFor) {
  MemoryStore store(Options(8));
  ASSERT_TRUE(store.Ask(1, {0, 1, 2, 3, 4, 5, 6, 7}).ok());
  store.cache->Guess(1, {{0, 1}});
  ASSERT_TRUE(store.Ask(1, {7}).ok());
  ASSERT_TRUE(store.Ask(0, {0, 1}).ok());  // the two oldest
  EXPECT_FALSE(store.Hits(1, 0));
}

TEST_F(ExpertHintsTest, GuessesHoldAQuarterOfTheSlotsAtMost) {
  MemoryStore store(Options(12));
  store.cache->Guess(1, {{0, 1, 2, 3, 4, 5}});
  store.cache->Guess(2, {{0, 1, 2, 3, 4, 5}});
  ASSERT_TRUE(store.Ask(0, {0}).ok());
  Rest(store);
  EXPECT_EQ(store.cache->counts().hints.issued, 3u);
  EXPECT_EQ(store.cache->hint_counts()[1].issued, 3u);  // the layer that comes first
  ASSERT_TRUE(store.Ask(1, {0, 1, 2}).ok());
  Rest(store);
  EXPECT_EQ(store.cache->hint_counts()[2].issued, 3u);
}

TEST_F(ExpertHintsTest, NothingThatTheRunningStepUsedGivesWayToAGuess) {
  MemoryStore store(Options(8));
  store.cache->BeginStep(1);
  ASSERT_TRUE(store.Ask(0, {0, 1, 2, 3, 4, 5, 6, 7}).ok());
  store.cache->Guess(1, {{0}});
  store.cache->IssueHints();
  EXPECT_EQ(store.cache->counts().hints.issued, 0u);
  store.cache->BeginStep(2);
  store.cache->Guess(1, {{0}});
  store.cache->IssueHints();
  EXPECT_EQ(store.cache->counts().hints.issued, 1u);
  EXPECT_EQ(store.cache->counts().evictions, 1u);
}

TEST_F(ExpertHintsTest, AGuessLeavesLayersTheirFloor) {
  MemoryStoreOptions options = Options(8);
  options.layer_floor = 2;
  MemoryStore store(options);
  for (int layer = 0; layer < 4; ++layer) ASSERT_TRUE(store.Ask(layer, {0, 1}).ok());
  store.cache->BeginStep(1);
  store.cache->Guess(3, {{5}});
  store.cache->IssueHints();
  Rest(store);
  EXPECT_EQ(store.cache->counts().evictions, 1u);  // one of its own layer
  for (int layer = 0; layer < 3; ++layer) {
    for (const int expert : {0, 1}) EXPECT_TRUE(store.Hits(layer, expert));
  }
}

TEST_F(ExpertHintsTest, WhatIsEvictedUnusedIsWasted) {
  MemoryStore store(Options(8));
  store.cache->Guess(1, {{5}});
  ASSERT_TRUE(store.Ask(0, {0}).ok());
  Rest(store);
  ASSERT_TRUE(store.Ask(1, {0}).ok());
  ASSERT_TRUE(store.Ask(2, {0, 1, 2, 3, 4, 5, 6, 7}).ok());
  EXPECT_EQ(store.cache->counts().hints.wasted, 1u);
  EXPECT_EQ(store.cache->counts().hints.wasted_bytes, ExpertBytes());
  EXPECT_EQ(residency_.Count(ResidencyChange::kHintWasted), 1);
  EXPECT_EQ(residency_.Count(ResidencyChange::kEvicted), 3);
}

// All of layer 0 is there; a guess brings (1, 5), and the oldest, (0, 0), goes for it.
class DisplacedTest : public ExpertHintsTest {
 protected:
  DisplacedTest() : store_(Options(8)) {
    EXPECT_TRUE(store_.Ask(0, {0, 1, 2, 3, 4, 5, 6, 7}).ok());
    store_.cache->BeginStep(1);
    Bring(1, 5);
    EXPECT_EQ(store_.cache->counts().evictions, 1u);
  }
  void Bring(int layer, int expert) {
    store_.cache->Guess(layer, {{expert}});
    store_.cache->IssueHints();
    Rest(store_);
  }
  uint64_t displaced_bytes() const { return store_.cache->counts().hints.displaced_bytes; }

  MemoryStore store_;
};

TEST_F(DisplacedTest, WhoWentForAGuessInVainAndIsAskedForIsCountedOnce) {
  EXPECT_EQ(displaced_bytes(), 0u);
  ASSERT_TRUE(store_.Ask(0, {0}).ok());
  EXPECT_EQ(displaced_bytes(), ExpertBytes());
  EXPECT_EQ(store_.cache->hint_counts()[1].displaced_bytes, ExpertBytes());
  ASSERT_TRUE(store_.Ask(0, {0}).ok());
  EXPECT_EQ(displaced_bytes(), ExpertBytes());
}

TEST_F(DisplacedTest, WhoWentForAGuessThatWasAskedForWouldHaveGoneAnyway) {
  ASSERT_TRUE(store_.Ask(1, {5}).ok());
  ASSERT_TRUE(store_.Ask(0, {0}).ok());
  EXPECT_EQ(displaced_bytes(), 0u);
}

TEST_F(DisplacedTest, WhoWentForAGuessThatWentForDemandWouldHaveGoneThen) {
  ASSERT_TRUE(store_.Ask(1, {0}).ok());  // the guess has served
  ASSERT_TRUE(store_.Ask(2, {0, 1, 2, 3, 4, 5, 6, 7}).ok());
  ASSERT_EQ(store_.cache->counts().hints.wasted, 1u);
  ASSERT_TRUE(store_.Ask(0, {0}).ok());
  EXPECT_EQ(displaced_bytes(), 0u);
}

TEST_F(DisplacedTest, AGuessThatTakesTheSlotOfAnotherInVainInheritsWhoWent) {
  store_.cache->WithdrawGuesses();
  ASSERT_TRUE(store_.Ask(0, {1, 2, 3, 4, 5, 6, 7}).ok());  // (1, 5) is the oldest now
  store_.cache->BeginStep(2);
  Bring(2, 3);
  ASSERT_EQ(store_.cache->counts().hints.wasted, 1u);
  ASSERT_TRUE(store_.Ask(0, {0}).ok());
  EXPECT_EQ(store_.cache->hint_counts()[1].displaced_bytes, 0u);
  EXPECT_EQ(store_.cache->hint_counts()[2].displaced_bytes, ExpertBytes());
}

TEST_F(DisplacedTest, WhoIsBroughtBackOnAGuessIsCountedWhenAskedFor) {
  store_.cache->BeginStep(2);
  Bring(0, 0);
  EXPECT_EQ(displaced_bytes(), 0u);
  ASSERT_TRUE(store_.Ask(0, {0}).ok());
  EXPECT_EQ(store_.cache->hint_counts()[1].displaced_bytes, ExpertBytes());
}

TEST_F(ExpertHintsTest, AFailedHintIsNobodysError) {
  MemoryStore store(Options(8));
  const ByteRange range = store.files.Range({1, 5}, 1);
  store.reader.FailRange(range.file, range.offset, range.offset + 1, ENXIO, 1);
  store.cache->Guess(1, {{5, 6}});
  ASSERT_TRUE(store.Ask(0, {0}).ok());
  Rest(store);
  EXPECT_EQ(store.cache->counts().hints.dropped, 1u);
  ASSERT_TRUE(store.Ask(1, {5, 6}).ok());  // reads it anew
  EXPECT_EQ(store.cache->counts().hits, 1u);
}

// A part of it has failed when a step asks for it, and another is still being read.
TEST_F(ExpertHintsTest, AHintThatHasBegunToFailIsReadAnewOnceItIsDemand) {
  MemoryStore store(Options(8, true));
  const ByteRange range = store.files.Range({1, 5}, 0);
  store.reader.FailRange(range.file, range.offset, range.offset + 1, ENXIO, 1);
  store.cache->Guess(1, {{5}});
  ASSERT_TRUE(store.Ask(0, {0}).ok());
  const std::vector<uint64_t> entered = store.memory.entered();
  ASSERT_EQ(entered.size(), 3u);
  ASSERT_TRUE(store.memory.Complete(entered[0]));
  store.cache->IssueHints();
  ASSERT_TRUE(store.Ask(1, {5}).ok());
  EXPECT_EQ(store.cache->counts().hints.late, 1u);
}

TEST_F(ExpertHintsTest, DemandTakesTheSlotsOfGuessesWhenItHasNoOthers) {
  MemoryStoreOptions options = Options(8, true);
  MemoryStore store(options);
  store.cache->Guess(1, {{5, 6}});
  ASSERT_TRUE(store.Ask(0, {0}).ok());
  ASSERT_TRUE(store.Ask(2, {0, 1, 2, 3, 4, 5, 6, 7}).ok());
  EXPECT_EQ(store.cache->counts().hints.dropped, 1u);
}

TEST_F(ExpertHintsTest, WithdrawnGuessesAreGivenUp) {
  MemoryStore store(Options(8, true));
  store.cache->Guess(1, {{5, 6}});
  ASSERT_TRUE(store.Ask(0, {0}).ok());
  store.cache->WithdrawGuesses();
  Rest(store);
  EXPECT_EQ(store.cache->counts().hints.issued, 2u);
  EXPECT_EQ(store.cache->counts().hints.dropped, 1u);
  EXPECT_EQ(store.cache->counts().resident, 2);
}

TEST_F(ExpertHintsTest, AStoreThatTakesNoGuessesPassesThemOver) {
  MemoryStore store({.slot_count = 8});
  store.cache->Guess(1, {{5, 6}});
  ASSERT_TRUE(store.Ask(0, {0}).ok());
  store.cache->IssueHints();
  store.cache->WithdrawGuesses();
  EXPECT_EQ(store.cache->counts().resident, 1);
  EXPECT_TRUE(store.cache->hint_counts().empty());
}

// Random guesses, right and wrong, beside random requests, with faults. Every ref's bytes are
// right, nothing that a step used is evicted for a guess, and every hint is accounted for.
class GuessingRun final : public ResidencyObserver {
 public:
  explicit GuessingRun(uint64_t seed) : random_(seed), store_(Options(seed)) {}

  void Step(int step) {
    store_.cache->BeginStep(step);
    used_.clear();
    for (int layer = 1; layer <= 5; ++layer) {
      next_.clear();
      for (int32_t e = 0; e < 10; ++e) {
        if (Below(4) == 0) next_.push_back(e);
      }
      GuessLater(layer);
      Ask(layer);
      if (testing::Test::HasFailure()) return;
    }
    if (Below(20) == 0) store_.cache->WithdrawGuesses();
  }

  void OnResidency(ResidencyChange change, ExpertId id, uint64_t) override {
    ++changes_[change];
    if (change == ResidencyChange::kReadOnHint || change == ResidencyChange::kRead) {
      EXPECT_TRUE(resident_.insert({id.layer, id.expert}).second);
    }
    if (change != ResidencyChange::kEvicted) return;
    EXPECT_EQ(resident_.erase({id.layer, id.expert}), 1u);
    // Outside of a request, nothing but a guess can be what it gave way to.
    if (!is_asking_) {
      EXPECT_FALSE(used_.contains({id.layer, id.expert}));
    }
  }

  void CheckRest() {
    kept_.clear();
    store_.cache->WithdrawGuesses();
    for (int i = 0; i < 50; ++i) {
      while (store_.memory.CompleteOne()) {
      }
      store_.cache->IssueHints();
    }
    EXPECT_EQ(store_.reader.in_flight(), 0u);
    const CacheCounts& counts = store_.cache->counts();
    const HintCounts& hints = counts.hints;
    EXPECT_EQ(counts.hits + counts.misses, requested_);
    EXPECT_EQ(static_cast<size_t>(counts.resident), resident_.size());
    Gauges gauges;
    store_.cache->Report(gauges);
    EXPECT_EQ(gauges.loading, 0);
    EXPECT_EQ(hints.issued, hints.used + hints.late + hints.dropped + hints.wasted +
                                static_cast<uint64_t>(gauges.unused));
    HintCounts sum;
    for (const HintCounts& layer : store_.cache->hint_counts()) {
      sum.issued += layer.issued;
      sum.wasted_bytes += layer.wasted_bytes;
    }
    EXPECT_EQ(sum.issued, hints.issued);
    EXPECT_EQ(sum.wasted_bytes, hints.wasted_bytes);
    EXPECT_EQ(changes_[ResidencyChange::kHintUsed], hints.used + hints.late);
    EXPECT_EQ(changes_[ResidencyChange::kHintWasted], hints.wasted);
    EXPECT_EQ(changes_[ResidencyChange::kHintDropped], hints.dropped + hints.unread);
    EXPECT_GE(changes_[ResidencyChange::kEvicted], counts.evictions);  // refused ones leave too
  }
  const HintCounts& hints() const { return store_.cache->counts().hints; }

 private:
  struct Gauges final : CounterVisitor {
    void Counter(std::string_view, uint64_t) override {}
    void Gauge(std::string_view name, double value) override {
      if (name == "cache_hints_loading") loading = value;
      if (name == "cache_hints_unused") unused = value;
    }
    double loading = -1;
    double unused = -1;
  };

  int Below(int limit) { return static_cast<int>(random_() % static_cast<uint64_t>(limit)); }

  MemoryStoreOptions Options(uint64_t seed) {
    return {.files = {.layer_count = 5,
                      .expert_count = 10,
                      .first_layer = 1,
                      .part_bytes = {700, 90, 1300},
                      .large_layers = Below(4),
                      .start_bytes = random_() % 700,
                      .is_split = Below(2) == 0},
            .slot_count = 4 + Below(30),
            .pins_min = 2,
            .policy = std::string(Policies()[seed % Policies().size()].name),
            .admission = std::string(Admissions()[seed % Admissions().size()].name),
            .layer_floor = Below(5) - 1,
            .alignment = size_t{1} << Below(11),
            .seed = seed,
            .is_manual = Below(2) == 0,
            .faults = {.seed = seed, .short_read = 0.2, .stall = 0.2},
            .hint_loads_max = 1 + Below(4),
            .residency = this};
  }

  // The layer that comes now, half of it right; and some later one, at random.
  void GuessLater(int layer) {
    std::vector<int32_t> guess;
    for (const int32_t e : next_) {
      if (Below(2) == 0) guess.push_back(e);
    }
    for (int32_t e = 0; e < 10; ++e) {
      const bool is_there = std::find(guess.begin(), guess.end(), e) != guess.end();
      if (!is_there && Below(6) == 0) guess.push_back(e);
    }
    std::shuffle(guess.begin(), guess.end(), random_);
    if (Below(4) > 0) store_.cache->Guess(layer, guess);
    if (Below(3) == 0) store_.cache->Guess(1 + Below(5), {{Below(5), 5 + Below(5)}});
    for (int i = Below(4); i > 0; --i) {
      store_.memory.CompleteOne();
      store_.cache->IssueHints();
    }
    if (Below(10) == 0) {
      const ByteRange range = store_.files.Range({layer, Below(10)}, Below(3));
      const bool is_lasting = Below(2) == 0;
      store_.reader.FailRange(range.file, range.offset, range.offset + 1, is_lasting ? ENXIO : EIO,
                              1);
      failures_left_ += is_lasting ? 1 : 0;
    }
  }

  void Ask(int layer) {
    const int pins_max = store_.cache->pins_max(layer);
    is_asking_ = true;
    requested_ += next_.size();
    std::set<int32_t> seen;
    ASSERT_TRUE(store_.cache->Request(layer, next_).ok());
    for (const int32_t e : next_) used_.insert({layer, e});
    while (true) {
      while (static_cast<int>(kept_.size()) >= pins_max || (!kept_.empty() && Below(2) == 0)) {
        kept_.erase(kept_.begin() + Below(static_cast<int>(kept_.size())));
      }
      ExpertRef ref;
      const auto count =
          store_.cache->Collect({&ref, 1}, Below(2) == 0 ? Wait::kNo : Wait::kUntilOne);
      if (!count.ok()) {
        EXPECT_GE(--failures_left_, 0) << count.status();
        break;
      }
      if (*count == 0 && store_.cache->outstanding() == 0) break;
      if (*count == 0) continue;
      EXPECT_TRUE(seen.insert(ref.id().expert).second);
      kept_.push_back(std::move(ref));
      for (const ExpertRef& held : kept_) EXPECT_TRUE(store_.files.Matches(held));
      if (testing::Test::HasFailure()) return;
    }
    EXPECT_EQ(store_.cache->outstanding(), 0);
    is_asking_ = false;
  }

  std::mt19937_64 random_;
  std::set<std::pair<int, int>> resident_;
  std::map<ResidencyChange, uint64_t> changes_;
  MemoryStore store_;
  std::vector<ExpertRef> kept_;
  std::vector<int32_t> next_;
  std::set<std::pair<int, int>> used_;  // in the running step
  bool is_asking_ = false;
  uint64_t requested_ = 0;
  int failures_left_ = 0;
};

TEST(ExpertHintsSimulation, RandomGuessesKeepEveryPromise) {
  HintCounts sum;
  for (uint64_t seed = 1; seed <= 120; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    GuessingRun run(seed);
    for (int step = 0; step < 60 && !testing::Test::HasFailure(); ++step) run.Step(step);
    run.CheckRest();
    if (testing::Test::HasFailure()) return;
    sum.used += run.hints().used;
    sum.late += run.hints().late;
    sum.dropped += run.hints().dropped;
    sum.wasted += run.hints().wasted;
    sum.unread += run.hints().unread;
  }
  for (const uint64_t count : {sum.used, sum.late, sum.dropped, sum.wasted, sum.unread}) {
    EXPECT_GT(count, 100u);  // each kind of end was met
  }
}

}  // namespace
}  // namespace stoker
