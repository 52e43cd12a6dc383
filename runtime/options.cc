// Checks of everything a user can set, so that no later part meets a value out of range.
#include "runtime/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "absl/types/span.h"
#include "base/status.h"
#include "base/units.h"
#include "cache/policy.h"
#include "kernels/backends.h"
#include "prefetch/prefetcher.h"
#include "speculative/drafter.h"
#include "speculative/governor.h"

namespace stoker {
namespace {

// Bounds of a sane machine; each is far above what was ever run and far below an overflow.
constexpr int kThreadsMax = 1024;
constexpr int kContextMax = 1 << 20;
constexpr int kRowsMax = 1 << 16;
constexpr int kSequencesMax = 256;
constexpr int kGpusMax = 64;
constexpr int kLatencyUsMax = 1'000'000;

struct PlaceName {
  std::string_view name;
  PlaceRule rule;
};
constexpr PlaceName kPlaceNames[] = {{"auto", PlaceRule::kAuto},
                                     {"gpu", PlaceRule::kGpu},
                                     {"cpu", PlaceRule::kCpu},
                                     {"copy", PlaceRule::kCopy}};

absl::Status OutOfRange(std::string_view option, std::string_view value, std::string_view allowed) {
  return absl::InvalidArgumentError(
      fmt::format("{} is {}, which is not allowed: it must be {}", option, value, allowed));
}

absl::Status CheckInt(std::string_view option, int value, int min, int max,
                      std::string_view meaning = "") {
  if (value >= min && value <= max) return absl::OkStatus();
  return OutOfRange(option, fmt::format("{}", value),
                    fmt::format("from {} to {}{}", min, max, meaning));
}

// NaN is in no range.
absl::Status CheckFloat(std::string_view option, float value, float min, float max,
                        std::string_view meaning = "") {
  if (value >= min && value <= max) return absl::OkStatus();
  return OutOfRange(option, fmt::format("{}", value),
                    fmt::format("from {} to {}{}", min, max, meaning));
}

absl::Status CheckChoice(std::string_view option, std::string_view value,
                         absl::Span<const std::string_view> choices) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return absl::OkStatus();
  return OutOfRange(option, fmt::format("\"{}\"", value),
                    fmt::format("one of {}", fmt::join(choices, ", ")));
}

absl::Status CheckIsa(std::string_view value) {
  std::vector<std::string_view> names;
  for (const BackendRow& row : Backends()) names.push_back(row.name);
  names.push_back("auto");
  return CheckChoice("isa", value, names);
}

absl::Status CheckDeviceKind(std::string_view value) {
  std::vector<std::string_view> names = {"auto", "cpu"};
  for (const DeviceRow& row : Devices()) names.push_back(row.name);
  return CheckChoice("device", value, names);
}

absl::Status Unused(std::string_view option, std::string_view device, std::string_view meaning,
                    std::string_view remedy) {
  return absl::InvalidArgumentError(
      fmt::format("{} is given, but device is {}: {}\n  try: {}", option, device, meaning, remedy));
}

// What would go unused is refused, not dropped.
absl::Status CheckDevice(const EngineOptions& o) {
  RETURN_IF_ERROR(CheckDeviceKind(o.device));
  RETURN_IF_ERROR(CheckInt("gpu", o.gpu, -1, kGpusMax, " (-1: the one with the most free memory)"));
  if (o.device == "cpu") {
    constexpr std::string_view kMeaning = "it is for runs that use a GPU";
    constexpr std::string_view kRemedy = "leave it out, or device cuda";
    if (o.vram.has_value()) return Unused("vram", o.device, kMeaning, kRemedy);
    if (o.place.has_value()) return Unused("place", o.device, kMeaning, kRemedy);
  }
  if (o.gpu >= 0 && o.device != "cuda" && o.device != "auto") {
    return Unused("gpu", o.device, "it chooses among real GPUs", "leave it out, or device cuda");
  }
  if (o.modelled.is_given() && o.device != "modelled") {
    return Unused("a property of the modelled GPU", o.device, "it says how fast or large to model",
                  "device modelled, or leave it out");
  }
  RETURN_IF_ERROR(CheckInt("modelled_link_latency_us", o.modelled.link_latency_us.value_or(0), 0,
                           kLatencyUsMax));
  return CheckInt("modelled_link_out_latency_us", o.modelled.link_out_latency_us.value_or(0), 0,
                  kLatencyUsMax);
}

absl::Status CheckModelledDrive(const ModelledDriveOptions& o) {
  RETURN_IF_ERROR(CheckInt("modelled_drive_latency_us", o.latency_us, 0, kLatencyUsMax));
  if (o.rate < 0 || !std::isfinite(o.rate)) {
    return OutOfRange("modelled_drive", fmt::format("{}", o.rate), "a rate such as 200MB/s");
  }
  if (o.latency_us == 0 || o.rate > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "modelled_drive_latency_us is given without modelled_drive: it is a property of a modelled "
      "drive, and there is none\n  try: --modelled-drive 200MB/s too");
}

absl::Status CheckDraft(const EngineOptions& o) {
  ASSIGN_OR_RETURN(const DrafterChoice drafter, ChooseDrafter(o.draft, o.settings));
  RETURN_IF_ERROR(ChooseParameters("drafts", Governor::kParameters, o.settings).status());
  RETURN_IF_ERROR(CheckInt("draft_len", o.draft_length, -1, kDraftLengthMax,
                           " (-1 or auto: chosen as the run goes)"));
  if (!drafter.is_none() || o.draft_length <= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("draft_len is {}, but draft is none: nothing drafts\n  try: --draft ngram too",
                  o.draft_length));
}

}  // namespace

absl::StatusOr<PlaceRule> ParsePlaceRule(std::string_view text) {
  std::vector<std::string_view> names;
  for (const PlaceName& row : kPlaceNames) {
    if (row.name == text) return row.rule;
    names.push_back(row.name);
  }
  return CheckChoice("place", text, names);
}

std::string_view NameOf(PlaceRule rule) {
  for (const PlaceName& row : kPlaceNames) {
    if (row.rule == rule) return row.name;
  }
  return "";
}

absl::StatusOr<MemoryBudget> MemoryBudget::Parse(std::string_view option, std::string_view text) {
  if (text == "auto") return MemoryBudget{.kind = Kind::kAuto};
  if (text == "min") return MemoryBudget{.kind = Kind::kMinimum};
  const absl::StatusOr<uint64_t> bytes = ParseBytes(text);
  if (!bytes.ok() || *bytes == 0) {
    return OutOfRange(option, fmt::format("\"{}\"", text),
                      "a number of bytes such as 8G or 1.5GiB, \"auto\" or \"min\"");
  }
  return MemoryBudget{.kind = Kind::kBytes, .bytes = *bytes};
}

absl::Status Validate(const SamplingOptions& o) {
  RETURN_IF_ERROR(CheckFloat("temperature", o.temperature, 0, 100, " (0: greedy)"));
  RETURN_IF_ERROR(CheckInt("top_k", o.top_k, 0, 1 << 24, " (0: all)"));
  if (o.top_p == 0) return OutOfRange("top_p", "0", "above 0 and at most 1 (1: all)");
  RETURN_IF_ERROR(CheckFloat("top_p", o.top_p, 0, 1, ", 0 left out (1: all)"));
  RETURN_IF_ERROR(CheckFloat("min_p", o.min_p, 0, 1, " (0: all)"));
  RETURN_IF_ERROR(CheckFloat("repetition_penalty", o.repetition_penalty, 0.01f, 100, " (1: none)"));
  RETURN_IF_ERROR(CheckFloat("frequency_penalty", o.frequency_penalty, -100, 100, " (0: none)"));
  RETURN_IF_ERROR(CheckFloat("presence_penalty", o.presence_penalty, -100, 100, " (0: none)"));
  return CheckInt("penalty_window", o.penalty_window, -1, kContextMax, " (0: none, -1: all)");
}

absl::Status Validate(const EngineOptions& o) {
  if (o.model_path.empty()) {
    return absl::InvalidArgumentError("no model given: name a GGUF file");
  }
  RETURN_IF_ERROR(CheckInt("threads", o.threads, 0, kThreadsMax, " (0: one per physical core)"));
  RETURN_IF_ERROR(ChoosePolicy(o.policy, o.settings).status());
  RETURN_IF_ERROR(ChoosePolicy(o.vram_policy_or_policy(), o.settings).status());
  RETURN_IF_ERROR(ChooseAdmission(o.admission, o.settings).status());
  RETURN_IF_ERROR(ChoosePrefetch(o.prefetch, o.settings).status());
  RETURN_IF_ERROR(CheckDraft(o));
  RETURN_IF_ERROR(CheckInt("chunk", o.chunk, 0, kRowsMax, " (0: the whole prompt)"));
  RETURN_IF_ERROR(CheckIsa(o.isa));
  RETURN_IF_ERROR(CheckChoice("io", o.io, {"uring", "pread", "auto"}));
  RETURN_IF_ERROR(CheckChoice("kv", o.kv, {"f16", "f32"}));
  RETURN_IF_ERROR(
      CheckInt("context", o.context, 0, kContextMax, " (0: the model's own, 512 to 4096)"));
  RETURN_IF_ERROR(CheckInt("sequences_max", o.sequences_max, 1, kSequencesMax));
  RETURN_IF_ERROR(
      CheckInt("logits_rows_max", o.logits_rows_max, 0, kRowsMax, " (0: one per sequence)"));
  RETURN_IF_ERROR(CheckModelledDrive(o.modelled_drive));
  return CheckDevice(o);
}

}  // namespace stoker
