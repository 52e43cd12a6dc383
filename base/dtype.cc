// The table of storage types.
#include "base/dtype.h"

#include "base/check.h"

namespace stoker {
namespace {

constexpr DtypeInfo kTable[] = {
    {Dtype::kF32, "F32", 1, 4},
    {Dtype::kF16, "F16", 1, 2},
    {Dtype::kQ4_0, "Q4_0", 32, 18},
    {Dtype::kQ4_1, "Q4_1", 32, 20},
    {Dtype::kQ5_0, "Q5_0", 32, 22},
    {Dtype::kQ5_1, "Q5_1", 32, 24},
    {Dtype::kQ8_0, "Q8_0", 32, 34},
    {Dtype::kQ8_1, "Q8_1", 32, 36},
    {Dtype::kQ2_K, "Q2_K", 256, 84},
    {Dtype::kQ3_K, "Q3_K", 256, 110},
    {Dtype::kQ4_K, "Q4_K", 256, 144},
    {Dtype::kQ5_K, "Q5_K", 256, 176},
    {Dtype::kQ6_K, "Q6_K", 256, 210},
    {Dtype::kQ8_K, "Q8_K", 256, 292},
    {Dtype::kIQ2_XXS, "IQ2_XXS", 256, 66},
    {Dtype::kIQ2_XS, "IQ2_XS", 256, 74},
    {Dtype::kIQ3_XXS, "IQ3_XXS", 256, 98},
    {Dtype::kIQ1_S, "IQ1_S", 256, 50},
    {Dtype::kIQ4_NL, "IQ4_NL", 32, 18},
    {Dtype::kIQ3_S, "IQ3_S", 256, 110},
    {Dtype::kIQ2_S, "IQ2_S", 256, 82},
    {Dtype::kIQ4_XS, "IQ4_XS", 256, 136},
    {Dtype::kI8, "I8", 1, 1},
    {Dtype::kI16, "I16", 1, 2},
    {Dtype::kI32, "I32", 1, 4},
    {Dtype::kI64, "I64", 1, 8},
    {Dtype::kF64, "F64", 1, 8},
    {Dtype::kIQ1_M, "IQ1_M", 256, 56},
    {Dtype::kBF16, "BF16", 1, 2},
    {Dtype::kTQ1_0, "TQ1_0", 256, 54},
    {Dtype::kTQ2_0, "TQ2_0", 256, 66},
    {Dtype::kMXFP4, "MXFP4", 32, 17},
    {Dtype::kNVFP4, "NVFP4", 64, 36},
    {Dtype::kQ1_0, "Q1_0", 128, 18},
    {Dtype::kQ2_0, "Q2_0", 64, 18},
};

}  // namespace

const DtypeInfo* FindDtype(uint32_t gguf_id) {
  for (const DtypeInfo& info : kTable) {
    if (static_cast<uint32_t>(info.dtype) == gguf_id) return &info;
  }
  return nullptr;
}

const DtypeInfo* FindDtype(std::string_view name) {
  for (const DtypeInfo& info : kTable) {
    if (info.name == name) return &info;
  }
  return nullptr;
}

const DtypeInfo& InfoOf(Dtype dtype) {
  const DtypeInfo* info = FindDtype(static_cast<uint32_t>(dtype));
  CHECK(info != nullptr);
  return *info;
}

size_t RowBytes(Dtype dtype, int64_t cols) {
  const DtypeInfo& info = InfoOf(dtype);
  CHECK(cols >= 0 && cols % info.block_values == 0);
  return static_cast<size_t>(cols / info.block_values) * static_cast<size_t>(info.block_bytes);
}

}  // namespace stoker
