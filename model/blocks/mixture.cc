// Routing, the expert batches, and the ordered sum.
#include "model/blocks/mixture.h"

#include <algorithm>

#include "base/check.h"
#include "base/status.h"
#include "model/blocks/feed_forward.h"

namespace stoker {
namespace {

// Experts held at once, of those that the provider lets us hold.
constexpr int kHeldMax = 64;
static_assert(2 * kHeldMax <= kProductsMax);

// Router logits in F32, then each row's choice: work.chosen and work.chosen_weights [rows, top_k].
void Route(const Step& step, const LayerWeights& w) {
  const ModelConfig& c = step.config;
  Workspace& work = step.work;
  float* const* out = OutRows(work.outs, work.router, step.row_count(), c.expert_count);
  const MatmulArgs product = Product(w.router, work.input, out);
  RunProducts(step.ops, step.team, {&product, 1});
  ForEachRow(step, [&](int64_t row) {
    step.ops.route({.logits = work.router + row * RowStride(c.expert_count),
                    .bias = w.router_bias,
                    .expert_count = c.expert_count,
                    .top_k = c.experts_used,
                    .group_count = c.router.group_count,
                    .groups_used = c.router.groups_used,
                    .group_score = c.router.group_score,
                    .score = c.router.score,
                    .normalize = c.router.normalize,
                    .weight_scale = c.router.weight_scale,
                    .experts = work.chosen + row * c.experts_used,
                    .weights = work.chosen_weights + row * c.experts_used});
  });
}

// The union of the choices, row by row and in rank order within a row, each expert at its first
// use; and for each expert its (row, rank) pairs, rows ascending.
void PlanExperts(const Step& step) {
  const int32_t experts = step.config.expert_count;
  const auto pairs = static_cast<int32_t>(step.row_count() * step.config.experts_used);
  const int32_t* chosen = step.work.chosen;
  ExpertPlan& plan = step.work.plan;
  int32_t* begin = plan.pair_begin;
  std::fill(begin, begin + experts + 1, 0);
  plan.wanted_count = 0;
  for (int32_t pair = 0; pair < pairs; ++pair) {
    if (begin[chosen[pair] + 1]++ == 0) plan.wanted[plan.wanted_count++] = chosen[pair];
  }
  for (int32_t e = 0; e < experts; ++e) begin[e + 1] += begin[e];
  // Filling moves each begin to its end, which is the next one's begin: shift back afterwards.
  for (int32_t pair = 0; pair < pairs; ++pair) plan.pairs[begin[chosen[pair]]++] = pair;
  for (int32_t e = experts; e > 0; --e) begin[e] = begin[e - 1];
  begin[0] = 0;
}

// Experts computed together: their pairs side by side in work.gate and work.up.
class ExpertBatch {
 public:
  ExpertBatch(const Step& step, const ExpertShape& shape)
      : step_(step), shape_(shape), top_k_(step.config.experts_used) {}

  // Takes an expert with its pairs; false when there is no room left.
  bool Add(const ExpertRef& expert);
  bool empty() const { return count_ == 0; }
  // Computes the parts of all pairs into work.partial, and forgets the experts.
  void Run();

 private:
  struct Member {
    const std::byte* gate;
    const std::byte* up;
    const std::byte* down;
    const int32_t* pairs;
    int32_t pair_count;
    int32_t first_pair;   // in the batch
    int32_t first_panel;  // in the batch; -1: too few rows for panels
  };

  MatmulArgs FirstProduct(const Member& m, const MatrixView& shape, const std::byte* data,
                          const std::byte** rows, float** out) const;
  void PackInputs();
  void GateAndUp();
  void Activate();
  void Down();
  const Member& MemberOfPanel(int64_t panel) const;
  float* Partial(int32_t pair) const {
    return step_.work.partial + pair * RowStride(step_.config.hidden);
  }

  const Step& step_;
  const ExpertShape& shape_;
  const int32_t top_k_;
  Member members_[kHeldMax];
  int count_ = 0;
  int32_t pairs_ = 0;
  int32_t panels_ = 0;
};

bool ExpertBatch::Add(const ExpertRef& expert) {
  const ExpertPlan& plan = step_.work.plan;
  const int32_t begin = plan.pair_begin[expert.id().expert];
  const int32_t pair_count = plan.pair_begin[expert.id().expert + 1] - begin;
  const bool has_panels = pair_count >= kPanelRowsMin;
  const auto panel_count = has_panels ? static_cast<int32_t>(PanelCount(pair_count)) : 0;
  const bool has_room = count_ < kHeldMax && pairs_ + pair_count <= step_.work.pairs_max &&
                        panels_ + panel_count <= step_.work.panels_max;
  if (!has_room) return false;
  const size_t gate_bytes = shape_.views.gate.bytes();
  Member& m = members_[count_++];
  m.gate = expert.part(0);
  m.up = shape_.is_fused ? expert.part(0) + gate_bytes : expert.part(1);
  m.down = expert.part(shape_.is_fused ? 1 : 2);
  m.pairs = plan.pairs + begin;
  m.pair_count = pair_count;
  m.first_pair = pairs_;
  m.first_panel = has_panels ? panels_ : -1;
  pairs_ += pair_count;
  panels_ += panel_count;
  return true;
}

void ExpertBatch::Run() {
  PackInputs();
  GateAndUp();
  Activate();
  Down();
  count_ = pairs_ = panels_ = 0;
}

const ExpertBatch::Member& ExpertBatch::MemberOfPanel(int64_t panel) const {
  const Member* found = nullptr;
  for (int i = 0; i < count_; ++i) {
    if (members_[i].first_panel >= 0 && members_[i].first_panel <= panel) found = &members_[i];
  }
  return *found;
}

// Panels of the gate's kind; an up matrix of another kind walks its rows, which costs speed only.
void ExpertBatch::PackInputs() {
  Workspace& work = step_.work;
  const ActivationKind kind = ActivationKindOf(shape_.views.gate.dtype);
  std::byte* panels = work.expert_panels[static_cast<int>(kind)];
  if (panels == nullptr) return;
  const int64_t hidden = step_.config.hidden;
  const size_t panel_bytes = PanelBytes(kind, hidden);
  step_.team.ParallelFor(panels_, 1, [&](int64_t panel, int64_t, int) {
    const Member& m = MemberOfPanel(panel);
    const auto first = static_cast<int32_t>((panel - m.first_panel) * kPanelRows);
    const auto count = std::min(static_cast<int32_t>(kPanelRows), m.pair_count - first);
    const std::byte* rows[kPanelRows];
    for (int32_t i = 0; i < count; ++i) {
      rows[i] = work.input.row_pointers(kind)[m.pairs[first + i] / top_k_];
    }
    step_.ops.pack(kind, rows, count, hidden, panels + static_cast<size_t>(panel) * panel_bytes);
  });
}

MatmulArgs ExpertBatch::FirstProduct(const Member& m, const MatrixView& shape,
                                     const std::byte* data, const std::byte** rows,
                                     float** out) const {
  const ActivationKind kind = ActivationKindOf(shape.dtype);
  const bool has_panels = m.first_panel >= 0 && kind == ActivationKindOf(shape_.views.gate.dtype) &&
                          step_.work.expert_panels[static_cast<int>(kind)] != nullptr;
  for (int32_t i = 0; i < m.pair_count; ++i) {
    rows[m.first_pair + i] = step_.work.input.row_pointers(kind)[m.pairs[i] / top_k_];
  }
  MatmulArgs product = {.w = shape,
                        .row_end = shape.rows,
                        .count = m.pair_count,
                        .x = rows + m.first_pair,
                        .out = out + m.first_pair};
  product.w.data = data;
  if (has_panels) {
    product.panels = step_.work.expert_panels[static_cast<int>(kind)] +
                     static_cast<size_t>(m.first_panel) * PanelBytes(kind, shape.cols);
  }
  return product;
}

void ExpertBatch::GateAndUp() {
  Workspace& work = step_.work;
  const int64_t width = step_.config.expert_ffn;
  float** gate_out = work.outs;
  float** up_out = work.outs + work.pairs_max;
  OutRows(gate_out, work.gate, pairs_, width);
  OutRows(up_out, work.up, pairs_, width);
  MatmulArgs products[2 * kHeldMax];
  for (int i = 0; i < count_; ++i) {
    const Member& m = members_[i];
    products[2 * i] = FirstProduct(m, shape_.views.gate, m.gate, work.pair_rows, gate_out);
    products[2 * i + 1] =
        FirstProduct(m, shape_.views.up, m.up, work.pair_rows + work.pairs_max, up_out);
  }
  RunProducts(step_.ops, step_.team, {products, static_cast<size_t>(2 * count_)});
}

void ExpertBatch::Activate() {
  Workspace& work = step_.work;
  const int64_t width = step_.config.expert_ffn;
  const int64_t stride = RowStride(width);
  const KindSet kinds = KindSet::Of({&shape_.views.down});
  work.gated.Assign(work.gate, stride, pairs_, width);
  step_.team.ParallelFor(pairs_, 1, [&](int64_t pair, int64_t, int) {
    float* gate = work.gate + pair * stride;
    step_.ops.silu_multiply(gate, work.up + pair * stride, width, gate);
    work.gated.QuantizeRow(step_.ops, kinds, pair, 0, width);
  });
  const ActivationKind kind = ActivationKindOf(shape_.views.down.dtype);
  std::byte* panels = work.gated.panel_memory(kind);
  if (panels == nullptr) return;
  const size_t panel_bytes = PanelBytes(kind, width);
  step_.team.ParallelFor(panels_, 1, [&](int64_t panel, int64_t, int) {
    const Member& m = MemberOfPanel(panel);
    const int64_t first = (panel - m.first_panel) * kPanelRows;
    step_.ops.pack(kind, work.gated.row_pointers(kind) + m.first_pair + first,
                   std::min<int64_t>(kPanelRows, m.pair_count - first), width,
                   panels + static_cast<size_t>(panel) * panel_bytes);
  });
}

void ExpertBatch::Down() {
  Workspace& work = step_.work;
  const MatrixView& shape = shape_.views.down;
  const ActivationKind kind = ActivationKindOf(shape.dtype);
  const std::byte* panels = work.gated.panel_memory(kind);
  MatmulArgs products[kHeldMax];
  for (int i = 0; i < count_; ++i) {
    const Member& m = members_[i];
    for (int32_t p = 0; p < m.pair_count; ++p) work.outs[m.first_pair + p] = Partial(m.pairs[p]);
    MatmulArgs& product = products[i];
    product = {.w = shape,
               .row_end = shape.rows,
               .count = m.pair_count,
               .x = work.gated.row_pointers(kind) + m.first_pair,
               .out = work.outs + m.first_pair};
    product.w.data = m.down;
    if (panels != nullptr && m.first_panel >= 0) {
      product.panels = panels + static_cast<size_t>(m.first_panel) * PanelBytes(kind, shape.cols);
    }
  }
  RunProducts(step_.ops, step_.team, {products, static_cast<size_t>(count_)});
}

// Every expert asked for, as it comes: those at hand first, together.
absl::Status ComputeExperts(const Step& step, int layer, const LayerWeights& w,
                            ExpertProvider& provider) {
  const CauseScope cause(step.ledger, Cause::kExpertCompute);
  const int held_max = std::min(kHeldMax, provider.pins_max(layer));
  ExpertRef held[kHeldMax];
  ExpertBatch batch(step, w.experts);
  for (;;) {
    ASSIGN_OR_RETURN(const int count,
                     provider.Collect(absl::MakeSpan(held, static_cast<size_t>(held_max)),
                                      ExpertProvider::Wait::kUntilOne));
    if (count == 0) return absl::OkStatus();
    for (int first = 0, i = 0; first < count; first = i) {
      while (i < count && batch.Add(held[i])) ++i;
      CHECK(i > first);  // the workspace holds any one expert's pairs
      batch.Run();
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

absl::Status Mixture(const Step& step, int layer, const LayerWeights& w, ExpertProvider& provider,
                     StepObserver* observer) {
  const ModelConfig& c = step.config;
  Workspace& work = step.work;
  {
    const CauseScope cause(step.ledger, Cause::kRouter);
    work.input.Assign(work.normed, RowStride(c.hidden), step.row_count(), c.hidden);
    KindSet kinds = FeedForwardKinds(w.experts.views);
    kinds.AddFor(w.shared.gate);
    kinds.AddFor(w.shared.up);
    work.input.Quantize(step.ops, step.team, kinds);
    Route(step, w);
    PlanExperts(step);
  }
  const auto pairs = static_cast<size_t>(step.row_count() * c.experts_used);
  if (observer != nullptr) {
    observer->OnRouting(layer, c.experts_used, {work.chosen, pairs}, {work.chosen_weights, pairs});
  }
  RETURN_IF_ERROR(
      provider.Request(layer, {work.plan.wanted, static_cast<size_t>(work.plan.wanted_count)}));
  if (c.shared_ffn > 0) SharedExpert(step, w);
  RETURN_IF_ERROR(ComputeExperts(step, layer, w, provider));
  const CauseScope cause(step.ledger, Cause::kExpertCompute);
  SumParts(step, w);
  return absl::OkStatus();
}

}  // namespace stoker
