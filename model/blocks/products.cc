// Quantizing activations once for all their products, and sharing products out over the team.
#include "model/blocks/products.h"

#include <algorithm>

#include "base/check.h"

namespace stoker {
namespace {

// Columns quantized as one piece of work: enough to pay for handing it out.
constexpr int64_t kQuantizeCols = 2048;

// Weight rows of a chunk: several chunks a thread, so that none waits long for the last; whole
// groups of 16, which kernels take at a time.
int64_t RowsPerChunk(int64_t rows, int threads) {
  constexpr int64_t kChunksPerThread = 6;
  const int64_t even = rows / (kChunksPerThread * threads);
  return std::clamp<int64_t>(even / 16 * 16, 16, 256);
}

}  // namespace

void Activations::Carve(Carver& carver, const Capacity& capacity) {
  pointers_[static_cast<int>(ActivationKind::kF32)] = carver.Take<const std::byte*>(capacity.rows);
  for (const ActivationKind kind : kQuantizedKinds) {
    if (!capacity.kinds.Has(kind)) continue;
    const auto k = static_cast<int>(kind);
    const auto row_bytes = static_cast<int64_t>(ActivationRowBytes(kind, capacity.cols));
    const auto panel_bytes = static_cast<int64_t>(PanelBytes(kind, capacity.cols));
    pointers_[k] = carver.Take<const std::byte*>(capacity.rows);
    quantized_[k] = carver.Take<std::byte>(capacity.rows * row_bytes);
    panels_[k] = carver.Take<std::byte>(capacity.panels * panel_bytes);
  }
}

void Activations::Assign(const float* x, int64_t stride, int64_t rows, int64_t cols) {
  x_ = x;
  stride_ = stride;
  rows_ = rows;
  cols_ = cols;
  for (int64_t r = 0; r < rows; ++r) {
    pointers_[static_cast<int>(ActivationKind::kF32)][r] =
        reinterpret_cast<const std::byte*>(x + r * stride);
  }
  for (const ActivationKind kind : kQuantizedKinds) {
    const auto k = static_cast<int>(kind);
    if (quantized_[k] == nullptr) continue;
    const auto row_bytes = static_cast<int64_t>(ActivationRowBytes(kind, cols));
    for (int64_t r = 0; r < rows; ++r) pointers_[k][r] = quantized_[k] + r * row_bytes;
  }
}

void Activations::AssignQuantized(const float* x, int64_t stride, int64_t rows, int64_t cols,
                                  const std::byte* const (&quantized)[kKindCount]) {
  rows_ = rows;
  cols_ = cols;
  const auto point = [&](ActivationKind kind, const std::byte* data, int64_t row_bytes) {
    if (data == nullptr) return;
    const std::byte** pointers = pointers_[static_cast<int>(kind)];
    for (int64_t r = 0; r < rows; ++r) pointers[r] = data + r * row_bytes;
  };
  point(ActivationKind::kF32, reinterpret_cast<const std::byte*>(x),
        stride * static_cast<int64_t>(sizeof(float)));
  for (const ActivationKind kind : kQuantizedKinds) {
    point(kind, quantized[static_cast<int>(kind)],
          static_cast<int64_t>(ActivationRowBytes(kind, cols)));
  }
}

void Activations::QuantizeRow(const Ops& ops, KindSet kinds, int64_t row, int64_t col_begin,
                              int64_t col_end) {
  for (const ActivationKind kind : kQuantizedKinds) {
    if (!kinds.Has(kind)) continue;
    // Groups of 256 do not see each other, so a row can be quantized in pieces.
    const size_t skipped = static_cast<size_t>(row) * ActivationRowBytes(kind, cols_) +
                           ActivationRowBytes(kind, col_begin);
    ops.quantize(kind, x_ + row * stride_ + col_begin, col_end - col_begin,
                 quantized_[static_cast<int>(kind)] + skipped);
  }
}

void Activations::Quantize(const Ops& ops, ThreadTeam& team, KindSet kinds) {
  const int64_t pieces = (cols_ + kQuantizeCols - 1) / kQuantizeCols;
  team.ParallelFor(rows_ * pieces, 1, [&](int64_t task, int64_t, int) {
    const int64_t begin = task % pieces * kQuantizeCols;
    QuantizeRow(ops, kinds, task / pieces, begin, std::min(cols_, begin + kQuantizeCols));
  });
  Pack(ops, team, kinds);
}

void Activations::Pack(const Ops& ops, ThreadTeam& team, KindSet kinds) {
  if (rows_ < kPanelRowsMin) return;
  for (const ActivationKind kind : kQuantizedKinds) {
    if (!kinds.Has(kind)) continue;
    const auto k = static_cast<int>(kind);
    const auto panel_bytes = static_cast<int64_t>(PanelBytes(kind, cols_));
    team.ParallelFor(PanelCount(rows_), 1, [&](int64_t panel, int64_t, int) {
      const int64_t first = panel * kPanelRows;
      ops.pack(kind, pointers_[k] + first, std::min(kPanelRows, rows_ - first), cols_,
               panels_[k] + panel * panel_bytes);
    });
  }
}

const std::byte* Activations::panels(ActivationKind kind) const {
  return rows_ < kPanelRowsMin ? nullptr : panels_[static_cast<int>(kind)];
}

MatmulArgs Product(const MatrixView& w, const Activations& x, float* const* out) {
  DCHECK(w.cols == x.cols());
  const ActivationKind kind = ActivationKindOf(w.dtype);
  return {.w = w,
          .row_begin = 0,
          .row_end = w.rows,
          .count = x.rows(),
          .x = x.row_pointers(kind),
          .panels = x.panels(kind),
          .out = out};
}

void RunProducts(const Ops& ops, ThreadTeam& team, absl::Span<const MatmulArgs> products) {
  CHECK(products.size() <= kProductsMax);
  int64_t rows = 0;
  for (const MatmulArgs& product : products) rows += product.row_end - product.row_begin;
  const int64_t chunk_rows = RowsPerChunk(rows, team.thread_count());
  int64_t chunk_ends[kProductsMax];
  int64_t chunks = 0;
  for (size_t i = 0; i < products.size(); ++i) {
    chunks += (products[i].row_end - products[i].row_begin + chunk_rows - 1) / chunk_rows;
    chunk_ends[i] = chunks;
  }
  team.ParallelFor(chunks, 1, [&](int64_t chunk, int64_t, int) {
    const auto i = static_cast<size_t>(
        std::upper_bound(chunk_ends, chunk_ends + products.size(), chunk) - chunk_ends);
    MatmulArgs part = products[i];
    part.row_begin += (chunk - (i == 0 ? 0 : chunk_ends[i - 1])) * chunk_rows;
    part.row_end = std::min(part.row_begin + chunk_rows, products[i].row_end);
    ops.matmul(part);
  });
}

}  // namespace stoker
