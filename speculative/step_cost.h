// What a step of so many rows takes, from what steps took.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "speculative/shadow_cache.h"

namespace stoker {

// A step's time in three parts, each followed by itself, because they change for different reasons:
//
//     time(rows) = compute(rows) + wait(missing(rows))
//
// compute: everything but waiting for experts; a curve over the rows. missing: experts that the
// union of the rows' choices asks for and that are not in memory; a curve as well. Both curves are
// means at the sizes that were seen, and lines between. Beyond those, compute goes on with the
// slope of its last piece, and missing grows as the union does. With a shadow, missing is what the
// text of late would miss in a step of that size (ShadowCache::UnionOf), on one scale for all
// sizes, times what steps of about that size missed by that: wrong drafts ask for what the text
// does not, and wide steps push out what they are about to use. wait: a line through what steps
// waited, whatever their size, for reads that are under way together do not take as long as one
// after another; it is at worst a multiple of what is missing. A size is a number of rows up to
// kExactRows; beyond, an eighth of a doubling, as a batch hardly has a step of just as many rows
// twice.
//
// The first step of a size finds caches cold, and one bad sample must not count for hundreds of
// steps: of the first few the least counts, and until there are as many, of the size or about it,
// the computing time that other sizes suggest counts where that is less. What has not been seen for
// long is forgotten, because caches fill and texts change; so what was once too dear is tried
// again. Meanwhile it moves with what is seen, the longer ago the more: a machine that others use
// too is slower or quicker for all sizes, and a cache that fills has fewer experts missing. Seen
// again after long, what it was before counts for little.
//
// The union of n consecutive tokens is about n^0.67 times one token's: 1.6, 2.7 and 4.0 times for
// 2, 4 and 8 were measured on published models of 128 to 256 experts.
class StepCost {
 public:
  static constexpr double kUnionExponent = 0.67;
  // Of one row more in a step of n, before a second row count was seen: compute grows by this share
  // of compute(n) / n. Rather too little than too much: what looks cheap is tried, and known after
  // a few steps; what looks dear never is.
  static constexpr double kRowShare = 0.25;
  static constexpr int kExactRows = 16;

  struct Sample {
    int rows = 0;
    double compute_ns = 0;
    double wait_ns = 0;  // for experts
    double missing = 0;  // experts
    // With a shadow: what a step of the text of this very moment would have missed without drafts;
    // below 0: not known.
    double text_missing = -1;
    int text_rows = 1;  // of that step
  };
  // Steps have at most `rows_max` rows, and a row misses at most `missing_max` experts. `shadow`
  // may be null; else it outlives this object.
  StepCost(int rows_max, double missing_max, const ShadowCache* shadow = nullptr);
  static uint64_t PlanBytes(int rows_max) { return (SizeOf(rows_max) + 1) * sizeof(Point); }

  void Observe(const Sample& sample);
  // What was not seen for a while may be otherwise by now: it is not sure, and soon replaced.
  void Doubt();
  // Whether steps of about this size, a quarter more or less, were seen, and not too long ago.
  bool IsKnown(int rows) const { return WeightNear(rows) > 0; }
  // The largest size that was, often enough to be believed; 0: none.
  int SureRows() const;
  // Zero while nothing was seen.
  double ComputeNs(int rows) const;
  double Missing(int rows) const;
  double WaitNs(double missing) const;  // of a step
  double Ns(int rows) const { return ComputeNs(rows) + WaitNs(Missing(rows)); }
  double wait_per_missing_ns() const { return waits_.x > 0 ? waits_.y / waits_.x : 0; }

 private:
  static constexpr double kFirst = 3;               // steps of a size whose least time counts
  static constexpr double kMemory = 16;             // steps of a size
  static constexpr double kWaitMemory = 32;         // steps of any size
  static constexpr double kForgetting = 1.0 / 256;  // of a weight, in each step of another size
  static constexpr double kWeightMin = 0.5;         // below it a size is forgotten
  static constexpr int kDriftAge = 32;              // steps after which a size moves with others
  static constexpr double kStaleWeight = 3;         // at least, of a size not seen for long
  struct Point {
    double rows = 0;  // mean
    double weight = 0;
    double compute_ns = 0;
    double missing = 0;
    double expected = 0;   // missing, by the shadow
    int age = 0;           // steps since, up to kDriftAge
    bool is_sure = false;  // was seen kFirst times, or sizes about it
  };
  // By what factors what was seen has changed the curves where it was seen.
  struct Drift {
    double compute = 1;
    double missing = 1;
  };
  // Fading sums of points, x what was missing and y what was waited.
  struct Line {
    void Add(double new_x, double new_y);
    double count = 0, x = 0, y = 0, xx = 0, xy = 0;
  };
  static size_t SizeOf(int rows);
  bool HasUnions() const { return shadow_ != nullptr && shadow_->UnionOf(1) > 0; }
  double ExpectedMissing(const Sample& sample) const;
  double RatioToText(int rows) const;
  void Age(const Point& now, const Drift& drift);
  // Of which sizes a curve is made.
  enum class Which : uint8_t { kSeen, kSure };
  static bool Has(const Point& at, Which which);
  double ComputeNs(int rows, Which which) const;
  double WeightNear(int rows) const;
  // The nearest of those sizes that has at most so many rows, and at least; null: none.
  const Point* Below(double rows, Which which) const;
  const Point* Above(double rows, Which which) const;

  const int rows_max_;
  const double missing_max_;
  const ShadowCache* const shadow_;
  std::vector<Point> curve_;  // by size; [0] is not used
  Line waits_;
  // Fading, of steps without drafts: what was missing, and what it is multiples of
  // (ShadowCache::UnionOf).
  double missing_ = 0;
  double unions_ = 0;
};

}  // namespace stoker
