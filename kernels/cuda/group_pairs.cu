// Turns the choices of experts round on the device: what each expert that was chosen has to do, by
// one block, a thread a pair.
//
// Experts come in the order of their first pair, an expert's pairs ascending: the host's plan, so
// that both write the same tables. Every thread looks at every pair, which for the few pairs of a
// decoded step takes less than sorting them.
#include "kernels/cuda/expert_task.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/port.cuh"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

constexpr int kErrorInvalidValue = 1;  // cudaErrorInvalidValue

// Where a pair stands among those of its expert.
struct Standing {
  int first = 0;  // the expert's first pair
  int rank = 0;   // pairs of the expert before this one
  int count = 0;  // pairs of the expert
};

__device__ Standing StandingOf(const int32_t* chosen, int pair_count, int pair) {
  Standing standing = {.first = pair};
  for (int other = 0; other < pair_count; ++other) {
    if (chosen[other] != chosen[pair]) continue;
    if (other < standing.first) standing.first = other;
    if (other < pair) ++standing.rank;
    ++standing.count;
  }
  return standing;
}

__global__ void __launch_bounds__(kGroupedPairsMax)
    GroupPairsKernel(const __grid_constant__ GroupPairsArgs args) {
  STOKER_SHARED_ARRAY(int32_t, chosen, kGroupedPairsMax);
  STOKER_SHARED_ARRAY(int32_t, led, kGroupedPairsMax);  // pairs of the expert whose first this is
  const int pair = static_cast<int>(threadIdx.x);
  const bool is_pair = pair < args.pair_count;
  if (is_pair) chosen[pair] = args.experts[pair];
  __syncthreads();
  Standing standing;
  if (is_pair) {
    standing = StandingOf(chosen, args.pair_count, pair);
    led[pair] = standing.rank == 0 ? standing.count : 0;
  }
  __syncthreads();
  if (!is_pair) return;
  int task = 0;
  int begin = 0;
  for (int other = 0; other < standing.first; ++other) {
    task += led[other] > 0 ? 1 : 0;
    begin += led[other];
  }
  args.pairs[begin + standing.rank] = pair;
  if (standing.rank == 0) {
    args.tasks[task] = TaskOf(args.addresses, chosen[pair], begin, standing.count);
  }
  if (begin + standing.count == args.pair_count && standing.rank == 0) *args.task_count = task + 1;
}

}  // namespace

int GroupPairs(const GroupPairsArgs& args, void* native_stream) {
  if (args.pair_count == 0) return 0;
  if (args.pair_count > kGroupedPairsMax) return kErrorInvalidValue;
  return LaunchKernel(
      GroupPairsKernel,
      {.kernel = "group_pairs", .grid = 1, .block = static_cast<unsigned>(kGroupedPairsMax)},
      native_stream, args);
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
