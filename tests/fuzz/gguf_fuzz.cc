// Fuzz target: bytes that claim to be a GGUF file.
#include <cstdint>
#include <limits>

#include "base/check.h"
#include "io/gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  const auto model = stoker::GgufModel::Parse({data, bytes}, "fuzz");
  if (!model.ok()) {
    CHECK(!model.status().message().empty());
    return 0;
  }
  for (const stoker::GgufTensor& tensor : model->tensors()) {
    CHECK(tensor.offset <= bytes && tensor.bytes <= bytes - tensor.offset);
    CHECK(tensor.dim_count >= 1 && tensor.dim_count <= 4);
    CHECK(model->FindTensor(tensor.name) == &tensor);
  }
  for (const std::string& key : model->keys()) {
    CHECK(model->Find(key) != nullptr);
    (void)model->Int(key, 0, std::numeric_limits<int64_t>::max());
    (void)model->Float(key, 0);
    (void)model->Bool(key, false);
    (void)model->String(key);
    (void)model->Strings(key);
    (void)model->Ints(key);
    (void)model->Floats(key);
  }
  return 0;
}
