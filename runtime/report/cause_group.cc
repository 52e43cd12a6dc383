// The groups and their names.
#include "runtime/report/cause_group.h"

namespace stoker {

namespace {

constexpr Cause kExperts[] = {Cause::kExpertCompute};
constexpr Cause kAttention[] = {Cause::kAttention};
constexpr Cause kDense[] = {Cause::kDense};
constexpr Cause kRouter[] = {Cause::kRouter};
constexpr Cause kHead[] = {Cause::kHead};
constexpr Cause kStore[] = {Cause::kStore};
constexpr Cause kDraft[] = {Cause::kDraft};
constexpr Cause kRest[] = {Cause::kEmbedding, Cause::kSampling, Cause::kPrefetch,
                           Cause::kScheduling, Cause::kOther};
constexpr Cause kDevice[] = {Cause::kWaitDevice};
constexpr Cause kCopy[] = {Cause::kWaitCopy};
constexpr Cause kDrive[] = {Cause::kWaitDrive};

constexpr CauseGroup kGroups[] = {
    {"experts", "c-expert", kExperts},
    {"attention", "c-attention", kAttention},
    {"dense and shared", "c-dense", kDense},
    {"router", "c-router", kRouter},
    {"head", "c-head", kHead},
    {"asking the store", "c-store", kStore},
    {"drafting", "c-draft", kDraft},
    {"all else", "c-rest", kRest},
    {"waiting for the device", "c-device", kDevice},
    {"waiting for copies", "c-copy", kCopy},
    {"waiting for the drive", "c-drive", kDrive},
};

}  // namespace

absl::Span<const CauseGroup> CauseGroups() { return kGroups; }

int64_t TimeOf(const CauseGroup& group, const CauseTimes& causes) {
  int64_t sum = 0;
  for (const Cause cause : group.causes) sum += causes[static_cast<size_t>(cause)];
  return sum;
}

std::string_view LabelOf(Cause cause) {
  switch (cause) {
    case Cause::kOther:
      return "no cause";
    case Cause::kEmbedding:
      return "embedding";
    case Cause::kSampling:
      return "sampling";
    case Cause::kPrefetch:
      return "prefetch";
    case Cause::kScheduling:
      return "scheduling";
    default:
      break;
  }
  for (const CauseGroup& group : CauseGroups()) {
    if (group.causes.front() == cause) return group.label;
  }
  return NameOf(cause);
}

}  // namespace stoker
