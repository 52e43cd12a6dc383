// GGUF files, versions 2 and 3, single or split: metadata and the tensor directory. Never trusts
// the file.
//
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every count, length, offset
// and product is checked against the bytes that are left before it is used, so a hostile file costs
// at most memory proportional to its own size. Tensor data is not read here.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/dtype.h"

namespace stoker {

// One metadata value. Integers of every width and sign widen to int64/uint64, f32/f64 to double.
using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string, std::vector<uint64_t>,
                               std::vector<int64_t>, std::vector<double>, std::vector<bool>,
                               std::vector<std::string>>;

struct GgufTensor {
  std::string name;
  Dtype dtype = Dtype::kF32;
  int dim_count = 0;
  std::array<int64_t, 4> dims = {1, 1, 1, 1};  // dims[0] is contiguous; unused ones are 1
  int file = 0;                                // index into GgufModel::paths()
  uint64_t offset = 0;                         // bytes from the start of that file
  uint64_t bytes = 0;
};

class GgufModel {
 public:
  // Opens a file, or the first part of a split set (name-00001-of-00003.gguf; any part's name finds
  // the others). NotFound: no such file, or a part is missing (named). DataLoss: truncated, corrupt
  // or half-downloaded (what, where and what to try). InvalidArgument: not a GGUF, or an obsolete
  // or big-endian one. Unimplemented: a type id unknown.
  static absl::StatusOr<GgufModel> Open(const std::string& path);
  // The same over bytes in memory, without split sets: for tests and fuzzing.
  static absl::StatusOr<GgufModel> Parse(absl::Span<const uint8_t> file, std::string_view name);

  absl::Span<const std::string> paths() const { return paths_; }
  absl::Span<const uint64_t> file_bytes() const { return file_bytes_; }
  absl::Span<const GgufTensor> tensors() const { return tensors_; }
  const GgufTensor* FindTensor(std::string_view name) const;  // nullptr when absent

  bool Has(std::string_view key) const;
  const GgufValue* Find(std::string_view key) const;  // nullptr when absent
  // Keys in file order.
  absl::Span<const std::string> keys() const { return keys_; }

  // Typed access, lenient over integer widths. An absent key gives `fallback`; a key of another
  // type or a value out of [min, max] is InvalidArgument naming the key, the value and the range.
  absl::StatusOr<int64_t> Int(std::string_view key, int64_t fallback, int64_t min,
                              int64_t max) const;
  absl::StatusOr<double> Float(std::string_view key, double fallback) const;  // must be finite
  absl::StatusOr<bool> Bool(std::string_view key, bool fallback) const;
  absl::StatusOr<std::string> String(std::string_view key, std::string_view fallback) const;
  // Required forms: absent is InvalidArgument too.
  absl::StatusOr<int64_t> Int(std::string_view key, int64_t min, int64_t max) const;
  absl::StatusOr<std::string> String(std::string_view key) const;
  // Arrays; nullptr when absent or of another element type.
  const std::vector<std::string>* Strings(std::string_view key) const;
  // Integer arrays of any width; a scalar is an array of one. Empty when absent.
  absl::StatusOr<std::vector<int64_t>> Ints(std::string_view key) const;
  absl::StatusOr<std::vector<double>> Floats(std::string_view key) const;

 private:
  friend class GgufParser;
  std::vector<std::string> paths_;
  std::vector<uint64_t> file_bytes_;
  std::vector<GgufTensor> tensors_;
  absl::flat_hash_map<std::string, size_t> tensor_index_;
  std::vector<std::string> keys_;
  absl::flat_hash_map<std::string, GgufValue> values_;
};

}  // namespace stoker
