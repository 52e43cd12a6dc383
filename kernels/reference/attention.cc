// Attention of one key-value head, one query at a time.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/elementary.h"
#include "kernels/reference/lane_sums.h"
#include "kernels/reference/load_float.h"
#include "kernels/reference/reference.h"

namespace stoker::reference {
namespace {

constexpr int64_t kTileKeys = 64;
constexpr float kLowest = -std::numeric_limits<float>::infinity();

float Exp(float x) { return stoker::Exp(F32x1{x}).value; }

float Score(const AttentionArgs& args, const float* q, int64_t key) {
  LaneSums sums;
  for (int64_t i = 0; i < args.key_dim; ++i) {
    sums.MultiplyAdd(i, q[i], LoadFloat(args.kv_dtype, args.keys, key * args.key_stride + i));
  }
  return sums.Total() * args.scale;
}

// One query against keys [first_key, visible): out [value_dim].
void AttendOne(const AttentionArgs& args, const float* q, int64_t visible, float* out) {
  float max = kLowest;
  float denominator = 0;
  std::fill_n(out, args.value_dim, 0.0f);
  for (int64_t tile = args.first_key / kTileKeys * kTileKeys; tile < visible; tile += kTileKeys) {
    const int64_t begin = std::max(tile, args.first_key);
    const int64_t end = std::min(tile + kTileKeys, visible);
    float p[kTileKeys] = {};
    float tile_max = max;
    for (int64_t j = begin; j < end; ++j) {
      p[j - tile] = Score(args, q, j);
      tile_max = std::max(tile_max, p[j - tile]);
    }
    const float correction = max == kLowest ? 0.0f : Exp(max - tile_max);
    max = tile_max;
    for (int64_t j = begin; j < end; ++j) {
      p[j - tile] = Exp(p[j - tile] - max);
    }
    LaneSums sum;
    for (int64_t j = 0; j < kTileKeys; ++j) {
      sum.Add(j, p[j]);
    }
    denominator = denominator * correction + sum.Total();
    for (int64_t d = 0; d < args.value_dim; ++d) {
      out[d] *= correction;
      for (int64_t j = begin; j < end; ++j) {
        const float v = LoadFloat(args.kv_dtype, args.values, j * args.value_stride + d);
        out[d] = std::fma(p[j - tile], v, out[d]);
      }
    }
  }
  for (int64_t d = 0; d < args.value_dim; ++d) {
    out[d] /= denominator;
  }
}

}  // namespace

void Attention(const AttentionArgs& args) {
  for (int r = 0; r < args.rows; ++r) {
    for (int h = 0; h < args.heads; ++h) {
      AttendOne(args, args.q + r * args.q_row_stride + h * args.q_head_stride, args.visible + r,
                args.out + r * args.out_row_stride + h * args.out_head_stride);
    }
  }
}

}  // namespace stoker::reference
