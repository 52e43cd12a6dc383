// What a dense model is given in place of an expert store.
#pragma once

#include <fmt/format.h>

#include "cache/expert_provider.h"

namespace stoker {

class NoExperts final : public ExpertProvider {
 public:
  int pins_max(int) const override { return 1; }
  absl::Status Request(int layer, absl::Span<const int32_t>, absl::Span<const int32_t>) override {
    return absl::InternalError(fmt::format("layer {} of a dense model asked for experts", layer));
  }
  absl::StatusOr<int> Collect(absl::Span<ExpertRef>, Wait) override { return 0; }
  int outstanding() const override { return 0; }

 protected:
  void Unpin(int32_t) override {}
};

}  // namespace stoker
