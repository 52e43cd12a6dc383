// Compares the heap of pairs with merging as the definition says it.
#include "tokenizer/symbol_merger.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <utility>
#include <vector>

namespace stoker {
namespace {

using Rules = std::map<std::pair<TokenId, TokenId>, Merge>;

Merge Lookup(const Rules& rules, TokenId left, TokenId right) {
  const auto rule = rules.find({left, right});
  return rule == rules.end() ? Merge{} : rule->second;
}

// Looks at all pairs, merges the best, leftmost first; again.
std::vector<TokenId> MergePlainly(std::vector<TokenId> ids, const Rules& rules) {
  for (;;) {
    Merge best;
    size_t best_at = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const Merge merge = Lookup(rules, ids[i], ids[i + 1]);
      if (merge.id == kNoToken) continue;
      if (best.id == kNoToken || merge.order < best.order) {
        best = merge;
        best_at = i;
      }
    }
    if (best.id == kNoToken) return ids;
    ids[best_at] = best.id;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
  }
}

TEST(SymbolMerger, EqualsMergingByDefinition) {  // seed 7
  std::mt19937 random(7);
  for (int round = 0; round < 500; ++round) {
    Rules rules;
    TokenId next_id = 3;
    for (int i = 0; i < 20; ++i) {
      const std::pair<TokenId, TokenId> pair(random() % next_id, random() % next_id);
      // Few orders, so that many are equal.
      if (rules.contains(pair)) continue;
      rules[pair] = {.order = static_cast<double>(random() % 4), .id = next_id++};
    }
    SymbolMerger merger;
    std::vector<TokenId> ids;
    for (uint32_t i = 0; i < 60; ++i) {
      ids.push_back(static_cast<TokenId>(random() % 3));
      merger.Add(i, 1, ids.back());
    }
    std::vector<TokenId> merged;
    uint32_t end = 0;
    for (const Symbol& symbol : merger.Run([&](const Symbol&left, const Symbol&right) {
           return Lookup(rules, left.id, right.id);
         })) {
      if (symbol.bytes == 0) continue;
      EXPECT_EQ(symbol.begin, end);
      end += symbol.bytes;
      merged.push_back(symbol.id);
    }
    EXPECT_EQ(end, 60u);
    EXPECT_EQ(merged, MergePlainly(ids, rules));
  }
}

TEST(SymbolMerger, OfNothingGivesNothing) {
  SymbolMerger merger;
  EXPECT_TRUE(merger.Run([](const Symbol&, const Symbol&) { return Merge{}; }).empty());
}

}  // namespace
}  // namespace stoker
