// Shuffling experts and copying some to the device.
#include "tests/model/placed_experts.h"

#include <algorithm>

#include "base/check.h"
#include "base/status.h"

namespace stoker {
namespace {

constexpr uint64_t kAlignment = 64;

uint64_t AlignUp(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

absl::StatusOr<std::unique_ptr<PlacedExperts>> PlacedExperts::Create(ExpertProvider& host,
                                                                     const ExpertCatalog& catalog,
                                                                     Device& device,
                                                                     const Options& options) {
  std::unique_ptr<PlacedExperts> experts(new PlacedExperts(host, catalog, device, options));
  uint64_t slot_bytes = 0;
  size_t experts_max = 0;
  for (const LayerExperts& layer : catalog.layers) {
    // Each part a little off its border, as a superset of file blocks puts it.
    slot_bytes = std::max(
        slot_bytes, AlignUp(ExpertCatalog::ExpertBytes(layer)) + 2 * kAlignment * kExpertPartsMax);
    experts_max = std::max(experts_max, static_cast<size_t>(layer.expert_count));
  }
  const int slot_count = options.pins + 1;
  ASSIGN_OR_RETURN(experts->memory_, device.Take(slot_bytes * static_cast<uint64_t>(slot_count)));
  experts->slots_.resize(static_cast<size_t>(slot_count));
  for (int32_t s = 0; s < slot_count; ++s) {
    experts->slots_[static_cast<size_t>(s)].memory =
        experts->memory_.data() + static_cast<uint64_t>(s) * slot_bytes;
    experts->free_slots_.push_back(s);
  }
  experts->host_parts_.resize(experts_max);
  experts->waiting_.reserve(experts_max);
  return experts;
}

absl::Status PlacedExperts::Request(int layer, absl::Span<const int32_t> experts,
                                    absl::Span<const int32_t> rows) {
  CHECK(waiting_.empty() && held_ == 0 && rows.size() == experts.size());
  layer_ = layer;
  waiting_.assign(experts.begin(), experts.end());
  std::shuffle(waiting_.begin(), waiting_.end(), random_);
  for (const int32_t row_count : rows) rows_asked_ += row_count;
  for (const int32_t expert : experts) {
    RETURN_IF_ERROR(host_.Request(layer, {&expert, 1}));
    ExpertRef ref;
    CHECK(*host_.Collect({&ref, 1}, Wait::kUntilOne) == 1);
    for (int p = 0; p < catalog_.Find(layer)->part_count; ++p) {
      host_parts_[static_cast<size_t>(expert)].at[p] = ref.part(p);
    }
  }
  return absl::OkStatus();
}

ExpertRef PlacedExperts::PlaceOnDevice(int32_t expert) {
  const LayerExperts& layer = *catalog_.Find(layer_);
  const int32_t s = free_slots_.front();  // the one that was let go of first
  free_slots_.erase(free_slots_.begin());
  Slot& slot = slots_[static_cast<size_t>(s)];
  device_.WaitFor(Stream::kCopyIn, slot.free_after);
  std::byte* to = slot.memory + 32 * (expert % 2);
  for (int p = 0; p < layer.part_count; ++p) {
    slot.parts.at[p] = to;
    device_.CopyIn(Stream::kCopyIn, to, host_parts_[static_cast<size_t>(expert)].at[p],
                   layer.parts[p].bytes);
    to += AlignUp(layer.parts[p].bytes);
  }
  const DeviceEvent ready = device_.Record(Stream::kCopyIn);
  if (random_() % 2 == 0) (void)device_.Await(ready);
  return ExpertRef(this, s, {layer_, expert}, slot.parts.at, ready);
}

absl::StatusOr<int> PlacedExperts::Collect(absl::Span<ExpertRef> out, Wait wait) {
  if (wait == Wait::kNo && random_() % 3 == 0) return 0;
  const auto at_most = static_cast<int>(1 + random_() % out.size());
  int count = 0;
  for (; count < at_most && !waiting_.empty(); ++count) {
    CHECK(++held_ <= options_.pins);
    const int32_t expert = waiting_.back();
    waiting_.pop_back();
    const bool on_device = options_.places == Places::kDevice ||
                           (options_.places == Places::kMixed && random_() % 2 == 0);
    (on_device ? device_count_ : host_count_) += 1;
    out[static_cast<size_t>(count)] =
        on_device
            ? PlaceOnDevice(expert)
            : ExpertRef(this, -1, {layer_, expert}, host_parts_[static_cast<size_t>(expert)].at);
  }
  return count;
}

void PlacedExperts::NoteHostCompute(uint64_t bytes, uint64_t row_bytes, int64_t ns) {
  CHECK(ns >= 0);
  noted_bytes_ += bytes;
  noted_row_bytes_ += row_bytes;
}

void PlacedExperts::Unpin(int32_t slot) {
  --held_;
  if (slot >= 0) free_slots_.push_back(slot);
}

void PlacedExperts::UnpinAfter(int32_t slot, DeviceEvent event) {
  CHECK(slot >= 0);
  slots_[static_cast<size_t>(slot)].free_after = event;
  Unpin(slot);
}

}  // namespace stoker
