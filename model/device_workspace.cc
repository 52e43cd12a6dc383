// How large each array of a step on a device is.
#include "model/device_workspace.h"

#include <algorithm>

#include "model/step_recordings.h"
#include "model/workspace.h"

namespace stoker {
namespace {

// Pairs of one launch of experts: enough work for any card, little enough that the gated values of
// wide experts stay small.
constexpr int64_t kPairsMin = 256;

int64_t PairsMax(const ModelConfig& c, int64_t rows) {
  return std::min(rows * c.experts_used, std::max(rows, kPairsMin));
}

int64_t GroupedPairs(const ModelConfig& c, int64_t rows) {
  return std::min<int64_t>(PairsMax(c, rows), kGroupedPairsMax);
}

int64_t LogitsRows(const Model::Options& options) {
  return std::min(options.step_rows_max, options.logits_rows_max);
}

// Places of pairs; then of each group its experts and their pairs, each at a border of 64 bytes. At
// worst every expert is a group of its own.
int64_t TablesBytes(const ModelConfig& c, int64_t rows) {
  constexpr int64_t kBorders = 128;
  const int64_t pairs = rows * c.experts_used;
  const int64_t groups = std::min<int64_t>(c.expert_count, pairs);
  const int64_t by_host = 2 * pairs * static_cast<int64_t>(sizeof(int32_t)) + 64 +
                          groups * (static_cast<int64_t>(sizeof(ExpertTask)) + kBorders);
  Carver by_device;
  GroupedTables::Carve(GroupedPairs(c, rows), by_device);
  return std::max(by_host, static_cast<int64_t>(by_device.bytes()));
}

// Of all layers, in steps of as many rows as the device plans for.
int64_t ChoicesBytes(const ModelConfig& c, int64_t rows) {
  Carver carver;
  const int64_t planned_rows = GroupedPairs(c, rows) / c.experts_used;
  return c.layer_count * static_cast<int64_t>(RouterChoices::Carve(c, planned_rows, carver).bytes);
}

size_t InboxBytes(const Model::Options& options) {
  Carver carver;
  return StepInbox::Carve(options.step_rows_max, LogitsRows(options), carver).bytes;
}

int64_t LookaheadRows(const Model::Options& options) {
  return std::min(options.step_rows_max, options.lookahead_rows_max);
}

// With the guesses that come behind it.
size_t OutboxBytes(const ModelSpec& spec, const Model::Options& options) {
  Carver carver;
  KindSet kinds = KindsOf(spec);
  kinds.Add(ActivationKind::kF32);
  RouterOutbox::Carve(spec.config, options.step_rows_max, kinds, carver);
  for (int i = 0; i < kLookaheadLayersMax; ++i) {
    RouterChoices::CarveGuess(spec.config, LookaheadRows(options), carver);
  }
  return carver.bytes();
}

RouterChoices CarveChoices(int64_t rows, int32_t top_k, Carver& carver) {
  RouterChoices choices = {.top_k = top_k};
  choices.experts = carver.Take<int32_t>(rows * top_k);
  choices.weights = carver.Take<float>(rows * top_k);
  choices.bytes = carver.bytes();
  return choices;
}

int64_t FormBytes(ActivationKind kind, KindSet kinds, int64_t rows, int64_t cols) {
  return kinds.Has(kind) ? rows * static_cast<int64_t>(ActivationRowBytes(kind, cols)) : 0;
}

void CarveAttention(const ModelConfig& c, int64_t rows, int context, DeviceWorkspace& w,
                    Carver& carver) {
  const bool is_latent = c.attention == AttentionKind::kLatent;
  const int64_t latent_width = c.kv_rank + c.rope.dims;
  w.query = carver.Take<float>(rows * RowStride(int64_t{c.head_count} * c.key_dim));
  w.attended = carver.Take<float>(rows * RowStride(int64_t{c.head_count} * c.value_dim));
  if (is_latent) {
    w.query_low = carver.Take<float>(rows * RowStride(c.q_rank));
    w.key = carver.Take<float>(rows * RowStride(latent_width));
    w.absorbed = carver.Take<float>(rows * c.head_count * RowStride(latent_width));
    w.context = carver.Take<float>(rows * c.head_count * RowStride(c.kv_rank));
  } else {
    w.key = carver.Take<float>(rows * RowStride(int64_t{c.kv_head_count} * c.key_dim));
    w.value = carver.Take<float>(rows * RowStride(int64_t{c.kv_head_count} * c.value_dim));
  }
  w.attention_scratch = carver.Take<float>(AttendScratchFloats(c.head_count, context));
}

void CarveMtp(const ModelConfig& c, int64_t rows, KindSet kinds, DeviceMtpArrays& mtp,
              Carver& carver) {
  if (rows == 0) return;
  const int64_t width = 2 * int64_t{c.hidden};
  mtp.halves = carver.Take<float>(rows * RowStride(width));
  mtp.joined.x = carver.Take<float>(rows * RowStride(width));
  mtp.joined.stride = RowStride(width);
  const auto form = [&](ActivationKind kind) {
    return kinds.Has(kind) ? carver.Take<std::byte>(FormBytes(kind, kinds, rows, width)) : nullptr;
  };
  mtp.joined.q8x32 = form(ActivationKind::kQ8x32);
  mtp.joined.q8x256 = form(ActivationKind::kQ8x256);
}

void CarveExperts(const ModelSpec& spec, int64_t rows, DeviceWorkspace& w, Carver& carver) {
  const ModelConfig& c = spec.config;
  if (c.shared_ffn > 0) w.shared = carver.Take<float>(rows * RowStride(c.hidden));
  if (c.shared_gate) w.shared_gate = carver.Take<float>(rows * RowStride(1));
  w.router = carver.Take<float>(rows * RowStride(c.expert_count));
  w.partial = carver.Take<float>(rows * c.experts_used * RowStride(c.hidden));
  const int64_t tasks_max =
      std::max<int64_t>(kHeldExpertsMax, std::min<int64_t>(c.expert_count, GroupedPairs(c, rows)));
  w.counters = carver.Take<int32_t>(ExpertCounters(static_cast<int>(tasks_max), c.expert_ffn));
  w.tables = carver.Take<std::byte>(TablesBytes(c, rows));
  w.choices = carver.Take<std::byte>(ChoicesBytes(c, rows));
  w.expert_parts =
      carver.Take<std::byte>(int64_t{ExpertLayers(spec)} * c.expert_count * kExpertPartsMax *
                             static_cast<int64_t>(sizeof(const std::byte*)));
}

void CarveLookahead(const ModelConfig& c, int64_t rows, KindSet kinds, DeviceWorkspace& w,
                    Carver& carver) {
  if (rows == 0) return;
  w.lookahead_rows_max = rows;
  w.guess_input.x = carver.Take<float>(rows * RowStride(c.hidden));
  w.guess_input.stride = RowStride(c.hidden);
  const auto form = [&](ActivationKind kind) {
    return kinds.Has(kind) ? carver.Take<std::byte>(FormBytes(kind, kinds, rows, c.hidden))
                           : nullptr;
  };
  w.guess_input.q8x32 = form(ActivationKind::kQ8x32);
  w.guess_input.q8x256 = form(ActivationKind::kQ8x256);
}

}  // namespace

StepInbox StepInbox::Carve(int64_t rows, int64_t logits_rows, Carver& carver) {
  StepInbox inbox;
  inbox.places = carver.Take<RowPlace>(rows);
  inbox.logits_rows = carver.Take<int32_t>(logits_rows);
  inbox.bytes = carver.bytes();
  return inbox;
}

RouterOutbox RouterOutbox::Carve(const ModelConfig& c, int64_t rows, KindSet kinds,
                                 Carver& carver) {
  RouterOutbox outbox;
  outbox.chosen = carver.Take<int32_t>(rows * c.experts_used);
  outbox.weights = carver.Take<float>(rows * c.experts_used);
  const auto form = [&](ActivationKind kind) -> std::byte* {
    return kinds.Has(kind) ? carver.Take<std::byte>(FormBytes(kind, kinds, rows, c.hidden))
                           : nullptr;
  };
  outbox.q8x32 = form(ActivationKind::kQ8x32);
  outbox.q8x256 = form(ActivationKind::kQ8x256);
  if (kinds.Has(ActivationKind::kF32)) {
    outbox.normed = carver.Take<float>(rows * RowStride(c.hidden));
  }
  outbox.bytes = carver.bytes();
  return outbox;
}

RouterChoices RouterChoices::Carve(const ModelConfig& c, int64_t rows, Carver& carver) {
  return CarveChoices(rows, c.experts_used, carver);
}

RouterChoices RouterChoices::CarveGuess(const ModelConfig& c, int64_t rows, Carver& carver) {
  return CarveChoices(rows, LookaheadCount(c), carver);
}

GroupedTables GroupedTables::Carve(int64_t pairs, Carver& carver) {
  GroupedTables tables;
  tables.task_count = carver.Take<int32_t>(1);
  tables.tasks = carver.Take<ExpertTask>(pairs);
  tables.pairs = carver.Take<int32_t>(pairs);
  return tables;
}

DeviceWorkspace CarveDeviceWorkspace(const ModelSpec& spec, const Model::Options& options,
                                     Carver& carver) {
  const ModelConfig& c = spec.config;
  const int64_t rows = options.step_rows_max;
  const KindSet kinds = KindsOf(spec);
  DeviceWorkspace w;
  w.rope.pairs = c.rope.dims / 2;
  w.rope.pairing = c.rope.pairing;
  const int64_t table = int64_t{options.context_max} * w.rope.pairs;
  w.rope.cosines = carver.Take<float>(table);
  w.rope.sines = carver.Take<float>(table);
  w.inbox = carver.Take<std::byte>(static_cast<int64_t>(InboxBytes(options)));
  w.residual = carver.Take<float>(rows * RowStride(c.hidden));
  w.delta = carver.Take<float>(rows * RowStride(c.hidden));
  w.normed.x = carver.Take<float>(rows * RowStride(c.hidden));
  w.normed.stride = RowStride(c.hidden);
  CarveMtp(c, options.mtp_rows_max, kinds, w.mtp, carver);
  CarveAttention(c, rows, options.context_max, w, carver);
  if (c.expert_count > 0) {
    w.pairs_max = PairsMax(c, rows);
    w.outbox = carver.Take<std::byte>(static_cast<int64_t>(OutboxBytes(spec, options)));
    CarveExperts(spec, rows, w, carver);
  }
  w.gate = carver.Take<float>(
      std::max(rows * RowStride(FeedForwardWidth(c)), w.pairs_max * RowStride(c.expert_ffn)));
  w.up = carver.Take<float>(rows * RowStride(FeedForwardWidth(c)));
  const int64_t inner_cols =
      std::max({int64_t{c.head_count} * c.value_dim, int64_t{c.q_rank}, FeedForwardWidth(c)});
  const auto forms = [&](ActivationKind kind, std::byte*& input, std::byte*& inner) {
    if (!kinds.Has(kind)) return;
    input = carver.Take<std::byte>(FormBytes(kind, kinds, rows, c.hidden));
    inner = carver.Take<std::byte>(std::max(FormBytes(kind, kinds, rows, inner_cols),
                                            FormBytes(kind, kinds, w.pairs_max, c.expert_ffn)));
  };
  forms(ActivationKind::kQ8x32, w.normed.q8x32, w.inner.q8x32);
  forms(ActivationKind::kQ8x256, w.normed.q8x256, w.inner.q8x256);
  w.logits = carver.Take<float>(LogitsRows(options) * RowStride(c.vocab_count));
  w.exp_sums = carver.Take<ExpSum>(LogitsRows(options));
  if (c.expert_count > 0) CarveLookahead(c, LookaheadRows(options), kinds, w, carver);
  return w;
}

PinnedBlock CarvePinnedBlock(const ModelSpec& spec, const Model::Options& options, Carver& carver) {
  const ModelConfig& c = spec.config;
  const int64_t rows = options.step_rows_max;
  PinnedBlock block;
  block.inbox = carver.Take<std::byte>(static_cast<int64_t>(InboxBytes(options)));
  if (!IsTied(spec)) block.embedded = carver.Take<float>(rows * RowStride(c.hidden));
  block.mtp_halves = carver.Take<float>(options.mtp_rows_max * RowStride(2 * int64_t{c.hidden}));
  if (options.mtp_rows_max > 0) {
    const int64_t recorded_rows = std::min(rows, StepRecordings::kRowsMax);
    block.normed = carver.Take<float>(recorded_rows * c.hidden);
  }
  block.logits = carver.Take<float>(LogitsRows(options) * RowStride(c.vocab_count));
  block.exp_sums = carver.Take<ExpSum>(LogitsRows(options));
  if (c.expert_count == 0) return block;
  block.outbox = carver.Take<std::byte>(static_cast<int64_t>(OutboxBytes(spec, options)));
  block.tables = carver.Take<std::byte>(TablesBytes(c, rows));
  block.choices = carver.Take<std::byte>(ChoicesBytes(c, rows));
  block.partial = carver.Take<float>(rows * c.experts_used * RowStride(c.hidden));
  return block;
}

HostPart CarveHostPart(const ModelSpec& spec, const Model::Options& options, Carver& carver) {
  const ModelConfig& c = spec.config;
  const int64_t rows = options.step_rows_max;
  HostPart part;
  part.tokens = carver.Take<int32_t>(rows);
  if (c.expert_count == 0) return part;
  const KindSet kinds = KindsOf(spec);
  part.plan = CarvePlan(c, rows, carver);
  part.residents = carver.Take<ResidentLayer>(ExpertLayers(spec));
  part.noted_layers = carver.Take<int32_t>(c.layer_count);
  CarveExpertArrays(c, rows, kinds, carver, part.experts);
  const int64_t gated = part.experts.pairs_max * RowStride(c.expert_ffn);
  part.experts.gate = carver.Take<float>(gated);
  part.experts.up = carver.Take<float>(gated);
  part.experts.outs = carver.Take<float*>(2 * part.experts.pairs_max);
  part.input.Carve(carver, {.rows = rows, .cols = 0, .panels = 0, .kinds = kinds});
  return part;
}

}  // namespace stoker
