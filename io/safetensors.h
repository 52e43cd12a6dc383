// Safetensors files: a small reader (tests, oracles) and a streaming writer (logits).
// Format: https://huggingface.co/docs/safetensors.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace stoker {

struct SafetensorsEntry {
  std::string dtype;  // "F32", "I64", "U8", ...
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // bytes in the data section
};

// A whole file in memory, header checked (sizes, overlaps, bounds).
class Safetensors {
 public:
  static absl::StatusOr<Safetensors> Open(const std::string& path);
  const SafetensorsEntry* Find(std::string_view name) const;
  absl::Span<const uint8_t> Data(const SafetensorsEntry& entry) const;
  // The tensor converted: F32/F64/F16/BF16 to float, I32/I64/U8 to int64. InvalidArgument otherwise
  // or when absent.
  absl::StatusOr<std::vector<float>> Floats(std::string_view name) const;
  absl::StatusOr<std::vector<int64_t>> Ints(std::string_view name) const;
  std::vector<std::string> names() const;

 private:
  absl::flat_hash_map<std::string, SafetensorsEntry> entries_;
  std::vector<uint8_t> data_;
};

// Writes F32 tensors of known shape in the order declared, appending data as it comes; the file
// appears under its name only at Close (it is written beside it and renamed).
class SafetensorsWriter {
 public:
  struct Tensor {
    std::string name;
    std::vector<int64_t> shape;
  };
  static absl::StatusOr<std::unique_ptr<SafetensorsWriter>> Create(const std::string& path,
                                                                   std::vector<Tensor> tensors);
  virtual ~SafetensorsWriter() = default;
  // Puts `values` at element offset `at` of tensor `index`.
  virtual absl::Status Write(int index, int64_t at, absl::Span<const float> values) = 0;
  // Every element must have been written.
  virtual absl::Status Close() = 0;
};

}  // namespace stoker
