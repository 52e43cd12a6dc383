// Lays keys, directory and data out as https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
// says.
#include "tests/testing/gguf_writer.h"

#include <fmt/format.h>

#include <fstream>
#include <utility>

namespace stoker {

GgufWriter& GgufWriter::Set(std::string_view key, std::string_view value) {
  std::string raw;
  AppendElement(raw, value);
  return SetRaw(key, static_cast<int32_t>(GgufType::kString), raw);
}

GgufWriter& GgufWriter::SetRaw(std::string_view key, int32_t type, std::string_view bytes) {
  AppendElement(keys_, key);
  Append(keys_, type);
  keys_.append(bytes);
  ++key_count_;
  return *this;
}

GgufWriter& GgufWriter::SetRawArray(std::string_view key, int32_t element_type, uint64_t count,
                                    std::string_view bytes) {
  std::string raw;
  Append(raw, element_type);
  Append(raw, count);
  raw.append(bytes);
  return SetRaw(key, static_cast<int32_t>(GgufType::kArray), raw);
}

GgufWriter& GgufWriter::SetAlignment(uint32_t alignment) {
  alignment_ = alignment;
  return Set("general.alignment", alignment);
}

GgufWriter& GgufWriter::AddTensor(std::string_view name, Dtype dtype, std::vector<int64_t> dims,
                                  std::vector<uint8_t> data) {
  return AddRaw({.name = std::string(name),
                 .type = static_cast<int32_t>(dtype),
                 .dims = std::move(dims),
                 .data = std::move(data),
                 .offset = {}});
}

GgufWriter& GgufWriter::AddTensor(std::string_view name, std::vector<int64_t> dims,
                                  const std::vector<float>& values) {
  const auto* begin = reinterpret_cast<const uint8_t*>(values.data());
  return AddTensor(name, Dtype::kF32, std::move(dims),
                   std::vector<uint8_t>(begin, begin + values.size() * sizeof(float)));
}

GgufWriter& GgufWriter::AddZeros(std::string_view name, Dtype dtype, std::vector<int64_t> dims) {
  CHECK(!dims.empty());
  size_t bytes = RowBytes(dtype, dims[0]);
  for (size_t i = 1; i < dims.size(); ++i) bytes *= static_cast<size_t>(dims[i]);
  return AddTensor(name, dtype, std::move(dims), std::vector<uint8_t>(bytes));
}

GgufWriter& GgufWriter::AddRaw(Tensor tensor) {
  tensors_.push_back(std::move(tensor));
  return *this;
}

std::vector<uint8_t> GgufWriter::Build() const {
  std::string out = header.magic;
  Append(out, header.version);
  Append(out, header.tensor_count.value_or(tensors_.size()));
  Append(out, header.kv_count.value_or(key_count_));
  out += keys_;
  const auto padded = [this](uint64_t bytes) {
    return (bytes + alignment_ - 1) / alignment_ * alignment_;
  };
  std::string data;
  for (const Tensor& tensor : tensors_) {
    data.resize(padded(data.size()));
    AppendElement(out, tensor.name);
    Append(out, static_cast<uint32_t>(tensor.dims.size()));
    for (const int64_t dim : tensor.dims) Append(out, dim);
    Append(out, tensor.type);
    Append(out, tensor.offset.value_or(data.size()));
    data.append(tensor.data.begin(), tensor.data.end());
  }
  if (!tensors_.empty()) out.resize(padded(out.size()));
  out += data;
  return {out.begin(), out.end()};
}

void GgufWriter::WriteTo(const std::string& path) const { WriteBytes(path, Build()); }

std::vector<std::string> GgufWriter::WriteSplit(const std::string& prefix, int parts) const {
  CHECK(parts >= 2);
  std::vector<std::string> paths;
  for (int part = 0; part < parts; ++part) {
    GgufWriter writer;
    writer.header.version = header.version;
    writer.alignment_ = alignment_;
    if (part == 0) {
      writer.keys_ = keys_;
      writer.key_count_ = key_count_;
    } else if (alignment_ != 32) {
      writer.SetAlignment(static_cast<uint32_t>(alignment_));
    }
    writer.Set("split.no", static_cast<uint16_t>(part));
    writer.Set("split.count", static_cast<uint16_t>(parts));
    writer.Set("split.tensors.count", static_cast<int32_t>(tensors_.size()));
    for (size_t i = 0; i < tensors_.size(); ++i) {
      if (static_cast<int>(i) % (parts - 1) + 1 == part) writer.AddRaw(tensors_[i]);
    }
    paths.push_back(fmt::format("{}-{:05d}-of-{:05d}.gguf", prefix, part + 1, parts));
    writer.WriteTo(paths.back());
  }
  return paths;
}

void WriteBytes(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  file.close();
  CHECK(file.good());
}

}  // namespace stoker
