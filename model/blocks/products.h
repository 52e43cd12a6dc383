// Matrix products of a step: activations in the forms that weights want, and many products run as
// one region of the thread team.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "absl/types/span.h"
#include "base/parallel.h"
#include "kernels/ops.h"
#include "model/carver.h"

namespace stoker {

// A set of activation kinds.
class KindSet {
 public:
  void Add(ActivationKind kind) { bits_ |= Bit(kind); }
  void AddFor(const MatrixView& weights) {
    if (weights.rows > 0) Add(ActivationKindOf(weights.dtype));
  }
  bool Has(ActivationKind kind) const { return (bits_ & Bit(kind)) != 0; }
  static KindSet Of(std::initializer_list<const MatrixView*> weights) {
    KindSet kinds;
    for (const MatrixView* view : weights) kinds.AddFor(*view);
    return kinds;
  }

 private:
  static uint32_t Bit(ActivationKind kind) { return 1u << static_cast<uint32_t>(kind); }
  uint32_t bits_ = 0;
};

inline constexpr ActivationKind kQuantizedKinds[] = {ActivationKind::kQ8x32,
                                                     ActivationKind::kQ8x256};
inline constexpr int kKindCount = 3;

// Floats from one row to the next, so that every row starts at a 64-byte border.
constexpr int64_t RowStride(int64_t cols) { return (cols + 15) / 16 * 16; }

// Points outs[i] at row i of `data`, for rows of `width` floats.
inline float* const* OutRows(float** outs, float* data, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r) outs[r] = data + r * RowStride(width);
  return outs;
}

// Panels that `rows` activation rows fill.
constexpr int64_t PanelCount(int64_t rows) { return (rows + kPanelRows - 1) / kPanelRows; }

// The rows of one F32 matrix in every form that the products to come want: the floats themselves,
// and 8-bit rows with their panels.
class Activations {
 public:
  struct Capacity {
    int64_t rows = 0;
    int64_t cols = 0;
    int64_t panels = 0;  // of `cols` columns each
    KindSet kinds;       // quantized ones to keep room for
  };
  void Carve(Carver& carver, const Capacity& capacity);

  // Points at `rows` rows of `cols` floats, `stride` apart, each at a 64-byte border. Nothing is
  // quantized yet.
  void Assign(const float* x, int64_t stride, int64_t rows, int64_t cols);
  // The same of rows that are quantized already, elsewhere, back to back. What no product to come
  // wants can be null. There are no panels of them.
  void AssignQuantized(const float* x, int64_t stride, int64_t rows, int64_t cols,
                       const std::byte* const (&quantized)[kKindCount]);
  // Quantizes columns [col_begin, col_end) of a row, multiples of 256 but for the end of the row.
  void QuantizeRow(const Ops& ops, KindSet kinds, int64_t row, int64_t col_begin, int64_t col_end);
  // Quantizes all rows, and packs panels where there are rows enough for them.
  void Quantize(const Ops& ops, ThreadTeam& team, KindSet kinds);
  // Packs the panels of all rows quantized.
  void Pack(const Ops& ops, ThreadTeam& team, KindSet kinds);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  const std::byte* const* row_pointers(ActivationKind kind) const {
    return pointers_[static_cast<int>(kind)];
  }
  // Null where products walk the rows themselves. Valid after Quantize or Pack.
  const std::byte* panels(ActivationKind kind) const;
  std::byte* panel_memory(ActivationKind kind) const { return panels_[static_cast<int>(kind)]; }

 private:
  const float* x_ = nullptr;
  int64_t stride_ = 0;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  const std::byte** pointers_[kKindCount] = {};
  std::byte* quantized_[kKindCount] = {};  // none for kF32
  std::byte* panels_[kKindCount] = {};
};

// One product: all rows of `w` with all rows of `x`.
MatmulArgs Product(const MatrixView& w, const Activations& x, float* const* out);

// Runs products side by side, cut into chunks of weight rows that are shared out over the team.
// At most kProductsMax of them.
inline constexpr size_t kProductsMax = 256;
void RunProducts(const Ops& ops, ThreadTeam& team, absl::Span<const MatmulArgs> products);

}  // namespace stoker
