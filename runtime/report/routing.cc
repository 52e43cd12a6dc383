// Entropy and reuse distances.
#include "runtime/report/routing.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace stoker {
namespace {

// The experts of a layer, most recently used first.
class RecencyList {
 public:
  // How many experts were used since this one; -1 at its first use. Moves it to the front.
  int Use(uint16_t expert) {
    const auto place = std::find(order_.begin(), order_.end(), expert);
    const int distance =
        place == order_.end() ? -1 : static_cast<int>(std::distance(order_.begin(), place));
    if (place == order_.end()) {
      order_.insert(order_.begin(), expert);
    } else {
      std::rotate(order_.begin(), place, place + 1);
    }
    return distance;
  }

 private:
  std::vector<uint16_t> order_;
};

void CountUses(const Trace& trace, std::vector<LayerRouting>& layers) {
  std::vector<RecencyList> recency(layers.size());
  for (const TraceRouting& routing : trace.routings) {
    const size_t index = static_cast<size_t>(routing.layer_index);
    LayerRouting& layer = layers[index];
    layer.top_k = std::max(layer.top_k, routing.top_k);
    for (int64_t i = 0; i < routing.id_count; ++i) {
      const uint16_t expert = trace.ids[static_cast<size_t>(routing.first_id + i)];
      if (expert >= layer.expert_count) continue;  // a place that holds no expert
      ++layer.uses[expert];
      ++layer.use_count;
      const int distance = recency[index].Use(expert);
      if (distance < 0) {
        ++layer.first_uses;
      } else {
        ++layer.reuses[static_cast<size_t>(distance)];
      }
    }
  }
}

// The distance that this share of those counted do not exceed; nearest rank.
int DistanceAt(const LayerRouting& layer, int percent) {
  const int64_t count = layer.use_count - layer.first_uses;
  const int64_t rank = std::max<int64_t>(1, (count * percent + 99) / 100);
  int64_t seen = 0;
  for (size_t d = 0; d < layer.reuses.size(); ++d) {
    seen += layer.reuses[d];
    if (seen >= rank) return static_cast<int>(d);
  }
  return 0;
}

void Summarize(LayerRouting& layer) {
  const double total = static_cast<double>(layer.use_count);
  for (const int64_t uses : layer.uses) {
    if (uses == 0) ++layer.unused_experts;
    if (uses == 0) continue;
    const double share = static_cast<double>(uses) / total;
    layer.entropy_bits -= share * std::log2(share);
  }
  if (layer.use_count == 0) return;
  layer.effective_experts = std::exp2(layer.entropy_bits);
  layer.entropy = layer.expert_count > 1 ? layer.entropy_bits / std::log2(layer.expert_count) : 1;

  std::vector<int64_t> sorted = layer.uses;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  for (int64_t seen = 0; 2 * seen < layer.use_count; ++layer.half_experts) {
    seen += sorted[static_cast<size_t>(layer.half_experts)];
  }
  const double limit = layer.top_k + kCollapseShare * (layer.expert_count - layer.top_k);
  layer.has_collapsed = layer.top_k < layer.expert_count &&
                        layer.use_count >= kCollapseUses * layer.expert_count &&
                        layer.effective_experts < limit;
  layer.reuse_p50 = DistanceAt(layer, 50);
  layer.reuse_p90 = DistanceAt(layer, 90);
}

std::vector<double> HitByRoom(const std::vector<LayerRouting>& layers) {
  std::vector<double> hits(101, 0);
  double total = 0;
  for (const LayerRouting& layer : layers) {
    total += static_cast<double>(layer.use_count);
    double below = 0;  // uses at a distance below `whole`
    size_t whole = 0;
    for (size_t percent = 0; percent < hits.size(); ++percent) {
      const double room = static_cast<double>(percent) / 100 * layer.expert_count;
      for (; static_cast<double>(whole + 1) <= room; ++whole) {
        below += static_cast<double>(layer.reuses[whole]);
      }
      const double part = room - static_cast<double>(whole);
      const double next =
          whole < layer.reuses.size() ? static_cast<double>(layer.reuses[whole]) : 0;
      hits[percent] += below + part * next;
    }
  }
  for (double& hit : hits) hit /= std::max(1.0, total);
  return hits;
}

}  // namespace

Routing AnalyzeRouting(const Trace& trace) {
  Routing routing = {.row_count = static_cast<int64_t>(trace.rows.size())};
  for (const TraceHeader::Layer& layer : trace.header.layers) {
    LayerRouting& added = routing.layers.emplace_back();
    added.layer = layer.layer;
    added.expert_count = layer.expert_count;
    added.uses.resize(static_cast<size_t>(layer.expert_count));
    added.reuses.resize(static_cast<size_t>(layer.expert_count));
  }
  CountUses(trace, routing.layers);
  for (LayerRouting& layer : routing.layers) Summarize(layer);
  routing.hit_by_room = HitByRoom(routing.layers);
  return routing;
}

}  // namespace stoker
