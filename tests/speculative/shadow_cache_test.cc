// Claims of shadow_cache.h.
#include "speculative/shadow_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "model/model.h"

namespace stoker {
namespace {

constexpr int kTopK = 3;
constexpr int kExperts = 12;
constexpr int kLayers[] = {1, 2, 5};

ExpertCatalog Catalog() {
  ExpertCatalog catalog;
  for (const int layer : kLayers) {
    catalog.layers.push_back({.layer = layer, .expert_count = kExperts, .part_count = 1});
  }
  return catalog;
}

// What the routers choose for a row, by layer.
using Routing = std::vector<std::vector<int32_t>>;

class Text {
 public:
  explicit Text(uint64_t seed) : random_(seed) {}
  Routing Row() {
    Routing routing;
    for (size_t layer = 0; layer < std::size(kLayers); ++layer) {
      std::vector<int32_t> experts(kExperts);
      for (int e = 0; e < kExperts; ++e) experts[static_cast<size_t>(e)] = e;
      std::shuffle(experts.begin(), experts.end(), random_);
      experts.resize(kTopK);
      routing.push_back(experts);
    }
    return routing;
  }
  int Below(int bound) { return static_cast<int>(random_() % static_cast<uint64_t>(bound)); }

 private:
  std::mt19937_64 random_;
};

void Tell(ShadowCache& shadow, const std::vector<Routing>& rows) {
  const std::vector<StepRow> step(rows.size());
  shadow.OnStep(step);
  for (size_t layer = 0; layer < std::size(kLayers); ++layer) {
    std::vector<int32_t> experts;
    for (const Routing& row : rows) {
      experts.insert(experts.end(), row[layer].begin(), row[layer].end());
    }
    shadow.OnRouting(kLayers[layer], kTopK, experts, {});
  }
}

// The least recently used of so many, written to be read.
class PlainCache {
 public:
  explicit PlainCache(size_t slot_count) : slot_count_(slot_count) {}
  int Use(const Routing& row) {
    int missing = 0;
    for (size_t layer = 0; layer < row.size(); ++layer) {
      for (const int32_t expert : row[layer]) missing += UseOne({layer, expert});
    }
    return missing;
  }
  // What all rows together want and is not there.
  size_t CountMissing(const std::vector<Routing>& rows) const {
    std::set<std::pair<size_t, int32_t>> missing;
    for (const Routing& row : rows) {
      for (size_t layer = 0; layer < row.size(); ++layer) {
        for (const int32_t expert : row[layer]) {
          const std::pair<size_t, int32_t> key = {layer, expert};
          if (std::find(recent_.begin(), recent_.end(), key) == recent_.end()) missing.insert(key);
        }
      }
    }
    return missing.size();
  }

 private:
  int UseOne(std::pair<size_t, int32_t> key) {
    const auto found = std::find(recent_.begin(), recent_.end(), key);
    const bool is_missing = found == recent_.end();
    if (!is_missing) recent_.erase(found);
    recent_.push_front(key);
    if (recent_.size() > slot_count_) recent_.pop_back();
    return is_missing ? 1 : 0;
  }
  const size_t slot_count_;
  std::list<std::pair<size_t, int32_t>> recent_;
};

TEST(ShadowCache, MissesWhatTheTextAloneWould) {
  for (const int slot_count : {9, 17, 30}) {
    Text text(static_cast<uint64_t>(slot_count));
    ShadowCache shadow(Catalog(), {.slot_count = slot_count, .rows_max = 5, .top_k = kTopK});
    PlainCache plain(static_cast<size_t>(slot_count));
    for (int step = 0; step < 200; ++step) {
      std::vector<Routing> rows;
      for (int row = 0; row < 1 + step % 5; ++row) rows.push_back(text.Row());
      Tell(shadow, rows);
      const int right = 1 + text.Below(static_cast<int>(rows.size()));
      int missing = 0;
      for (int row = 0; row < right; ++row) missing += plain.Use(rows[static_cast<size_t>(row)]);
      EXPECT_EQ(shadow.Use(0, right), missing) << step;
    }
  }
}

// A text whose every row has experts of its own until it begins again: what is used again comes
// back as long after it was pushed out, whatever the row.
TEST(ShadowCache, OfATextThatGoesRoundAStepMissesNoMoreThanOnceRound) {
  constexpr int kPeriod = kExperts / kTopK, kPerRow = kTopK * static_cast<int>(std::size(kLayers));
  for (const int rows_that_fit : {1, 2, 3}) {
    ShadowCache shadow(Catalog(),
                       {.slot_count = rows_that_fit * kPerRow, .rows_max = 9, .top_k = kTopK});
    EXPECT_EQ(shadow.UnionOf(1), 0);
    for (int i = 0; i < 1000; ++i) {
      const int32_t first = i % kPeriod * kTopK;
      Tell(shadow, {Routing(std::size(kLayers), {first, first + 1, first + 2})});
      shadow.Use(0, 1);
    }
    for (int rows = 1; rows <= 9; ++rows) {
      EXPECT_NEAR(shadow.UnionOf(rows), std::min(rows, kPeriod - rows_that_fit), 1e-3) << rows;
    }
  }
}

// The text goes on choosing half of what it has just chosen. The cache holds a few rows: in a
// smaller one a row pushes out what it is about to use, which the count here leaves out.
TEST(ShadowCache, TellsWhatStepsOfSeveralRowsWouldMiss) {
  for (const int slot_count : {24, 28, 32}) {
    Text text(static_cast<uint64_t>(slot_count));
    ShadowCache shadow(Catalog(), {.slot_count = slot_count, .rows_max = 5, .top_k = kTopK});
    PlainCache plain(static_cast<size_t>(slot_count));
    std::vector<Routing> rows(5, text.Row());
    double one = 0, told = 0, missing = 0;
    for (int step = 0; step < 4000; ++step) {
      rows.erase(rows.begin());
      rows.push_back(text.Row());
      for (size_t layer = 0; layer < std::size(kLayers); ++layer) {
        if (text.Below(2) == 0) rows.back()[layer] = rows[text.Below(2) == 0 ? 3 : 1][layer];
      }
      Tell(shadow, {rows.front()});
      one += shadow.Use(0, 1);
      plain.Use(rows.front());
      if (step < 200) {
        one = 0;
        continue;
      }
      told += shadow.UnionOf(4);
      missing += plain.CountMissing({rows.begin() + 1, rows.end()});
    }
    EXPECT_NEAR(told * one / 3800 / missing, 1, 0.03) << slot_count;
  }
}

TEST(ShadowCache, SequencesOfAStepAreUsedOneByOne) {
  Text text(1);
  ShadowCache shadow(Catalog(), {.slot_count = 20, .rows_max = 4, .top_k = kTopK});
  const std::vector<Routing> rows = {text.Row(), text.Row(), text.Row(), text.Row()};
  Tell(shadow, rows);
  EXPECT_EQ(shadow.Use(2, 1), 3 * kTopK);
  EXPECT_EQ(shadow.Use(2, 1), 0);
  PlainCache plain(20);
  plain.Use(rows[2]);
  EXPECT_EQ(shadow.Use(0, 1), plain.Use(rows[0]));
}

TEST(ShadowCache, AStepWiderThanItHasRoomForIsPassedOver) {
  Text text(1);
  ShadowCache shadow(Catalog(), {.slot_count = 20, .rows_max = 2, .top_k = kTopK});
  Tell(shadow, {text.Row(), text.Row(), text.Row()});
  EXPECT_EQ(shadow.Use(0, 3), 0);
  const Routing row = text.Row();
  Tell(shadow, {row});
  EXPECT_EQ(shadow.Use(0, 1), 3 * kTopK);
}

TEST(ShadowCache, LayersThatWereNotRoutedAreNotUsed) {
  Text text(1);
  ShadowCache shadow(Catalog(), {.slot_count = 20, .rows_max = 2, .top_k = kTopK});
  const Routing row = text.Row();
  Tell(shadow, {row});
  shadow.OnStep(std::vector<StepRow>(1));
  shadow.OnRouting(kLayers[1], kTopK, row[1], {});
  shadow.OnRouting(3, kTopK, row[0], {});  // has no experts in the catalog
  EXPECT_EQ(shadow.Use(0, 1), kTopK);
}

}  // namespace
}  // namespace stoker
