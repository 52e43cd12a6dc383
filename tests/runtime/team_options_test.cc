// Claims of team_options.h.
#include "runtime/team_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace stoker {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Two nodes of two cores: 0 and 1, 2 and 3.
Topology TwoNodes() {
  return {.cpus = {0, 1, 2, 3}, .physical_core_count = 4, .numa_node_count = 2};
}

// As it, each core with a sibling.
Topology WithSiblings() {
  Topology topology = TwoNodes();
  topology.cpus.insert(topology.cpus.end(), {4, 5, 6, 7});
  return topology;
}

TEST(TeamOptions, AThreadForEachCoreUnlessAskedOtherwise) {
  EXPECT_EQ(TeamOptions(WithSiblings(), 0).thread_count, 4);
  EXPECT_EQ(TeamOptions(WithSiblings(), 3).thread_count, 3);
  EXPECT_EQ(TeamOptions(WithSiblings(), 8).thread_count, 8);
}

TEST(TeamOptions, ThreadsForCoresOnlyAreKeptFromSiblings) {
  EXPECT_THAT(TeamOptions(WithSiblings(), 3).cpus, ElementsAre(0, 1, 2));
  EXPECT_THAT(TeamOptions(WithSiblings(), 5).cpus, IsEmpty());
  EXPECT_THAT(TeamOptions(TwoNodes(), 3).cpus, IsEmpty());
}

TEST(TeamOptions, CoresNearTheDeviceComeFirst) {
  EXPECT_THAT(TeamOptions(TwoNodes(), 0, {2, 3}).cpus, ElementsAre(2, 3, 0, 1));
  EXPECT_THAT(TeamOptions(TwoNodes(), 1, {2, 3}).cpus, ElementsAre(2));
  EXPECT_THAT(TeamOptions(WithSiblings(), 3, {2, 3, 6, 7}).cpus, ElementsAre(2, 3, 0));
}

TEST(TeamOptions, WhatIsNearEverywhereChangesNothing) {
  EXPECT_THAT(TeamOptions(TwoNodes(), 0, {0, 1, 2, 3}).cpus, IsEmpty());
  EXPECT_THAT(TeamOptions(WithSiblings(), 8, {2, 3, 6, 7}).cpus, IsEmpty());
}

TEST(TeamOptions, ThreadsOfThisMachineAreAsManyAsItsCores) {
  EXPECT_EQ(TeamOptionsHere(0, nullptr).thread_count, ReadTopology().physical_core_count);
}

}  // namespace
}  // namespace stoker
