// How values are stored: every GGUF tensor type, its block length and its block bytes.
//
// This table knows sizes only. What the bytes mean is kernels/formats, one file a format; a type
// listed here and not there can be located and skipped in a file but not computed with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace stoker {

// Numbered as in GGUF (the tensor directory's `type` field).
enum class Dtype : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ8_1 = 9,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
  kNVFP4 = 40,
  kQ1_0 = 41,
  kQ2_0 = 42,
};

struct DtypeInfo {
  Dtype dtype;
  std::string_view name;  // as the field writes it: "Q4_K"
  int32_t block_values;   // values in one block; a row is a whole number of blocks
  int32_t block_bytes;    // bytes of one block
};

// The row of the table for a GGUF type id, or nullptr when the id is unknown or was removed from
// GGUF.
const DtypeInfo* FindDtype(uint32_t gguf_id);
const DtypeInfo* FindDtype(std::string_view name);
// Requires a dtype in the table.
const DtypeInfo& InfoOf(Dtype dtype);
inline std::string_view NameOf(Dtype dtype) { return InfoOf(dtype).name; }

// Bytes of a row of `cols` values; requires cols to be a multiple of the block length.
size_t RowBytes(Dtype dtype, int64_t cols);

}  // namespace stoker
