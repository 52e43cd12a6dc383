// Two curves and a rate.
#include "speculative/step_cost.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace stoker {
namespace {

double Between(int rows, int low, double at_low, int high, double at_high) {
  if (low == high) return at_low;
  return at_low + (at_high - at_low) * (rows - low) / (high - low);
}

// From next to nothing to something is many times as much, and says nothing of other sizes.
double Growth(double before, double now) { return before > 0 ? std::min(now / before, 2.0) : 1; }

}  // namespace

StepCost::StepCost(int rows_max, double missing_max)
    : rows_max_(rows_max), missing_max_(missing_max), curve_(static_cast<size_t>(rows_max) + 1) {}

void StepCost::Observe(const Sample& sample) {
  CHECK(sample.rows >= 1 && sample.rows <= rows_max_);
  Point& at = curve_[static_cast<size_t>(sample.rows)];
  const Point before = at;
  at.weight = std::min(at.weight, std::max(kStaleWeight, 2 * kMemory / (2 + at.age)));
  at.weight = std::min(at.weight + 1, kMemory);
  at.age = 0;
  at.is_sure |= WeightNear(sample.rows) >= kFirst;
  if (at.weight > 1 && at.weight <= kFirst) {
    at.compute_ns = std::min(at.compute_ns, sample.compute_ns);
    at.missing = std::min(at.missing, sample.missing);
  } else {
    at.compute_ns += (sample.compute_ns - at.compute_ns) / at.weight;
    at.missing += (sample.missing - at.missing) / at.weight;
  }
  const double keep = 1 - 1 / kMemory;
  wait_ns_ = wait_ns_ * keep + sample.wait_ns;
  missing_ = missing_ * keep + sample.missing;
  Drift drift;
  if (before.weight > kFirst) {
    drift = {.compute = Growth(before.compute_ns, at.compute_ns),
             .missing = Growth(before.missing, at.missing)};
  }
  Age(sample.rows, drift);
}

void StepCost::Doubt() {
  for (Point& at : curve_) {
    if (at.age < kDriftAge) continue;
    at.weight = std::min(at.weight, 1.0);
    at.is_sure = false;
  }
}

void StepCost::Age(int rows_now, const Drift& drift) {
  for (int rows = 1; rows <= rows_max_; ++rows) {
    Point& at = curve_[static_cast<size_t>(rows)];
    if (rows == rows_now || at.weight == 0) continue;
    at.weight *= 1 - kForgetting;
    at.age = std::min(at.age + 1, kDriftAge);
    const double share = static_cast<double>(at.age) / kDriftAge;
    at.compute_ns *= 1 + (drift.compute - 1) * share;
    // What is missing depends more on the cache than on the size.
    at.missing *= 1 + (drift.missing - 1) * (1 + share) / 2;
    at.missing = std::min(at.missing, missing_max_ * rows);
    if (at.weight < kWeightMin) at = {};
  }
}

double StepCost::WeightNear(int rows) const {
  double weight = 0;
  for (int r = (3 * rows + 3) / 4; r <= std::min(5 * rows / 4, rows_max_); ++r) {
    weight += point(r).weight;
  }
  return weight;
}

int StepCost::SureRows() const {
  for (int rows = rows_max_; rows >= 1; --rows) {
    if (point(rows).is_sure) return rows;
  }
  return 0;
}

double StepCost::ComputeNs(int rows) const {
  const double all = ComputeNs(rows, kWeightMin);
  const double sure = ComputeNs(rows, kFirst);
  return sure > 0 ? std::min(all, sure) : all;
}

// By the sizes that have at least this weight.
double StepCost::ComputeNs(int rows, double weight_min) const {
  const int low = Below(rows, weight_min), high = Above(rows, weight_min);
  if (low != 0 && high != 0) {
    return Between(rows, low, point(low).compute_ns, high, point(high).compute_ns);
  }
  if (low == 0 && high == 0) return 0;
  const int end = low != 0 ? low : high;
  double slope = kRowShare * point(end).compute_ns / end;
  const int inner = low != 0 ? Below(end - 1, weight_min) : Above(end + 1, weight_min);
  if (inner != 0) {
    slope = (point(end).compute_ns - point(inner).compute_ns) / (end - inner);
  }
  // A step of more rows is not quicker; where it seemed so, that was noise.
  return std::max(0.0, point(end).compute_ns + std::max(0.0, slope) * (rows - end));
}

double StepCost::Missing(int rows) const {
  const int low = Below(rows, kWeightMin), high = Above(rows, kWeightMin);
  if (low == 0 && high == 0) return 0;
  if (low != 0 && high != 0) {
    return Between(rows, low, point(low).missing, high, point(high).missing);
  }
  const int end = low != 0 ? low : high;
  const double grown =
      point(end).missing * std::pow(static_cast<double>(rows) / end, kUnionExponent);
  return std::min(grown, missing_max_ * rows);
}

int StepCost::Below(int rows, double weight_min) const {
  for (int r = std::min(rows, rows_max_); r >= 1; --r) {
    if (point(r).weight >= weight_min) return r;
  }
  return 0;
}

int StepCost::Above(int rows, double weight_min) const {
  for (int r = std::max(rows, 1); r <= rows_max_; ++r) {
    if (point(r).weight >= weight_min) return r;
  }
  return 0;
}

}  // namespace stoker
