// Which tensors a model of a given config has, by name and shape, and the views that the forward
// pass takes of them. What is listed here stays in memory; routed experts stream.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor_view.h"
#include "io/gguf.h"
#include "model/blocks/products.h"
#include "model/config.h"
#include "model/model.h"

namespace stoker {

// Vectors are F32 whatever the file holds. A null view or vector is one that the model does
// without.
struct AttentionWeights {
  const float* norm = nullptr;  // [hidden]
  MatrixView output;            // [hidden, heads * value_dim]

  // kGrouped
  MatrixView q;  // [heads * key_dim, hidden]; kLatent without query compression too
  MatrixView k;  // [kv_heads * key_dim, hidden]
  MatrixView v;  // [kv_heads * value_dim, hidden]
  const float* q_bias = nullptr;  // as wide as the rows of q, k, v
  const float* k_bias = nullptr;
  const float* v_bias = nullptr;
  const float* q_norm = nullptr;  // [key_dim], or the whole of q (k) for QkNorm::kWhole
  const float* k_norm = nullptr;

  // kLatent
  MatrixView q_a;                    // [q_rank, hidden]
  const float* q_a_norm = nullptr;   // [q_rank]
  MatrixView q_b;                    // [heads * key_dim, q_rank]
  MatrixView kv_a;                   // [kv_rank + rope dims, hidden]
  const float* kv_a_norm = nullptr;  // [kv_rank]
  // The part of W_kv_b that makes keys, transposed for absorption: head h has the rows
  // [h * kv_rank, (h + 1) * kv_rank), each meeting the unrotated part of that head's query.
  MatrixView key_up;  // [heads * kv_rank, key_dim - rope dims]
  // The part that makes values: head h has value_dim rows from h * value_head_rows +
  // value_first_row on. In the old layout keys and values alternate by head in one tensor, and are
  // used in place.
  MatrixView value_up;  // [heads * value_head_rows, kv_rank]
  int64_t value_head_rows = 0;
  int64_t value_first_row = 0;
};

struct FeedForwardWeights {
  MatrixView gate, up;  // [width, hidden]
  MatrixView down;      // [hidden, width]
};

// A layer's routed experts: the views of one, without data, and where in its parts they lie.
struct ExpertShape {
  bool is_fused = false;  // gate rows, then up rows, in part 0; down is part 1. Else parts 0, 1, 2.
  FeedForwardWeights views;
};

struct LayerWeights {
  AttentionWeights attention;
  const float* ffn_norm = nullptr;     // [hidden]
  FeedForwardWeights dense;            // leading layers, and every layer of a dense model
  MatrixView router;                   // [experts, hidden]
  const float* router_bias = nullptr;  // [experts], for selection
  FeedForwardWeights shared;           // shared expert(s), merged
  MatrixView shared_gate;              // [1, hidden]
  ExpertShape experts;
};

// What multi-token prediction has beside its layer. What may be absent is then the model's.
struct MtpWeights {
  const float* embedding_norm = nullptr;  // [hidden]
  const float* state_norm = nullptr;      // [hidden]
  MatrixView join;                        // [hidden, 2 * hidden]: of an embedding, then of a state
  std::string embedding_name;             // of the tensor: its own, or the model's
  MatrixView embedding;                   // [vocab, hidden]; its data stays in the file
  MatrixView output;                      // [vocab, hidden]; may be absent
  const float* output_norm = nullptr;     // [hidden]; may be absent
};

struct TrunkWeights {
  std::vector<LayerWeights> layers;      // with_mtp: its layer is the last
  MtpWeights mtp;                        // with_mtp
  MatrixView embedding;                  // [vocab, hidden]; data only when tied
  MatrixView output;                     // [vocab, hidden]; the embedding when tied
  const float* output_norm = nullptr;    // [hidden]
  const float* rope_divisors = nullptr;  // [rope dims / 2]
  bool is_tied = false;
};

// What makes logits of a residual.
struct HeadWeights {
  const float* norm = nullptr;  // [hidden]
  MatrixView output;            // [vocab, hidden]
};
inline HeadWeights HeadOf(const TrunkWeights& w) { return {w.output_norm, w.output}; }
inline HeadWeights MtpHeadOf(const TrunkWeights& w) {
  return {w.mtp.output_norm != nullptr ? w.mtp.output_norm : w.output_norm,
          w.mtp.output.rows > 0 ? w.mtp.output : w.output};
}

// One tensor that stays in memory, and the view that wants its data. Exactly one target is set.
struct TrunkTensor {
  const GgufTensor* source = nullptr;
  ModelSpec::Part part = ModelSpec::Part::kOther;
  MatrixView* matrix = nullptr;    // read as it lies
  const float** vector = nullptr;  // widened to F32
  MatrixView* transposed =
      nullptr;  // beside `matrix`: a key_up to be built from it (old MLA layout)
};

// Everything a file must hold for the config of `spec`, and with_mtp if it says so; nothing else of
// it is looked at. Fills the shapes and dtypes of `weights`; the tensors returned point into it.
// InvalidArgument naming a tensor that is missing or misshapen; Unimplemented naming one in a
// format that we cannot compute with.
absl::StatusOr<std::vector<TrunkTensor>> DescribeTrunk(const GgufModel& gguf, const ModelSpec& spec,
                                                       TrunkWeights& weights);

// The names of a layer's merged expert tensors, in the order of the expert's parts.
struct ExpertTensors {
  std::vector<const GgufTensor*> parts;
  ExpertShape shape;
};
absl::StatusOr<ExpertTensors> DescribeExperts(const GgufModel& gguf, const ModelConfig& config,
                                              int layer);

// Whether a view is there.
inline bool Present(const MatrixView& view) { return view.rows > 0; }

// The kinds of activations that the first products of each part want.
inline KindSet FeedForwardKinds(const FeedForwardWeights& w) {
  return KindSet::Of({&w.gate, &w.up});
}
inline KindSet MixtureKinds(const LayerWeights& w) {
  return KindSet::Of({&w.router, &w.experts.views.gate, &w.experts.views.up, &w.shared.gate,
                      &w.shared.up, &w.shared_gate});
}
inline KindSet AttentionKinds(const AttentionWeights& w) {
  return KindSet::Of({&w.q, &w.k, &w.v, &w.q_a, &w.kv_a});
}

// The dtype in which a transposed key_up is kept: the file's for floats, F16 for quantized sources,
// whose blocks cannot be transposed.
Dtype TransposedDtype(Dtype source);

}  // namespace stoker
