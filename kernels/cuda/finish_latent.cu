// Norm and rotation of latents and compressed queries, and what of a row goes into the cache.
#include "kernels/cuda/finish.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/quantize.cuh"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// RmsScale by the first warp, for all threads; behind it x may be written to.
__device__ __forceinline__ float BlockRmsScale(const float* x, int n, float epsilon) {
  STOKER_SHARED(float, block_scale);
  if (threadIdx.x < 32) {
    const float scale = RmsScale([&](int64_t i) { return x[i]; }, n, epsilon);
    if (threadIdx.x == 0) block_scale = scale;
  }
  __syncthreads();
  return block_scale;
}

// The latent is normed and what lies behind it rotated, in place and into the cache.
__device__ __forceinline__ void FinishLatentRow(const FinishLatentArgs& args, int64_t row) {
  const int thread = static_cast<int>(threadIdx.x);
  const RowPlace place = args.places[row];
  float* latent = args.latent + row * args.latent_stride;
  std::byte* cached =
      args.kv.keys + CachedRow(args.kv, place) * args.kv.key_stride * ElementBytes(args.kv);
  const float scale = BlockRmsScale(latent, args.kv_rank, args.epsilon);
  for (int i = thread; i < args.kv_rank; i += kThreads) {
    const float y = latent[i] * scale * args.latent_norm[i];
    latent[i] = y;
    StoreCached(args.kv, cached, i, y);
  }
  float* behind = latent + args.kv_rank;
  const bool halves = args.rope.pairing == RopePairing::kHalves;
  for (int pair = thread; pair < args.rope.pairs; pair += kThreads) {
    const int a = halves ? pair : 2 * pair;
    const int b = halves ? pair + args.rope.pairs : 2 * pair + 1;
    const float rotated_a = Rotated(args.rope, place.position, behind, a);
    const float rotated_b = Rotated(args.rope, place.position, behind, b);
    behind[a] = rotated_a;
    behind[b] = rotated_b;
    StoreCached(args.kv, cached, args.kv_rank + a, rotated_a);
    StoreCached(args.kv, cached, args.kv_rank + b, rotated_b);
  }
}

// The compressed query is normed, in place, and quantized: a warp has 256 values at a time.
__device__ __forceinline__ void FinishQueryRow(const FinishLatentArgs& args, int64_t row) {
  float* low = args.query_low + row * args.query_low_stride;
  const float scale = BlockRmsScale(low, args.q_rank, args.epsilon);
  const int groups = (args.q_rank + 255) / 256;
  for (int group = static_cast<int>(threadIdx.x) / 32; group < groups; group += kWarps) {
    float x[kLaneValues];
    LoadLaneValues(low, group, args.q_rank, x);
    const int first = 256 * group + kLaneValues * LaneIndex();
    STOKER_UNROLL
    for (int i = 0; i < kLaneValues; ++i) {
      if (first + i < args.q_rank) x[i] = x[i] * scale * args.query_low_norm[first + i];
    }
    StoreLaneValues(x, group, args.q_rank, low);
    QuantizeInto(x, row, group, args.q_rank, args.q8x32, args.q8x256);
  }
}

__global__ void __launch_bounds__(kThreads)
    FinishLatentKernel(const __grid_constant__ FinishLatentArgs args) {
  if (blockIdx.y == 0) {
    FinishLatentRow(args, blockIdx.x);
  } else {
    FinishQueryRow(args, blockIdx.x);
  }
}

}  // namespace

int FinishLatent(const FinishLatentArgs& args, void* native_stream) {
  return LaunchKernel(FinishLatentKernel,
                      {.kernel = "finish_latent",
                       .grid = {static_cast<unsigned>(args.rows), args.q_rank > 0 ? 2u : 1u},
                       .block = kThreads},
                      native_stream, args);
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
