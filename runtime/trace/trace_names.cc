// One name each.
#include "runtime/trace/trace_names.h"

namespace stoker {
namespace {

constexpr ResidencyChange kChanges[] = {
    ResidencyChange::kRead,       ResidencyChange::kReadOnHint,  ResidencyChange::kEvicted,
    ResidencyChange::kPromoted,   ResidencyChange::kDemoted,     ResidencyChange::kHintUsed,
    ResidencyChange::kHintWasted, ResidencyChange::kHintDropped,
};
constexpr MissReason kReasons[] = {MissReason::kNeverSeen, MissReason::kEvicted,
                                   MissReason::kHintLate, MissReason::kHintDropped};

}  // namespace

std::string_view NameOf(ResidencyChange change) {
  switch (change) {
    case ResidencyChange::kRead:
      return "read";
    case ResidencyChange::kReadOnHint:
      return "read_on_hint";
    case ResidencyChange::kEvicted:
      return "evicted";
    case ResidencyChange::kPromoted:
      return "promoted";
    case ResidencyChange::kDemoted:
      return "demoted";
    case ResidencyChange::kHintUsed:
      return "hint_used";
    case ResidencyChange::kHintWasted:
      return "hint_wasted";
    case ResidencyChange::kHintDropped:
      return "hint_dropped";
  }
  return "unknown";
}

std::string_view NameOf(MissReason reason) {
  switch (reason) {
    case MissReason::kNeverSeen:
      return "never_seen";
    case MissReason::kEvicted:
      return "evicted";
    case MissReason::kHintLate:
      return "hint_late";
    case MissReason::kHintDropped:
      return "hint_dropped";
  }
  return "unknown";
}

std::string_view PhaseOf(const TraceRow& row) {
  if (row.is_prompt) return "prompt";
  return row.is_draft ? "draft" : "decode";
}

absl::Span<const ResidencyChange> ResidencyChanges() { return kChanges; }
absl::Span<const MissReason> MissReasons() { return kReasons; }

}  // namespace stoker
