// Reading a file whole and handing it to the writer.
#include "tests/model/gguf_contents.h"

#include <algorithm>
#include <fstream>

#include "base/check.h"

namespace stoker {
namespace {

void SetKey(GgufWriter& writer, const std::string& key, const GgufValue& value) {
  if (const auto* u = std::get_if<uint64_t>(&value)) writer.Set(key, *u);
  if (const auto* i = std::get_if<int64_t>(&value)) writer.Set(key, *i);
  if (const auto* d = std::get_if<double>(&value)) writer.Set(key, *d);
  if (const auto* b = std::get_if<bool>(&value)) writer.Set(key, *b);
  if (const auto* s = std::get_if<std::string>(&value)) writer.Set(key, std::string_view(*s));
  if (const auto* a = std::get_if<std::vector<uint64_t>>(&value)) writer.SetArray(key, *a);
  if (const auto* a = std::get_if<std::vector<int64_t>>(&value)) writer.SetArray(key, *a);
  if (const auto* a = std::get_if<std::vector<double>>(&value)) writer.SetArray(key, *a);
}

}  // namespace

GgufContents GgufContents::Read(const std::string& path) {
  const absl::StatusOr<GgufModel> gguf = GgufModel::Open(path);
  CHECK(gguf.ok());
  GgufContents contents;
  for (const std::string& key : gguf->keys()) {
    const bool is_of_use = !key.starts_with("tokenizer.") && key != "general.alignment";
    if (is_of_use) contents.keys.emplace_back(key, *gguf->Find(key));
  }
  std::ifstream file(path, std::ios::binary);
  for (const GgufTensor& tensor : gguf->tensors()) {
    GgufWriter::Tensor copy;
    copy.name = tensor.name;
    copy.type = static_cast<int32_t>(tensor.dtype);
    copy.dims.assign(tensor.dims.begin(), tensor.dims.begin() + tensor.dim_count);
    copy.data.resize(tensor.bytes);
    file.seekg(static_cast<std::streamoff>(tensor.offset));
    file.read(reinterpret_cast<char*>(copy.data.data()),
              static_cast<std::streamsize>(tensor.bytes));
    CHECK(file.good());
    contents.tensors.push_back(std::move(copy));
  }
  return contents;
}

GgufWriter::Tensor& GgufContents::Tensor(std::string_view name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const auto& tensor) { return tensor.name == name; });
  CHECK(found != tensors.end());
  return *found;
}

bool GgufContents::Has(std::string_view name) const {
  return std::any_of(tensors.begin(), tensors.end(),
                     [&](const auto& tensor) { return tensor.name == name; });
}

void GgufContents::Remove(std::string_view name) {
  tensors.erase(tensors.begin() + (&Tensor(name) - tensors.data()));
}

void GgufContents::Unset(std::string_view key) {
  std::erase_if(keys, [&](const auto& entry) { return entry.first == key; });
}

void GgufContents::Set(std::string_view key, GgufValue value) {
  Unset(key);
  keys.emplace_back(std::string(key), std::move(value));
}

GgufWriter GgufContents::Writer() const {
  GgufWriter writer;
  for (const auto& [key, value] : keys) SetKey(writer, key, value);
  for (const GgufWriter::Tensor& tensor : tensors) writer.AddRaw(tensor);
  return writer;
}

}  // namespace stoker
