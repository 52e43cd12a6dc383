// Reads a safetensors file whole, its header checked.
#include "io/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "io/file.h"

namespace stoker {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kHeaderBytesMax = 100'000'000;  // as the reference implementation
constexpr int kJsonDepthMax = 8;                   // the format needs 3
constexpr size_t kLengthBytes = sizeof(uint64_t);

struct StoredType {
  std::string_view name;
  uint64_t bytes;
};
constexpr StoredType kStoredTypes[] = {{"BOOL", 1},    {"U8", 1},      {"I8", 1},  {"F8_E4M3", 1},
                                       {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"I16", 2}, {"U16", 2},
                                       {"F16", 2},     {"BF16", 2},    {"I32", 4}, {"U32", 4},
                                       {"F32", 4},     {"I64", 8},     {"U64", 8}, {"F64", 8}};

// Deeper nesting than the format has is refused before the parser, which recurses on destruction,
// builds it.
bool IsShallow(std::string_view json) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kJsonDepthMax) return false;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return true;
}

// Parses the header, refusing names that occur twice (which the parser would merge).
absl::StatusOr<Json> ParseHeader(std::string_view text) {
  if (!IsShallow(text)) return absl::DataLossError("the header is nested too deeply");
  std::vector<std::string> names;
  const auto collect = [&names](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::key && depth == 1) names.push_back(parsed.get<std::string>());
    return true;
  };
  Json header = Json::parse(text.begin(), text.end(), collect, /*allow_exceptions=*/false);
  if (!header.is_object()) return absl::DataLossError("the header is not a JSON object");
  std::sort(names.begin(), names.end());
  if (std::adjacent_find(names.begin(), names.end()) != names.end()) {
    return absl::DataLossError("a tensor name occurs twice");
  }
  return header;
}

absl::StatusOr<std::vector<int64_t>> Counts(const Json& entry, const char* key) {
  const auto at = entry.find(key);
  std::vector<int64_t> counts;
  if (at == entry.end() || !at->is_array()) {
    return absl::DataLossError(fmt::format("'{}' is missing or no list", key));
  }
  for (const Json& number : *at) {
    // Bounded by what int64 holds, so that sums and products below can be checked in it.
    if (!number.is_number_unsigned() ||
        number.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) {
      return absl::DataLossError(fmt::format("'{}' holds something else than counts", key));
    }
    counts.push_back(static_cast<int64_t>(number.get<uint64_t>()));
  }
  return counts;
}

absl::StatusOr<SafetensorsEntry> ParseEntry(const Json& entry, uint64_t data_bytes) {
  const auto dtype = entry.is_object() ? entry.find("dtype") : entry.end();
  if (!entry.is_object() || dtype == entry.end() || !dtype->is_string()) {
    return absl::DataLossError("its dtype is missing");
  }
  SafetensorsEntry parsed;
  parsed.dtype = dtype->get<std::string>();
  const auto type = std::find_if(std::begin(kStoredTypes), std::end(kStoredTypes),
                                 [&](const StoredType& t) { return t.name == parsed.dtype; });
  if (type == std::end(kStoredTypes)) {
    return absl::UnimplementedError(fmt::format("its dtype {:.20} is unknown", parsed.dtype));
  }
  ASSIGN_OR_RETURN(parsed.shape, Counts(entry, "shape"));
  ASSIGN_OR_RETURN(const std::vector<int64_t> range, Counts(entry, "data_offsets"));
  uint64_t bytes = type->bytes;
  for (const int64_t dim : parsed.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(dim), &bytes)) {
      return absl::DataLossError("its shape overflows 64 bits");
    }
  }
  if (range.size() != 2 || range[0] > range[1] || static_cast<uint64_t>(range[1]) > data_bytes) {
    return absl::DataLossError(fmt::format(
        "its data_offsets do not lie within the {} bytes of data; the file may be truncated",
        data_bytes));
  }
  parsed.begin = static_cast<uint64_t>(range[0]);
  parsed.end = static_cast<uint64_t>(range[1]);
  if (parsed.end - parsed.begin != bytes) {
    return absl::DataLossError(fmt::format("it has {} bytes, but its shape and dtype need {}",
                                           parsed.end - parsed.begin, bytes));
  }
  return parsed;
}

// Tensors must cover the data without holes and overlaps.
absl::Status CheckCover(const absl::flat_hash_map<std::string, SafetensorsEntry>& entries,
                        uint64_t data_bytes) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto& [name, entry] : entries) ranges.emplace_back(entry.begin, entry.end);
  std::sort(ranges.begin(), ranges.end());
  uint64_t at = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin != at) {
      return absl::DataLossError(
          fmt::format("tensors overlap or leave a hole at byte {} of the "
                      "data",
                      std::min(begin, at)));
    }
    at = end;
  }
  if (at == data_bytes) return absl::OkStatus();
  return absl::DataLossError(
      fmt::format("{} bytes of data where the tensors need {}", data_bytes, at));
}

float HalfToFloat(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t fraction = bits & 0x3ffu;
  float magnitude;
  if (exponent == 0) {
    magnitude = static_cast<float>(fraction) * 0x1p-24f;  // subnormals, exactly
  } else {
    const uint32_t wide = exponent == 31 ? 0xffu : exponent + 112;
    const uint32_t pattern = (wide << 23) | (fraction << 13);
    std::memcpy(&magnitude, &pattern, sizeof(magnitude));
  }
  uint32_t pattern;
  std::memcpy(&pattern, &magnitude, sizeof(pattern));
  pattern |= sign;
  std::memcpy(&magnitude, &pattern, sizeof(magnitude));
  return magnitude;
}

float Bfloat16ToFloat(uint16_t bits) {
  const uint32_t pattern = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &pattern, sizeof(value));
  return value;
}

// Every element of `data`, read as Stored, through `convert`.
template <typename Stored, typename Out, typename Convert>
std::vector<Out> Converted(absl::Span<const uint8_t> data, Convert convert) {
  std::vector<Out> out(data.size() / sizeof(Stored));
  for (size_t i = 0; i < out.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, data.data() + i * sizeof(Stored), sizeof(Stored));
    out[i] = convert(stored);
  }
  return out;
}

absl::Status Unconvertible(std::string_view name, const SafetensorsEntry* entry,
                           std::string_view wanted) {
  return absl::InvalidArgumentError(
      entry == nullptr ? fmt::format("no tensor '{}'", name)
                       : fmt::format("tensor '{}' is {}, not {}", name, entry->dtype, wanted));
}

}  // namespace

absl::StatusOr<Safetensors> Safetensors::Open(const std::string& path) {
  ASSIGN_OR_RETURN(const FileDescriptor file, OpenForReading(path));
  ASSIGN_OR_RETURN(const FileIdentity identity, IdentityOf(file, path));
  const auto corrupt = [&path](std::string_view what) {
    return absl::DataLossError(
        fmt::format("{}: {}; not a safetensors file, or a corrupt one", path, what));
  };
  uint64_t header_bytes = 0;
  ASSIGN_OR_RETURN(size_t got, ReadAt(file, 0, &header_bytes, kLengthBytes, path));
  if (got < kLengthBytes || identity.bytes < kLengthBytes) {
    return corrupt(fmt::format("has {} bytes only", got));
  }
  if (header_bytes > std::min(kHeaderBytesMax, identity.bytes - kLengthBytes)) {
    return corrupt(
        fmt::format("its header claims {} bytes of the file's {}", header_bytes, identity.bytes));
  }
  std::string text(header_bytes, '\0');
  ASSIGN_OR_RETURN(got, ReadAt(file, kLengthBytes, text.data(), text.size(), path));
  if (got < text.size()) return corrupt("shrank while it was read");
  auto header = ParseHeader(text);
  if (!header.ok()) return corrupt(MessageOf(header.status()));

  Safetensors result;
  const uint64_t data_begin = kLengthBytes + header_bytes;
  const uint64_t data_bytes = identity.bytes - data_begin;
  for (const auto& [name, json] : header->items()) {
    if (name == "__metadata__") continue;
    auto entry = ParseEntry(json, data_bytes);
    if (!entry.ok()) {
      return WithContext(entry.status(), fmt::format("{}: tensor '{:.80}'", path, name));
    }
    result.entries_.try_emplace(name, *std::move(entry));
  }
  const absl::Status cover = CheckCover(result.entries_, data_bytes);
  if (!cover.ok()) return corrupt(MessageOf(cover));
  result.data_.resize(data_bytes);
  ASSIGN_OR_RETURN(got, ReadAt(file, data_begin, result.data_.data(), data_bytes, path));
  if (got < data_bytes) return corrupt("shrank while it was read");
  return result;
}

const SafetensorsEntry* Safetensors::Find(std::string_view name) const {
  const auto at = entries_.find(absl::string_view(name.data(), name.size()));
  return at == entries_.end() ? nullptr : &at->second;
}

absl::Span<const uint8_t> Safetensors::Data(const SafetensorsEntry& entry) const {
  CHECK(entry.begin <= entry.end && entry.end <= data_.size());
  return absl::MakeConstSpan(data_).subspan(entry.begin, entry.end - entry.begin);
}

absl::StatusOr<std::vector<float>> Safetensors::Floats(std::string_view name) const {
  const SafetensorsEntry* entry = Find(name);
  if (entry == nullptr) return Unconvertible(name, entry, "");
  const auto data = Data(*entry);
  if (entry->dtype == "F32") return Converted<float, float>(data, [](float v) { return v; });
  if (entry->dtype == "F64") {
    return Converted<double, float>(data, [](double v) { return static_cast<float>(v); });
  }
  if (entry->dtype == "F16") return Converted<uint16_t, float>(data, HalfToFloat);
  if (entry->dtype == "BF16") return Converted<uint16_t, float>(data, Bfloat16ToFloat);
  return Unconvertible(name, entry, "F32, F64, F16 or BF16");
}

absl::StatusOr<std::vector<int64_t>> Safetensors::Ints(std::string_view name) const {
  const SafetensorsEntry* entry = Find(name);
  if (entry == nullptr) return Unconvertible(name, entry, "");
  const auto data = Data(*entry);
  const auto widen = [](auto v) { return static_cast<int64_t>(v); };
  if (entry->dtype == "I32") return Converted<int32_t, int64_t>(data, widen);
  if (entry->dtype == "I64") return Converted<int64_t, int64_t>(data, widen);
  if (entry->dtype == "U8") return Converted<uint8_t, int64_t>(data, widen);
  return Unconvertible(name, entry, "I32, I64 or U8");
}

std::vector<std::string> Safetensors::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace stoker
