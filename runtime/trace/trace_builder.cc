// Decodes records, trusting none of them.
#include "runtime/trace/trace_builder.h"

#include <utility>

#include "kernels/formats/half.h"

namespace stoker {
namespace {

// Of one record: far above any step, and a bound on what a hostile file can make us take.
constexpr uint64_t kRowsMax = uint64_t{1} << 22;

template <typename Entry>
size_t IdsEnd(const std::vector<Entry>& entries) {
  return entries.empty() ? 0
                         : static_cast<size_t>(entries.back().first_id + entries.back().id_count);
}

// Adds rows to the step's last entry when they go on from it, else begins another.
template <typename Entry, typename IsSame>
bool Extend(std::vector<Entry>& entries, size_t step_first, Entry entry, int64_t first_row,
            int64_t width, const IsSame& is_same) {
  if (first_row == 0) {
    entries.push_back(entry);
    return true;
  }
  if (entries.size() <= step_first) return false;
  Entry& last = entries.back();
  if (!is_same(last) || last.id_count != first_row * width) return false;
  last.id_count += entry.id_count;
  return true;
}

LinkRates ReadRates(TraceBytes& record) {
  LinkRates rates;
  for (double LinkRates::*const rate : kLinkRateFields) {
    rates.*rate = static_cast<double>(record.Amount());
  }
  return rates;
}

}  // namespace

TraceBuilder::TraceBuilder(ParsedTraceHeader parsed) : parsed_(std::move(parsed)) {
  trace_.header = parsed_.header;
}

// The payload of a block of records; false when they make no sense.
bool TraceBuilder::Add(const uint8_t* data, size_t bytes) {
  TraceBytes block(data, bytes);
  while (block.ok() && block.left() > 0) {
    const auto kind = static_cast<TraceRecord>(block.Byte());
    const uint64_t record_bytes = block.Varint();
    const uint8_t* const record = block.Take(record_bytes);
    if (record == nullptr || !AddRecord(kind, TraceBytes(record, record_bytes))) return false;
  }
  return block.ok();
}

Trace TraceBuilder::Finish() {
  trace_.rows.resize(End(&TraceStep::rows));
  trace_.residency.resize(End(&TraceStep::residency));
  trace_.misses.resize(End(&TraceStep::misses));
  trace_.placements.resize(End(&TraceStep::placements));
  const bool has_placed = !trace_.placements.empty();
  const TracePlacement last = has_placed ? trace_.placements.back() : TracePlacement();
  trace_.placed.resize(static_cast<size_t>(last.first + last.count));
  trace_.routings.resize(End(&TraceStep::routings));
  trace_.lookaheads.resize(End(&TraceStep::lookaheads));
  trace_.ids.resize(IdsEnd(trace_.routings));
  if (parsed_.header.weights_known) trace_.weights.resize(trace_.ids.size());
  trace_.guesses.resize(IdsEnd(trace_.lookaheads));
  return std::move(trace_);
}

size_t TraceBuilder::End(TraceRange TraceStep::*range) const {
  if (trace_.steps.empty()) return 0;
  const TraceRange& last = trace_.steps.back().*range;
  return static_cast<size_t>(last.first + last.count);
}
template <typename Entry>
TraceRange TraceBuilder::Since(TraceRange TraceStep::*range,
                               const std::vector<Entry>& entries) const {
  const size_t first = End(range);
  return {static_cast<int64_t>(first), static_cast<int64_t>(entries.size() - first)};
}

bool TraceBuilder::AddRecord(TraceRecord kind, TraceBytes record) {
  switch (kind) {
    case TraceRecord::kRows:
      return AddRows(record);
    case TraceRecord::kRouting:
      return AddRouting(record);
    case TraceRecord::kLookahead:
      return AddLookahead(record);
    case TraceRecord::kResidency:
      return AddResidency(record);
    case TraceRecord::kMiss:
      return AddMiss(record);
    case TraceRecord::kStepEnd:
      return EndStep(record);
    case TraceRecord::kLinks:
      return AddLinks(record);
    case TraceRecord::kRates:
      return AddRates(record);
    case TraceRecord::kPlacement:
      return AddPlacement(record);
  }
  return true;  // of a later version
}

bool TraceBuilder::AddRows(TraceBytes& record) {
  const auto sequence = static_cast<int32_t>(record.Varint());
  const auto position = static_cast<int32_t>(record.Varint());
  const uint64_t count = record.Varint();
  const bool is_prompt = record.Byte() != 0;
  const uint64_t drafts = record.left() > 0 ? record.Varint() : 0;
  if (!record.ok() || count > kRowsMax || drafts > count || position < 0 || sequence < 0 ||
      position > INT32_MAX - static_cast<int32_t>(kRowsMax)) {
    return false;
  }
  for (uint64_t row = 0; row < count; ++row) {
    trace_.rows.push_back({.sequence = sequence,
                           .position = position + static_cast<int32_t>(row),
                           .is_prompt = is_prompt,
                           .is_draft = row >= count - drafts});
  }
  return true;
}

bool TraceBuilder::AddLinks(TraceBytes& record) {
  trace_.links = ReadRates(record);
  return record.ok();
}

bool TraceBuilder::AddRates(TraceBytes& record) {
  trace_.rates.push_back(ReadRates(record));
  return record.ok();
}

bool TraceBuilder::AddPlacement(TraceBytes& record) {
  const uint64_t index = record.Varint();
  TracePlacement placement = {.is_from_file = record.Byte() != 0,
                              .device_backlog_bytes = record.Varint(),
                              .copy_count = static_cast<int>(record.Varint()),
                              .first = static_cast<int64_t>(trace_.placed.size()),
                              .count = record.Amount()};
  const TraceHeader::Layer* const layer = LayerOf(index);
  if (!record.ok() || layer == nullptr || trace_.rates.empty() ||
      placement.count > layer->expert_count || placement.copy_count < 0 ||
      placement.copy_count > placement.count) {
    return false;
  }
  placement.layer_index = static_cast<int>(index);
  placement.rates_index = static_cast<int>(trace_.rates.size()) - 1;
  for (int64_t i = 0; i < placement.count; ++i) {
    const uint64_t expert = record.Varint();
    const uint64_t rows = record.Varint();
    if (!record.ok() || expert >= static_cast<uint64_t>(layer->expert_count) || rows > kRowsMax) {
      return false;
    }
    trace_.placed.push_back({.expert = static_cast<int>(expert),
                             .rows = static_cast<int>(rows >> 1),
                             .is_worth_keeping = (rows & 1) != 0});
  }
  trace_.placements.push_back(placement);
  return true;
}

// The layer of an index read from a record; null when there is none.
const TraceHeader::Layer* TraceBuilder::LayerOf(uint64_t index) const {
  const std::vector<TraceHeader::Layer>& layers = trace_.header.layers;
  return index < layers.size() ? &layers[static_cast<size_t>(index)] : nullptr;
}

// [rows, width] numbers of experts of a layer.
bool TraceBuilder::TakeIds(TraceBytes& record, uint64_t width, uint64_t rows,
                           const TraceHeader::Layer& layer, std::vector<uint16_t>& ids) const {
  if (width > kRowsMax || rows > kRowsMax) return false;
  const uint8_t* bytes = record.Take(width * rows * parsed_.id_bytes);
  if (bytes == nullptr) return false;
  for (uint64_t i = 0; i < width * rows; ++i, bytes += parsed_.id_bytes) {
    const auto id = static_cast<uint16_t>(LittleEndian(bytes, parsed_.id_bytes));
    if (id >= layer.expert_count) return false;
    ids.push_back(id);
  }
  return true;
}

bool TraceBuilder::AddRouting(TraceBytes& record) {
  const uint64_t index = record.Varint();
  const uint64_t width = record.Varint();
  const uint64_t first_row = record.Varint();
  const uint64_t rows = record.Varint();
  const TraceHeader::Layer* const layer = LayerOf(index);
  if (!record.ok() || layer == nullptr || width == 0 || first_row > kRowsMax) return false;
  const TraceRouting routing = {.layer_index = static_cast<int>(index),
                                .top_k = static_cast<int>(width),
                                .first_id = static_cast<int64_t>(trace_.ids.size()),
                                .id_count = static_cast<int64_t>(rows * width)};
  if (!TakeIds(record, width, rows, *layer, trace_.ids)) return false;
  if (trace_.header.weights_known) {
    const uint8_t* weight = record.Take(width * rows * 2);
    if (weight == nullptr) return false;
    for (uint64_t i = 0; i < width * rows; ++i, weight += 2) {
      trace_.weights.push_back(LoadHalf(weight));
    }
  }
  return Extend(trace_.routings, End(&TraceStep::routings), routing,
                static_cast<int64_t>(first_row), routing.top_k, [&](const TraceRouting& last) {
                  return last.layer_index == routing.layer_index && last.top_k == routing.top_k;
                });
}

bool TraceBuilder::AddLookahead(TraceBytes& record) {
  const uint64_t index = record.Varint();
  const uint64_t target = record.Varint();
  const uint64_t width = record.Varint();
  const uint64_t first_row = record.Varint();
  const uint64_t rows = record.Varint();
  const TraceHeader::Layer* const layer = LayerOf(target);
  if (!record.ok() || layer == nullptr || LayerOf(index) == nullptr || width == 0 ||
      first_row > kRowsMax) {
    return false;
  }
  const TraceLookahead lookahead = {.layer_index = static_cast<int>(index),
                                    .target_index = static_cast<int>(target),
                                    .count = static_cast<int>(width),
                                    .first_id = static_cast<int64_t>(trace_.guesses.size()),
                                    .id_count = static_cast<int64_t>(rows * width)};
  return TakeIds(record, width, rows, *layer, trace_.guesses) &&
         Extend(trace_.lookaheads, End(&TraceStep::lookaheads), lookahead,
                static_cast<int64_t>(first_row), lookahead.count, [&](const TraceLookahead& last) {
                  return last.layer_index == lookahead.layer_index &&
                         last.target_index == lookahead.target_index &&
                         last.count == lookahead.count;
                });
}

bool TraceBuilder::AddResidency(TraceBytes& record) {
  const uint8_t change = record.Byte();
  const uint64_t index = record.Varint();
  const uint64_t expert = record.Varint();
  const uint64_t code = record.Varint();
  const TraceHeader::Layer* const layer = LayerOf(index);
  if (!record.ok() || layer == nullptr || change >= parsed_.changes.size() ||
      expert >= static_cast<uint64_t>(layer->expert_count)) {
    return false;
  }
  if (!parsed_.changes[change].has_value()) return true;  // of a later version
  trace_.residency.push_back({.change = *parsed_.changes[change],
                              .layer_index = static_cast<int>(index),
                              .expert = static_cast<int>(expert),
                              .bytes = FromResidencyCode(code, layer->expert_bytes)});
  return true;
}

// The step's number comes with its end: until then evicted_step is the distance to it.
bool TraceBuilder::AddMiss(TraceBytes& record) {
  const uint64_t index = record.Varint();
  const uint64_t expert = record.Varint();
  const uint8_t reason = record.Byte();
  const uint64_t evicted = static_cast<uint64_t>(record.Amount());
  const int64_t read_ns = record.Amount();
  const uint64_t read_bytes = record.Varint();
  const TraceHeader::Layer* const layer = LayerOf(index);
  if (!record.ok() || layer == nullptr || reason >= parsed_.reasons.size() ||
      expert >= static_cast<uint64_t>(layer->expert_count)) {
    return false;
  }
  if (!parsed_.reasons[reason].has_value()) return true;  // of a later version
  trace_.misses.push_back({.id = {.layer = layer->layer, .expert = static_cast<int32_t>(expert)},
                           .reason = *parsed_.reasons[reason],
                           .evicted_step = evicted == 0 ? INT64_MIN : FromZigzag(evicted - 1),
                           .read_ns = read_ns,
                           .read_bytes = read_bytes});
  return true;
}

bool TraceBuilder::ReadTimes(TraceBytes& record, TraceStep& step) {
  constexpr auto kMax = static_cast<int64_t>(TraceBytes::kAmountMax);
  last_step_ += record.SignedAmount();
  step.step = last_step_;
  step.begin_ns = last_end_ns_ + record.Amount();
  step.wall_ns = record.Amount();
  last_end_ns_ = step.begin_ns + step.wall_ns;
  if (last_end_ns_ > kMax || last_step_ > kMax || last_step_ < -kMax) return false;
  step.tokens = static_cast<int>(record.Amount());
  const uint64_t cause_count = record.Varint();
  if (cause_count > parsed_.causes.size()) return false;
  for (uint64_t i = 0; i < cause_count; ++i) {
    step.causes[static_cast<size_t>(parsed_.causes[i])] += record.Amount();
  }
  return record.ok();
}

bool TraceBuilder::EndStep(TraceBytes& record) {
  TraceStep step;
  if (!ReadTimes(record, step)) return false;
  for (uint64_t* count :
       {&step.hits, &step.misses_count, &step.vram_hits, &step.read_bytes, &step.copied_in_bytes,
        &step.copied_out_bytes, &step.host_experts, &step.device_experts}) {
    *count = record.Varint();
  }
  step.drive_busy_ns = record.Amount();
  step.system_ns = record.Amount();
  if (record.left() > 0) {
    step.draft_rows = static_cast<int>(record.Amount());
    step.drafts_right = static_cast<int>(record.Amount());
    step.predicted_ns = record.Amount();
    step.wasted_ns = record.Amount();
  }
  if (!record.ok()) return false;
  step.rows = Since(&TraceStep::rows, trace_.rows);
  step.routings = Since(&TraceStep::routings, trace_.routings);
  step.lookaheads = Since(&TraceStep::lookaheads, trace_.lookaheads);
  step.residency = Since(&TraceStep::residency, trace_.residency);
  step.misses = Since(&TraceStep::misses, trace_.misses);
  step.placements = Since(&TraceStep::placements, trace_.placements);
  if (!HasRowsOfItsEntries(step)) return false;
  for (int64_t i = 0; i < step.misses.count; ++i) {
    MissRecord& miss = trace_.misses[static_cast<size_t>(step.misses.first + i)];
    miss.evicted_step = miss.evicted_step == INT64_MIN ? -1 : step.step - miss.evicted_step;
  }
  trace_.steps.push_back(step);
  return true;
}

bool TraceBuilder::HasRowsOfItsEntries(const TraceStep& step) const {
  for (int64_t i = 0; i < step.routings.count; ++i) {
    const TraceRouting& routing = trace_.routings[static_cast<size_t>(step.routings.first + i)];
    if (routing.id_count > step.rows.count * routing.top_k) return false;
  }
  for (int64_t i = 0; i < step.lookaheads.count; ++i) {
    const TraceLookahead& entry = trace_.lookaheads[static_cast<size_t>(step.lookaheads.first + i)];
    if (entry.id_count > step.rows.count * entry.count) return false;
  }
  return true;
}

}  // namespace stoker
