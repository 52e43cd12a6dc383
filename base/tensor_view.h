// Non-owning views of weights.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace stoker {

// A weight matrix as it lies in a file: `rows` rows of `cols` values, each row whole blocks of
// `dtype`, rows back to back. Computes y[r] = sum over c of W[r][c] * x[c]. `data` may have any
// alignment.
struct MatrixView {
  const std::byte* data = nullptr;
  Dtype dtype = Dtype::kF32;
  int64_t rows = 0;
  int64_t cols = 0;

  size_t row_bytes() const { return RowBytes(dtype, cols); }
  size_t bytes() const { return row_bytes() * static_cast<size_t>(rows); }
  const std::byte* row(int64_t r) const { return data + row_bytes() * static_cast<size_t>(r); }
};

}  // namespace stoker
