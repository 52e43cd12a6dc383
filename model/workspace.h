// The memory of a step: every array that the forward pass writes, carved once.
#pragma once

#include <cstdint>

#include "kernels/ops.h"
#include "model/blocks/products.h"
#include "model/carver.h"
#include "model/config.h"
#include "model/expert_batch.h"
#include "model/expert_plan.h"
#include "model/model.h"

namespace stoker {

// Attention of some rows of a run and some heads that share keys.
struct AttentionTask {
  int32_t row = 0;
  int32_t count = 0;
  int32_t sequence = 0;
  int32_t position = 0;
  int32_t head = 0;  // the first
  int32_t heads = 0;
};

// What routers are guessed in, for steps of few rows.
struct LookaheadArrays {
  int64_t rows_max = 0;
  float* normed = nullptr;     // [rows, hidden]
  float* router = nullptr;     // [rows, experts]
  float** outs = nullptr;      // [rows]
  int32_t* experts = nullptr;  // [rows, LookaheadCount], dense
  float* scores = nullptr;     // [rows, LookaheadCount], dense
  Activations input;           // of `normed`
};

// What multi-token prediction starts from.
struct MtpArrays {
  float* joined = nullptr;  // [rows, 2 * hidden] a token's embedding, normed, and a state, normed
  Activations input;        // of `joined`
};

// Arrays are [rows, width] with rows RowStride(width) floats apart unless said otherwise.
struct Workspace {
  // Sizes that the arrays were carved for.
  int64_t rows_max = 0;
  int64_t attention_floats = 0;  // per worker, scratch of the attention operation
  int64_t latent_floats = 0;     // per worker, queries and contexts of a latent task
  int64_t latent_bytes = 0;      // per worker, activation rows of a latent task

  float* cosines = nullptr;  // [context, rope dims / 2], dense
  float* sines = nullptr;

  float* residual = nullptr;   // [rows, hidden]
  float* delta = nullptr;      // [rows, hidden] what a block adds to the residual
  float* normed = nullptr;     // [rows, hidden]
  float* query = nullptr;      // [rows, heads * key_dim]
  float* query_low = nullptr;  // [rows, q_rank]
  float* key = nullptr;        // [rows, kv_heads * key_dim]; kLatent: [rows, kv_rank + rope dims]
  float* value = nullptr;      // [rows, kv_heads * value_dim]
  float* attended = nullptr;   // [rows, heads * value_dim]
  float* gate = nullptr;       // [rows, feed-forward] or [pairs, expert feed-forward]
  float* up = nullptr;
  float* shared = nullptr;       // [rows, hidden]
  float* shared_gate = nullptr;  // [rows, 1]
  float* router = nullptr;       // [rows, experts]
  float* partial = nullptr;      // [rows * top_k, hidden] each expert's part, in router-rank order

  int32_t* chosen = nullptr;        // [rows, top_k], dense
  float* chosen_weights = nullptr;  // [rows, top_k], dense
  ExpertPlan plan;

  Activations input;  // of `normed`
  Activations inner;  // of rows between two products: compressed query, attended, gated
  LookaheadArrays lookahead;
  MtpArrays mtp;
  ExpertArrays experts;            // gate, up and outs are those above
  float** outs = nullptr;          // [4 * rows or pairs] output rows of products that run together
  float* worker_floats = nullptr;  // [threads, attention_floats + latent_floats]
  std::byte* worker_bytes = nullptr;  // [threads, latent_bytes]
  int32_t* tokens = nullptr;          // [rows]
  AttentionTask* tasks = nullptr;     // [rows * heads]
};

// Queries, rows times heads, of one attention task at most.
inline constexpr int kTaskQueries = 64;

// Whether the head is the embedding table.
bool IsTied(const ModelSpec& spec);
// The activation kinds that the weights of a model want.
KindSet KindsOf(const ModelSpec& spec);
// The widest feed-forward that every row goes through.
int64_t FeedForwardWidth(const ModelConfig& config);

// Experts guessed a row: twice those that a token uses, because the router's lower ranks are where
// guesses go wrong; less where the router's groups have no more to offer.
int LookaheadCount(const ModelConfig& config);

// Carves everything for steps of up to options.step_rows_max rows. With a counting carver this is
// the plan.
Workspace CarveWorkspace(const ModelSpec& spec, const Model::Options& options, int thread_count,
                         Carver& carver);

}  // namespace stoker
