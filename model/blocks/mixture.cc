// Routing, collecting the experts, and the ordered sum.
#include "model/blocks/mixture.h"

#include <algorithm>

#include "base/check.h"
#include "base/status.h"
#include "model/blocks/feed_forward.h"
#include "model/expert_batch.h"
#include "model/expert_plan.h"

namespace stoker {
namespace {

// Router logits in F32, then each row's choice: work.chosen and work.chosen_weights [rows, top_k].
void Route(const Step& step, const LayerWeights& w) {
  const ModelConfig& c = step.config;
  Workspace& work = step.work;
  float* const* out = OutRows(work.outs, work.router, step.row_count(), c.expert_count);
  const MatmulArgs product = Product(w.router, work.input, out);
  RunProducts(step.ops, step.team, {&product, 1});
  ForEachRow(step, [&](int64_t row) {
    RouterArgs args = RouterArgsOf(c, w.router_bias);
    args.logits = work.router + row * RowStride(c.expert_count);
    args.top_k = c.experts_used;
    args.experts = work.chosen + row * c.experts_used;
    args.weights = work.chosen_weights + row * c.experts_used;
    step.ops.route(args);
  });
}

// Every expert asked for, as it comes: those at hand first, together.
absl::Status ComputeExperts(const Step& step, int layer, const LayerWeights& w,
                            ExpertProvider& provider) {
  const CauseScope cause(step.ledger, Cause::kExpertCompute);
  const int held_max = std::min(kHeldExpertsMax, provider.pins_max(layer));
  ExpertRef held[kHeldExpertsMax];
  const ExpertWork work = {step.config,    step.ops,        step.team,         w.experts,
                           step.work.plan, step.work.input, step.work.experts, step.work.partial};
  ExpertBatch batch(work);
  for (;;) {
    ASSIGN_OR_RETURN(const int count,
                     provider.Collect(absl::MakeSpan(held, static_cast<size_t>(held_max)),
                                      ExpertProvider::Wait::kUntilOne));
    if (count == 0) return absl::OkStatus();
    for (int first = 0, i = 0; first < count; first = i) {
      while (i < count && batch.Add(held[i])) ++i;
      CHECK(i > first);  // the workspace holds any one expert's pairs
      batch.Run(provider);
      for (int done = first; done < i; ++done) held[done].Release();
    }
  }
}

// delta = sum over ranks of weight * part, in rank order; then the shared expert's.
void SumParts(const Step& step, const LayerWeights& w) {
  constexpr int64_t kCols = 1024;
  const ModelConfig& c = step.config;
  const Workspace& work = step.work;
  const int64_t stride = RowStride(c.hidden);
  const int64_t pieces = (c.hidden + kCols - 1) / kCols;
  step.team.ParallelFor(step.row_count() * pieces, 1, [&](int64_t task, int64_t, int) {
    const int64_t row = task / pieces;
    const int64_t begin = task % pieces * kCols;
    const int64_t count = std::min(kCols, c.hidden - begin);
    float* delta = work.delta + row * stride + begin;
    std::fill(delta, delta + count, 0.0f);
    for (int64_t rank = 0; rank < c.experts_used; ++rank) {
      const int64_t pair = row * c.experts_used + rank;
      step.ops.multiply_add(work.chosen_weights[pair], work.partial + pair * stride + begin, count,
                            delta);
    }
    if (c.shared_ffn == 0) return;
    const float* shared = work.shared + row * stride + begin;
    if (Present(w.shared_gate)) {
      const float gate = step.ops.sigmoid(work.shared_gate[row * RowStride(1)]);
      step.ops.multiply_add(gate, shared, count, delta);
    } else {
      step.ops.add(shared, count, delta);
    }
  });
}

void SharedExpert(const Step& step, const LayerWeights& w) {
  const CauseScope cause(step.ledger, Cause::kDense);
  Workspace& work = step.work;
  FeedForward(step, w.shared, work.shared);
  if (!Present(w.shared_gate)) return;
  const MatmulArgs gate =
      Product(w.shared_gate, work.input, OutRows(work.outs, work.shared_gate, step.row_count(), 1));
  RunProducts(step.ops, step.team, {&gate, 1});
}

}  // namespace

RouterArgs RouterArgsOf(const ModelConfig& config, const float* bias) {
  return {.bias = bias,
          .expert_count = config.expert_count,
          .group_count = config.router.group_count,
          .groups_used = config.router.groups_used,
          .group_score = config.router.group_score,
          .score = config.router.score,
          .normalize = config.router.normalize,
          .weight_scale = config.router.weight_scale};
}

absl::Status Mixture(const Step& step, int layer, const LayerWeights& w, ExpertProvider& provider,
                     StepObserver* observer, absl::FunctionRef<void()> meanwhile) {
  const ModelConfig& c = step.config;
  Workspace& work = step.work;
  {
    const CauseScope cause(step.ledger, Cause::kRouter);
    work.input.Assign(work.normed, RowStride(c.hidden), step.row_count(), c.hidden);
    work.input.Quantize(step.ops, step.team, MixtureKinds(w));
    Route(step, w);
    PlanExperts(c, work.chosen, step.row_count(), work.plan);
  }
  const auto pairs = static_cast<size_t>(step.row_count() * c.experts_used);
  if (observer != nullptr) {
    observer->OnRouting(layer, c.experts_used, {work.chosen, pairs}, {work.chosen_weights, pairs});
  }
  {
    const CauseScope cause(step.ledger, Cause::kStore);
    RETURN_IF_ERROR(RequestExperts(provider, layer, work.plan));
  }
  if (c.shared_ffn > 0) SharedExpert(step, w);
  meanwhile();
  RETURN_IF_ERROR(ComputeExperts(step, layer, w, provider));
  const CauseScope cause(step.ledger, Cause::kExpertCompute);
  SumParts(step, w);
  return absl::OkStatus();
}

}  // namespace stoker
