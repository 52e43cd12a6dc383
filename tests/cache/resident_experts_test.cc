// The baseline: everything in RAM from the start.
#include "cache/resident_experts.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/cache/memory_store.h"

namespace stoker {
namespace {

using Wait = ExpertProvider::Wait;

TEST(ResidentExperts, HandsOutWhatWasAskedInOrderWithItsBytes) {
  const ExpertFiles files({.large_layers = 1, .start_bytes = 77, .is_split = true});
  MemoryReader reader;
  files.AddTo(reader);
  const VirtualClock clock;
  const auto experts = *ResidentExperts::Create(files.catalog(), files.names(), reader, clock);
  for (int layer = 0; layer < 4; ++layer) {
    ASSERT_TRUE(experts->Request(layer, {{7, 0, 3}}).ok());
    EXPECT_EQ(experts->outstanding(), 3);
    ExpertRef refs[2];
    ASSERT_EQ(*experts->Collect(absl::MakeSpan(refs), Wait::kNo), 2);
    EXPECT_EQ(refs[0].id(), (ExpertId{layer, 7}));
    EXPECT_EQ(refs[1].id(), (ExpertId{layer, 0}));
    EXPECT_TRUE(files.Matches(refs[0]) && files.Matches(refs[1]));
    ASSERT_EQ(*experts->Collect(absl::MakeSpan(refs), Wait::kUntilOne), 1);
    EXPECT_EQ(refs[0].id(), (ExpertId{layer, 3}));
    EXPECT_EQ(*experts->Collect(absl::MakeSpan(refs), Wait::kUntilOne), 0);
  }
  EXPECT_EQ(experts->pins_max(0), 8);
}

TEST(ResidentExperts, ReadErrorFailsCreation) {
  const ExpertFiles files({});
  MemoryReader memory;
  files.AddTo(memory);
  FaultReader reader(memory, {});
  reader.FailRange(0, 5000, 5001, EIO);
  const VirtualClock clock;
  const auto experts = ResidentExperts::Create(files.catalog(), files.names(), reader, clock);
  EXPECT_EQ(experts.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(reader.in_flight(), 0u);
}

TEST(ResidentExperts, ModelWithoutExpertsIsFine) {
  MemoryReader reader;
  const VirtualClock clock;
  EXPECT_TRUE(ResidentExperts::Create({}, {}, reader, clock).ok());
}

}  // namespace
}  // namespace stoker
