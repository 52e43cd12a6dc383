// Packing, the three products and the activation function of a batch.
#include "model/expert_batch.h"

#include <algorithm>

#include "base/check.h"
#include "base/clock.h"

namespace stoker {
namespace {

// Pairs computed together: enough work for a region of many threads, little enough that gate and
// up of wide experts stay small.
constexpr int64_t kPairsMin = 256;
constexpr int64_t kPanelsMin = 32;
static_assert(2 * kHeldExpertsMax <= kProductsMax);

}  // namespace

void CarveExpertArrays(const ModelConfig& c, int64_t rows, KindSet kinds, Carver& carver,
                       ExpertArrays& arrays) {
  arrays.pairs_max = std::min(rows * c.experts_used, std::max(rows, kPairsMin));
  arrays.panels_max = std::max(PanelCount(rows), kPanelsMin);
  arrays.pair_rows = carver.Take<const std::byte*>(2 * arrays.pairs_max);
  for (const ActivationKind kind : kQuantizedKinds) {
    if (!kinds.Has(kind)) continue;
    const auto bytes = static_cast<int64_t>(PanelBytes(kind, c.hidden));
    arrays.panels[static_cast<int>(kind)] = carver.Take<std::byte>(arrays.panels_max * bytes);
  }
  arrays.gated.Carve(carver, {.rows = arrays.pairs_max,
                              .cols = c.expert_ffn,
                              .panels = arrays.panels_max,
                              .kinds = kinds});
}

bool ExpertBatch::Add(const ExpertRef& expert) {
  const ExpertPlan& plan = work_.plan;
  const int32_t begin = plan.pair_begin[expert.id().expert];
  const int32_t pair_count = plan.pair_begin[expert.id().expert + 1] - begin;
  const bool has_panels = pair_count >= kPanelRowsMin;
  const auto panel_count = has_panels ? static_cast<int32_t>(PanelCount(pair_count)) : 0;
  const bool has_room = count_ < kHeldExpertsMax && pairs_ + pair_count <= work_.arrays.pairs_max &&
                        panels_ + panel_count <= work_.arrays.panels_max;
  if (!has_room) return false;
  const size_t gate_bytes = work_.shape.views.gate.bytes();
  Member& m = members_[count_++];
  m.gate = expert.part(0);
  m.up = work_.shape.is_fused ? expert.part(0) + gate_bytes : expert.part(1);
  m.down = expert.part(work_.shape.is_fused ? 1 : 2);
  m.pairs = plan.pairs + begin;
  m.pair_count = pair_count;
  m.first_pair = pairs_;
  m.first_panel = has_panels ? panels_ : -1;
  pairs_ += pair_count;
  panels_ += panel_count;
  return true;
}

void ExpertBatch::Run(ExpertProvider& provider) {
  const RealClock clock;
  const int64_t begin_ns = clock.NowNs();
  PackInputs();
  GateAndUp();
  Activate();
  Down();
  const FeedForwardWeights& views = work_.shape.views;
  const uint64_t expert_bytes = views.gate.bytes() + views.up.bytes() + views.down.bytes();
  provider.NoteHostCompute(expert_bytes * static_cast<uint64_t>(count_),
                           expert_bytes * static_cast<uint64_t>(pairs_), clock.NowNs() - begin_ns);
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
  const ActivationKind kind = ActivationKindOf(work_.shape.views.gate.dtype);
  std::byte* panels = work_.arrays.panels[static_cast<int>(kind)];
  if (panels == nullptr) return;
  const int64_t hidden = work_.config.hidden;
  const size_t panel_bytes = PanelBytes(kind, hidden);
  work_.team.ParallelFor(panels_, 1, [&](int64_t panel, int64_t, int) {
    const Member& m = MemberOfPanel(panel);
    const auto first = static_cast<int32_t>((panel - m.first_panel) * kPanelRows);
    const auto count = std::min(static_cast<int32_t>(kPanelRows), m.pair_count - first);
    const std::byte* rows[kPanelRows];
    for (int32_t i = 0; i < count; ++i) {
      rows[i] = work_.input.row_pointers(kind)[m.pairs[first + i] / top_k_];
    }
    work_.ops.pack(kind, rows, count, hidden, panels + static_cast<size_t>(panel) * panel_bytes);
  });
}

MatmulArgs ExpertBatch::FirstProduct(const Member& m, const MatrixView& shape,
                                     const std::byte* data, const std::byte** rows,
                                     float** out) const {
  const ActivationKind kind = ActivationKindOf(shape.dtype);
  const bool has_panels = m.first_panel >= 0 &&
                          kind == ActivationKindOf(work_.shape.views.gate.dtype) &&
                          work_.arrays.panels[static_cast<int>(kind)] != nullptr;
  for (int32_t i = 0; i < m.pair_count; ++i) {
    rows[m.first_pair + i] = work_.input.row_pointers(kind)[m.pairs[i] / top_k_];
  }
  MatmulArgs product = {.w = shape,
                        .row_end = shape.rows,
                        .count = m.pair_count,
                        .x = rows + m.first_pair,
                        .out = out + m.first_pair};
  product.w.data = data;
  if (has_panels) {
    product.panels = work_.arrays.panels[static_cast<int>(kind)] +
                     static_cast<size_t>(m.first_panel) * PanelBytes(kind, shape.cols);
  }
  return product;
}

void ExpertBatch::GateAndUp() {
  ExpertArrays& arrays = work_.arrays;
  const int64_t width = work_.config.expert_ffn;
  float** gate_out = arrays.outs;
  float** up_out = arrays.outs + arrays.pairs_max;
  OutRows(gate_out, arrays.gate, pairs_, width);
  OutRows(up_out, arrays.up, pairs_, width);
  MatmulArgs products[2 * kHeldExpertsMax];
  for (int i = 0; i < count_; ++i) {
    const Member& m = members_[i];
    products[2 * i] = FirstProduct(m, work_.shape.views.gate, m.gate, arrays.pair_rows, gate_out);
    products[2 * i + 1] =
        FirstProduct(m, work_.shape.views.up, m.up, arrays.pair_rows + arrays.pairs_max, up_out);
  }
  RunProducts(work_.ops, work_.team, {products, static_cast<size_t>(2 * count_)});
}

void ExpertBatch::Activate() {
  ExpertArrays& arrays = work_.arrays;
  const int64_t width = work_.config.expert_ffn;
  const int64_t stride = RowStride(width);
  const KindSet kinds = KindSet::Of({&work_.shape.views.down});
  arrays.gated.Assign(arrays.gate, stride, pairs_, width);
  work_.team.ParallelFor(pairs_, 1, [&](int64_t pair, int64_t, int) {
    float* gate = arrays.gate + pair * stride;
    work_.ops.silu_multiply(gate, arrays.up + pair * stride, width, gate);
    arrays.gated.QuantizeRow(work_.ops, kinds, pair, 0, width);
  });
  const ActivationKind kind = ActivationKindOf(work_.shape.views.down.dtype);
  std::byte* panels = arrays.gated.panel_memory(kind);
  if (panels == nullptr) return;
  const size_t panel_bytes = PanelBytes(kind, width);
  work_.team.ParallelFor(panels_, 1, [&](int64_t panel, int64_t, int) {
    const Member& m = MemberOfPanel(panel);
    const int64_t first = (panel - m.first_panel) * kPanelRows;
    work_.ops.pack(kind, arrays.gated.row_pointers(kind) + m.first_pair + first,
                   std::min<int64_t>(kPanelRows, m.pair_count - first), width,
                   panels + static_cast<size_t>(panel) * panel_bytes);
  });
}

void ExpertBatch::Down() {
  ExpertArrays& arrays = work_.arrays;
  const MatrixView& shape = work_.shape.views.down;
  const ActivationKind kind = ActivationKindOf(shape.dtype);
  const std::byte* panels = arrays.gated.panel_memory(kind);
  const int64_t stride = RowStride(work_.config.hidden);
  MatmulArgs products[kHeldExpertsMax];
  for (int i = 0; i < count_; ++i) {
    const Member& m = members_[i];
    for (int32_t p = 0; p < m.pair_count; ++p) {
      arrays.outs[m.first_pair + p] = work_.partial + work_.plan.PartialRow(m.pairs[p]) * stride;
    }
    MatmulArgs& product = products[i];
    product = {.w = shape,
               .row_end = shape.rows,
               .count = m.pair_count,
               .x = arrays.gated.row_pointers(kind) + m.first_pair,
               .out = arrays.outs + m.first_pair};
    product.w.data = m.down;
    if (panels != nullptr && m.first_panel >= 0) {
      product.panels = panels + static_cast<size_t>(m.first_panel) * PanelBytes(kind, shape.cols);
    }
  }
  RunProducts(work_.ops, work_.team, {products, static_cast<size_t>(count_)});
}

}  // namespace stoker
