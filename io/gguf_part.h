// One file of a GGUF model: its keys and its tensor directory, every number checked before use.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "io/byte_source.h"
#include "io/gguf.h"

namespace stoker {

// No head of a real model comes near: a vocabulary of 260,000 tokens takes about 10 MB.
inline constexpr uint64_t kGgufHeadBytesMax = 256 << 20;

struct GgufPart {
  std::string path;
  uint64_t file_bytes = 0;
  std::vector<std::string> keys;  // in file order
  absl::flat_hash_map<std::string, GgufValue> values;
  std::vector<GgufTensor> tensors;  // in file order; offsets from the start of this file
};

// Reads a file's head from its first byte. Errors as GgufModel::Open.
absl::StatusOr<GgufPart> ReadGgufPart(ByteSource& source);

// Text from a file in quotes, fit for a terminal: cut at 80 bytes, control bytes replaced.
std::string Quoted(std::string_view text);

}  // namespace stoker
