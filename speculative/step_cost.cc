// Two curves and a line.
#include "speculative/step_cost.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"

namespace stoker {
namespace {

// A slope is taken over at least so much of a size: over less it is mostly noise.
constexpr double kInner = 0.9;
// Steps whose missing experts lie as far from the mean as none at all, that the line of waiting
// must outweigh before it leaves the origin.
constexpr double kLinePrior = 1;
// Steps of a size that must miss more or less than the shadow tells before it is believed of
// others.
constexpr double kTextPrior = 2;

double Between(double rows, double low, double at_low, double high, double at_high) {
  if (low == high) return at_low;
  return at_low + (at_high - at_low) * (rows - low) / (high - low);
}

// From next to nothing to something is many times as much, and says nothing of other sizes.
double Growth(double before, double now) { return before > 0 ? std::min(now / before, 2.0) : 1; }

}  // namespace

StepCost::StepCost(int rows_max, double missing_max, const ShadowCache* shadow)
    : rows_max_(rows_max),
      missing_max_(missing_max),
      shadow_(shadow),
      curve_(SizeOf(rows_max) + 1) {}

size_t StepCost::SizeOf(int rows) {
  if (rows <= kExactRows) return static_cast<size_t>(rows);
  const int doublings = std::bit_width(static_cast<unsigned>(rows)) - 4;  // its top four bits
  return static_cast<size_t>(8 * doublings + (rows >> doublings));
}

void StepCost::Line::Add(double new_x, double new_y) {
  for (double* sum : {&count, &x, &y, &xx, &xy}) *sum *= 1 - 1 / kWaitMemory;
  count += 1;
  x += new_x;
  y += new_y;
  xx += new_x * new_x;
  xy += new_x * new_y;
}

void StepCost::Observe(const Sample& sample) {
  CHECK(sample.rows >= 1 && sample.rows <= rows_max_);
  const double expected = ExpectedMissing(sample);
  if (HasUnions() && sample.rows == sample.text_rows) {
    missing_ = missing_ * (1 - 1 / kMemory) + sample.missing;
    unions_ = unions_ * (1 - 1 / kMemory) + shadow_->UnionOf(sample.rows);
  }
  Point& at = curve_[SizeOf(sample.rows)];
  const Point before = at;
  at.weight = std::min(at.weight, std::max(kStaleWeight, 2 * kMemory / (2 + at.age)));
  at.weight = std::min(at.weight + 1, kMemory);
  at.age = 0;
  const bool is_of_first = at.weight > 1 && at.weight <= kFirst;
  if (is_of_first) {
    const double to_size = at.rows / sample.rows;
    at.compute_ns = std::min(at.compute_ns, sample.compute_ns * to_size);
  } else {
    at.rows += (sample.rows - at.rows) / at.weight;
    at.compute_ns += (sample.compute_ns - at.compute_ns) / at.weight;
  }
  if (is_of_first && expected == 0) {
    at.missing = std::min(at.missing, sample.missing * at.rows / sample.rows);
  } else {
    at.missing += (sample.missing - at.missing) / at.weight;
    at.expected += (expected - at.expected) / at.weight;
  }
  at.is_sure |= WeightNear(sample.rows) >= kFirst;
  waits_.Add(sample.missing, sample.wait_ns);
  Drift drift;
  if (before.weight > kFirst) {
    const double rows = before.rows / at.rows;
    drift = {.compute = Growth(before.compute_ns, at.compute_ns * rows),
             .missing = Growth(before.missing, at.missing * rows)};
  }
  Age(at, drift);
}

// What a step of such a text would have missed if the shadow told the whole truth.
double StepCost::ExpectedMissing(const Sample& sample) const {
  if (!HasUnions()) return 0;
  const bool is_told = sample.text_missing >= 0;
  if (!is_told && unions_ == 0) return 0;
  // One step may miss many times as many as the last few did: its own moment counts.
  const double of_one =
      is_told ? sample.text_missing / shadow_->UnionOf(sample.text_rows) : missing_ / unions_;
  return of_one * shadow_->UnionOf(sample.rows);
}

// What steps of about so many rows missed by what was expected of them; 1 weighs like a few.
double StepCost::RatioToText(int rows) const {
  const auto ratio_of = [](const Point& at) {
    const double prior = kTextPrior * at.expected;
    if (prior <= 0) return 1.0;
    return (at.weight * at.missing + prior) / (at.weight * at.expected + prior);
  };
  const Point* const low = Below(rows, Which::kSeen);
  const Point* const high = Above(rows, Which::kSeen);
  if (low != nullptr && high != nullptr) {
    return Between(rows, low->rows, ratio_of(*low), high->rows, ratio_of(*high));
  }
  return low != nullptr ? ratio_of(*low) : high != nullptr ? ratio_of(*high) : 1;
}

void StepCost::Doubt() {
  for (Point& at : curve_) {
    if (at.age < kDriftAge) continue;
    at.weight = std::min(at.weight, 1.0);
    at.is_sure = false;
  }
}

void StepCost::Age(const Point& now, const Drift& drift) {
  for (Point& at : curve_) {
    if (&at == &now || at.weight == 0) continue;
    at.weight *= 1 - kForgetting;
    at.age = std::min(at.age + 1, kDriftAge);
    if (at.weight < kWeightMin) at = {};
    const double share = static_cast<double>(at.age) / kDriftAge;
    at.compute_ns *= 1 + (drift.compute - 1) * share;
    if (at.expected > 0) continue;
    // What is missing depends more on the cache than on the size.
    at.missing *= 1 + (drift.missing - 1) * (1 + share) / 2;
    at.missing = std::min(at.missing, missing_max_ * at.rows);
  }
}

double StepCost::WeightNear(int rows) const {
  double weight = 0;
  for (const Point& at : curve_) {
    if (4 * at.rows >= 3 * rows && 4 * at.rows <= 5 * rows) weight += at.weight;
  }
  return weight;
}

int StepCost::SureRows() const {
  for (size_t size = curve_.size() - 1; size > 0; --size) {
    if (curve_[size].is_sure) return static_cast<int>(curve_[size].rows);
  }
  return 0;
}

double StepCost::ComputeNs(int rows) const {
  const double seen = ComputeNs(rows, Which::kSeen);
  const double sure = ComputeNs(rows, Which::kSure);
  return sure > 0 ? std::min(seen, sure) : seen;
}

double StepCost::ComputeNs(int rows, Which which) const {
  const Point* const low = Below(rows, which);
  const Point* const high = Above(rows, which);
  if (low != nullptr && high != nullptr) {
    return Between(rows, low->rows, low->compute_ns, high->rows, high->compute_ns);
  }
  if (low == nullptr && high == nullptr) return 0;
  const Point& end = low != nullptr ? *low : *high;
  const Point* const inner =
      low != nullptr ? Below(kInner * end.rows, which) : Above(end.rows / kInner, which);
  double slope = kRowShare * end.compute_ns / end.rows;
  if (inner != nullptr) slope = (end.compute_ns - inner->compute_ns) / (end.rows - inner->rows);
  // A step of more rows is not quicker, and one of fewer not quicker a row; where it seemed so,
  // that was noise.
  if (low == nullptr) slope = std::min(slope, end.compute_ns / end.rows);
  return end.compute_ns + std::max(0.0, slope) * (rows - end.rows);
}

double StepCost::Missing(int rows) const {
  if (HasUnions() && unions_ > 0) {
    const double of_text = missing_ / unions_ * shadow_->UnionOf(rows);
    return std::min(of_text * RatioToText(rows), missing_max_ * rows);
  }
  const Point* const low = Below(rows, Which::kSeen);
  const Point* const high = Above(rows, Which::kSeen);
  if (low != nullptr && high != nullptr) {
    return Between(rows, low->rows, low->missing, high->rows, high->missing);
  }
  if (low == nullptr && high == nullptr) return 0;
  const Point& end = low != nullptr ? *low : *high;
  const double grown = end.missing * std::pow(rows / end.rows, kUnionExponent);
  return std::min(grown, missing_max_ * rows);
}

// Least squares, between the line that rises with the mean, which is a few steps' prior, and a flat
// one.
double StepCost::WaitNs(double missing) const {
  if (waits_.x == 0) return 0;
  const double mean = waits_.x / waits_.count;
  const double through_zero = wait_per_missing_ns();
  const double spread = waits_.xx - waits_.x * mean;
  const double together = waits_.xy - waits_.y * mean;
  const double prior = kLinePrior * mean * mean;
  const double slope =
      std::clamp((together + prior * through_zero) / (spread + prior), 0.0, through_zero);
  return slope * missing + (through_zero - slope) * mean * std::min(1.0, missing);
}

bool StepCost::Has(const Point& at, Which which) {
  return which == Which::kSure ? at.is_sure : at.weight > 0;
}

const StepCost::Point* StepCost::Below(double rows, Which which) const {
  for (size_t size = SizeOf(std::min(static_cast<int>(rows), rows_max_)); size > 0; --size) {
    const Point& at = curve_[size];
    if (Has(at, which) && at.rows <= rows) return &at;
  }
  return nullptr;
}

const StepCost::Point* StepCost::Above(double rows, Which which) const {
  for (size_t size = SizeOf(std::max(static_cast<int>(rows), 1)); size < curve_.size(); ++size) {
    const Point& at = curve_[size];
    if (Has(at, which) && at.rows >= rows) return &at;
  }
  return nullptr;
}

}  // namespace stoker
