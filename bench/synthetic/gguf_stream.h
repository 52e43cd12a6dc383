// Writes GGUF files too large for memory: the directory first, tensor data as it is made.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/dtype.h"

namespace stoker {

class GgufStream {
 public:
  // Makes the next piece of a tensor's data; pieces are concatenated until the tensor is whole.
  using Source = std::function<std::vector<uint8_t>()>;

  void Uint(std::string_view key, uint32_t value);
  void Float(std::string_view key, float value);
  void Bool(std::string_view key, bool value);
  void String(std::string_view key, std::string_view value);
  void Strings(std::string_view key, absl::Span<const std::string> values);
  void Ints(std::string_view key, absl::Span<const int32_t> values);

  // dims as in the file, contiguous first.
  void Tensor(std::string_view name, Dtype dtype, std::vector<int64_t> dims, Source source);

  // Writes everything; errors are what the file system says.
  absl::Status Write(const std::string& path);

 private:
  struct Entry {
    std::string name;
    Dtype dtype;
    std::vector<int64_t> dims;
    uint64_t bytes;
    Source source;
  };
  void Key(std::string_view key, uint32_t type);

  std::string pairs_;
  uint64_t pair_count_ = 0;
  std::vector<Entry> tensors_;
};

}  // namespace stoker
