// The attention of a layer: normed rows in, what the layer adds to the residual out, keys and
// values appended to the cache.
#pragma once

#include "model/blocks/step.h"
#include "model/weights.h"

namespace stoker {

// Reads work.normed [rows, hidden], writes work.delta [rows, hidden].
void Attention(const Step& step, int layer, const AttentionWeights& weights);

// Cuts the step's attention into tasks of at most kTaskQueries queries (rows times heads that share
// keys), small enough to keep the team busy. `heads_per_kv` heads share keys, in `kv_heads` groups.
// Returns the count of work.tasks written.
int64_t PlanAttention(const Step& step, int kv_heads, int heads_per_kv);

// The two kinds, up to the point where every head's output lies in work.attended.
void GroupedAttention(const Step& step, int layer, const AttentionWeights& weights);
void LatentAttention(const Step& step, int layer, const AttentionWeights& weights);

// Writes n floats as elements of the cache's dtype.
void StoreCached(const Step& step, const float* x, int64_t n, std::byte* cached);

}  // namespace stoker
