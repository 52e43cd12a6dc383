// Builds GGUF files, sound and unsound ones, for the tests of every room.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/check.h"
#include "base/dtype.h"

namespace stoker {

// The `type` field of a GGUF metadata value.
enum class GgufType : int32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// Collects keys and tensors and lays them out as a file. Everything that a header says can be
// overridden, so that a test can lie about it.
class GgufWriter {
 public:
  // A tensor as the directory describes it. An absent offset is the running sum of padded sizes.
  struct Tensor {
    std::string name;
    int32_t type = 0;
    std::vector<int64_t> dims;  // dims[0] is contiguous
    std::vector<uint8_t> data;
    std::optional<uint64_t> offset;
  };
  struct Header {
    std::string magic = "GGUF";
    uint32_t version = 3;
    std::optional<uint64_t> tensor_count;
    std::optional<uint64_t> kv_count;
  };

  Header header;

  // Sets a key to a value of exactly the C++ type given: uint8_t ... int64_t, float, double, bool,
  // text.
  template <typename T>
  requires std::is_arithmetic_v<T> GgufWriter& Set(std::string_view key, T value) {
    std::string raw;
    Append(raw, value);
    return SetRaw(key, static_cast<int32_t>(TypeOf<T>()), raw);
  }
  GgufWriter& Set(std::string_view key, std::string_view value);
  GgufWriter& Set(std::string_view key, const char* value) {
    return Set(key, std::string_view(value));
  }
  template <typename T>
  GgufWriter& SetArray(std::string_view key, const std::vector<T>& values) {
    std::string raw;
    for (const T& value : values) AppendElement(raw, value);
    return SetRawArray(key, static_cast<int32_t>(TypeOf<T>()), values.size(), raw);
  }
  // A value of any type id with the bytes given.
  GgufWriter& SetRaw(std::string_view key, int32_t type, std::string_view bytes);
  GgufWriter& SetRawArray(std::string_view key, int32_t element_type, uint64_t count,
                          std::string_view bytes);
  // Sets general.alignment, and aligns by it. Requires a power of two.
  GgufWriter& SetAlignment(uint32_t alignment);

  GgufWriter& AddTensor(std::string_view name, Dtype dtype, std::vector<int64_t> dims,
                        std::vector<uint8_t> data);
  GgufWriter& AddTensor(std::string_view name, std::vector<int64_t> dims,
                        const std::vector<float>& values);
  // Zeros of the right size. Requires whole blocks.
  GgufWriter& AddZeros(std::string_view name, Dtype dtype, std::vector<int64_t> dims);
  GgufWriter& AddRaw(Tensor tensor);

  std::vector<uint8_t> Build() const;
  void WriteTo(const std::string& path) const;
  // Writes prefix-00001-of-0000N.gguf and its siblings: all keys and no tensors in the first, the
  // tensors dealt in order to the others. Requires parts >= 2. Returns the paths.
  std::vector<std::string> WriteSplit(const std::string& prefix, int parts) const;

 private:
  template <typename T>
  static void Append(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  template <typename T>
  static void AppendElement(std::string& out, const T& value) {
    if constexpr (std::is_arithmetic_v<T>) {
      Append(out, value);
    } else {
      Append(out, static_cast<uint64_t>(value.size()));
      out.append(value.data(), value.size());
    }
  }
  template <typename T>
  static GgufType TypeOf() {
    if constexpr (std::is_same_v<T, bool>) return GgufType::kBool;
    if constexpr (std::is_same_v<T, float>) return GgufType::kF32;
    if constexpr (std::is_same_v<T, double>) return GgufType::kF64;
    if constexpr (std::is_integral_v<T>) {
      constexpr bool kSigned = std::is_signed_v<T>;
      switch (sizeof(T)) {
        case 1:
          return kSigned ? GgufType::kI8 : GgufType::kU8;
        case 2:
          return kSigned ? GgufType::kI16 : GgufType::kU16;
        case 4:
          return kSigned ? GgufType::kI32 : GgufType::kU32;
        default:
          return kSigned ? GgufType::kI64 : GgufType::kU64;
      }
    }
    return GgufType::kString;
  }

  uint64_t alignment_ = 32;
  uint64_t key_count_ = 0;
  std::string keys_;
  std::vector<Tensor> tensors_;
};

// Writes a whole file. CHECKs that it could.
void WriteBytes(const std::string& path, const std::vector<uint8_t>& bytes);

}  // namespace stoker
