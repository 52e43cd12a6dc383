// Products with few activation rows: bound by reading the weights, so each is read once, by the
// warp that needs it, in the order in which it lies.
#include "kernels/cuda/dot.cuh"
#include "kernels/cuda/matmul.cuh"
#include "kernels/cuda/port.cuh"
#include "kernels/formats/formats.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

constexpr int kWarps = 4;

// Warp w of the grid computes row w of the products, counted through; blockIdx.y counts the
// activation rows in chunks.
template <typename Format, bool kWide, int kColumns>
__global__ void __launch_bounds__(kWarps * 32)
    WalkKernel(const __grid_constant__ ProductGroup group) {
  int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  int item = 0;
  while (item < group.count && row >= group.items[item].rows) row -= group.items[item++].rows;
  if (item == group.count) return;
  const int64_t first = int64_t{blockIdx.y} * kColumns;
  const int64_t left = group.x_rows - first;
  const int count = left < kColumns ? static_cast<int>(left) : kColumns;
  const std::byte* x[kColumns];
  STOKER_UNROLL
  for (int j = 0; j < kColumns; ++j) {
    x[j] = group.x + (first + (j < count ? j : 0)) * group.x_row_bytes;
  }
  const std::byte* weights = group.items[item].data + row * RowBytesOf<Format>(group.cols);
  float sums[kColumns];
  DotRow<Format, kWide>(weights, group.cols, x, count, sums);
  const int64_t stride = group.items[item].out_stride;
  StoreSums(sums, count, group.items[item].out + first * stride + row, stride);
}

template <typename Format, bool kWide, int kColumns>
int LaunchWalk(const ProductGroup& group, void* native_stream) {
  int64_t rows = 0;
  for (int i = 0; i < group.count; ++i) rows += group.items[i].rows;
  return LaunchKernel(WalkKernel<Format, kWide, kColumns>,
                      {.kernel = "matmul_rows (walk)",
                       .grid = {static_cast<unsigned>((rows + kWarps - 1) / kWarps),
                                static_cast<unsigned>((group.x_rows + kColumns - 1) / kColumns)},
                       .block = kWarps * 32},
                      native_stream, group);
}

template <typename Format, bool kWide>
int LaunchColumns(const ProductGroup& group, void* native_stream) {
  if (group.x_rows == 1) return LaunchWalk<Format, kWide, 1>(group, native_stream);
  if (group.x_rows == 2) return LaunchWalk<Format, kWide, 2>(group, native_stream);
  if (group.x_rows <= 4) return LaunchWalk<Format, kWide, 4>(group, native_stream);
  return LaunchWalk<Format, kWide, kWalkRowsMax>(group, native_stream);
}

}  // namespace

int WalkProducts(Dtype dtype, const ProductGroup& group, void* native_stream) {
  int code = 0;
  VisitFormat(Formats{}, dtype, [&](auto format) {
    using Format = decltype(format);
    if constexpr (CanBeWide<Format>()) {
      if (IsWide(group)) {
        code = LaunchColumns<Format, true>(group, native_stream);
        return;
      }
    }
    code = LaunchColumns<Format, false>(group, native_stream);
  });
  return code;
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
