// Asks every admission policy of the registry the same questions, and each in particular its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cache/policy.h"
#include "device/modelled_device.h"
#include "tests/cache/allocation_count.h"
#include "tests/cache/memory_store.h"

namespace stoker {
namespace {

using testing::HasSubstr;

constexpr ExpertKey kKeyCount = 40;

std::unique_ptr<AdmissionPolicy> Make(std::string_view name,
                                      absl::Span<const Setting> settings = {}) {
  return ChooseAdmission(name, settings)->Make({.key_count = kKeyCount, .slot_count = 8});
}

class AdmissionContract : public testing::TestWithParam<std::string> {};

TEST_P(AdmissionContract, WhoeverFindsRoomIsAdmitted) {
  const auto admission = Make(GetParam());
  std::mt19937_64 random(1);
  for (int i = 0; i < 500; ++i) {
    const auto key = static_cast<ExpertKey>(random() % kKeyCount);
    admission->Used(key);
    EXPECT_TRUE(admission->Admits(key, -1));
  }
}

TEST_P(AdmissionContract, AskingChangesNothing) {
  const auto asked = Make(GetParam());
  const auto plain = Make(GetParam());
  std::mt19937_64 random(2);
  for (int i = 0; i < 2000; ++i) {
    const auto key = static_cast<ExpertKey>(std::min(random() % kKeyCount, random() % kKeyCount));
    const auto victim = static_cast<ExpertKey>(random() % kKeyCount);
    asked->Used(key);
    plain->Used(key);
    for (int ask = 0; ask < 3; ++ask) asked->Admits(victim, key);
    ASSERT_EQ(asked->Admits(key, victim), plain->Admits(key, victim)) << "use " << i;
  }
}

TEST_P(AdmissionContract, TakesItsMemoryAtConstruction) {
  const auto admission = Make(GetParam());
  const AllocationCount allocations;
  for (int i = 0; i < 2000; ++i) {
    admission->Used(i % kKeyCount);
    admission->Admits(i % kKeyCount, (i + 7) % kKeyCount);
  }
  EXPECT_EQ(allocations.Count(), 0);
}

INSTANTIATE_TEST_SUITE_P(Registry, AdmissionContract, testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const AdmissionRow& row : Admissions()) {
                             names.emplace_back(row.name);
                           }
                           return names;
                         }()),
                         [](const auto& row) {
                           std::string name = row.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Admissions, UnknownNameListsTheKnownOnes) {
  const auto choice = ChooseAdmission("never");
  EXPECT_EQ(choice.status().code(), absl::StatusCode::kInvalidArgument);
  for (const AdmissionRow& row : Admissions()) {
    EXPECT_THAT(Message(choice.status()), HasSubstr(std::string(row.name)));
  }
}

TEST(Admissions, EveryParameterHasItsDefaultInRangeAndAReason) {
  for (const AdmissionRow& row : Admissions()) {
    for (const ParameterRow& parameter : row.parameters) {
      EXPECT_FALSE(parameter.reason.empty());
      for (const double value : {parameter.value, parameter.minimum, parameter.maximum}) {
        const Setting setting = {std::string(row.name) + "." + std::string(parameter.name), value};
        EXPECT_TRUE(ChooseAdmission(row.name, {&setting, 1}).ok());
      }
    }
  }
  EXPECT_FALSE(ChooseAdmission("bypass", {{Setting{"bypass.uses_per_key", 0}}}).ok());
}

TEST(Admissions, NamesAreNotThoseOfEvictionPolicies) {
  for (const AdmissionRow& admission : Admissions()) {
    for (const PolicyRow& policy : Policies()) EXPECT_NE(admission.name, policy.name);
  }
}

TEST(SecondHitAdmission, AdmitsWhatComesBackWithinTheWindow) {
  const auto admission = Make("second-hit", {{Setting{"second-hit.window_per_slot", 0.5}}});
  admission->Used(1);
  EXPECT_FALSE(admission->Admits(1, 2));
  for (ExpertKey key = 10; key < 13; ++key) admission->Used(key);
  admission->Used(1);  // four uses on: half of eight slots
  EXPECT_TRUE(admission->Admits(1, 2));
  for (ExpertKey key = 10; key < 14; ++key) admission->Used(key);
  admission->Used(1);
  EXPECT_FALSE(admission->Admits(1, 2));
}

TEST(BypassAdmission, AdmitsWhatIsUsedMoreThanTheVictimByFadingCounts) {
  const auto admission = Make("bypass");
  for (int use = 0; use < 3; ++use) admission->Used(1);
  admission->Used(2);
  EXPECT_FALSE(admission->Admits(2, 1));
  EXPECT_TRUE(admission->Admits(1, 2));
  EXPECT_FALSE(admission->Admits(2, 2));
  for (int use = 0; use < 2 * 2 * kKeyCount; ++use) admission->Used(3);  // halved twice
  admission->Used(2);
  EXPECT_TRUE(admission->Admits(2, 1));
}

// Four slots of which one is for visitors; experts 0, 1 and 2 are used often.
TEST(ExpertCacheAdmission, ExpertThatIsNotAdmittedIsHandedOverAndGone) {
  MemoryStore store({.slot_count = 4, .admission = "bypass"});
  for (int round = 0; round < 3; ++round) ASSERT_TRUE(store.Ask(0, {0, 1, 2}).ok());
  ASSERT_TRUE(store.Ask(1, {5, 6, 7}).ok());  // all through the one slot
  EXPECT_EQ(store.cache->counts().resident, 3);
  EXPECT_EQ(store.cache->counts().evictions, 0u);
  for (const int32_t expert : {0, 1, 2}) EXPECT_TRUE(store.Hits(0, expert));
  EXPECT_FALSE(store.Hits(1, 5));
}

TEST(ExpertCacheAdmission, VisitorIsFoundWhileItIsHeld) {
  MemoryStore store({.slot_count = 4, .admission = "bypass"});
  for (int round = 0; round < 3; ++round) ASSERT_TRUE(store.Ask(0, {0, 1, 2}).ok());
  std::vector<ExpertRef> held = store.Hold(1, {5});
  EXPECT_TRUE(store.Hits(1, 5));
  EXPECT_TRUE(store.files.Matches(held[0]));
  held.clear();
  EXPECT_FALSE(store.Hits(1, 5));
}

TEST(ExpertCacheAdmission, FailedVisitorLeavesItsSlot) {
  MemoryStore store({.slot_count = 4, .admission = "bypass"});
  for (int round = 0; round < 3; ++round) ASSERT_TRUE(store.Ask(0, {0, 1, 2}).ok());
  const ByteRange range = store.files.Range({1, 5}, 0);
  store.reader.FailRange(range.file, range.offset, range.offset + 1, ENXIO, 1);
  EXPECT_FALSE(store.Ask(1, {5}).ok());
  for (int round = 0; round < 3; ++round) EXPECT_TRUE(store.Ask(1, {5, 6}).ok());
}

TEST(ExpertCacheAdmission, VramHasItsOwn) {
  CacheOptions options = RamOnly();
  options.tiers.insert(options.tiers.begin(), {.kind = TierKind::kVram, .admission = "bypass"});
  const auto device = *MakeModelledDevice({}, nullptr);
  options.device = device.get();
  const ExpertFiles files({});
  MemoryReader reader;
  files.AddTo(reader);
  const VirtualClock clock;
  const auto created = ExpertCache::Create(files.catalog(), PlanWithSlots(files, 4, 512), options,
                                           reader, clock, nullptr);
  EXPECT_THAT(Message(created.status()),
              testing::AllOf(HasSubstr("bypass"), HasSubstr("promotion")));
}

}  // namespace
}  // namespace stoker
