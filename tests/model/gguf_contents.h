// A GGUF file as keys and tensors that a test can edit and write again.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/gguf.h"
#include "tests/testing/gguf_writer.h"

namespace stoker {

struct GgufContents {
  std::vector<std::pair<std::string, GgufValue>> keys;
  std::vector<GgufWriter::Tensor> tensors;

  // Everything but the tokenizer. CHECKs that the file can be read.
  static GgufContents Read(const std::string& path);

  // Both CHECK that it is there.
  GgufWriter::Tensor& Tensor(std::string_view name);
  void Remove(std::string_view name);
  bool Has(std::string_view name) const;
  // Replaces or adds a key, or removes it.
  void Set(std::string_view key, GgufValue value);
  void Unset(std::string_view key);

  GgufWriter Writer() const;
  void WriteTo(const std::string& path) const { Writer().WriteTo(path); }
};

}  // namespace stoker
