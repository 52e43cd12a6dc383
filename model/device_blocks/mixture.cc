// Routing, experts from both sides, and the ordered sum.
#include "model/device_blocks/mixture.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "model/device_blocks/expert_groups.h"
#include "model/device_blocks/lookahead.h"
#include "model/device_blocks/resident_mixtures.h"
#include "model/expert_batch.h"
#include "model/expert_plan.h"

namespace stoker {
namespace {

KindSet ExpertKinds(const LayerWeights& w) { return FeedForwardKinds(w.experts.views); }

// As it lies on the device, or in the pinned block.
RouterOutbox OutboxAt(const DeviceStep& step, const LayerWeights& w, std::byte* memory) {
  Carver carver(memory);
  return RouterOutbox::Carve(step.config, step.rows, ExpertKinds(w), carver);
}

// Queues the choice of experts, the guesses of later ones, and the copy of all that the host needs
// of both. The event is its end.
DeviceEvent QueueRouting(const DeviceMixture& m, const GuessedLayers& guessed,
                         const DeviceRows& input) {
  const DeviceStep& step = m.step;
  const RouterOutbox outbox = OutboxAt(step, m.weights, step.work.outbox);
  QueueRouter(
      step, m.weights, input,
      {.top_k = step.config.experts_used, .experts = outbox.chosen, .weights = outbox.weights});
  const size_t guess_bytes = QueueGuesses(step, m.layers, guessed, step.work.outbox + outbox.bytes);
  step.device.CopyOut(step.stream, m.pinned.outbox, step.work.outbox, outbox.bytes + guess_bytes);
  return step.device.Record(step.stream);
}

// What the host computed goes in beside the device's work, which waits for it before the sum. The
// copies are out of the way of the next layer, whose routing is awaited before it is planned.
class HostParts {
 public:
  explicit HostParts(const DeviceMixture& m) : m_(m) {}

  // Queues the copy of an expert's parts, which lie side by side.
  void Send(int32_t expert) {
    const int32_t begin = m_.host.plan.pair_begin[expert];
    const int32_t end = m_.host.plan.pair_begin[expert + 1];
    const int64_t stride = RowStride(m_.step.config.hidden);
    m_.step.device.CopyIn(Stream::kCopyIn,
                          reinterpret_cast<std::byte*>(m_.step.work.partial + begin * stride),
                          reinterpret_cast<const std::byte*>(m_.pinned.partial + begin * stride),
                          static_cast<size_t>((end - begin) * stride) * sizeof(float));
    is_any_ = true;
  }
  // Lets the device's work wait for all of them.
  void Join() {
    if (!is_any_) return;
    m_.step.device.WaitFor(m_.step.stream, m_.step.device.Record(Stream::kCopyIn));
  }

 private:
  const DeviceMixture& m_;
  bool is_any_ = false;
};

// Experts in the host's memory that are held and not yet computed, at the front of `refs`.
struct Held {
  ExpertRef refs[kHeldExpertsMax];
  int count = 0;
};

// Takes what the provider has: the device's experts are launched at once, the host's are held.
// False when the request is over and nothing is held.
absl::StatusOr<bool> CollectReady(ExpertProvider& provider, int held_max, ExpertGroups& groups,
                                  Held& held) {
  using Wait = ExpertProvider::Wait;
  for (;;) {
    const absl::Span<ExpertRef> room =
        absl::MakeSpan(held.refs + held.count, static_cast<size_t>(held_max - held.count));
    if (room.empty()) return true;
    ASSIGN_OR_RETURN(const int count,
                     provider.Collect(room, held.count == 0 ? Wait::kUntilOne : Wait::kNo));
    if (count == 0) return held.count > 0;
    groups.Launch(room.first(static_cast<size_t>(count)));
    for (ExpertRef& ref : room.first(static_cast<size_t>(count))) {
      if (!ref.valid()) continue;
      ExpertRef host_ref = std::move(ref);
      held.refs[held.count++] = std::move(host_ref);
    }
  }
}

// Computes as many of the experts held as one batch takes, and lets go of them.
void ComputeHeld(Held& held, ExpertBatch& batch, ExpertProvider& provider, HostParts& parts) {
  int taken = 0;
  while (taken < held.count && batch.Add(held.refs[taken])) ++taken;
  CHECK(taken > 0);  // the workspace holds any one expert's pairs
  batch.Run(provider);
  for (int i = 0; i < taken; ++i) {
    parts.Send(held.refs[i].id().expert);
    held.refs[i].Release();
  }
  std::move(held.refs + taken, held.refs + held.count, held.refs);
  held.count -= taken;
}

// Every expert asked for, as it comes. The device is given its own first, so that it works while
// the host computes.
absl::Status ComputeExperts(const DeviceMixture& m, int layer, const DeviceRows& input,
                            ExpertProvider& provider) {
  const CauseScope cause(m.step.ledger, Cause::kExpertCompute);
  const ModelConfig& c = m.step.config;
  const RouterOutbox rows = OutboxAt(m.step, m.weights, m.pinned.outbox);
  m.host.input.AssignQuantized(rows.normed, RowStride(c.hidden), m.step.rows, c.hidden,
                               {nullptr, rows.q8x32, rows.q8x256});
  const ExpertWork work = {c,           m.host_ops,   m.team,         m.weights.experts,
                           m.host.plan, m.host.input, m.host.experts, m.pinned.partial};
  ExpertBatch batch(work);
  HostParts parts(m);
  ExpertGroups groups(m.step, m.weights.experts, input, m.host.plan, m.pinned.tables);
  const int held_max = std::min(kHeldExpertsMax, provider.pins_max(layer));
  Held held;
  for (;;) {
    ASSIGN_OR_RETURN(const bool is_any, CollectReady(provider, held_max, groups, held));
    if (!is_any) break;
    ComputeHeld(held, batch, provider, parts);
  }
  groups.SendTables();
  parts.Join();
  QueueSum(m, OutboxAt(m.step, m.weights, m.step.work.outbox).weights, groups.places());
  return absl::OkStatus();
}

}  // namespace

void QueueRouter(const DeviceStep& step, const LayerWeights& w, const DeviceRows& input,
                 const RouterChoices& choices) {
  const ModelConfig& c = step.config;
  step.Multiply(input, c.hidden, {ProductTo(w.router, step.work.router)});
  step.Queue(step.ops.route_rows, {.logits = step.work.router,
                                   .stride = RowStride(c.expert_count),
                                   .bias = w.router_bias,
                                   .rows = step.rows,
                                   .expert_count = c.expert_count,
                                   .top_k = choices.top_k,
                                   .group_count = c.router.group_count,
                                   .groups_used = c.router.groups_used,
                                   .group_score = c.router.group_score,
                                   .score = c.router.score,
                                   .normalize = c.router.normalize,
                                   .weight_scale = c.router.weight_scale,
                                   .experts = choices.experts,
                                   .weights = choices.weights});
}

void QueueSharedExpert(const DeviceMixture& m, const DeviceRows& input) {
  const CauseScope cause(m.step.ledger, Cause::kDense);
  const bool is_gated = Present(m.weights.shared_gate);
  QueueFeedForward(m.step, m.weights.shared, input,
                   {.out = m.step.work.shared,
                    .gated_by = is_gated ? &m.weights.shared_gate : nullptr,
                    .gating = m.step.work.shared_gate});
}

void QueueSum(const DeviceMixture& m, const float* weights, const int32_t* places) {
  const DeviceStep& step = m.step;
  const ModelConfig& c = step.config;
  const bool is_shared = c.shared_ffn > 0;
  step.Queue(step.ops.sum_parts,
             {.partial = step.work.partial,
              .places = places,
              .weights = weights,
              .shared = is_shared ? step.work.shared : nullptr,
              .shared_gate = Present(m.weights.shared_gate) ? step.work.shared_gate : nullptr,
              .shared_gate_stride = RowStride(1),
              .delta = step.work.delta,
              .rows = step.rows,
              .cols = c.hidden,
              .stride = RowStride(c.hidden),
              .top_k = c.experts_used});
}

DeviceRows MixtureInput(const DeviceStep& step, const LayerWeights& w) {
  const RouterOutbox outbox = OutboxAt(step, w, step.work.outbox);
  DeviceRows rows = step.work.normed.Only(MixtureKinds(w));
  if (outbox.normed != nullptr) rows.x = outbox.normed;
  if (outbox.q8x32 != nullptr) rows.q8x32 = outbox.q8x32;
  if (outbox.q8x256 != nullptr) rows.q8x256 = outbox.q8x256;
  return rows;
}

absl::Status QueueMixture(const DeviceMixture& m, int layer, ExpertProvider& provider,
                          StepObserver* observer) {
  const DeviceStep& step = m.step;
  const ModelConfig& c = step.config;
  const DeviceRows input = MixtureInput(step, m.weights);
  GuessedLayers guessed;
  if (observer != nullptr) guessed = LayersToGuess(step, layer, provider, *observer);
  DeviceEvent routed;
  {
    const CauseScope cause(step.ledger, Cause::kRouter);
    m.residents.SendChoices(step);
    routed = QueueRouting(m, guessed, input);
  }
  // Queued before the wait, so that the device goes on while the host plans.
  if (c.shared_ffn > 0) QueueSharedExpert(m, input);
  {
    const CauseScope cause(step.ledger, Cause::kWaitDevice);
    RETURN_IF_ERROR(step.device.Await(routed));
  }
  m.residents.Tell(step.rows, provider, observer);
  const RouterOutbox outbox = OutboxAt(step, m.weights, m.pinned.outbox);
  {
    const CauseScope cause(step.ledger, Cause::kRouter);
    PlanExperts(c, outbox.chosen, step.rows, m.host.plan);
  }
  const auto pairs = static_cast<size_t>(step.rows * c.experts_used);
  if (observer != nullptr) {
    observer->OnRouting(layer, c.experts_used, {outbox.chosen, pairs}, {outbox.weights, pairs});
  }
  {
    const CauseScope cause(step.ledger, Cause::kStore);
    RETURN_IF_ERROR(RequestExperts(provider, layer, m.host.plan));
  }
  if (observer != nullptr) {
    TellGuesses(step, layer, guessed, m.pinned.outbox + outbox.bytes, *observer);
  }
  return ComputeExperts(m, layer, input, provider);
}

}  // namespace stoker
