// Quotas, and who gives way when they do not settle it.
#include "cache/policies/per_layer.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/check.h"

namespace stoker {
namespace {

// Proportional to the layers' experts, rounded down, what is left going to the first layers; at
// least 1, at most what the layer has.
std::vector<int64_t> Quotas(const PolicyShape& shape) {
  int64_t expert_count = 0;
  for (const PolicyShape::Layer& layer : shape.layers) expert_count += layer.expert_count;
  std::vector<int64_t> quotas;
  int64_t left = shape.slot_count;
  for (const PolicyShape::Layer& layer : shape.layers) {
    const int64_t share =
        shape.slot_count * layer.expert_count / std::max<int64_t>(expert_count, 1);
    quotas.push_back(std::clamp<int64_t>(share, 1, std::max<int64_t>(layer.expert_count, 1)));
    left -= quotas.back();
  }
  for (bool is_any = true; is_any && left > 0;) {
    is_any = false;
    for (size_t l = 0; l < quotas.size() && left > 0; ++l) {
      if (quotas[l] >= shape.layers[l].expert_count) continue;
      ++quotas[l];
      --left;
      is_any = true;
    }
  }
  return quotas;
}

// Adds up what several objects of one policy report, name by name.
class ReportSum final : public CounterVisitor {
 public:
  void Counter(std::string_view name, uint64_t value) override {
    Add(name, static_cast<double>(value), true);
  }
  void Gauge(std::string_view name, double value) override { Add(name, value, false); }
  void Tell(CounterVisitor& visitor) const {
    for (int i = 0; i < count_; ++i) {
      const Sum& sum = sums_[i];
      if (sum.is_counter) {
        visitor.Counter(sum.name, static_cast<uint64_t>(sum.value));
      } else {
        visitor.Gauge(sum.name, sum.value);
      }
    }
  }

 private:
  static constexpr int kNamesMax = 64;
  struct Sum {
    std::string_view name;  // of the policies' own, which are constants
    double value = 0;
    bool is_counter = false;
  };
  void Add(std::string_view name, double value, bool is_counter) {
    int i = 0;
    while (i < count_ && sums_[i].name != name) ++i;
    CHECK(i < kNamesMax);
    if (i == count_) sums_[count_++] = {.name = name, .is_counter = is_counter};
    sums_[i].value += value;
  }
  std::array<Sum, kNamesMax> sums_;
  int count_ = 0;
};

}  // namespace

PerLayerPolicy::PerLayerPolicy(const PolicyRow& row, const PolicyShape& shape,
                               absl::Span<const double> values)
    : index_(shape) {
  const std::vector<int64_t> quotas = Quotas(shape);
  for (size_t l = 0; l < shape.layers.size(); ++l) {
    const PolicyShape::Layer& of = shape.layers[l];
    const PolicyShape::Layer alone = {.first_key = 0, .expert_count = of.expert_count};
    const PolicyShape layer_shape = {
        .key_count = of.expert_count,
        .slot_count = quotas[l],
        .layers = {&alone, 1},
        .profile = shape.profile.empty() ? shape.profile
                                         : shape.profile.subspan(of.first_key, of.expert_count)};
    layers_.push_back(
        {.first_key = of.first_key, .quota = quotas[l], .policy = row.make(layer_shape, values)});
  }
}

void PerLayerPolicy::BeginRequest() {
  for (Layer& layer : layers_) layer.policy->BeginRequest();
}

void PerLayerPolicy::Inserted(ExpertKey key, Arrival arrival) {
  Layer& layer = LayerOf(key);
  ++layer.resident_count;
  layer.policy->Inserted(key - layer.first_key, arrival);
}

void PerLayerPolicy::Touched(ExpertKey key) {
  Layer& layer = LayerOf(key);
  layer.policy->Touched(key - layer.first_key);
}

void PerLayerPolicy::Removed(ExpertKey key) {
  Layer& layer = LayerOf(key);
  --layer.resident_count;
  layer.policy->Removed(key - layer.first_key);
}

// Layers other than the newcomer's have not seen it: to them it is as good as any key of theirs.
ExpertKey PerLayerPolicy::PickFrom(Layer& layer, ExpertKey incoming, Evictable evictable) {
  const ExpertKey victim = layer.policy->PickVictim(
      incoming, [&](ExpertKey key) { return evictable(layer.first_key + key); });
  return victim < 0 ? victim : layer.first_key + victim;
}

ExpertKey PerLayerPolicy::PickVictim(ExpertKey incoming, Evictable evictable) {
  Layer& own = LayerOf(incoming);
  Layer* fullest = nullptr;
  for (Layer& layer : layers_) {
    const int64_t excess = layer.resident_count - layer.quota;
    if (excess <= 0) continue;
    if (fullest == nullptr || excess > fullest->resident_count - fullest->quota) fullest = &layer;
  }
  ExpertKey victim = -1;
  const auto pick = [&](Layer& layer) {
    victim = PickFrom(layer, &layer == &own ? incoming - own.first_key : 0, evictable);
    return victim >= 0;
  };
  if (fullest != nullptr && pick(*fullest)) return victim;
  if (pick(own)) return victim;
  for (Layer& layer : layers_) {
    if (pick(layer)) return victim;
  }
  return -1;
}

ExpertKey PerLayerPolicy::PickCrowded(ExpertKey incoming, Evictable evictable) {
  Layer& layer = LayerOf(incoming);
  if (layer.resident_count < layer.quota) return -1;
  return PickFrom(layer, incoming - layer.first_key, evictable);
}

void PerLayerPolicy::Report(CounterVisitor& visitor) const {
  ReportSum sum;
  for (const Layer& layer : layers_) layer.policy->Report(sum);
  sum.Tell(visitor);
}

}  // namespace stoker
