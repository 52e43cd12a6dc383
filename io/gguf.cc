// Puts the parts of a GGUF model together, and gives its keys with their types checked.
#include "io/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "base/status.h"
#include "io/byte_source.h"
#include "io/gguf_part.h"

namespace stoker {
namespace {

absl::string_view AbslView(std::string_view text) { return {text.data(), text.size()}; }

// "prefix-00002-of-00005.gguf" in pieces.
struct SplitName {
  std::string_view prefix;
  int part = 0;  // from 1
  int part_count = 0;

  std::string PathOf(int other_part) const {
    return fmt::format("{}-{:05d}-of-{:05d}.gguf", prefix, other_part, part_count);
  }
};

std::optional<int> FiveDigits(std::string_view text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || text[0] == '-') return {};
  return number;
}

std::optional<SplitName> ParseSplitName(std::string_view path) {
  constexpr std::string_view kPattern = "-00000-of-00000.gguf";
  if (path.size() <= kPattern.size()) return {};
  const std::string_view prefix = path.substr(0, path.size() - kPattern.size());
  const std::string_view tail = path.substr(prefix.size());
  const auto part = FiveDigits(tail.substr(1, 5));
  const auto part_count = FiveDigits(tail.substr(10, 5));
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || tail.substr(15) != ".gguf") return {};
  if (!part || !part_count || *part < 1 || *part > *part_count) return {};
  return SplitName{.prefix = prefix, .part = *part, .part_count = *part_count};
}

// What a part says of the set that it belongs to; part_count 1 when it says nothing.
struct SplitKeys {
  int64_t part = 0;  // from 0
  int64_t part_count = 1;
  int64_t tensor_count = -1;  // of the whole set; -1: not said
};

absl::StatusOr<int64_t> SplitKey(const GgufPart& part, const char* key, int64_t fallback) {
  const auto at = part.values.find(key);
  if (at == part.values.end()) return fallback;
  int64_t value = -1;
  if (const auto* u = std::get_if<uint64_t>(&at->second)) value = static_cast<int64_t>(*u);
  if (const auto* i = std::get_if<int64_t>(&at->second)) value = *i;
  if (value >= 0) return value;
  return absl::DataLossError(
      fmt::format("{}: the key '{}' is not a count; the file is corrupt", part.path, key));
}

absl::StatusOr<SplitKeys> SplitKeysOf(const GgufPart& part) {
  SplitKeys keys;
  ASSIGN_OR_RETURN(keys.part, SplitKey(part, "split.no", 0));
  ASSIGN_OR_RETURN(keys.part_count, SplitKey(part, "split.count", 1));
  ASSIGN_OR_RETURN(keys.tensor_count, SplitKey(part, "split.tensors.count", -1));
  return keys;
}

absl::StatusOr<GgufPart> OpenPart(const std::string& path) {
  ASSIGN_OR_RETURN(ByteSource source, ByteSource::Open(path, kGgufHeadBytesMax));
  return ReadGgufPart(source);
}

absl::Status CheckMember(const GgufPart& part, const SplitKeys& expected) {
  ASSIGN_OR_RETURN(const SplitKeys keys, SplitKeysOf(part));
  if (keys.part == expected.part && keys.part_count == expected.part_count &&
      keys.tensor_count == expected.tensor_count) {
    return absl::OkStatus();
  }
  return absl::DataLossError(fmt::format(
      "{}: says that it is part {} of {} ({} tensors in all), where part {} of {} ({} tensors) "
      "belongs; a file was renamed, or parts of different models are mixed",
      part.path, keys.part + 1, keys.part_count, keys.tensor_count, expected.part + 1,
      expected.part_count, expected.tensor_count));
}

// All parts of the set that `opened` belongs to, in order.
absl::StatusOr<std::vector<GgufPart>> OpenSiblings(GgufPart opened, const SplitKeys& keys) {
  const std::string opened_path = opened.path;
  const auto name = ParseSplitName(opened_path);
  if (!name || name->part_count != keys.part_count) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: is part {} of a model in {} files, which are found by name; give them back their "
        "names (...-{:05d}-of-{:05d}.gguf)",
        opened_path, keys.part + 1, keys.part_count, keys.part + 1, keys.part_count));
  }
  std::vector<GgufPart> parts;
  for (int number = 1; number <= name->part_count; ++number) {
    SplitKeys expected = keys;
    expected.part = number - 1;
    if (number == name->part) {
      parts.push_back(std::move(opened));
    } else {
      auto part = OpenPart(name->PathOf(number));
      if (absl::IsNotFound(part.status())) {
        return absl::NotFoundError(fmt::format(
            "{}: part {} of {} of the model is missing; download it into the same directory",
            name->PathOf(number), number, name->part_count));
      }
      if (!part.ok()) return part.status();
      parts.push_back(*std::move(part));
    }
    RETURN_IF_ERROR(CheckMember(parts.back(), expected));
  }
  return parts;
}

absl::Status WrongType(std::string_view key, std::string_view expected) {
  return absl::InvalidArgumentError(fmt::format("the model's key '{}' is not {}", key, expected));
}

absl::Status Absent(std::string_view key) {
  return absl::InvalidArgumentError(fmt::format("the model lacks the key '{}'", key));
}

std::optional<int64_t> AsInt(const GgufValue& value) {
  if (const auto* i = std::get_if<int64_t>(&value)) return *i;
  const auto* u = std::get_if<uint64_t>(&value);
  if (u == nullptr || *u > uint64_t{std::numeric_limits<int64_t>::max()}) return {};
  return static_cast<int64_t>(*u);
}

std::optional<double> AsDouble(const GgufValue& value) {
  if (const auto* d = std::get_if<double>(&value)) return *d;
  if (const auto i = AsInt(value)) return static_cast<double>(*i);
  return {};
}

}  // namespace

// Joins parts into a model; the only writer of a GgufModel.
class GgufParser {
 public:
  static absl::StatusOr<GgufModel> Join(std::vector<GgufPart> parts, int64_t tensor_count);
};

// Keys are those of the first part; the others carry none but their place in the set.
absl::StatusOr<GgufModel> GgufParser::Join(std::vector<GgufPart> parts, int64_t tensor_count) {
  GgufModel model;
  model.keys_ = std::move(parts[0].keys);
  model.values_ = std::move(parts[0].values);
  for (size_t p = 0; p < parts.size(); ++p) {
    for (GgufTensor& tensor : parts[p].tensors) {
      tensor.file = static_cast<int>(p);
      if (!model.tensor_index_.try_emplace(tensor.name, model.tensors_.size()).second) {
        return absl::DataLossError(
            fmt::format("{}: the tensor {} is in an earlier part too; parts of different models "
                        "are mixed",
                        parts[p].path, Quoted(tensor.name)));
      }
      model.tensors_.push_back(std::move(tensor));
    }
    model.paths_.push_back(std::move(parts[p].path));
    model.file_bytes_.push_back(parts[p].file_bytes);
  }
  if (tensor_count >= 0 && static_cast<uint64_t>(tensor_count) != model.tensors_.size()) {
    return absl::DataLossError(
        fmt::format("{}: the model should have {} tensors, but its {} parts have {}; a part is of "
                    "another version: download the set again",
                    model.paths_[0], tensor_count, parts.size(), model.tensors_.size()));
  }
  return model;
}

absl::StatusOr<GgufModel> GgufModel::Open(const std::string& path) {
  ASSIGN_OR_RETURN(GgufPart opened, OpenPart(path));
  ASSIGN_OR_RETURN(const SplitKeys keys, SplitKeysOf(opened));
  std::vector<GgufPart> parts;
  if (keys.part_count > 1) {
    ASSIGN_OR_RETURN(parts, OpenSiblings(std::move(opened), keys));
  } else {
    parts.push_back(std::move(opened));
  }
  return GgufParser::Join(std::move(parts), keys.tensor_count);
}

absl::StatusOr<GgufModel> GgufModel::Parse(absl::Span<const uint8_t> file, std::string_view name) {
  ByteSource source(file, name, kGgufHeadBytesMax);
  std::vector<GgufPart> parts;
  ASSIGN_OR_RETURN(parts.emplace_back(), ReadGgufPart(source));
  ASSIGN_OR_RETURN(const SplitKeys keys, SplitKeysOf(parts[0]));
  if (keys.part_count > 1) {
    return absl::InvalidArgumentError(
        fmt::format("{}: is part of a split model, which needs files", name));
  }
  return GgufParser::Join(std::move(parts), keys.tensor_count);
}

const GgufTensor* GgufModel::FindTensor(std::string_view name) const {
  const auto at = tensor_index_.find(AbslView(name));
  return at == tensor_index_.end() ? nullptr : &tensors_[at->second];
}

bool GgufModel::Has(std::string_view key) const { return Find(key) != nullptr; }

const GgufValue* GgufModel::Find(std::string_view key) const {
  const auto at = values_.find(AbslView(key));
  return at == values_.end() ? nullptr : &at->second;
}

absl::StatusOr<int64_t> GgufModel::Int(std::string_view key, int64_t fallback, int64_t min,
                                       int64_t max) const {
  return Has(key) ? Int(key, min, max) : fallback;
}

absl::StatusOr<int64_t> GgufModel::Int(std::string_view key, int64_t min, int64_t max) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return Absent(key);
  const auto* wide = std::get_if<uint64_t>(value);
  const std::optional<int64_t> number = AsInt(*value);
  if (!number && wide == nullptr) return WrongType(key, "an integer");
  if (number && *number >= min && *number <= max) return *number;
  return absl::InvalidArgumentError(
      fmt::format("the model's key '{}' is {}, outside of {} to {}", key,
                  number ? std::to_string(*number) : std::to_string(*wide), min, max));
}

absl::StatusOr<double> GgufModel::Float(std::string_view key, double fallback) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return fallback;
  const std::optional<double> number = AsDouble(*value);
  if (!number) return WrongType(key, "a number");
  if (std::isfinite(*number)) return *number;
  return absl::InvalidArgumentError(
      fmt::format("the model's key '{}' is {}, not a finite number", key, *number));
}

absl::StatusOr<bool> GgufModel::Bool(std::string_view key, bool fallback) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return fallback;
  if (const auto* truth = std::get_if<bool>(value)) return *truth;
  return WrongType(key, "true or false");
}

absl::StatusOr<std::string> GgufModel::String(std::string_view key,
                                              std::string_view fallback) const {
  return Has(key) ? String(key) : std::string(fallback);
}

absl::StatusOr<std::string> GgufModel::String(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return Absent(key);
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  return WrongType(key, "text");
}

const std::vector<std::string>* GgufModel::Strings(std::string_view key) const {
  const GgufValue* value = Find(key);
  return value == nullptr ? nullptr : std::get_if<std::vector<std::string>>(value);
}

absl::StatusOr<std::vector<int64_t>> GgufModel::Ints(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::vector<int64_t>();
  if (const auto number = AsInt(*value)) return std::vector<int64_t>{*number};
  if (const auto* ints = std::get_if<std::vector<int64_t>>(value)) return *ints;
  const auto* wide = std::get_if<std::vector<uint64_t>>(value);
  if (wide == nullptr) return WrongType(key, "a list of integers");
  const auto fits = [](uint64_t v) { return v <= uint64_t{std::numeric_limits<int64_t>::max()}; };
  if (!std::all_of(wide->begin(), wide->end(), fits)) {
    return WrongType(key, "a list of integers below 2^63");
  }
  return std::vector<int64_t>(wide->begin(), wide->end());
}

absl::StatusOr<std::vector<double>> GgufModel::Floats(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::vector<double>();
  if (const auto number = AsDouble(*value)) return std::vector<double>{*number};
  if (const auto* doubles = std::get_if<std::vector<double>>(value)) return *doubles;
  if (const auto* ints = std::get_if<std::vector<int64_t>>(value)) {
    return std::vector<double>(ints->begin(), ints->end());
  }
  if (const auto* wide = std::get_if<std::vector<uint64_t>>(value)) {
    return std::vector<double>(wide->begin(), wide->end());
  }
  return WrongType(key, "a list of numbers");
}

}  // namespace stoker
