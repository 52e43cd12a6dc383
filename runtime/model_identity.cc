// What a model is known by to files that outlive a run: usage profiles and traces.
#include "runtime/model_identity.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <string_view>
#include <type_traits>
#include <variant>

#include "base/status.h"
#include "io/file.h"

namespace stoker {
namespace {

// A few of every kind of tensor in a model of a thousand; 1 MiB of reading in all.
constexpr size_t kSamplesMax = 256;
constexpr uint64_t kSampleBytes = 4096;

// Each number is one link of a chain, each text its length and its bytes: no two sequences of them
// run into one another.
class IdentityHash {
 public:
  void Add(uint64_t value) { hash_ = XXH3_64bits_withSeed(&value, sizeof value, hash_); }
  void Add(std::string_view text) {
    Add(text.size());
    hash_ = XXH3_64bits_withSeed(text.data(), text.size(), hash_);
  }
  uint64_t value() const { return hash_ != 0 ? hash_ : 1; }

 private:
  uint64_t hash_ = 0;
};

void AddTensor(const GgufTensor& tensor, IdentityHash& hash) {
  hash.Add(std::string_view(tensor.name));
  hash.Add(static_cast<uint64_t>(tensor.dtype));
  for (const int64_t dim : tensor.dims) hash.Add(static_cast<uint64_t>(dim));
  hash.Add(static_cast<uint64_t>(tensor.file));
  hash.Add(tensor.offset);
  hash.Add(tensor.bytes);
}

// Arrays (vocabularies, most of a header) are left out: their size shows in the tensors' offsets.
void AddScalar(const GgufValue& value, IdentityHash& hash) {
  hash.Add(value.index());
  std::visit(
      [&hash](const auto& held) {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, std::string>) hash.Add(std::string_view(held));
        if constexpr (std::is_same_v<Held, double>) {
          hash.Add(std::string_view(reinterpret_cast<const char*>(&held), sizeof held));
        }
        if constexpr (std::is_integral_v<Held>) hash.Add(static_cast<uint64_t>(held));
      },
      value);
}

}  // namespace

uint64_t IdentifyModel(const GgufModel& gguf) {
  IdentityHash hash;
  hash.Add(gguf.file_bytes().size());
  for (const uint64_t bytes : gguf.file_bytes()) hash.Add(bytes);
  hash.Add(gguf.tensors().size());
  for (const GgufTensor& tensor : gguf.tensors()) AddTensor(tensor, hash);
  for (const std::string& key : gguf.keys()) {
    hash.Add(std::string_view(key));
    AddScalar(*gguf.Find(key), hash);
  }
  return hash.value();
}

absl::StatusOr<uint64_t> IdentifyWeights(const GgufModel& gguf) {
  const size_t stride =
      std::max<size_t>(1, (gguf.tensors().size() + kSamplesMax - 1) / kSamplesMax);
  IdentityHash hash;
  std::string sample;
  for (size_t i = 0; i < gguf.tensors().size(); i += stride) {
    const GgufTensor& tensor = gguf.tensors()[i];
    const std::string& path = gguf.paths()[static_cast<size_t>(tensor.file)];
    ASSIGN_OR_RETURN(const FileDescriptor file, OpenForReading(path));
    sample.resize(static_cast<size_t>(std::min(tensor.bytes, kSampleBytes)));
    const uint64_t offset = tensor.offset + (tensor.bytes - sample.size()) / 2;
    ASSIGN_OR_RETURN(const size_t count, ReadAt(file, offset, sample.data(), sample.size(), path));
    hash.Add(std::string_view(sample.data(), count));
  }
  return hash.value();
}

std::string FormatIdentity(uint64_t identity) { return fmt::format("{:016x}", identity); }

}  // namespace stoker
