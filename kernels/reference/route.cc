// The choice of experts for one token, rule by rule.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "base/check.h"
#include "kernels/elementary.h"
#include "kernels/reference/lane_sums.h"
#include "kernels/reference/reference.h"

namespace stoker::reference {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();
constexpr float kSumMin = 0x1p-14f;

// x[i] = exp(x[i] - max) / their float sum.
void Softmax(float* x, int n) {
  const float max = *std::max_element(x, x + n);
  LaneSums sum;
  for (int i = 0; i < n; ++i) {
    x[i] = Exp(F32x1{x[i] - max}).value;
    sum.Add(i, x[i]);
  }
  const float total = sum.Total();
  for (int i = 0; i < n; ++i) {
    x[i] /= total;
  }
}

// The index of the largest key that is not taken, the lower one of equals.
int Best(const float* keys, const bool* taken, int n) {
  int best = -1;
  for (int i = 0; i < n; ++i) {
    if (!taken[i] && (best < 0 || keys[i] > keys[best])) {
      best = i;
    }
  }
  return best;
}

float GroupScoreOf(const RouterArgs& args, const float* keys, int n) {
  float first = kLowest;
  float second = kLowest;
  for (int i = 0; i < n; ++i) {
    if (keys[i] > first) {
      second = first;
      first = keys[i];
    } else if (keys[i] > second) {
      second = keys[i];
    }
  }
  return args.group_score == RouterArgs::GroupScore::kMax || n == 1 ? first : first + second;
}

// Sets the keys of all but the best groups to -inf.
void MaskGroups(const RouterArgs& args, float* keys) {
  const int size = args.expert_count / args.group_count;
  float scores[kExpertsMax];
  bool taken[kExpertsMax] = {};
  for (int g = 0; g < args.group_count; ++g) {
    scores[g] = GroupScoreOf(args, keys + g * size, size);
  }
  for (int k = 0; k < args.groups_used; ++k) {
    taken[Best(scores, taken, args.group_count)] = true;
  }
  for (int i = 0; i < args.expert_count; ++i) {
    keys[i] = taken[i / size] ? keys[i] : kLowest;
  }
}

}  // namespace

void Route(const RouterArgs& args) {
  const int n = args.expert_count;
  CHECK(n <= kExpertsMax && args.top_k <= n && n % args.group_count == 0);
  float scores[kExpertsMax];
  std::copy_n(args.logits, n, scores);
  if (args.score == RouterArgs::Score::kSoftmax) {
    Softmax(scores, n);
  } else if (args.score == RouterArgs::Score::kSigmoid) {
    std::transform(scores, scores + n, scores, Sigmoid);
  }
  float keys[kExpertsMax];
  for (int i = 0; i < n; ++i) {
    keys[i] = args.bias == nullptr ? scores[i] : scores[i] + args.bias[i];
  }
  if (args.group_count > 1) {
    MaskGroups(args, keys);
  }
  bool taken[kExpertsMax] = {};
  for (int k = 0; k < args.top_k; ++k) {
    args.experts[k] = Best(keys, taken, n);
    taken[args.experts[k]] = true;
    args.weights[k] = scores[args.experts[k]];
  }
  if (args.score == RouterArgs::Score::kSoftmaxOfSelected) {
    Softmax(args.weights, args.top_k);
  }
  if (args.normalize) {
    LaneSums sum;
    for (int k = 0; k < args.top_k; ++k) {
      sum.Add(k, args.weights[k]);
    }
    const float divisor = std::max(sum.Total(), kSumMin);
    std::transform(args.weights, args.weights + args.top_k, args.weights,
                   [divisor](float w) { return w / divisor; });
  }
  for (int k = 0; k < args.top_k; ++k) {
    args.weights[k] *= args.weight_scale;
  }
}

}  // namespace stoker::reference
