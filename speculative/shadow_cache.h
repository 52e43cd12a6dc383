// What the text alone would miss in a cache of experts: the other side of the scales on which
// drafts are weighed.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/expert_catalog.h"
#include "model/step_observer.h"

namespace stoker {

// Wrong drafts push experts out that the text would have found, and all drafts bring some in early.
// So what a step without drafts misses in a cache that has seen drafts is not what it would miss
// had there been none, and a few such steps in a row do not tell: a cache takes as long to settle
// as its slots take to be used once. This is that other cache: the least recently used of as many
// slots, without the experts' bytes, played only rows whose tokens have turned out right. The store
// may have another policy, layers with floors and guesses that come in time: the ratio of what the
// two miss while nothing is drafted is the caller's to know.
//
// It also tells what rows that follow each other would miss if they were one step, which need not
// be tried: an expert that a row finds missing was there when the step of the `j` rows before it
// began, if it went less than `j` rows ago. So one pass serves steps of all sizes, as one over
// stack distances serves caches of all sizes (Mattson et al., 1970).
//
// One thread. Some nanoseconds for each expert of a row, and a pass over rows_max numbers for each
// row; allocates nothing after creation.
class ShadowCache final : public StepObserver {
 public:
  struct Options {
    int64_t slot_count = 0;
    int rows_max = 0;  // of a step; wider ones are passed over
    int top_k = 0;     // experts that a row uses in a layer
  };
  ShadowCache(const ExpertCatalog& catalog, const Options& options);
  static uint64_t PlanBytes(const ExpertCatalog& catalog, const Options& options);

  void OnStep(absl::Span<const StepRow> rows) override;
  void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts,
                 absl::Span<const float> weights) override;

  // These rows of the step, one after another, are of the text. How many of their experts were
  // missing.
  int Use(int first_row, int count);

  // What a step of so many rows, up to rows_max, of text as it was of late would miss, by what one
  // of a single row would; 0: nothing has been missing yet.
  double UnionOf(int rows) const { return union_[static_cast<size_t>(rows)]; }

 private:
  static constexpr double kMemory = 64;  // rows
  // An expert, in a ring with one entry more that is between the latest and the oldest; kNone in
  // both: not in memory.
  struct Entry {
    int32_t newer = kNone;
    int32_t older = kNone;
  };
  static constexpr int32_t kNone = -1;
  int32_t end() const { return static_cast<int32_t>(entries_.size()) - 1; }
  bool UseOne(int32_t key);
  void Unlink(int32_t key);
  void NoteMissing(int32_t key);
  void SumUnions();

  const Options options_;
  std::vector<int> layer_index_;    // by layer; -1: has no routed experts
  std::vector<int32_t> first_key_;  // by layer index
  std::vector<Entry> entries_;      // by key
  int64_t resident_ = 0;
  int rows_ = 0;                  // of the running step, 0 where it is too wide
  std::vector<uint16_t> chosen_;  // [layer index, rows_max, top_k]
  std::vector<bool> has_routed_;  // by layer index, in the running step
  uint32_t time_ = 0;             // in rows
  std::vector<uint32_t> gone_;    // by key: when it was pushed out; 0: never
  std::vector<double> missing_;   // by rows since, up to rows_max and more: a fading count
  std::vector<double> union_;     // see UnionOf, [rows_max + 1]
};

}  // namespace stoker
