// Gates and quantizes rows, a warp for each group of 256 values.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/port.cuh"
#include "kernels/cuda/quantize.cuh"
#include "kernels/elementary.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

constexpr int kWarps = 8;

__global__ void __launch_bounds__(kWarps * 32)
    GateRowsKernel(const __grid_constant__ GateRowsArgs args) {
  const int64_t groups = (args.cols + 255) / 256;
  const int64_t item = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (item >= args.rows * groups) return;
  const int64_t row = item / groups;
  const int64_t group = item % groups;
  float gate[kLaneValues];
  float up[kLaneValues];
  LoadLaneValues(args.gate + row * args.stride, group, args.cols, gate);
  LoadLaneValues(args.up + row * args.stride, group, args.cols, up);
  STOKER_UNROLL
  for (int i = 0; i < kLaneValues; ++i) gate[i] = Silu(F32x1{gate[i]}).value * up[i];
  StoreLaneValues(gate, group, args.cols, args.y + row * args.stride);
  QuantizeInto(gate, row, group, args.cols, args.q8x32, args.q8x256);
}

}  // namespace

int GateRows(const GateRowsArgs& args, void* native_stream) {
  const int64_t items = args.rows * ((args.cols + 255) / 256);
  return LaunchKernel(GateRowsKernel,
                      {.kernel = "gate_rows",
                       .grid = static_cast<unsigned>((items + kWarps - 1) / kWarps),
                       .block = kWarps * 32},
                      native_stream, args);
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
