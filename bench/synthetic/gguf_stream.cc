// The GGUF container of the synthetic models.
#include "bench/synthetic/gguf_stream.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/check.h"

namespace stoker {
namespace {

constexpr uint64_t kAlignment = 32;

template <typename T>
void Append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendString(std::string& out, std::string_view text) {
  Append<uint64_t>(out, text.size());
  out.append(text);
}

uint64_t Padded(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

absl::Status WriteError(const std::string& path) {
  return absl::UnavailableError(fmt::format("writing {}: {}", path, std::strerror(errno)));
}

}  // namespace

void GgufStream::Key(std::string_view key, uint32_t type) {
  AppendString(pairs_, key);
  Append(pairs_, type);
  ++pair_count_;
}

void GgufStream::Uint(std::string_view key, uint32_t value) {
  Key(key, 4);
  Append(pairs_, value);
}

void GgufStream::Float(std::string_view key, float value) {
  Key(key, 6);
  Append(pairs_, value);
}

void GgufStream::Bool(std::string_view key, bool value) {
  Key(key, 7);
  Append<uint8_t>(pairs_, value ? 1 : 0);
}

void GgufStream::String(std::string_view key, std::string_view value) {
  Key(key, 8);
  AppendString(pairs_, value);
}

void GgufStream::Strings(std::string_view key, absl::Span<const std::string> values) {
  Key(key, 9);
  Append<uint32_t>(pairs_, 8);
  Append<uint64_t>(pairs_, values.size());
  for (const std::string& value : values) AppendString(pairs_, value);
}

void GgufStream::Ints(std::string_view key, absl::Span<const int32_t> values) {
  Key(key, 9);
  Append<uint32_t>(pairs_, 5);
  Append<uint64_t>(pairs_, values.size());
  for (const int32_t value : values) Append(pairs_, value);
}

void GgufStream::Tensor(std::string_view name, Dtype dtype, std::vector<int64_t> dims,
                        Source source) {
  CHECK(!dims.empty());
  uint64_t bytes = RowBytes(dtype, dims[0]);
  for (size_t i = 1; i < dims.size(); ++i) bytes *= static_cast<uint64_t>(dims[i]);
  tensors_.push_back({std::string(name), dtype, std::move(dims), bytes, std::move(source)});
}

absl::Status GgufStream::Write(const std::string& path) {
  std::string head = "GGUF";
  Append<uint32_t>(head, 3);
  Append<uint64_t>(head, tensors_.size());
  Append<uint64_t>(head, pair_count_);
  head += pairs_;
  uint64_t offset = 0;
  for (const Entry& tensor : tensors_) {
    AppendString(head, tensor.name);
    Append<uint32_t>(head, static_cast<uint32_t>(tensor.dims.size()));
    for (const int64_t dim : tensor.dims) Append(head, dim);
    Append(head, static_cast<uint32_t>(tensor.dtype));
    Append(head, offset);
    offset += Padded(tensor.bytes);
  }
  head.resize(Padded(head.size()));

  std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "wb"), std::fclose);
  if (file == nullptr) return WriteError(path);
  if (std::fwrite(head.data(), 1, head.size(), file.get()) != head.size()) return WriteError(path);
  for (const Entry& tensor : tensors_) {
    uint64_t written = 0;
    while (written < tensor.bytes) {
      std::vector<uint8_t> piece = tensor.source();
      CHECK(!piece.empty() && written + piece.size() <= tensor.bytes);
      written += piece.size();
      if (written == tensor.bytes) piece.resize(piece.size() + Padded(written) - written);
      if (std::fwrite(piece.data(), 1, piece.size(), file.get()) != piece.size()) {
        return WriteError(path);
      }
    }
  }
  return std::fflush(file.get()) == 0 ? absl::OkStatus() : WriteError(path);
}

}  // namespace stoker
