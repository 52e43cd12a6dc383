// Copying every expert to the device, and noting what is told.
#include "tests/model/settled_experts.h"

#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace stoker {
namespace {

uint64_t AlignUp(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

StoreUse UseOf(int layer, absl::Span<const int32_t> experts, absl::Span<const int32_t> rows) {
  StoreUse use = {layer, {experts.begin(), experts.end()}, {rows.begin(), rows.end()}};
  if (use.rows.empty()) use.rows.assign(experts.size(), 1);
  return use;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SettledExperts>> SettledExperts::Create(ExpertProvider& host,
                                                                       ExpertProvider& others,
                                                                       const ExpertCatalog& catalog,
                                                                       Device& device) {
  std::unique_ptr<SettledExperts> experts(new SettledExperts(others, catalog, device));
  uint64_t bytes = 0;
  for (const LayerExperts& layer : catalog.layers) {
    for (int p = 0; p < layer.part_count; ++p) {
      bytes += AlignUp(layer.parts[p].bytes) * static_cast<uint64_t>(layer.expert_count);
    }
  }
  ASSIGN_OR_RETURN(experts->memory_, device.Take(bytes));
  experts->layers_.resize(static_cast<size_t>(catalog.layers.back().layer) + 1);
  std::byte* to = experts->memory_.data();
  for (const LayerExperts& layer : catalog.layers) {
    RETURN_IF_ERROR(experts->CopyLayer(host, layer, to));
  }
  return experts;
}

// Last expert first, so that an address that is guessed from another is wrong.
absl::Status SettledExperts::CopyLayer(ExpertProvider& host, const LayerExperts& experts,
                                       std::byte*& to) {
  Layer& layer = layers_[static_cast<size_t>(experts.layer)];
  layer.parts.resize(static_cast<size_t>(experts.expert_count) * kExpertPartsMax);
  for (int32_t e = experts.expert_count - 1; e >= 0; --e) {
    RETURN_IF_ERROR(host.Request(experts.layer, {&e, 1}));
    ExpertRef ref;
    CHECK(*host.Collect({&ref, 1}, Wait::kUntilOne) == 1);
    for (int p = 0; p < experts.part_count; ++p) {
      layer.parts[static_cast<size_t>(e * kExpertPartsMax + p)] = to;
      device_.CopyIn(Stream::kCopyIn, to, ref.part(p), experts.parts[p].bytes);
      to += AlignUp(experts.parts[p].bytes);
    }
  }
  layer.since = device_.Record(Stream::kCopyIn);
  return device_.Await(layer.since);
}

absl::Status SettledExperts::Request(int layer, absl::Span<const int32_t> experts,
                                     absl::Span<const int32_t> rows) {
  ++request_count_;
  uses_.push_back(UseOf(layer, experts, rows));
  return others_.Request(layer, experts, rows);
}

ResidentLayer SettledExperts::Resident(int layer) {
  if (!is_resident_(layer)) return {};
  const Layer& resident = layers_[static_cast<size_t>(layer)];
  return {.parts = resident.parts.data(), .since = resident.since};
}

void SettledExperts::NoteUses(int layer, absl::Span<const int32_t> experts,
                              absl::Span<const int32_t> rows) {
  if (hears_) uses_.push_back(UseOf(layer, experts, rows));
}

}  // namespace stoker
