// Writes the seed files of the GGUF fuzz target: gguf_corpus DIRECTORY.
#include <cstdio>
#include <string>

#include "tests/testing/gguf_writer.h"

namespace stoker {
namespace {

GgufWriter Scalars() {
  GgufWriter writer;
  writer.Set("u8", uint8_t{1}).Set("i8", int8_t{-1}).Set("u16", uint16_t{2}).Set("i16", int16_t{3});
  writer.Set("u32", uint32_t{4}).Set("i32", int32_t{5}).Set("u64", uint64_t{6});
  writer.Set("i64", int64_t{7}).Set("f32", 1.5f).Set("f64", 2.5).Set("bool", true).Set("str", "x");
  return writer;
}

GgufWriter Arrays() {
  GgufWriter writer;
  writer.SetArray<uint8_t>("u8", {1, 2}).SetArray<int16_t>("i16", {-1}).SetArray<float>("f", {1});
  writer.SetArray<bool>("b", {true, false}).SetArray<std::string>("s", {"a", "", "bc"});
  writer.SetArray<uint64_t>("u64", {1}).SetArray<double>("d", {});
  return writer;
}

GgufWriter Tensors(uint32_t version) {
  GgufWriter writer;
  writer.header.version = version;
  writer.SetAlignment(64).Set("split.no", uint16_t{0}).Set("split.count", uint16_t{1});
  writer.Set("split.tensors.count", int32_t{3}).AddTensor("a", {2, 2}, {1, 2, 3, 4});
  writer.AddZeros("b.weight", Dtype::kQ8_0, {32}).AddZeros("c", Dtype::kF16, {1, 1, 1, 2});
  return writer;
}

}  // namespace
}  // namespace stoker

int main(int argc, char** argv) {
  if (argc != 2) return std::puts("usage: gguf_corpus DIRECTORY"), 2;
  const std::string directory = std::string(argv[1]) + "/";
  stoker::GgufWriter().WriteTo(directory + "empty.gguf");
  stoker::Scalars().WriteTo(directory + "scalars.gguf");
  stoker::Arrays().WriteTo(directory + "arrays.gguf");
  stoker::Tensors(2).WriteTo(directory + "tensors-v2.gguf");
  stoker::Tensors(3).WriteTo(directory + "tensors-v3.gguf");
  return 0;
}
