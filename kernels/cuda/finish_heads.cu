// Bias, norm and rotation of query and key heads, and what of a row goes into the cache.
#include "kernels/cuda/finish.cuh"
#include "kernels/cuda/launchers.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

// Heads of one of the three products are done by blocks of so many warps, a head each; a norm of
// the whole row takes all its heads in one block, and more warps.
constexpr int kWarps = 4;
constexpr int kWholeRowWarps = 16;

// Which blocks of a row have its queries, and how many heads each has; keys follow, then values.
struct HeadShape {
  int32_t head_span = kWarps;
  int32_t query_blocks = 0;
  int32_t key_blocks = 0;
  int32_t dim_max = 0;
};

// One product's row and what is done to its heads.
struct HeadSteps {
  float* x;  // [heads * dim]
  const float* bias;
  const float* norm;  // null: none
  std::byte* cached;  // where the row goes in the cache; null: nowhere
  int dim;
  int heads;
  bool rotates;

  __device__ __forceinline__ float Biased(int64_t i) const {
    return bias == nullptr ? x[i] : x[i] + bias[i];
  }
};

__device__ __forceinline__ HeadSteps StepsOf(const FinishHeadsArgs& args, const HeadShape& shape,
                                             int64_t row, int& block) {
  const RowPlace place = args.places[row];
  if (block < shape.query_blocks) {
    return {args.q + row * args.q_stride,
            args.q_bias,
            args.q_norm,
            nullptr,
            args.key_dim,
            args.heads,
            true};
  }
  block -= shape.query_blocks;
  const int64_t cached = CachedRow(args.kv, place);
  if (block < shape.key_blocks) {
    return {args.k + row * args.k_stride,
            args.k_bias,
            args.k_norm,
            args.kv.keys + cached * args.kv.key_stride * ElementBytes(args.kv),
            args.key_dim,
            args.kv_heads,
            true};
  }
  block -= shape.key_blocks;
  return {args.v + row * args.v_stride,
          args.v_bias,
          nullptr,
          args.kv.values + cached * args.kv.value_stride * ElementBytes(args.kv),
          args.value_dim,
          args.kv_heads,
          false};
}

__global__ void __launch_bounds__(32 * kWholeRowWarps)
    FinishRowHeads(const __grid_constant__ FinishHeadsArgs args,
                   const __grid_constant__ HeadShape shape) {
  STOKER_DYNAMIC_SHARED(float, shared);  // [warps, dim_max]
  STOKER_SHARED(float, whole_scale);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t row = blockIdx.x;
  int block = static_cast<int>(blockIdx.y);
  const HeadSteps steps = StepsOf(args, shape, row, block);
  const bool is_whole = args.norm == FinishHeadsArgs::Norm::kWhole && steps.norm != nullptr;
  const bool is_per_head = args.norm == FinishHeadsArgs::Norm::kPerHead && steps.norm != nullptr;
  if (is_whole && warp == 0) {
    const int64_t width = int64_t{steps.heads} * steps.dim;
    const float scale = RmsScale([&](int64_t i) { return steps.Biased(i); }, width, args.epsilon);
    if (lane == 0) whole_scale = scale;
  }
  // Behind this the row is written to.
  if (is_whole) __syncthreads();

  float* x = shared + warp * shape.dim_max;
  const int head_end = min(steps.heads, (block + 1) * shape.head_span);
  for (int head = block * shape.head_span + warp; head < head_end; head += warps) {
    const int64_t first = int64_t{head} * steps.dim;
    float scale = is_whole ? whole_scale : 1.0f;
    if (is_per_head) {
      scale = RmsScale([&](int64_t i) { return steps.Biased(first + i); }, steps.dim, args.epsilon);
    }
    const float* norm = steps.norm + (is_whole ? first : 0);
    for (int i = lane; i < steps.dim; i += 32) {
      const float biased = steps.Biased(first + i);
      x[i] = is_whole || is_per_head ? biased * scale * norm[i] : biased;
    }
    __syncwarp();
    const int rotated = steps.rotates ? 2 * args.rope.pairs : 0;
    for (int i = lane; i < steps.dim; i += 32) {
      const float y = i < rotated ? Rotated(args.rope, args.places[row].position, x, i) : x[i];
      steps.x[first + i] = y;
      if (steps.cached != nullptr) StoreCached(args.kv, steps.cached, first + i, y);
    }
    __syncwarp();
  }
}

}  // namespace

int FinishHeads(const FinishHeadsArgs& args, void* native_stream) {
  const bool is_whole = args.norm == FinishHeadsArgs::Norm::kWhole;
  const int warps = is_whole ? kWholeRowWarps : kWarps;
  HeadShape shape;
  if (is_whole) shape.head_span = args.heads;  // at least kv_heads
  shape.query_blocks = (args.heads + shape.head_span - 1) / shape.head_span;
  shape.key_blocks = (args.kv_heads + shape.head_span - 1) / shape.head_span;
  shape.dim_max = args.key_dim > args.value_dim ? args.key_dim : args.value_dim;
  return LaunchKernel(
      FinishRowHeads,
      {.kernel = "finish_heads",
       .grid = {static_cast<unsigned>(args.rows),
                static_cast<unsigned>(shape.query_blocks + 2 * shape.key_blocks)},
       .block = {static_cast<unsigned>(32 * warps)},
       .dynamic_shared_bytes = sizeof(float) * static_cast<size_t>(warps * shape.dim_max)},
      native_stream, args, shape);
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
