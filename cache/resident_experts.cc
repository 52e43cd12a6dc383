// Reads every expert once and hands them out.
#include "cache/resident_experts.h"

#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "cache/expert_loader.h"

namespace stoker {

ResidentExperts::ResidentExperts(const ExpertCatalog& catalog, const BlockReader& reader)
    : layout_(catalog, FileAlignments(catalog, reader)),
      parts_(layout_.key_count()),
      requested_(layout_.expert_count_max()) {}

ResidentExperts::~ResidentExperts() { CHECK(pin_count_ == 0); }

absl::StatusOr<std::unique_ptr<ResidentExperts>> ResidentExperts::Create(
    const ExpertCatalog& catalog, std::vector<std::string> file_names, BlockReader& reader,
    const Clock& clock) {
  std::unique_ptr<ResidentExperts> experts(new ResidentExperts(catalog, reader));
  RETURN_IF_ERROR(experts->ReadAll(std::move(file_names), reader, clock));
  return experts;
}

// The loader's slot numbers are keys here: each expert has a place of its own.
absl::Status ResidentExperts::ReadAll(std::vector<std::string> file_names, BlockReader& reader,
                                      const Clock& clock) {
  if (layout_.key_count() == 0) return absl::OkStatus();
  uint64_t bytes = 0;
  for (const ExpertLayout::Layer& layer : layout_.layers()) {
    bytes += layer.slot_bytes * static_cast<uint64_t>(layer.expert_count);
  }
  ASSIGN_OR_RETURN(memory_, HostBuffer::Create(bytes));
  ASSIGN_OR_RETURN(const std::unique_ptr<ExpertLoader> loader,
                   ExpertLoader::Create(layout_,
                                        {.verify_hashes = false,
                                         .file_names = std::move(file_names),
                                         .slot_count = layout_.key_count()},
                                        reader, clock));
  std::byte* place = memory_.data();
  for (ExpertKey key = 0; key < layout_.key_count(); ++key) {
    for (int p = 0; p < layout_.layer_of(key).part_count; ++p) {
      const ExpertLayout::PartRead read = layout_.Read(key, p);
      parts_[key].at[p] = place + read.position + read.skip;
    }
    loader->Start(key, key, place);
    place += layout_.layer_of(key).slot_bytes;
  }
  absl::Status failure;
  while (loader->is_busy()) {
    loader->Poll(BlockReader::Wait::kUntilOne, [&](const ExpertLoader::Outcome& outcome) {
      if (failure.ok()) failure = outcome.status;
    });
  }
  return failure;
}

int ResidentExperts::pins_max(int layer) const {
  return layout_.layers()[layout_.layer_index(layer)].expert_count;
}

absl::Status ResidentExperts::Request(int layer, absl::Span<const int32_t> experts,
                                      absl::Span<const int32_t> /*rows*/) {
  CHECK(requested_.empty());
  const ExpertLayout::Layer& place = layout_.layers()[layout_.layer_index(layer)];
  for (const int32_t expert : experts) {
    CHECK(expert >= 0 && expert < place.expert_count);
    requested_.Push(place.first_key + expert);
  }
  return absl::OkStatus();
}

absl::StatusOr<int> ResidentExperts::Collect(absl::Span<ExpertRef> out, Wait) {
  CHECK(!out.empty());
  int count = 0;
  while (count < static_cast<int>(out.size()) && !requested_.empty()) {
    const ExpertKey key = requested_.Pop();
    ++pin_count_;
    out[count++] = ExpertRef(this, key, layout_.id(key), parts_[key].at);
  }
  return count;
}

void ResidentExperts::Unpin(int32_t) {
  CHECK(pin_count_ > 0);
  --pin_count_;
}

}  // namespace stoker
