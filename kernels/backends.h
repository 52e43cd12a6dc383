// The list of backends and the choice among them.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/ops.h"

namespace stoker {

struct BackendRow {
  std::string_view name;  // "reference", "scalar", "avx2", "avx512"
  std::string_view description;
  const Ops* ops;       // never null
  bool (*runs_here)();  // whether this processor can run it
};

absl::Span<const BackendRow> Backends();

// "auto": the fastest that runs here; else by name. InvalidArgument for an unknown name (listing
// the known ones), FailedPrecondition for one that this processor cannot run (naming what is
// missing).
absl::StatusOr<const Ops*> SelectOps(std::string_view name);

}  // namespace stoker
