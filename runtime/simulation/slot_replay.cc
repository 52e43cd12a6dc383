// Asks a real store for what was asked in the run, and moves the clock as computing would.
#include "runtime/simulation/slot_replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/check.h"
#include "base/status.h"
#include "cache/expert_cache.h"
#include "io/modelled_reader.h"
#include "model/expert_batch.h"
#include "prefetch/prefetcher.h"
#include "runtime/usage_profile.h"
#include "runtime/warm_start.h"

namespace stoker {
namespace {

constexpr size_t kPageBytes = 4096;

std::vector<size_t> AlignmentsOf(const TraceHeader& header) {
  return header.catalog.layers.empty() ? std::vector<size_t>{kPageBytes} : header.alignments;
}

int ExpertsOfToken(const Trace& trace) {
  int top_k = std::max(1, trace.header.top_k);
  for (const TraceRouting& routing : trace.routings) top_k = std::max(top_k, routing.top_k);
  return top_k;
}

// Sequences of a trace are numbered for ever, an engine's by the places that they run in: the
// lowest one that is free when a sequence begins. One that a step leaves out has ended.
class SequencePlaces {
 public:
  // The rows of the next step.
  absl::Span<const PredictedRow> Rows(absl::Span<const TraceRow> rows) {
    for (int32_t& sequence : sequences_) {
      const bool goes_on = std::any_of(
          rows.begin(), rows.end(), [&](const TraceRow& row) { return row.sequence == sequence; });
      if (!goes_on) sequence = -1;
    }
    rows_.clear();
    for (const TraceRow& row : rows) {
      rows_.push_back({.sequence = PlaceOf(row.sequence), .position = row.position});
    }
    return rows_;
  }
  int count() const { return static_cast<int>(sequences_.size()); }  // ever used

 private:
  int32_t PlaceOf(int32_t sequence) {
    auto found = std::find(sequences_.begin(), sequences_.end(), sequence);
    if (found == sequences_.end()) found = std::find(sequences_.begin(), sequences_.end(), -1);
    if (found == sequences_.end()) found = sequences_.insert(found, sequence);
    *found = sequence;
    return static_cast<int32_t>(found - sequences_.begin());
  }

  std::vector<int32_t> sequences_;  // by place; -1: free
  std::vector<PredictedRow> rows_;
};

int CountPlaces(const Trace& trace) {
  SequencePlaces places;
  for (const TraceStep& step : trace.steps) {
    places.Rows({trace.rows.data() + step.rows.first, static_cast<size_t>(step.rows.count)});
  }
  return std::max(1, places.count());
}

class SlotStore {
 public:
  SlotStore(const Trace& trace, const UseStream& stream, const SlotOptions& options,
            const TimingModel& timing)
      : trace_(trace), stream_(stream), options_(options), timing_(timing) {}

  // Starts with nothing resident.
  absl::Status Restart() {
    prefetcher_.reset();
    cache_.reset();
    reader_.reset();
    const ExpertCatalog catalog = CatalogOf(trace_.header);
    ASSIGN_OR_RETURN(const CachePlan plan, PlanSlots(trace_, options_));
    ModelledReader::ModelOptions model;
    model.rate = timing_.drive_rate.value;
    model.latency_ns = std::llround(timing_.drive_latency_ns.value);
    model.alignments = AlignmentsOf(trace_.header);
    const size_t file_count = model.alignments.size();
    reader_ = std::make_unique<ModelledReader>(model, clock_, nullptr);
    for (size_t file = 0; file < file_count; ++file) RETURN_IF_ERROR(reader_->AddFile("").status());
    CacheOptions cache;
    cache.tiers.push_back({.budget_bytes = plan.arena_bytes,
                           .policy = options_.policy,
                           .admission = options_.admission});
    cache.layer_floor = options_.layer_floor;
    cache.verify_hashes = false;
    cache.addresses_only = true;
    cache.settings = options_.settings;
    cache.profile = options_.profile;
    ASSIGN_OR_RETURN(PrefetchChoice prefetch, ChoosePrefetch(options_.prefetch, options_.settings));
    cache.hint_loads_max = prefetch.loads_max;
    if (is_warm()) cache.hint_loads_max = std::max(cache.hint_loads_max, kWarmLoadsMax);
    ASSIGN_OR_RETURN(cache_, ExpertCache::Create(catalog, plan, cache, *reader_, clock_, nullptr));
    if (is_warm()) cache_->Warm(HotnessOrder(options_.profile));
    return prefetch.is_none() ? absl::OkStatus() : AddPrefetcher(catalog, std::move(prefetch));
  }

  absl::Status RunStep(int64_t step);
  ReplayResult Take() && { return std::move(result_); }

 private:
  bool is_warm() const { return !options_.profile.empty() && !options_.cold_per_prompt; }
  absl::Status AddPrefetcher(const ExpertCatalog& catalog, PrefetchChoice choice);
  absl::Status RunRequest(const TraceStep& step, int64_t index, int64_t request);
  void PassRouting(const TraceRouting& routing, int layer);
  void PassLookaheads(const TraceStep& step, int32_t layer_index);
  absl::Status Compute(int32_t layer_index);

  const Trace& trace_;
  const UseStream& stream_;
  const SlotOptions& options_;
  const TimingModel& timing_;
  VirtualClock clock_;
  std::unique_ptr<ModelledReader> reader_;
  std::unique_ptr<ExpertCache> cache_;
  std::unique_ptr<Prefetcher> prefetcher_;  // null without a predictor
  SequencePlaces places_;
  std::vector<int32_t> experts_;
  ReplayResult result_;
};

// A step has requests of one phase.
absl::Status SlotStore::RunStep(int64_t step) {
  const UseStream::Step& flat = stream_.steps[step];
  if (options_.cold_per_prompt && flat.starts_prompt && step > 0) RETURN_IF_ERROR(Restart());
  const TraceStep& recorded = trace_.steps[step];
  const CacheCounts before = cache_->counts();
  const int64_t start_ns = clock_.NowNs();
  cache_->BeginStep(recorded.step);
  if (prefetcher_ != nullptr) {
    prefetcher_->OnStep(places_.Rows(
        {trace_.rows.data() + recorded.rows.first, static_cast<size_t>(recorded.rows.count)}));
  }
  const int64_t end = stream_.end_request(step);
  for (int64_t request = flat.first_request; request < end; ++request) {
    RETURN_IF_ERROR(RunRequest(recorded, request - flat.first_request, request));
  }
  if (prefetcher_ != nullptr) prefetcher_->EndStep();
  if (is_warm()) cache_->IssueHints();
  const CacheCounts& after = cache_->counts();
  const uint64_t hits = after.hits - before.hits;
  const uint64_t misses = after.misses - before.misses;
  PhaseCounts& counts = flat.is_prompt ? result_.prompt : result_.decode;
  counts.accesses += hits + misses;
  counts.hits += hits;
  counts.misses += misses;
  counts.read_bytes += after.read_bytes - before.read_bytes;
  result_.hint_bytes += after.hints.issued_bytes - before.hints.issued_bytes;
  result_.steps.push_back(
      {.hits = static_cast<uint32_t>(hits), .misses = static_cast<uint32_t>(misses)});
  if (flat.is_prompt || flat.decode_rows == 0) return absl::OkStatus();
  result_.step_ns.push_back(clock_.NowNs() - start_ns);
  result_.decode_rows += flat.decode_rows;
  return absl::OkStatus();
}

absl::Status SlotStore::AddPrefetcher(const ExpertCatalog& catalog, PrefetchChoice choice) {
  PredictorShape shape = {.top_k = ExpertsOfToken(trace_),
                          .sequence_count = CountPlaces(trace_),
                          .rows_max = choice.rows_max};
  for (const LayerExperts& layer : catalog.layers) {
    shape.expert_counts.push_back(layer.expert_count);
  }
  if (trace_.lookaheads.empty() && choice.predictor.Make(shape)->lookahead_layers() > 0) {
    return absl::InvalidArgumentError(
        fmt::format("prefetch is \"{}\", which lives by what the model guesses of its next "
                    "layers, and the trace has no such guesses: it was recorded without them\n  "
                    "try: record it again with --prefetch {}",
                    options_.prefetch, options_.prefetch));
  }
  const Prefetcher::Options options = {
      .choice = std::move(choice), .top_k = shape.top_k, .sequence_count = shape.sequence_count};
  prefetcher_ = std::make_unique<Prefetcher>(catalog, options, *cache_);
  return absl::OkStatus();
}

void SlotStore::PassRouting(const TraceRouting& routing, int layer) {
  experts_.assign(trace_.ids.begin() + routing.first_id,
                  trace_.ids.begin() + routing.first_id + routing.id_count);
  prefetcher_->OnRouting(layer, routing.top_k, experts_);
}

void SlotStore::PassLookaheads(const TraceStep& step, int32_t layer_index) {
  const int layer = trace_.header.layers[layer_index].layer;
  const int layers_max = prefetcher_->lookahead_layers(layer);
  for (int64_t i = 0; i < step.lookaheads.count; ++i) {
    const TraceLookahead& guess = trace_.lookaheads[step.lookaheads.first + i];
    if (guess.layer_index != layer_index) continue;
    if (guess.target_index - layer_index > layers_max) continue;
    const int target_layer = trace_.header.layers[guess.target_index].layer;
    if (!prefetcher_->wants_lookahead(target_layer)) continue;
    experts_.assign(trace_.guesses.begin() + guess.first_id,
                    trace_.guesses.begin() + guess.first_id + guess.id_count);
    prefetcher_->OnLookahead(layer, target_layer, guess.count, experts_, /*spent_ns=*/0);
  }
}

// The `index`th of the step, as the model's mixture goes about it.
absl::Status SlotStore::RunRequest(const TraceStep& step, int64_t index, int64_t request) {
  const int32_t layer_index = stream_.requests[request].layer_index;
  const int layer = trace_.header.layers[layer_index].layer;
  clock_.AdvanceNs(std::llround(timing_.layer_ns.value));
  if (prefetcher_ != nullptr) {
    PassRouting(trace_.routings[step.routings.first + index], layer);
  }
  experts_.clear();
  for (const ExpertKey key : stream_.uses_of(request)) {
    experts_.push_back(key - stream_.first_keys[layer_index]);
  }
  RETURN_IF_ERROR(cache_->Request(layer, experts_));
  if (prefetcher_ != nullptr) PassLookaheads(step, layer_index);
  return Compute(layer_index);
}

// As the model's mixture takes them: what is there, computed together, then let go.
absl::Status SlotStore::Compute(int32_t layer_index) {
  const int layer = trace_.header.layers[layer_index].layer;
  ExpertRef held[kHeldExpertsMax];
  const int held_max = std::min(kHeldExpertsMax, cache_->pins_max(layer));
  for (;;) {
    ASSIGN_OR_RETURN(const int count,
                     cache_->Collect(absl::MakeSpan(held, static_cast<size_t>(held_max)),
                                     ExpertProvider::Wait::kUntilOne));
    if (count == 0) return absl::OkStatus();
    clock_.AdvanceNs(
        timing_.ExpertNs(stream_.bytes_of_layer[layer_index] * static_cast<uint64_t>(count)));
    for (int i = 0; i < count; ++i) held[i].Release();
  }
}

}  // namespace

ExpertCatalog CatalogOf(const TraceHeader& header) {
  if (!header.catalog.layers.empty()) return header.catalog;
  ExpertCatalog catalog;
  uint64_t offset = 0;
  for (const TraceHeader::Layer& layer : header.layers) {
    const uint64_t stride = (layer.expert_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
    LayerExperts experts = {
        .layer = layer.layer, .expert_count = layer.expert_count, .part_count = 1};
    experts.parts[0] = {.file = 0, .offset = offset, .bytes = layer.expert_bytes};
    experts.stride_bytes[0] = stride;
    offset += stride * static_cast<uint64_t>(layer.expert_count);
    catalog.layers.push_back(experts);
  }
  return catalog;
}

absl::StatusOr<CachePlan> PlanSlots(const Trace& trace, const SlotOptions& options) {
  const TraceHeader& header = trace.header;
  ASSIGN_OR_RETURN(CachePlan plan, PlanCache(CatalogOf(header), {.ram_bytes = options.budget_bytes},
                                             ExpertsOfToken(trace), AlignmentsOf(header)));
  if (!options.is_recorded_budget || header.slot_counts.empty()) return plan;
  CHECK(header.slot_counts.size() == plan.classes.size());
  plan.arena_bytes = 0;
  for (size_t c = 0; c < plan.classes.size(); ++c) {
    plan.classes[c].slot_count = header.slot_counts[c];
    plan.arena_bytes +=
        plan.classes[c].slot_bytes * static_cast<uint64_t>(plan.classes[c].slot_count);
  }
  return plan;
}

absl::StatusOr<ReplayResult> ReplaySlots(const Trace& trace, const UseStream& stream,
                                         const SlotOptions& options, const TimingModel& timing) {
  SlotStore store(trace, stream, options, timing);
  RETURN_IF_ERROR(store.Restart());
  for (size_t step = 0; step < stream.steps.size(); ++step) {
    RETURN_IF_ERROR(store.RunStep(static_cast<int64_t>(step)));
  }
  return std::move(store).Take();
}

}  // namespace stoker
