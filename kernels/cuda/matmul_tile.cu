// Products with many activation rows: bound by multiplying, so weights are unpacked once into
// shared memory for a tile of activation rows.
#include "kernels/cuda/matmul.cuh"
#include "kernels/cuda/mma_tile.cuh"
#include "kernels/cuda/port.cuh"
#include "kernels/formats/formats.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

int64_t TilesOf(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }

// Tiles of the products one after the other, counted through; blockIdx.y counts the activation rows
// in chunks.
template <typename Format>
class ProductTile {
 public:
  __device__ explicit ProductTile(const ProductGroup& group) : group_(group) {
    first_row_ = int64_t{blockIdx.x} * kTileRows;
    while (first_row_ >= item().rows) {
      first_row_ -= (item().rows + kTileRows - 1) / kTileRows * kTileRows;
      ++item_;
    }
  }
  __device__ const std::byte* weights() const {
    return item().data + first_row_ * RowBytesOf<Format>(group_.cols);
  }
  __device__ int rows() const { return UpTo(kTileRows, item().rows - first_row_); }
  __device__ int columns() const { return UpTo(kColumns, group_.x_rows - first_column()); }
  // Rows are not looked at: their test would cost the registers that keep this from spilling.
  __device__ bool IsIdle(int /*row*/, int column) const { return column >= columns(); }
  __device__ const std::byte* InputOf(int column) const {
    return group_.x + (first_column() + column) * group_.x_row_bytes;
  }
  __device__ void Store(int row, int column, float value) const {
    item().out[(first_column() + column) * item().out_stride + first_row_ + row] = value;
  }

 private:
  static constexpr int kColumns = TileShapeOf<Format>::kColumns;
  __device__ static int UpTo(int most, int64_t left) {
    return left < most ? static_cast<int>(left) : most;
  }
  __device__ const ProductGroup::Item& item() const { return group_.items[item_]; }
  __device__ static int64_t first_column() { return int64_t{blockIdx.y} * kColumns; }

  const ProductGroup& group_;
  int item_ = 0;
  int64_t first_row_;
};

template <typename Format>
__global__ void __launch_bounds__(kTileThreads, 2)
    TileKernel(const __grid_constant__ ProductGroup group) {
  RunTile<Format>(ProductTile<Format>(group), group.cols);
}

template <typename Format>
int LaunchTiles(const ProductGroup& group, void* native_stream) {
  int64_t tiles = 0;
  for (int i = 0; i < group.count; ++i) tiles += TilesOf(group.items[i].rows);
  constexpr int kColumns = TileShapeOf<Format>::kColumns;
  return LaunchKernel(TileKernel<Format>,
                      {.kernel = "matmul_rows (tile)",
                       .grid = {static_cast<unsigned>(tiles),
                                static_cast<unsigned>((group.x_rows + kColumns - 1) / kColumns)},
                       .block = kTileThreads},
                      native_stream, group);
}

}  // namespace

int TileProducts(Dtype dtype, const ProductGroup& group, void* native_stream) {
  int code = 0;
  VisitFormat(Formats{}, dtype, [&](auto format) {
    using Format = decltype(format);
    if constexpr (!kIsFloatFormat<Format>) code = LaunchTiles<Format>(group, native_stream);
  });
  return code;
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
