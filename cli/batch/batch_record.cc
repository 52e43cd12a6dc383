// A record as JSON, and two records compared.
#include "cli/batch/batch_record.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "cli/summary.h"

namespace stoker {
namespace {

using nlohmann::ordered_json;

constexpr int kVersion = 1;

absl::Status NoRecord() { return absl::DataLossError("this is no record of a batch"); }

// Of one option; "not set" where the other run was of a version that did not know it.
std::string ValueIn(const BatchRecord& record, std::string_view name) {
  for (const auto& [key, value] : record.options) {
    if (key == name) return value;
  }
  return "not set";
}

}  // namespace

BatchRecord MakeBatchRecord(std::string model_name, std::string model_identity, int context,
                            const std::string& kv, const BatchDefaults& defaults) {
  const SamplingOptions& sampling = defaults.sampling;
  return {.model_name = std::move(model_name),
          .model_identity = std::move(model_identity),
          .options = {{"ctx", fmt::format("{}", context)},
                      {"kv", kv},
                      {"tokens", fmt::format("{}", defaults.tokens_max)},
                      {"stop", ordered_json(defaults.stops)
                                   .dump(-1, ' ', false, ordered_json::error_handler_t::replace)},
                      {"temp", fmt::format("{}", sampling.temperature)},
                      {"top-k", fmt::format("{}", sampling.top_k)},
                      {"top-p", fmt::format("{}", sampling.top_p)},
                      {"min-p", fmt::format("{}", sampling.min_p)},
                      {"repeat-penalty", fmt::format("{}", sampling.repetition_penalty)},
                      {"frequency-penalty", fmt::format("{}", sampling.frequency_penalty)},
                      {"presence-penalty", fmt::format("{}", sampling.presence_penalty)},
                      {"repeat-last-n", fmt::format("{}", sampling.penalty_window)},
                      {"seed", fmt::format("{}", sampling.seed)}}};
}

std::string BatchRecordPath(const std::string& output_path) { return output_path + ".batch"; }

std::string EncodeBatchRecord(const BatchRecord& record) {
  ordered_json options = ordered_json::object();
  for (const auto& [name, value] : record.options) options[name] = value;
  return JsonLine({{"stoker_batch", kVersion},
                   {"model", record.model_name},
                   {"model_identity", record.model_identity},
                   {"options", std::move(options)}});
}

absl::StatusOr<BatchRecord> DecodeBatchRecord(std::string_view text) {
  const ordered_json object = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object() || !object.contains("stoker_batch") ||
      object["stoker_batch"] != kVersion || !object.contains("options") ||
      !object["options"].is_object()) {
    return NoRecord();
  }
  BatchRecord record;
  for (const auto& [name, target] : {std::pair("model", &record.model_name),
                                     std::pair("model_identity", &record.model_identity)}) {
    if (!object.contains(name) || !object[name].is_string()) return NoRecord();
    *target = object[name].get<std::string>();
  }
  for (const auto& [name, value] : object["options"].items()) {
    if (!value.is_string()) return NoRecord();
    record.options.emplace_back(name, value.get<std::string>());
  }
  return record;
}

absl::Status CheckSameRun(const BatchRecord& before, const BatchRecord& now,
                          const std::string& output_path) {
  std::vector<std::string> differences;
  if (before.model_identity != now.model_identity) {
    differences.push_back(fmt::format("the model was {} ({}), is {} ({})", before.model_name,
                                      before.model_identity, now.model_name, now.model_identity));
  }
  for (const auto& [name, value] : now.options) {
    const std::string other = ValueIn(before, name);
    if (other != value) differences.push_back(fmt::format("{} was {}, is {}", name, other, value));
  }
  for (const auto& [name, value] : before.options) {
    if (ValueIn(now, name) == "not set") {
      differences.push_back(fmt::format("{} was {}, is not set", name, value));
    }
  }
  if (differences.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{} was begun by another run: {}\n  try: the same model and options to go on, "
                  "--restart to begin it anew, or another -o",
                  output_path, fmt::join(differences, "; ")));
}

}  // namespace stoker
