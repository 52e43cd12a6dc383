// Decodes rows of an embedding table, a thread for each value.
#include "kernels/cuda/dot.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/port.cuh"
#include "kernels/formats/formats.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

constexpr int kThreads = 256;

template <typename Format>
__global__ void __launch_bounds__(kThreads)
    EmbedRowsKernel(const __grid_constant__ EmbedRowsArgs args) {
  const int64_t cols = args.table.cols;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t row = blockIdx.y;
  if (i >= cols) return;
  const int64_t token = __ldg(&args.places[row].token);
  const auto* blocks = reinterpret_cast<const typename Format::Block*>(
      args.table.data + token * RowBytesOf<Format>(cols));
  args.out[row * args.stride + i] =
      Format::Value(blocks[i / Format::kBlockValues], static_cast<int>(i % Format::kBlockValues));
}

}  // namespace

int EmbedRows(const EmbedRowsArgs& args, void* native_stream) {
  int code = 0;
  VisitFormat(Formats{}, args.table.dtype, [&](auto format) {
    const auto blocks = static_cast<unsigned>((args.table.cols + kThreads - 1) / kThreads);
    code = LaunchKernel(EmbedRowsKernel<decltype(format)>,
                        {.kernel = "embed_rows",
                         .grid = {blocks, static_cast<unsigned>(args.rows)},
                         .block = kThreads},
                        native_stream, args);
  });
  return code;
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
