// Quantizes rows of floats, a warp for each group of 256 values.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/port.cuh"
#include "kernels/cuda/quantize.cuh"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

constexpr int kWarps = 8;

__global__ void __launch_bounds__(kWarps * 32)
    QuantizeRowsKernel(const __grid_constant__ QuantizeRowsArgs args) {
  const int64_t groups = (args.cols + 255) / 256;
  const int64_t item = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (item >= args.rows * groups) return;
  const int64_t row = item / groups;
  const int64_t group = item % groups;
  float x[kLaneValues];
  LoadLaneValues(args.x + row * args.stride, group, args.cols, x);
  QuantizeInto(x, row, group, args.cols, args.q8x32, args.q8x256);
}

}  // namespace

int QuantizeRows(const QuantizeRowsArgs& args, void* native_stream) {
  const int64_t items = args.rows * ((args.cols + 255) / 256);
  return LaunchKernel(QuantizeRowsKernel,
                      {.kernel = "quantize_rows",
                       .grid = static_cast<unsigned>((items + kWarps - 1) / kWarps),
                       .block = kWarps * 32},
                      native_stream, args);
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
