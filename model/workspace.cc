// How large each array of a step is.
#include "model/workspace.h"

#include <algorithm>

#include "kernels/formats/formats.h"

namespace stoker {
namespace {

void CarveWorkers(const ModelConfig& c, int thread_count, Workspace& w, Carver& carver) {
  const bool is_latent = c.attention == AttentionKind::kLatent;
  const int key_dim = is_latent ? c.kv_rank + c.rope.dims : c.key_dim;
  const int value_dim = is_latent ? c.kv_rank : c.value_dim;
  for (int rows = 1; rows <= kTaskQueries; ++rows) {
    w.attention_floats =
        std::max(w.attention_floats,
                 RowStride(AttentionScratchFloats(rows, kTaskQueries / rows, key_dim, value_dim)));
  }
  if (is_latent) {
    w.latent_floats = kTaskQueries * (RowStride(key_dim) + RowStride(value_dim));
    for (const ActivationKind kind :
         {ActivationKind::kF32, ActivationKind::kQ8x32, ActivationKind::kQ8x256}) {
      const int64_t cols = std::max(c.kv_rank, c.key_dim - c.rope.dims);
      const auto bytes = static_cast<int64_t>(kTaskQueries * ActivationRowBytes(kind, cols) +
                                              PanelCount(kTaskQueries) * PanelBytes(kind, cols));
      w.latent_bytes = std::max(w.latent_bytes, bytes);
    }
  }
  w.worker_floats = carver.Take<float>(thread_count * (w.attention_floats + w.latent_floats));
  w.worker_bytes = carver.Take<std::byte>(thread_count * w.latent_bytes);
}

void CarveAttention(const ModelConfig& c, int64_t rows, Workspace& w, Carver& carver) {
  const bool is_latent = c.attention == AttentionKind::kLatent;
  const int64_t key_width =
      is_latent ? c.kv_rank + c.rope.dims : int64_t{c.kv_head_count} * c.key_dim;
  w.query = carver.Take<float>(rows * RowStride(int64_t{c.head_count} * c.key_dim));
  w.query_low = carver.Take<float>(rows * RowStride(c.q_rank));
  w.key = carver.Take<float>(rows * RowStride(key_width));
  if (!is_latent) {
    w.value = carver.Take<float>(rows * RowStride(int64_t{c.kv_head_count} * c.value_dim));
  }
  w.attended = carver.Take<float>(rows * RowStride(int64_t{c.head_count} * c.value_dim));
  w.tasks = carver.Take<AttentionTask>(rows * c.head_count);
}

void CarveFeedForward(const ModelConfig& c, int64_t rows, KindSet kinds, Workspace& w,
                      Carver& carver) {
  const int64_t pairs = rows * c.experts_used;
  ExpertArrays& experts = w.experts;
  if (c.expert_count > 0) CarveExpertArrays(c, rows, kinds, carver, experts);
  const int64_t gated =
      std::max(rows * RowStride(FeedForwardWidth(c)), experts.pairs_max * RowStride(c.expert_ffn));
  w.gate = experts.gate = carver.Take<float>(gated);
  w.up = experts.up = carver.Take<float>(gated);
  w.outs = experts.outs = carver.Take<float*>(4 * std::max(rows, experts.pairs_max));
  if (c.expert_count == 0) return;
  if (c.shared_ffn > 0) w.shared = carver.Take<float>(rows * RowStride(c.hidden));
  if (c.shared_gate) w.shared_gate = carver.Take<float>(rows * RowStride(1));
  w.router = carver.Take<float>(rows * RowStride(c.expert_count));
  w.partial = carver.Take<float>(pairs * RowStride(c.hidden));
  w.chosen = carver.Take<int32_t>(pairs);
  w.chosen_weights = carver.Take<float>(pairs);
  w.plan = CarvePlan(c, rows, carver);
}

void CarveLookahead(const ModelConfig& c, int64_t rows, KindSet kinds, LookaheadArrays& look,
                    Carver& carver) {
  if (c.expert_count == 0 || rows == 0) return;
  look.rows_max = rows;
  look.normed = carver.Take<float>(rows * RowStride(c.hidden));
  look.router = carver.Take<float>(rows * RowStride(c.expert_count));
  look.outs = carver.Take<float*>(rows);
  look.experts = carver.Take<int32_t>(rows * LookaheadCount(c));
  look.scores = carver.Take<float>(rows * LookaheadCount(c));
  look.input.Carve(carver,
                   {.rows = rows, .cols = c.hidden, .panels = PanelCount(rows), .kinds = kinds});
}

void CarveMtp(const ModelConfig& c, int64_t rows, KindSet kinds, MtpArrays& mtp, Carver& carver) {
  if (rows == 0) return;
  const int64_t width = 2 * int64_t{c.hidden};
  mtp.joined = carver.Take<float>(rows * RowStride(width));
  mtp.input.Carve(carver,
                  {.rows = rows, .cols = width, .panels = PanelCount(rows), .kinds = kinds});
}

}  // namespace

bool IsTied(const ModelSpec& spec) {
  return std::none_of(spec.tensors.begin(), spec.tensors.end(),
                      [](const auto& t) { return t.part == ModelSpec::Part::kHead; });
}

KindSet KindsOf(const ModelSpec& spec) {
  using Part = ModelSpec::Part;
  const bool is_tied = IsTied(spec);
  KindSet kinds;
  for (const ModelSpec::Tensor& tensor : spec.tensors) {
    const bool is_multiplied = tensor.part != Part::kOther &&
                               (tensor.part != Part::kMtp || spec.with_mtp) &&
                               (tensor.part != Part::kEmbedding || is_tied);
    if (is_multiplied && IsComputable(tensor.dtype)) kinds.Add(ActivationKindOf(tensor.dtype));
  }
  return kinds;
}

int64_t FeedForwardWidth(const ModelConfig& c) {
  const bool has_dense_layers = c.expert_count == 0 || c.leading_dense_layers > 0;
  return std::max(has_dense_layers ? c.dense_ffn : 0, c.shared_ffn);
}

int LookaheadCount(const ModelConfig& c) {
  const int offered = c.router.groups_used * (c.expert_count / c.router.group_count);
  return std::min(2 * c.experts_used, offered);
}

Workspace CarveWorkspace(const ModelSpec& spec, const Model::Options& options, int thread_count,
                         Carver& carver) {
  const ModelConfig& c = spec.config;
  const int64_t rows = options.step_rows_max;
  const KindSet kinds = KindsOf(spec);
  Workspace w;
  w.rows_max = rows;
  const int64_t table = int64_t{options.context_max} * (c.rope.dims / 2);
  w.cosines = carver.Take<float>(table);
  w.sines = carver.Take<float>(table);
  w.residual = carver.Take<float>(rows * RowStride(c.hidden));
  w.delta = carver.Take<float>(rows * RowStride(c.hidden));
  w.normed = carver.Take<float>(rows * RowStride(c.hidden));
  w.tokens = carver.Take<int32_t>(rows);
  CarveAttention(c, rows, w, carver);
  CarveFeedForward(c, rows, kinds, w, carver);
  CarveLookahead(c, std::min<int64_t>(rows, options.lookahead_rows_max), kinds, w.lookahead,
                 carver);
  CarveMtp(c, options.mtp_rows_max, kinds, w.mtp, carver);
  CarveWorkers(c, thread_count, w, carver);
  w.input.Carve(carver,
                {.rows = rows, .cols = c.hidden, .panels = PanelCount(rows), .kinds = kinds});
  const int64_t inner_cols =
      std::max({int64_t{c.head_count} * c.value_dim, int64_t{c.q_rank}, FeedForwardWidth(c)});
  w.inner.Carve(carver,
                {.rows = rows, .cols = inner_cols, .panels = PanelCount(rows), .kinds = kinds});
  return w;
}

}  // namespace stoker
