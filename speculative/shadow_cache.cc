// A ring of keys in the order of their use.
#include "speculative/shadow_cache.h"

#include <algorithm>

#include "model/model.h"

namespace stoker {
namespace {

// Of an expert.
constexpr double kNothing = 1e-30;

}  // namespace

ShadowCache::ShadowCache(const ExpertCatalog& catalog, const Options& options)
    : options_(options), has_routed_(catalog.layers.size()) {
  int32_t key = 0;
  for (const LayerExperts& layer : catalog.layers) {
    layer_index_.resize(static_cast<size_t>(layer.layer) + 1, -1);
    layer_index_.back() = static_cast<int>(first_key_.size());
    first_key_.push_back(key);
    key += layer.expert_count;
  }
  entries_.resize(static_cast<size_t>(key) + 1);
  entries_.back() = {.newer = key, .older = key};
  chosen_.resize(catalog.layers.size() * static_cast<size_t>(options.rows_max) *
                 static_cast<size_t>(options.top_k));
  gone_.resize(static_cast<size_t>(key));
  missing_.resize(static_cast<size_t>(options.rows_max) + 1);
  union_.resize(missing_.size());
}

uint64_t ShadowCache::PlanBytes(const ExpertCatalog& catalog, const Options& options) {
  const uint64_t layers = catalog.layers.size();
  const int last_layer = catalog.layers.empty() ? 0 : catalog.layers.back().layer;
  return sizeof(ShadowCache) + (static_cast<uint64_t>(last_layer) + 1) * sizeof(int) +
         layers * (sizeof(int32_t) + 1) +
         (static_cast<uint64_t>(catalog.expert_count()) + 1) * (sizeof(Entry) + sizeof(uint32_t)) +
         2 * (static_cast<uint64_t>(options.rows_max) + 1) * sizeof(double) +
         layers * static_cast<uint64_t>(options.rows_max) * static_cast<uint64_t>(options.top_k) *
             sizeof(uint16_t);
}

void ShadowCache::OnStep(absl::Span<const StepRow> rows) {
  const int count = static_cast<int>(rows.size());
  rows_ = count <= options_.rows_max ? count : 0;
  std::fill(has_routed_.begin(), has_routed_.end(), false);
}

void ShadowCache::OnRouting(int layer, int top_k, absl::Span<const int32_t> experts,
                            absl::Span<const float>) {
  const auto place = static_cast<size_t>(layer);
  const bool is_known = place < layer_index_.size() && layer_index_[place] >= 0;
  if (!is_known || top_k != options_.top_k || rows_ * top_k != static_cast<int>(experts.size())) {
    return;
  }
  const auto index = static_cast<size_t>(layer_index_[place]);
  has_routed_[index] = true;
  std::copy(experts.begin(), experts.end(),
            chosen_.begin() + static_cast<ptrdiff_t>(index) * options_.rows_max * options_.top_k);
}

int ShadowCache::Use(int first_row, int count) {
  int missing = 0;
  for (int row = first_row; row < std::min(first_row + count, rows_); ++row) {
    ++time_;
    // Not down to numbers that are slow to compute with.
    for (double& seen : missing_) seen = seen > kNothing ? seen * (1 - 1 / kMemory) : 0;
    for (size_t index = 0; index < first_key_.size(); ++index) {
      if (!has_routed_[index]) continue;
      const uint16_t* const chosen =
          chosen_.data() +
          (static_cast<ptrdiff_t>(index) * options_.rows_max + row) * options_.top_k;
      for (int k = 0; k < options_.top_k; ++k) {
        missing += UseOne(first_key_[index] + chosen[k]) ? 0 : 1;
      }
    }
  }
  SumUnions();
  return missing;
}

// A row is at each place of a step as often as at any other.
void ShadowCache::SumUnions() {
  double sum = 0, missing_at = 0;
  for (const double seen : missing_) missing_at += seen;
  const double missing_first = missing_at;
  for (size_t place = 0; place + 1 < missing_.size() && missing_first > 0; ++place) {
    if (place > 0) missing_at -= missing_[place];
    sum += missing_at / missing_first;
    union_[place + 1] = sum;
  }
}

// By how long it has been gone; within a row that is one row, as rows are not cut.
void ShadowCache::NoteMissing(int32_t key) {
  const uint32_t gone = gone_[static_cast<size_t>(key)];
  const auto longest = static_cast<uint32_t>(missing_.size()) - 1;
  const uint32_t rows = gone == 0 ? longest : std::min(std::max(time_ - gone, 1u), longest);
  missing_[rows] += 1;
}

// Whether it was in memory.
bool ShadowCache::UseOne(int32_t key) {
  Entry& entry = entries_[static_cast<size_t>(key)];
  const bool is_resident = entry.newer != kNone;
  if (is_resident) {
    Unlink(key);
  } else {
    NoteMissing(key);
    if (resident_ < options_.slot_count) {
      ++resident_;
    } else {
      const int32_t oldest = entries_.back().newer;
      Unlink(oldest);
      gone_[static_cast<size_t>(oldest)] = time_;
    }
  }
  const int32_t latest = entries_.back().older;
  entry = {.newer = end(), .older = latest};
  entries_[static_cast<size_t>(latest)].newer = key;
  entries_.back().older = key;
  return is_resident;
}

void ShadowCache::Unlink(int32_t key) {
  Entry& entry = entries_[static_cast<size_t>(key)];
  entries_[static_cast<size_t>(entry.newer)].older = entry.older;
  entries_[static_cast<size_t>(entry.older)].newer = entry.newer;
  entry = {};
}

}  // namespace stoker
