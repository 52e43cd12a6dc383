// Names of causes.
#include "base/time_ledger.h"

namespace stoker {

std::string_view NameOf(Cause cause) {
  static constexpr std::string_view kNames[] = {
      "other",          "embedding", "attention",  "router",    "dense",
      "expert_compute", "store",     "wait_drive", "wait_copy", "wait_device",
      "head",           "sampling",  "draft",      "prefetch",  "scheduling"};
  return kNames[static_cast<size_t>(cause)];
}

}  // namespace stoker
