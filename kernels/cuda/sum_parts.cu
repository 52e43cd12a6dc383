// The ordered sum of what the experts of each row gave, a thread a column.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/port.cuh"
#include "kernels/elementary.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads)
    SumPartsKernel(const __grid_constant__ SumPartsArgs args) {
  const int64_t col = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  const int64_t row = blockIdx.x;
  if (col >= args.cols) return;
  const int64_t first = row * args.top_k;
  const float* weights = args.weights + first;
  float sum = 0;
  for (int k = 0; k < args.top_k; ++k) {
    const int64_t place = args.places == nullptr ? first + k : args.places[first + k];
    sum = __fmaf_rn(weights[k], args.partial[place * args.stride + col], sum);
  }
  if (args.shared != nullptr) {
    const float shared = args.shared[row * args.stride + col];
    if (args.shared_gate == nullptr) {
      sum = sum + shared;
    } else {
      const float gate = Sigmoid(F32x1{args.shared_gate[row * args.shared_gate_stride]}).value;
      sum = __fmaf_rn(gate, shared, sum);
    }
  }
  args.delta[row * args.stride + col] = sum;
}

}  // namespace

int SumParts(const SumPartsArgs& args, void* native_stream) {
  const auto pieces = static_cast<unsigned>((args.cols + kThreads - 1) / kThreads);
  return LaunchKernel(SumPartsKernel,
                      {.kernel = "sum_parts",
                       .grid = dim3(static_cast<unsigned>(args.rows), pieces),
                       .block = kThreads},
                      native_stream, args);
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
