// What the softmax of each row of logits divides by: a block for each row, which reads it twice.
//
// Pieces go to warps as the outer sum goes to lanes: warp w adds up what lane w of it would.
#include "kernels/cuda/dot.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/port.cuh"
#include "kernels/elementary.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

constexpr int kWarps = 32;
constexpr int kThreads = kWarps * 32;
constexpr float kLowest = -__builtin_inff();

__device__ __forceinline__ float Greater(float a, float b) { return a > b ? a : b; }

__device__ __forceinline__ float GreatestOfLanes(float max) {
  STOKER_UNROLL
  for (int step = 16; step > 0; step /= 2) {
    max = Greater(__shfl_xor_sync(kAllLanes, max, step), max);
  }
  return max;
}

// The greatest of a row, in every thread.
__device__ float GreatestOf(const float* x, int64_t n) {
  STOKER_SHARED_ARRAY(float, of_warps, kWarps);
  float max = kLowest;
  STOKER_UNROLL_BY(4)
  for (int64_t i = threadIdx.x; i < n; i += kThreads) max = Greater(x[i], max);
  max = GreatestOfLanes(max);
  if (LaneIndex() == 0) of_warps[threadIdx.x / 32] = max;
  __syncthreads();
  return GreatestOfLanes(of_warps[LaneIndex()]) + 0.0f;  // -0 to +0
}

// The float sum of exp(x - less) over a piece, by a warp, in every lane.
__device__ float SumOfExp(const float* x, int64_t n, float less) {
  float sum = 0;
  STOKER_UNROLL_BY(4)
  for (int64_t i = LaneIndex(); i < n; i += 32) sum += Exp(F32x1{x[i] - less}).value;
  return SumOfLanes<1>(sum);
}

__global__ void __launch_bounds__(kThreads)
    LogSumExpKernel(const __grid_constant__ LogSumExpArgs args) {
  STOKER_SHARED_ARRAY(float, of_warps, kWarps);
  const float* x = args.x + int64_t{blockIdx.x} * args.stride;
  const float max = GreatestOf(x, args.cols);
  const float less = max == kLowest ? 0.0f : max;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  float sum = 0;
  for (int64_t first = warp * kExpSumPiece; first < args.cols; first += kWarps * kExpSumPiece) {
    const int64_t left = args.cols - first;
    sum += SumOfExp(x + first, left < kExpSumPiece ? left : kExpSumPiece, less);
  }
  if (LaneIndex() == 0) of_warps[warp] = sum;
  __syncthreads();
  if (warp != 0) return;
  sum = SumOfLanes<1>(of_warps[LaneIndex()]);
  if (LaneIndex() == 0) args.out[blockIdx.x] = {max, sum};
}

}  // namespace

int LogSumExp(const LogSumExpArgs& args, void* native_stream) {
  return LaunchKernel(
      LogSumExpKernel,
      {.kernel = "log_sum_exp", .grid = static_cast<unsigned>(args.rows), .block = kThreads},
      native_stream, args);
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
