// Every expert in RAM: the baseline that the cache is judged against, and the double for tests.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/expert_catalog.h"
#include "cache/bounded_queue.h"
#include "cache/expert_layout.h"
#include "cache/expert_provider.h"
#include "device/buffer.h"
#include "io/block_reader.h"

namespace stoker {

// Reads all experts at creation; requests are then answered at once and cannot fail.
class ResidentExperts final : public ExpertProvider {
 public:
  // `reader` has the catalog's files and is not used afterwards. Errors are those of reading.
  // `file_names`, by file number, are for messages and may be empty.
  static absl::StatusOr<std::unique_ptr<ResidentExperts>> Create(
      const ExpertCatalog& catalog, std::vector<std::string> file_names, BlockReader& reader,
      const Clock& clock);
  ~ResidentExperts() override;

  int pins_max(int layer) const override;
  using ExpertProvider::Request;
  absl::Status Request(int layer, absl::Span<const int32_t> experts,
                       absl::Span<const int32_t> rows) override;
  absl::StatusOr<int> Collect(absl::Span<ExpertRef> out, Wait wait) override;
  int outstanding() const override { return static_cast<int>(requested_.count()); }

 protected:
  void Unpin(int32_t key) override;

 private:
  struct Parts {
    const std::byte* at[kExpertPartsMax] = {};
  };
  ResidentExperts(const ExpertCatalog& catalog, const BlockReader& reader);
  absl::Status ReadAll(std::vector<std::string> file_names, BlockReader& reader,
                       const Clock& clock);

  const ExpertLayout layout_;
  HostBuffer memory_;
  std::vector<Parts> parts_;  // by key
  BoundedQueue<ExpertKey> requested_;
  int64_t pin_count_ = 0;
};

}  // namespace stoker
