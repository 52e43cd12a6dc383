// Products of each head's own rows of a matrix with that head's part of each row.
//
// A block has one head, some of its weight rows, and up to 8 rows of x, which it quantizes into
// shared memory as the weights want them: blocks that share an x do so once each, which is less
// than a launch of its own would cost.
#include "kernels/cuda/dot.cuh"
#include "kernels/cuda/finish.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/quantize.cuh"
#include "kernels/formats/formats.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kBlockRows = 64;  // weight rows of a block
constexpr int kColumnsMax = 8;
// Shared memory that x may take before a block is given fewer rows of it.
constexpr int64_t kColumnBytesMax = 48 * 1024;

// Bytes of one x as weights of a format want it, a multiple of 16.
template <typename Format>
STOKER_INLINE int64_t ColumnBytes(int64_t cols) {
  if constexpr (kIsFloatFormat<Format>) {
    return (cols + 3) / 4 * 16;
  } else {
    return (cols + 255) / 256 * static_cast<int64_t>(sizeof(ActivationGroup<Format>));
  }
}

// Values [256 group, ...) of x, of which nothing is known but that they are floats, as
// QuantizeGroup wants them.
__device__ __forceinline__ void LoadUnaligned(const float* x, int64_t group, int64_t cols,
                                              float (&values)[kLaneValues]) {
  const int64_t first = 256 * group + kLaneValues * LaneIndex();
  STOKER_UNROLL
  for (int i = 0; i < kLaneValues; ++i) values[i] = first + i < cols ? x[first + i] : 0.0f;
}

// One x into shared memory, by all threads, for weights of a format. Warp `turn` begins.
template <typename Format>
__device__ __forceinline__ void StageColumn(const float* x, int64_t cols, int turn,
                                            std::byte* column) {
  if constexpr (kIsFloatFormat<Format>) {
    for (int64_t i = threadIdx.x; i < cols; i += kThreads) {
      reinterpret_cast<float*>(column)[i] = x[i];
    }
  } else {
    const int first = (static_cast<int>(threadIdx.x) / 32 + kWarps - turn % kWarps) % kWarps;
    for (int64_t group = first; 256 * group < cols; group += kWarps) {
      float values[kLaneValues];
      LoadUnaligned(x, group, cols, values);
      auto* to = reinterpret_cast<ActivationGroup<Format>*>(column) + group;
      if constexpr (Format::kActivation == ActivationKind::kQ8x32) {
        QuantizeGroup(values, to, nullptr);
      } else {
        QuantizeGroup(values, nullptr, to);
      }
    }
  }
}

// The rotated part: what lies behind x goes, rotated, behind out.
__device__ __forceinline__ void RotateBehind(const HeadProductArgs& args, int64_t row,
                                             const float* x, float* out) {
  const int32_t position = args.places[row].position;
  for (int i = static_cast<int>(threadIdx.x); i < 2 * args.rope.pairs; i += kThreads) {
    out[args.row_count + i] = Rotated(args.rope, position, x + args.w.cols, i);
  }
}

template <typename Format, bool kWide, int kColumns>
__global__ void __launch_bounds__(kThreads, 2)
    HeadProductKernel(const __grid_constant__ HeadProductArgs args, int columns) {
  STOKER_DYNAMIC_SHARED(std::byte, staged);
  const int64_t head = blockIdx.x;
  const int64_t first = int64_t{blockIdx.z} * columns;
  const int count = static_cast<int>(min(static_cast<int64_t>(columns), args.rows - first));
  const int64_t cols = args.w.cols;
  const float* x_rows = args.x + first * args.x_row_stride + head * args.x_head_stride;
  float* out_rows = args.out + first * args.out_row_stride + head * args.out_head_stride;
  for (int j = 0; j < count; ++j) {
    StageColumn<Format>(x_rows + j * args.x_row_stride, cols, j,
                        staged + j * ColumnBytes<Format>(cols));
    if (blockIdx.y == 0 && args.rope.pairs > 0) {
      RotateBehind(args, first + j, x_rows + j * args.x_row_stride,
                   out_rows + j * args.out_row_stride);
    }
  }
  __syncthreads();

  const std::byte* x[kColumns];
  STOKER_UNROLL
  for (int j = 0; j < kColumns; ++j) {
    x[j] = staged + (j < count ? j : 0) * ColumnBytes<Format>(cols);
  }
  const int64_t begin = int64_t{blockIdx.y} * kBlockRows;
  const int64_t end = min(begin + kBlockRows, args.row_count);
  for (int64_t r = begin + threadIdx.x / 32; r < end; r += kWarps) {
    const std::byte* weights =
        args.w.data + (head * args.head_rows + args.first_row + r) * RowBytesOf<Format>(cols);
    float sums[kColumns];
    DotRow<Format, kWide>(weights, cols, x, count, sums);
    StoreSums(sums, count, out_rows + r, args.out_row_stride);
  }
}

template <typename Format, bool kWide, int kColumns>
int LaunchColumns(const HeadProductArgs& args, int columns, void* native_stream) {
  const auto blocks = [](int64_t count, int64_t of) {
    return static_cast<unsigned>((count + of - 1) / of);
  };
  return LaunchKernel(
      HeadProductKernel<Format, kWide, kColumns>,
      {.kernel = "head_product",
       .grid = {static_cast<unsigned>(args.heads), blocks(args.row_count, kBlockRows),
                blocks(args.rows, columns)},
       .block = kThreads,
       .dynamic_shared_bytes =
           static_cast<size_t>(columns) * static_cast<size_t>(ColumnBytes<Format>(args.w.cols))},
      native_stream, args, columns);
}

template <typename Format, bool kWide>
int Launch(const HeadProductArgs& args, void* native_stream) {
  int columns = kColumnsMax;
  while (columns > 1 && columns * ColumnBytes<Format>(args.w.cols) > kColumnBytesMax) columns /= 2;
  if (args.rows < columns) columns = static_cast<int>(args.rows);
  if (columns <= 1) return LaunchColumns<Format, kWide, 1>(args, 1, native_stream);
  return LaunchColumns<Format, kWide, kColumnsMax>(args, columns, native_stream);
}

}  // namespace

int HeadProduct(const HeadProductArgs& args, void* native_stream) {
  int code = 0;
  VisitFormat(Formats{}, args.w.dtype, [&](auto format) {
    using Format = decltype(format);
    if constexpr (CanBeWide<Format>()) {
      if (reinterpret_cast<uintptr_t>(args.w.data) % 16 == 0) {
        code = Launch<Format, true>(args, native_stream);
        return;
      }
    }
    code = Launch<Format, false>(args, native_stream);
  });
  return code;
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
