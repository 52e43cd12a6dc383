// The choice of experts of each row, by one warp a row.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/port.cuh"
#include "kernels/elementary.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

constexpr int kWarpLanes = 32;
constexpr float kLowest = -__builtin_huge_valf();
constexpr float kSumMin = 0x1p-14f;
constexpr int kNone = 0x7fffffff;

// What one warp works on.
struct RouteScratch {
  float scores[kExpertsMax];
  float keys[kExpertsMax];
  float group_scores[kExpertsMax];
  float weights[kExpertsMax];
  bool kept[kExpertsMax];  // of groups
};

// The float sum: what the lanes have added, folded; in every lane.
__device__ float SumOfLanes(float value) {
  for (int apart = kWarpLanes / 2; apart > 0; apart /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, apart);
  }
  return value;
}

// x[i] = exp(x[i] - max) / their float sum. Each lane reads and writes its own values only.
// Where a value is NaN so are the sum and every result, whatever the largest was taken to be.
__device__ void Softmax(float* x, int count, int lane) {
  float max = kLowest;
  for (int i = lane; i < count; i += kWarpLanes) max = x[i] > max ? x[i] : max;
  for (int width = kWarpLanes / 2; width > 0; width /= 2) {
    const float other = __shfl_xor_sync(kAllLanes, max, width);
    max = other > max ? other : max;
  }
  float sum = 0;
  for (int i = lane; i < count; i += kWarpLanes) {
    x[i] = Exp(F32x1{x[i] - max}).value;
    sum += x[i];
  }
  sum = SumOfLanes(sum);
  for (int i = lane; i < count; i += kWarpLanes) x[i] /= sum;
}

// Picks the largest of a row of keys again and again, the lower index of equals. A NaN is neither
// passed by a larger key nor passes one: it is chosen when all before it have been.
class Selection {
 public:
  // All lanes have written their keys.
  __device__ Selection(const float* keys, int count, int lane)
      : keys_(keys), count_(count), lane_(lane) {
    bool has_nan = false;
    for (int i = lane; i < count; i += kWarpLanes) has_nan = has_nan || keys[i] != keys[i];
    has_nan_ = __ballot_sync(kAllLanes, has_nan) != 0;
    FindBestOfLane();
  }

  // The index chosen, the same in every lane.
  __device__ int Take() {
    float value = value_;
    int index = index_;
    for (int width = kWarpLanes / 2; width > 0; width /= 2) {
      const float other_value = __shfl_xor_sync(kAllLanes, value, width);
      const int other_index = __shfl_xor_sync(kAllLanes, index, width);
      if (other_value > value || (other_value == value && other_index < index)) {
        value = other_value;
        index = other_index;
      }
    }
    if (has_nan_) index = FirstIfNan(index);
    if (index % kWarpLanes == lane_) {
      taken_ |= 1u << (index / kWarpLanes);
      FindBestOfLane();
    }
    return index;
  }

  // Whether index i, one of this lane's, has been taken.
  __device__ bool IsTaken(int i) const { return (taken_ >> (i / kWarpLanes) & 1) != 0; }

 private:
  __device__ void FindBestOfLane() {
    value_ = kLowest;
    index_ = kNone;
    for (int i = lane_; i < count_; i += kWarpLanes) {
      const float key = keys_[i];
      if (!IsTaken(i) && (key > value_ || (key == value_ && index_ == kNone))) {
        value_ = key;
        index_ = i;
      }
    }
  }

  // The first index not taken, if its key is NaN; else `best`.
  __device__ int FirstIfNan(int best) const {
    int first = lane_;
    while (first < count_ && IsTaken(first)) first += kWarpLanes;
    if (first >= count_) first = kNone;
    for (int width = kWarpLanes / 2; width > 0; width /= 2) {
      const int other = __shfl_xor_sync(kAllLanes, first, width);
      first = other < first ? other : first;
    }
    return keys_[first] != keys_[first] ? first : best;
  }

  const float* keys_;
  int count_;
  int lane_;
  bool has_nan_;
  uint32_t taken_ = 0;  // bit i / 32 for the lane's index i
  // The best of the lane's keys that are not taken and not NaN; kNone when there is none.
  float value_;
  int index_;
};
static_assert(kExpertsMax <= 32 * 32);  // bits of taken_

__device__ float GroupScoreOf(const RouteRowsArgs& args, const float* keys, int count) {
  float first = kLowest;
  float second = kLowest;
  for (int i = 0; i < count; ++i) {
    if (keys[i] > first) {
      second = first;
      first = keys[i];
    } else if (keys[i] > second) {
      second = keys[i];
    }
  }
  return args.group_score == RouterArgs::GroupScore::kMax || count == 1 ? first : first + second;
}

// Sets the keys of all but the best groups to -inf.
__device__ void MaskGroups(const RouteRowsArgs& args, RouteScratch& scratch, int lane) {
  const int count = args.expert_count / args.group_count;
  for (int g = lane; g < args.group_count; g += kWarpLanes) {
    scratch.group_scores[g] = GroupScoreOf(args, scratch.keys + g * count, count);
  }
  __syncwarp();
  Selection groups(scratch.group_scores, args.group_count, lane);
  for (int k = 0; k < args.groups_used; ++k) groups.Take();
  for (int g = lane; g < args.group_count; g += kWarpLanes) scratch.kept[g] = groups.IsTaken(g);
  __syncwarp();
  for (int i = lane; i < args.expert_count; i += kWarpLanes) {
    if (!scratch.kept[i / count]) scratch.keys[i] = kLowest;
  }
}

// weights[k] from the scores of what was chosen: each lane its own ranks.
__device__ void FinishWeights(const RouteRowsArgs& args, float* weights, int lane) {
  if (args.score == RouterArgs::Score::kSoftmaxOfSelected) Softmax(weights, args.top_k, lane);
  if (args.normalize) {
    float sum = 0;
    for (int k = lane; k < args.top_k; k += kWarpLanes) sum += weights[k];
    sum = SumOfLanes(sum);
    const float divisor = sum < kSumMin ? kSumMin : sum;
    for (int k = lane; k < args.top_k; k += kWarpLanes) weights[k] /= divisor;
  }
  for (int k = lane; k < args.top_k; k += kWarpLanes) weights[k] *= args.weight_scale;
}

__global__ void __launch_bounds__(kWarpLanes)
    RouteRowsKernel(const __grid_constant__ RouteRowsArgs args) {
  STOKER_SHARED(RouteScratch, scratch);
  const int lane = static_cast<int>(threadIdx.x);
  const int64_t row = blockIdx.x;
  const float* logits = args.logits + row * args.stride;
  for (int i = lane; i < args.expert_count; i += kWarpLanes) scratch.scores[i] = logits[i];
  if (args.score == RouterArgs::Score::kSoftmax) {
    Softmax(scratch.scores, args.expert_count, lane);
  } else if (args.score == RouterArgs::Score::kSigmoid) {
    for (int i = lane; i < args.expert_count; i += kWarpLanes) {
      scratch.scores[i] = Sigmoid(F32x1{scratch.scores[i]}).value;
    }
  }
  for (int i = lane; i < args.expert_count; i += kWarpLanes) {
    const float score = scratch.scores[i];
    scratch.keys[i] = args.bias == nullptr ? score : score + args.bias[i];
  }
  __syncwarp();
  if (args.group_count > 1) {
    MaskGroups(args, scratch, lane);
    __syncwarp();
  }
  Selection experts(scratch.keys, args.expert_count, lane);
  for (int k = 0; k < args.top_k; ++k) {
    const int expert = experts.Take();
    if (k % kWarpLanes != lane) continue;
    args.experts[row * args.top_k + k] = expert;
    scratch.weights[k] = scratch.scores[expert];
  }
  FinishWeights(args, scratch.weights, lane);
  for (int k = lane; k < args.top_k; k += kWarpLanes) {
    args.weights[row * args.top_k + k] = scratch.weights[k];
  }
}

}  // namespace

int RouteRows(const RouteRowsArgs& args, void* native_stream) {
  return LaunchKernel(
      RouteRowsKernel,
      {.kernel = "route_rows", .grid = static_cast<unsigned>(args.rows), .block = kWarpLanes},
      native_stream, args);
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
