// The fields of a line, one row each.
#include "cli/batch/batch_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "base/status.h"
#include "cli/nearest.h"

namespace stoker {
namespace {

using nlohmann::json;

constexpr size_t kShownBytes = 40;  // of a value that is refused

std::string Shown(const json& value) {
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
  if (text.size() > kShownBytes) text = text.substr(0, kShownBytes) + "...";
  return text;
}

absl::Status Refuse(std::string_view name, const json& value, std::string_view allowed) {
  return absl::InvalidArgumentError(
      fmt::format("{} is {}, which is not allowed: it must be {}", name, Shown(value), allowed));
}

absl::Status ReadText(std::string_view name, const json& value, std::string& target) {
  if (!value.is_string()) return Refuse(name, value, "a text");
  target = value.get<std::string>();
  return absl::OkStatus();
}

absl::Status ReadFloat(std::string_view name, const json& value, float& target) {
  if (!value.is_number()) return Refuse(name, value, "a number");
  target = static_cast<float>(value.get<double>());
  return absl::OkStatus();
}

template <typename Whole>
absl::Status ReadWhole(std::string_view name, const json& value, Whole& target) {
  const bool is_huge = value.is_number_unsigned() &&
                       value.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()};
  if (!value.is_number_integer() || is_huge ||
      value.get<int64_t>() < std::numeric_limits<Whole>::min() ||
      value.get<int64_t>() > std::numeric_limits<Whole>::max()) {
    return Refuse(name, value,
                  fmt::format("a whole number of at most {}", std::numeric_limits<Whole>::max()));
  }
  target = value.get<Whole>();
  return absl::OkStatus();
}

absl::Status ReadId(std::string_view name, const json& value, BatchRequest& request) {
  if (!value.is_string() && !value.is_number_integer()) {
    return Refuse(name, value, "a text or a whole number");
  }
  request.id_json = value.dump();
  return absl::OkStatus();
}

absl::Status ReadSeed(std::string_view name, const json& value, BatchRequest& request) {
  if (!value.is_number_unsigned()) return Refuse(name, value, "a whole number from 0 to 2^64 - 1");
  request.sampling.seed = value.get<uint64_t>();
  return absl::OkStatus();
}

absl::Status ReadTokensMax(std::string_view name, const json& value, BatchRequest& request) {
  RETURN_IF_ERROR(ReadWhole(name, value, request.tokens_max));
  if (request.tokens_max >= 1 || request.tokens_max == -1) return absl::OkStatus();
  return Refuse(name, value, "from 1, or -1 for no limit");
}

absl::Status ReadStops(std::string_view name, const json& value, BatchRequest& request) {
  const json list = value.is_array() ? value : json::array({value});
  request.stops.clear();
  for (const json& stop : list) {
    if (!stop.is_string() || stop.get_ref<const std::string&>().empty()) {
      return Refuse(name, value, "a text that is not empty, or a list of such");
    }
    request.stops.push_back(stop.get<std::string>());
  }
  return absl::OkStatus();
}

template <auto kMember>
absl::Status ReadSampling(std::string_view name, const json& value, BatchRequest& request) {
  auto& target = request.sampling.*kMember;
  if constexpr (std::is_same_v<std::decay_t<decltype(target)>, float>) {
    return ReadFloat(name, value, target);
  } else {
    return ReadWhole(name, value, target);
  }
}

struct Field {
  std::string_view name;
  std::string_view flag;  // empty: none
  absl::Status (*read)(std::string_view name, const json& value, BatchRequest& request);
};

constexpr Field kFields[] = {
    {"id", "", ReadId},
    {"prompt", "",
     [](std::string_view name, const json& value, BatchRequest& request) {
       return ReadText(name, value, request.prompt);
     }},
    {"tokens_max", "tokens", ReadTokensMax},
    {"stop", "stop", ReadStops},
    {"temperature", "temp", ReadSampling<&SamplingOptions::temperature>},
    {"top_k", "top-k", ReadSampling<&SamplingOptions::top_k>},
    {"top_p", "top-p", ReadSampling<&SamplingOptions::top_p>},
    {"min_p", "min-p", ReadSampling<&SamplingOptions::min_p>},
    {"repetition_penalty", "repeat-penalty", ReadSampling<&SamplingOptions::repetition_penalty>},
    {"frequency_penalty", "frequency-penalty", ReadSampling<&SamplingOptions::frequency_penalty>},
    {"presence_penalty", "presence-penalty", ReadSampling<&SamplingOptions::presence_penalty>},
    {"penalty_window", "repeat-last-n", ReadSampling<&SamplingOptions::penalty_window>},
    {"seed", "seed", ReadSeed},
};

absl::StatusOr<const Field*> FindField(std::string_view name) {
  std::vector<std::string> names;
  for (const Field& field : kFields) {
    if (name == field.name || (!field.flag.empty() && name == field.flag)) return &field;
    names.emplace_back(field.name);
    if (!field.flag.empty()) names.emplace_back(field.flag);
  }
  if (name == "messages") {
    return absl::InvalidArgumentError(
        "unknown field 'messages': chat templates are not applied here\n"
        "  try: prompt, with the text that the model's template makes of the messages");
  }
  const std::string nearest = Nearest(name, names);
  return absl::InvalidArgumentError(
      fmt::format("unknown field '{}'\n  try: {}", name, nearest.empty() ? "prompt" : nearest));
}

absl::StatusOr<json> ParseObject(std::string_view text) {
  constexpr std::string_view kRemedy = "one object a line, such as {\"prompt\": \"Once\"}";
  std::set<std::string> names;
  std::string twice;  // a name that is given again; the parser would keep the last of its values
  const auto note_name = [&](int depth, json::parse_event_t event, json& name) {
    const bool is_name = event == json::parse_event_t::key && depth == 1;
    if (is_name && !names.insert(name.get<std::string>()).second) twice = name.get<std::string>();
    return true;
  };
  try {
    json object = json::parse(text, note_name);
    if (!twice.empty()) {
      return absl::InvalidArgumentError(
          fmt::format("{} is given twice\n  try: only one of them", twice));
    }
    if (object.is_object()) return object;
  } catch (const json::parse_error& error) {
    return absl::InvalidArgumentError(
        fmt::format("this is not JSON: an error at byte {}\n  try: {}", error.byte, kRemedy));
  } catch (const json::exception&) {  // a number that no double can hold
    return absl::InvalidArgumentError("a number is out of range\n  try: a smaller one");
  }
  return absl::InvalidArgumentError(fmt::format("this is no JSON object\n  try: {}", kRemedy));
}

}  // namespace

absl::StatusOr<BatchRequest> ParseBatchRequest(std::string_view text, int64_t line,
                                               const BatchDefaults& defaults) {
  ASSIGN_OR_RETURN(const json object, ParseObject(text));
  BatchRequest request = {.id_json = fmt::format("{}", line),
                          .sampling = defaults.sampling,
                          .tokens_max = defaults.tokens_max,
                          .stops = defaults.stops};
  request.sampling.seed = SeedOfLine(defaults.sampling.seed, line);
  std::set<const Field*> seen;
  for (const auto& [name, value] : object.items()) {
    ASSIGN_OR_RETURN(const Field* const field, FindField(name));
    if (!seen.insert(field).second) {
      return absl::InvalidArgumentError(fmt::format(
          "{} and {} are two names of one field\n  try: only one", field->name, field->flag));
    }
    RETURN_IF_ERROR(field->read(name, value, request));
  }
  if (!object.contains("prompt")) {
    return absl::InvalidArgumentError("the field prompt is missing\n  try: {\"prompt\": \"Once\"}");
  }
  RETURN_IF_ERROR(Validate(request.sampling));
  return request;
}

uint64_t SeedOfLine(uint64_t run_seed, int64_t line) {
  uint64_t z = run_seed + static_cast<uint64_t>(line) * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return (z ^ (z >> 31)) >> 11;
}

}  // namespace stoker
