// Adds, normalizes and quantizes rows: a block for each, which keeps the row in shared memory.
#include "kernels/cuda/dot.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/port.cuh"
#include "kernels/cuda/quantize.cuh"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

constexpr int kThreads = 256;

struct Row {
  const float* residual;
  const float* delta;  // may be null
  float* update;       // where residual + delta goes, if anywhere
  float* kept;         // may be null
};

__device__ __forceinline__ Row FindRow(const NormRowsArgs& args) {
  const int64_t i = blockIdx.x;
  const int64_t source = args.sources != nullptr ? __ldg(args.sources + i) : i;
  Row row;
  row.residual = args.residual + source * args.stride;
  row.delta = args.delta != nullptr ? args.delta + source * args.stride : nullptr;
  const bool updates = args.sources == nullptr && args.delta != nullptr;
  row.update = updates ? args.residual + i * args.stride : nullptr;
  row.kept = args.kept != nullptr ? args.kept + i * args.cols : nullptr;
  return row;
}

__device__ __forceinline__ float Sum(const Row& row, int64_t i) {
  const float residual = row.residual[i];
  return row.delta != nullptr ? residual + row.delta[i] : residual;
}

// The float dot of `count` values with themselves: lanes are the contract's, so one warp does it.
__device__ __forceinline__ float SumOfSquares(const float* values, int64_t count) {
  float sum = 0;
  STOKER_UNROLL_BY(16)
  for (int64_t i = LaneIndex(); i < count; i += 32) {
    const float value = values[i];
    sum = __fmaf_rn(value, value, sum);
  }
  return SumOfLanes<1>(sum);
}

__global__ void __launch_bounds__(kThreads)
    NormRowsKernel(const __grid_constant__ NormRowsArgs args) {
  STOKER_DYNAMIC_SHARED(float, values);  // [cols]
  STOKER_SHARED(float, shared_scale);
  const Row row = FindRow(args);
  for (int64_t i = threadIdx.x; i < args.cols; i += kThreads) {
    const float value = Sum(row, i);
    values[i] = value;
    if (row.update != nullptr) row.update[i] = value;
    if (row.kept != nullptr) row.kept[i] = value;
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    const float mean = SumOfSquares(values, args.cols) / static_cast<float>(args.cols);
    if (threadIdx.x == 0) shared_scale = 1.0f / sqrtf(mean + args.epsilon);
  }
  __syncthreads();
  const float scale = shared_scale;
  for (int64_t group = threadIdx.x / 32; group * 256 < args.cols; group += kThreads / 32) {
    float x[kLaneValues];
    LoadLaneValues(values, group, args.cols, x);
    const int64_t first = group * 256 + LaneIndex() * kLaneValues;
    STOKER_UNROLL
    for (int i = 0; i < kLaneValues; ++i) {
      if (first + i >= args.cols) continue;  // stays zero, whatever the scale
      x[i] = x[i] * scale;
      if (args.weight != nullptr) x[i] = x[i] * __ldg(args.weight + first + i);
    }
    if (args.out != nullptr) {
      StoreLaneValues(x, group, args.cols, args.out + int64_t{blockIdx.x} * args.stride);
    }
    QuantizeInto(x, blockIdx.x, group, args.cols, args.q8x32, args.q8x256);
  }
}

}  // namespace

int NormRows(const NormRowsArgs& args, void* native_stream) {
  return LaunchKernel(NormRowsKernel,
                      {.kernel = "norm_rows",
                       .grid = static_cast<unsigned>(args.rows),
                       .block = kThreads,
                       .dynamic_shared_bytes = static_cast<size_t>(args.cols) * sizeof(float)},
                      native_stream, args);
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
