// The parser of one GGUF file. Straight down the file, no recursion.
#include "io/gguf_part.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "base/status.h"

namespace stoker {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read in place");

constexpr uint32_t kVersionMin = 2;
constexpr uint32_t kVersionMax = 3;
constexpr uint64_t kKeyBytesMax = 65535;      // as the format says
constexpr uint64_t kTensorNameBytesMax = 64;  // as the format says
constexpr uint32_t kDimCountMax = 4;
constexpr uint64_t kAlignmentDefault = 32;
constexpr uint64_t kAlignmentMax = 1 << 20;
// Key of one byte, its length, the type, a value of one byte.
constexpr uint64_t kKeyRecordBytesMin = 8 + 1 + 4 + 1;
// Name of one byte, its length, dimension count, one dimension, type, offset.
constexpr uint64_t kTensorRecordBytesMin = 8 + 1 + 4 + 8 + 4 + 8;

// Value types, as the file numbers them.
enum ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};

// The product, or the largest number where it has none: for messages.
uint64_t Product(uint64_t count, uint64_t each) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(count, each, &product)) return std::numeric_limits<uint64_t>::max();
  return product;
}

class PartReader {
 public:
  explicit PartReader(ByteSource& source) : source_(source) {}
  absl::StatusOr<GgufPart> Read();

 private:
  template <typename T>
  absl::StatusOr<T> Number();
  template <typename Stored, typename Widened>
  absl::StatusOr<GgufValue> Scalar();
  template <typename Stored, typename Widened>
  absl::StatusOr<GgufValue> NumberArray(uint64_t count);
  absl::StatusOr<std::string_view> Text(std::string_view what, uint64_t bytes_max);
  absl::StatusOr<bool> Truth();
  absl::StatusOr<GgufValue> Value(uint32_t type);
  absl::StatusOr<GgufValue> Array();
  absl::StatusOr<GgufValue> StringArray(uint64_t count);
  absl::StatusOr<GgufValue> TruthArray(uint64_t count);

  absl::Status ReadHeader();
  absl::Status ReadKeys();
  absl::Status ReadTensor();
  absl::Status ReadDims(GgufTensor& tensor);
  absl::Status SetDtype(GgufTensor& tensor, uint32_t type);
  absl::StatusOr<uint64_t> Alignment() const;
  absl::Status PlaceTensors();
  absl::Status CheckOverlaps() const;

  absl::Status Corrupt(std::string_view what) const {
    return absl::DataLossError(fmt::format("{}: {} (near byte {}); the file is corrupt",
                                           source_.name(), what, source_.position()));
  }

  ByteSource& source_;
  GgufPart part_;
  uint64_t tensor_count_ = 0;
  uint64_t key_count_ = 0;
};

// ---- values

template <typename T>
absl::StatusOr<T> PartReader::Number() {
  ASSIGN_OR_RETURN(const uint8_t* bytes, source_.Take(sizeof(T)));
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

absl::StatusOr<std::string_view> PartReader::Text(std::string_view what, uint64_t bytes_max) {
  ASSIGN_OR_RETURN(const uint64_t length, Number<uint64_t>());
  if (length > source_.left()) return source_.RunsOut(what, length);
  if (length > bytes_max) {
    return Corrupt(fmt::format("{} of {} bytes where {} is the most", what, length, bytes_max));
  }
  ASSIGN_OR_RETURN(const uint8_t* bytes, source_.Take(length));
  return std::string_view(reinterpret_cast<const char*>(bytes), length);
}

absl::StatusOr<bool> PartReader::Truth() {
  ASSIGN_OR_RETURN(const uint8_t byte, Number<uint8_t>());
  if (byte > 1) return Corrupt(fmt::format("a boolean holds {}", byte));
  return byte == 1;
}

template <typename Stored, typename Widened>
absl::StatusOr<GgufValue> PartReader::Scalar() {
  ASSIGN_OR_RETURN(const Stored value, Number<Stored>());
  return GgufValue(static_cast<Widened>(value));
}

// Requires that count * sizeof(Stored) bytes are left.
template <typename Stored, typename Widened>
absl::StatusOr<GgufValue> PartReader::NumberArray(uint64_t count) {
  constexpr uint64_t kBatch = 4096;
  std::vector<Widened> values;
  values.reserve(count);
  while (values.size() < count) {
    const uint64_t batch = std::min(kBatch, count - values.size());
    ASSIGN_OR_RETURN(const uint8_t* bytes, source_.Take(batch * sizeof(Stored)));
    for (uint64_t i = 0; i < batch; ++i) {
      Stored value;
      std::memcpy(&value, bytes + i * sizeof(Stored), sizeof(Stored));
      values.push_back(static_cast<Widened>(value));
    }
  }
  return GgufValue(std::move(values));
}

absl::StatusOr<GgufValue> PartReader::StringArray(uint64_t count) {
  std::vector<std::string> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const std::string_view text, Text("a string", kGgufHeadBytesMax));
    values.emplace_back(text);
  }
  return GgufValue(std::move(values));
}

absl::StatusOr<GgufValue> PartReader::TruthArray(uint64_t count) {
  std::vector<bool> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const bool value, Truth());
    values.push_back(value);
  }
  return GgufValue(std::move(values));
}

absl::StatusOr<GgufValue> PartReader::Value(uint32_t type) {
  switch (type) {
    case kU8:
      return Scalar<uint8_t, uint64_t>();
    case kI8:
      return Scalar<int8_t, int64_t>();
    case kU16:
      return Scalar<uint16_t, uint64_t>();
    case kI16:
      return Scalar<int16_t, int64_t>();
    case kU32:
      return Scalar<uint32_t, uint64_t>();
    case kI32:
      return Scalar<int32_t, int64_t>();
    case kU64:
      return Scalar<uint64_t, uint64_t>();
    case kI64:
      return Scalar<int64_t, int64_t>();
    case kF32:
      return Scalar<float, double>();
    case kF64:
      return Scalar<double, double>();
    case kBool: {
      ASSIGN_OR_RETURN(const bool value, Truth());
      return GgufValue(value);
    }
    case kString: {
      ASSIGN_OR_RETURN(const std::string_view text, Text("a string", kGgufHeadBytesMax));
      return GgufValue(std::string(text));
    }
    case kArray:
      return Array();
    default:
      return Corrupt(fmt::format("value type {} is unknown", type));
  }
}

absl::StatusOr<GgufValue> PartReader::Array() {
  ASSIGN_OR_RETURN(const uint32_t type, Number<uint32_t>());
  ASSIGN_OR_RETURN(const uint64_t count, Number<uint64_t>());
  // Bytes that one element takes at least, by type.
  static constexpr uint64_t kElementBytesMin[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};
  if (type == kArray) return Corrupt("an array of arrays, which no known model has");
  if (type > kF64) return Corrupt(fmt::format("array element type {} is unknown", type));
  if (count > source_.left() / kElementBytesMin[type]) {
    return source_.RunsOut(fmt::format("an array of {} elements", count),
                           Product(count, kElementBytesMin[type]));
  }
  switch (type) {
    case kU8:
      return NumberArray<uint8_t, uint64_t>(count);
    case kI8:
      return NumberArray<int8_t, int64_t>(count);
    case kU16:
      return NumberArray<uint16_t, uint64_t>(count);
    case kI16:
      return NumberArray<int16_t, int64_t>(count);
    case kU32:
      return NumberArray<uint32_t, uint64_t>(count);
    case kI32:
      return NumberArray<int32_t, int64_t>(count);
    case kU64:
      return NumberArray<uint64_t, uint64_t>(count);
    case kI64:
      return NumberArray<int64_t, int64_t>(count);
    case kF32:
      return NumberArray<float, double>(count);
    case kF64:
      return NumberArray<double, double>(count);
    case kBool:
      return TruthArray(count);
    default:
      return StringArray(count);
  }
}

// ---- header and keys

absl::Status PartReader::ReadHeader() {
  const auto refuse = [this](std::string_view why) {
    return absl::InvalidArgumentError(fmt::format("{}: {}", source_.name(), why));
  };
  if (source_.file_bytes() == 0) {
    return absl::DataLossError(
        fmt::format("{}: is empty; the download may not have begun", source_.name()));
  }
  if (source_.left() < 4) return refuse("is not a GGUF file (too short for one)");
  ASSIGN_OR_RETURN(const uint8_t* magic, source_.Take(4));
  if (std::memcmp(magic, "vers", 4) == 0) {
    return refuse("is not a GGUF file but, it seems, a Git LFS pointer; run 'git lfs pull'");
  }
  if (std::memcmp(magic, "GGUF", 4) != 0) {
    return refuse("is not a GGUF file (it does not begin with \"GGUF\")");
  }
  ASSIGN_OR_RETURN(const uint32_t version, Number<uint32_t>());
  if (version != 0 && (version & 0xffff) == 0) {
    return refuse("is a big-endian GGUF; convert it for little-endian machines");
  }
  if (version < kVersionMin) {
    return refuse(fmt::format("GGUF version {} is obsolete; convert the model again", version));
  }
  if (version > kVersionMax) {
    return absl::UnimplementedError(
        fmt::format("{}: GGUF version {} is newer than the versions known here ({} and {})",
                    source_.name(), version, kVersionMin, kVersionMax));
  }
  ASSIGN_OR_RETURN(tensor_count_, Number<uint64_t>());
  ASSIGN_OR_RETURN(key_count_, Number<uint64_t>());
  if (key_count_ > source_.left() / kKeyRecordBytesMin) {
    return source_.RunsOut(fmt::format("a table of {} keys", key_count_),
                           Product(key_count_, kKeyRecordBytesMin));
  }
  if (tensor_count_ > source_.left() / kTensorRecordBytesMin) {
    return source_.RunsOut(fmt::format("a directory of {} tensors", tensor_count_),
                           Product(tensor_count_, kTensorRecordBytesMin));
  }
  return absl::OkStatus();
}

absl::Status PartReader::ReadKeys() {
  for (uint64_t i = 0; i < key_count_; ++i) {
    ASSIGN_OR_RETURN(const std::string_view text, Text("a key", kKeyBytesMax));
    if (text.empty()) return Corrupt(fmt::format("key {} has no name", i));
    std::string key(text);  // the source's window moves on
    ASSIGN_OR_RETURN(const uint32_t type, Number<uint32_t>());
    absl::StatusOr<GgufValue> value = Value(type);
    if (!value.ok()) {
      return WithContext(value.status(), fmt::format("reading the key {}", Quoted(key)));
    }
    if (!part_.values.try_emplace(key, *std::move(value)).second) {
      return Corrupt(fmt::format("the key {} occurs twice", Quoted(key)));
    }
    part_.keys.push_back(std::move(key));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> PartReader::Alignment() const {
  const auto at = part_.values.find("general.alignment");
  if (at == part_.values.end()) return kAlignmentDefault;
  const auto* alignment = std::get_if<uint64_t>(&at->second);
  if (alignment == nullptr) return Corrupt("general.alignment is not an unsigned integer");
  if (!std::has_single_bit(*alignment) || *alignment > kAlignmentMax) {
    return Corrupt(fmt::format("general.alignment is {}, not a power of two up to {}", *alignment,
                               kAlignmentMax));
  }
  return *alignment;
}

// ---- tensors

absl::Status PartReader::ReadDims(GgufTensor& tensor) {
  ASSIGN_OR_RETURN(const uint32_t dim_count, Number<uint32_t>());
  if (dim_count < 1 || dim_count > kDimCountMax) {
    return Corrupt(fmt::format("tensor {} has {} dimensions; 1 to {} are possible",
                               Quoted(tensor.name), dim_count, kDimCountMax));
  }
  tensor.dim_count = static_cast<int>(dim_count);
  int64_t values = 1;
  for (uint32_t i = 0; i < dim_count; ++i) {
    ASSIGN_OR_RETURN(const int64_t dim, Number<int64_t>());
    if (dim < 1 || __builtin_mul_overflow(values, dim, &values)) {
      return Corrupt(fmt::format("tensor {}: dimension {} is {}, which cannot be",
                                 Quoted(tensor.name), i, dim));
    }
    tensor.dims[i] = dim;
  }
  return absl::OkStatus();
}

absl::Status PartReader::SetDtype(GgufTensor& tensor, uint32_t type) {
  const DtypeInfo* info = FindDtype(type);
  if (info == nullptr) {
    return absl::UnimplementedError(fmt::format(
        "{}: tensor {} has type id {}, which is unknown here or was removed from GGUF; quantize "
        "the model to a current format",
        source_.name(), Quoted(tensor.name), static_cast<int32_t>(type)));
  }
  if (tensor.dims[0] % info->block_values != 0) {
    return Corrupt(fmt::format("tensor {}: rows of {} values do not divide into blocks of {} ({})",
                               Quoted(tensor.name), tensor.dims[0], info->block_values,
                               info->name));
  }
  tensor.dtype = info->dtype;
  uint64_t bytes = static_cast<uint64_t>(tensor.dims[0] / info->block_values);
  bool overflows = __builtin_mul_overflow(bytes, static_cast<uint64_t>(info->block_bytes), &bytes);
  for (size_t i = 1; i < tensor.dims.size(); ++i) {
    overflows |= __builtin_mul_overflow(bytes, static_cast<uint64_t>(tensor.dims[i]), &bytes);
  }
  if (overflows) {
    return Corrupt(fmt::format("tensor {}: its bytes overflow 64 bits", Quoted(tensor.name)));
  }
  tensor.bytes = bytes;
  return absl::OkStatus();
}

absl::Status PartReader::ReadTensor() {
  ASSIGN_OR_RETURN(const std::string_view name, Text("a tensor name", kTensorNameBytesMax));
  if (name.empty()) return Corrupt("a tensor has no name");
  GgufTensor tensor{.name = std::string(name)};
  RETURN_IF_ERROR(ReadDims(tensor));
  ASSIGN_OR_RETURN(const uint32_t type, Number<uint32_t>());
  RETURN_IF_ERROR(SetDtype(tensor, type));
  ASSIGN_OR_RETURN(tensor.offset, Number<uint64_t>());
  part_.tensors.push_back(std::move(tensor));
  return absl::OkStatus();
}

// Turns offsets in the data section into offsets in the file, and checks that the file has them.
absl::Status PartReader::PlaceTensors() {
  if (part_.tensors.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const uint64_t alignment, Alignment());
  // Cannot overflow: the position is at most kGgufHeadBytesMax.
  const uint64_t data_begin = (source_.position() + alignment - 1) & ~(alignment - 1);
  uint64_t needed = 0;
  const GgufTensor* last = nullptr;
  for (GgufTensor& tensor : part_.tensors) {
    uint64_t end = 0;
    if (tensor.offset % alignment != 0) {
      return Corrupt(fmt::format("tensor {}: offset {} is no multiple of the alignment {}",
                                 Quoted(tensor.name), tensor.offset, alignment));
    }
    if (__builtin_add_overflow(tensor.offset, data_begin, &tensor.offset) ||
        __builtin_add_overflow(tensor.offset, tensor.bytes, &end)) {
      return Corrupt(fmt::format("tensor {}: its place overflows 64 bits", Quoted(tensor.name)));
    }
    if (end > needed) {
      needed = end;
      last = &tensor;
    }
  }
  if (needed > source_.file_bytes()) {
    return absl::DataLossError(fmt::format(
        "{}: is truncated: its tensors (the last is {}) need {} bytes, but the file has {} "
        "({:.1f} %); the download is probably not complete: finish it or start it again",
        source_.name(), Quoted(last->name), needed, source_.file_bytes(),
        100.0 * static_cast<double>(source_.file_bytes()) / static_cast<double>(needed)));
  }
  return CheckOverlaps();
}

// Gaps are accepted: writers that pad more than they must exist, and nothing reads a gap.
absl::Status PartReader::CheckOverlaps() const {
  std::vector<const GgufTensor*> by_offset;
  absl::flat_hash_set<std::string_view> names;
  for (const GgufTensor& tensor : part_.tensors) {
    by_offset.push_back(&tensor);
    if (!names.insert(tensor.name).second) {
      return Corrupt(fmt::format("the tensor {} occurs twice", Quoted(tensor.name)));
    }
  }
  std::sort(by_offset.begin(), by_offset.end(),
            [](const auto* a, const auto* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    if (by_offset[i - 1]->offset + by_offset[i - 1]->bytes > by_offset[i]->offset) {
      return Corrupt(fmt::format("tensors {} and {} overlap", Quoted(by_offset[i - 1]->name),
                                 Quoted(by_offset[i]->name)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<GgufPart> PartReader::Read() {
  part_.path = source_.name();
  part_.file_bytes = source_.file_bytes();
  RETURN_IF_ERROR(ReadHeader());
  RETURN_IF_ERROR(ReadKeys());
  RETURN_IF_ERROR(Alignment().status());
  for (uint64_t i = 0; i < tensor_count_; ++i) RETURN_IF_ERROR(ReadTensor());
  RETURN_IF_ERROR(PlaceTensors());
  return std::move(part_);
}

}  // namespace

absl::StatusOr<GgufPart> ReadGgufPart(ByteSource& source) { return PartReader(source).Read(); }

std::string Quoted(std::string_view text) {
  constexpr size_t kBytesMax = 80;
  std::string out = "'";
  for (const char c : text.substr(0, kBytesMax)) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  return out + (text.size() > kBytesMax ? "...'" : "'");
}

}  // namespace stoker
