// The next routers on this layer's state.
#include "model/blocks/lookahead.h"

#include <algorithm>

#include "model/blocks/mixture.h"

namespace stoker {
namespace {

// What the router of `w` would choose for the residual as it is.
void Guess(const Step& step, const LayerWeights& w) {
  const ModelConfig& c = step.config;
  LookaheadArrays& look = step.work.lookahead;
  const int64_t stride = RowStride(c.hidden);
  ForEachRow(step, [&](int64_t row) {
    step.ops.rms_norm(step.work.residual + row * stride, w.ffn_norm, c.hidden, c.norm_epsilon,
                      look.normed + row * stride);
  });
  look.input.Assign(look.normed, stride, step.row_count(), c.hidden);
  look.input.Quantize(step.ops, step.team, KindSet::Of({&w.router}));
  const MatmulArgs product = Product(
      w.router, look.input, OutRows(look.outs, look.router, step.row_count(), c.expert_count));
  RunProducts(step.ops, step.team, {&product, 1});
  const int count = LookaheadCount(c);
  ForEachRow(step, [&](int64_t row) {
    RouterArgs args = RouterArgsOf(c, w.router_bias);
    args.logits = look.router + row * RowStride(c.expert_count);
    args.top_k = count;
    args.experts = look.experts + row * count;
    args.weights = look.scores + row * count;
    step.ops.route(args);
  });
}

}  // namespace

void LookAhead(const Step& step, int layer, absl::Span<const LayerWeights> layers,
               StepObserver& observer) {
  const ModelConfig& c = step.config;
  const LookaheadArrays& look = step.work.lookahead;
  if (step.row_count() > look.rows_max) return;
  int wanted = std::min(observer.lookahead_layers(layer), kLookaheadLayersMax);
  if (wanted == 0) return;
  const CauseScope cause(step.ledger, Cause::kPrefetch);
  const int count = LookaheadCount(c);
  const auto ids = static_cast<size_t>(step.row_count() * count);
  for (int target = layer + 1; target < c.layer_count && wanted > 0; ++target) {
    if (!c.layer_is_moe(target)) continue;
    --wanted;
    if (!observer.wants_lookahead(layer, target)) continue;
    Guess(step, layers[static_cast<size_t>(target)]);
    observer.OnLookahead(layer, target, count, {look.experts, ids}, {look.scores, ids});
  }
}

}  // namespace stoker
