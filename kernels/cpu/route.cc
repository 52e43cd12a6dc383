// The choice of experts for one token. Scores are computed in lanes; the choice packs each expert
// into one integer that orders by score first and lower index second, so the best is a maximum.
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/lanes.h"
#include "kernels/elementary.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

constexpr float kLowest = -__builtin_inff();
constexpr float kSumMin = 0x1p-14f;

// The float sum of x[0..n).
STOKER_INLINE float SumOf(const float* x, int64_t n) {
  F32s lanes[kDotRegisters];
  for (F32s& lane : lanes) {
    lane = F32s::Broadcast(0.0f);
  }
  int64_t i = 0;
  for (; i + kDotLanes <= n; i += kDotLanes) {
    for (int s = 0; s < kDotRegisters; ++s) {
      lanes[s] = lanes[s] + Load(x + i + s * kWidth);
    }
  }
  for (int s = 0; i < n; ++s, i += kWidth) {
    const F32s value = LoadUpTo(x + i, n - i);
    lanes[s] =
        n - i >= kWidth ? lanes[s] + value : AddPartial(lanes[s], value, static_cast<int>(n - i));
  }
  return FoldLanes(lanes);
}

// x[i] = exp(x[i] - max) / their float sum.
void Softmax(float* x, int64_t n) {
  float max = kLowest;
  for (int64_t i = 0; i < n; ++i) {
    max = x[i] > max ? x[i] : max;
  }
  for (int64_t i = 0; i < n; i += kWidth) {
    StoreUpTo(x + i, Exp(LoadUpTo(x + i, n - i) - F32s::Broadcast(max)), n - i);
  }
  const F32s total = F32s::Broadcast(SumOf(x, n));
  for (int64_t i = 0; i < n; i += kWidth) {
    StoreUpTo(x + i, LoadUpTo(x + i, n - i) / total, n - i);
  }
}

// score and index in one integer: larger for a larger score, among equals for a lower index. Above
// 0, which marks what is taken. (A NaN orders as its bits do; the choice is still one of distinct
// experts.)
STOKER_INLINE uint64_t RankOf(float score, int index) {
  const uint32_t bits = BitsOfFloat(score + 0.0f);  // -0 equals +0
  const uint32_t ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return (static_cast<uint64_t>(ordered) << 32) | (0xffffffffu - static_cast<uint32_t>(index));
}

// Takes the best of ranks[0..n) and returns its index. Four running maxima, for a step of one
// cycle.
STOKER_INLINE int TakeBest(uint64_t* ranks, int n) {
  uint64_t best[4] = {0, 0, 0, 0};
  int i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int s = 0; s < 4; ++s) {
      best[s] = ranks[i + s] > best[s] ? ranks[i + s] : best[s];
    }
  }
  for (; i < n; ++i) {
    best[0] = ranks[i] > best[0] ? ranks[i] : best[0];
  }
  for (int s = 1; s < 4; ++s) {
    best[0] = best[s] > best[0] ? best[s] : best[0];
  }
  const int index = static_cast<int>(0xffffffffu - static_cast<uint32_t>(best[0]));
  ranks[index] = 0;
  return index;
}

STOKER_INLINE float GroupScoreOf(const RouterArgs& args, const float* keys, int n) {
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
  uint64_t ranks[kExpertsMax];
  for (int g = 0; g < args.group_count; ++g) {
    ranks[g] = RankOf(GroupScoreOf(args, keys + g * size, size), g);
  }
  for (int k = 0; k < args.groups_used; ++k) {
    TakeBest(ranks, args.group_count);
  }
  for (int g = 0; g < args.group_count; ++g) {
    for (int i = g * size; ranks[g] != 0 && i < (g + 1) * size; ++i) {
      keys[i] = kLowest;
    }
  }
}

// scores from logits, before any selection.
void ScoreExperts(const RouterArgs& args, float* scores) {
  const int64_t n = args.expert_count;
  const bool sigmoid = args.score == RouterArgs::Score::kSigmoid;
  for (int64_t i = 0; i < n; i += kWidth) {
    const F32s logit = LoadUpTo(args.logits + i, n - i);
    StoreUpTo(scores + i, sigmoid ? stoker::Sigmoid(logit) : logit, n - i);
  }
  if (args.score == RouterArgs::Score::kSoftmax) {
    Softmax(scores, n);
  }
}

void Select(const RouterArgs& args, const float* scores) {
  float keys[kExpertsMax];
  for (int i = 0; i < args.expert_count; ++i) {
    keys[i] = args.bias == nullptr ? scores[i] : scores[i] + args.bias[i];
  }
  if (args.group_count > 1) {
    MaskGroups(args, keys);
  }
  uint64_t ranks[kExpertsMax];
  for (int i = 0; i < args.expert_count; ++i) {
    ranks[i] = RankOf(keys[i], i);
  }
  for (int k = 0; k < args.top_k; ++k) {
    args.experts[k] = TakeBest(ranks, args.expert_count);
    args.weights[k] = scores[args.experts[k]];
  }
}

}  // namespace

void Route(const RouterArgs& args) {
  float scores[kExpertsMax];
  ScoreExperts(args, scores);
  Select(args, scores);
  if (args.score == RouterArgs::Score::kSoftmaxOfSelected) {
    Softmax(args.weights, args.top_k);
  }
  float divisor = 1.0f;
  if (args.normalize) {
    const float sum = SumOf(args.weights, args.top_k);
    divisor = sum > kSumMin ? sum : kSumMin;
  }
  for (int k = 0; k < args.top_k; ++k) {
    args.weights[k] = args.weights[k] / divisor * args.weight_scale;
  }
}

}  // namespace stoker::cpu::STOKER_ISA
