// The expert store as a model sees it while drafts are being made: waiting for an expert becomes
// time to draft.
#pragma once

#include "base/check.h"
#include "cache/expert_provider.h"
#include "runtime/speculation.h"

namespace stoker {

// Hands everything on to `store`. When nothing has come and something is awaited, the drafter takes
// one step after another, as long as that is likely to fit into the wait. Both outlive it.
class DraftingStore final : public ExpertProvider {
 public:
  DraftingStore(ExpertProvider& store, Speculation& speculation)
      : store_(store), speculation_(speculation) {}

  int pins_max(int layer) const override { return store_.pins_max(layer); }
  absl::Status Request(int layer, absl::Span<const int32_t> experts,
                       absl::Span<const int32_t> rows) override {
    return store_.Request(layer, experts, rows);
  }
  absl::StatusOr<int> Collect(absl::Span<ExpertRef> out, Wait wait) override {
    while (wait == Wait::kUntilOne && speculation_.DraftsAhead()) {
      const absl::StatusOr<int> count = store_.Collect(out, Wait::kNo);
      if (!count.ok() || *count > 0 || store_.outstanding() == 0) return count;
      if (!speculation_.DraftAhead(store_.outstanding())) break;
    }
    return store_.Collect(out, wait);
  }
  int outstanding() const override { return store_.outstanding(); }
  void NoteHostCompute(uint64_t bytes, uint64_t row_bytes, int64_t ns) override {
    store_.NoteHostCompute(bytes, row_bytes, ns);
  }
  ResidentLayer Resident(int layer) override { return store_.Resident(layer); }
  void NoteUses(int layer, absl::Span<const int32_t> experts,
                absl::Span<const int32_t> rows) override {
    store_.NoteUses(layer, experts, rows);
  }

 protected:
  // Refs are the store's own.
  void Unpin(int32_t) override { CHECK(false); }

 private:
  ExpertProvider& store_;
  Speculation& speculation_;
};

}  // namespace stoker
