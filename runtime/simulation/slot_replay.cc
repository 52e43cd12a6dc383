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
#include "kernels/device_args.h"
#include "prefetch/prefetcher.h"
#include "runtime/simulation/replayed_machine.h"
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

// What experts are placed by: as recorded, as far as nothing else was given.
LinkRates RatesOf(const Trace& trace, const TimingModel& timing) {
  LinkRates rates = trace.links.value_or(LinkRates());
  const auto set = [](const TimingModel::Value& value, double& rate, double& beside) {
    if (rate > 0 && !value.is_given()) return;
    beside *= rate > 0 ? value.value / rate : 0;
    rate = value.value;
  };
  double none = 0;
  set(timing.expert_rate, rates.host, rates.host_beside_copy);
  set(timing.copy_in_rate, rates.copy_in, rates.copy_beside_host);
  set(timing.copy_out_rate, rates.copy_out, none);
  set(timing.device_rate, rates.device, none);
  return rates;
}

class SlotStore {
 public:
  SlotStore(const Trace& trace, const UseStream& stream, const SlotOptions& options,
            const TimingModel& timing)
      : trace_(trace), stream_(stream), options_(options), timing_(timing) {}

  // Starts with nothing resident.
  absl::Status Restart();
  absl::Status RunStep(int64_t step);
  ReplayResult Take() && { return std::move(result_); }

 private:
  // A request of a step, or what would have been one of a layer that the device holds.
  struct Asked {
    const TraceRouting* routing = nullptr;
    int64_t request = 0;
  };

  absl::Status MakeReader();
  CacheOptions OptionsOf(const CachePlan& plan, const PrefetchChoice& prefetch) const;
  // As the engine starts: what it was used for before, and what fits, in the background.
  WarmStart Start() const {
    const bool keeps_profile = !options_.profile.empty();
    return {.uses = options_.profile, .filled = keeps_profile ? TierKind::kRam : TierKind::kVram};
  }
  absl::Status AddPrefetcher(const ExpertCatalog& catalog, PrefetchChoice choice);
  absl::Status RunRequest(const TraceStep& step, const Asked& asked);
  bool RunResident(const Asked& asked, int64_t step_rows);
  void TellResident();
  void Count(const CacheCounts& before, bool is_prompt);
  int LayerOf(const Asked& asked) const {
    return trace_.header.layers[asked.routing->layer_index].layer;
  }
  void FindExperts(const Asked& asked);
  void PassRouting(const TraceRouting& routing);
  void PassLookaheads(const TraceStep& step, int32_t layer_index);
  ReplayedMachine::Layer WorkOf(const Asked& asked) const {
    return {.layer = LayerOf(asked),
            .expert_bytes = stream_.bytes_of_layer[asked.routing->layer_index],
            .rows = rows_by_expert_};
  }

  const Trace& trace_;
  const UseStream& stream_;
  const SlotOptions& options_;
  const TimingModel& timing_;
  VirtualClock clock_;
  std::unique_ptr<ModelledReader> reader_;
  std::unique_ptr<ReplayedMachine> machine_;
  std::unique_ptr<ExpertCache> cache_;
  std::unique_ptr<Prefetcher> prefetcher_;  // null without a predictor
  SequencePlaces places_;
  std::vector<int32_t> ids_;  // passed to the prefetcher
  // Of the request that is looked at: its experts, each one's rows, and those by expert.
  std::vector<int32_t> experts_;
  std::vector<int32_t> rows_;
  std::vector<int32_t> rows_by_expert_;
  std::vector<Asked> untold_;  // of layers that the device holds, until the processor hears of them
  ReplayResult result_;
};

absl::Status SlotStore::MakeReader() {
  ModelledReader::ModelOptions model;
  model.rate = timing_.drive_rate.value;
  model.latency_ns = std::llround(timing_.drive_latency_ns.value);
  model.alignments = AlignmentsOf(trace_.header);
  const size_t file_count = model.alignments.size();
  reader_ = std::make_unique<ModelledReader>(model, clock_, nullptr);
  for (size_t file = 0; file < file_count; ++file) RETURN_IF_ERROR(reader_->AddFile("").status());
  return absl::OkStatus();
}

CacheOptions SlotStore::OptionsOf(const CachePlan& plan, const PrefetchChoice& prefetch) const {
  CacheOptions cache;
  if (machine_->device() != nullptr) {
    cache.tiers.push_back(
        {.kind = TierKind::kVram,
         .budget_bytes = plan.vram_bytes,
         .policy = options_.vram_policy.empty() ? options_.policy : options_.vram_policy});
    cache.device = machine_->device();
    cache.place = options_.place;
    cache.rates = RatesOf(trace_, timing_);
  }
  cache.tiers.push_back({.budget_bytes = plan.arena_bytes + plan.staging_bytes,
                         .policy = options_.policy,
                         .admission = options_.admission});
  cache.layer_floor = options_.layer_floor;
  cache.verify_hashes = false;
  cache.addresses_only = true;
  cache.settings = options_.settings;
  cache.profile = options_.profile;
  cache.hint_loads_max = prefetch.loads_max;
  if (!options_.cold_per_prompt) PrepareWarmStart(Start(), plan, cache);
  return cache;
}

absl::Status SlotStore::Restart() {
  prefetcher_.reset();
  cache_.reset();
  machine_.reset();
  const ExpertCatalog catalog = CatalogOf(trace_.header);
  ASSIGN_OR_RETURN(const CachePlan plan, PlanSlots(trace_, options_));
  RETURN_IF_ERROR(MakeReader());
  ASSIGN_OR_RETURN(machine_, ReplayedMachine::Create(timing_, plan.vram_bytes, clock_));
  ASSIGN_OR_RETURN(PrefetchChoice prefetch, ChoosePrefetch(options_.prefetch, options_.settings));
  ASSIGN_OR_RETURN(cache_, ExpertCache::Create(catalog, plan, OptionsOf(plan, prefetch), *reader_,
                                               clock_, nullptr));
  if (!options_.cold_per_prompt) BeginWarmStart(Start(), *cache_);
  return prefetch.is_none() ? absl::OkStatus() : AddPrefetcher(catalog, std::move(prefetch));
}

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
    const int64_t index = recorded.routings.first + request - flat.first_request;
    RETURN_IF_ERROR(RunRequest(recorded, {&trace_.routings[index], request}));
  }
  RETURN_IF_ERROR(machine_->Await());
  TellResident();
  if (prefetcher_ != nullptr) prefetcher_->EndStep();
  cache_->IssueHints();
  Count(before, flat.is_prompt);
  if (flat.is_prompt || flat.decode_rows == 0) return absl::OkStatus();
  result_.step_ns.push_back(clock_.NowNs() - start_ns);
  result_.decode_rows += flat.decode_rows;
  return absl::OkStatus();
}

void SlotStore::Count(const CacheCounts& before, bool is_prompt) {
  const CacheCounts& after = cache_->counts();
  const uint64_t hits = after.hits - before.hits;
  const uint64_t vram_hits = after.vram_hits - before.vram_hits;
  const uint64_t misses = after.misses - before.misses;
  PhaseCounts& counts = is_prompt ? result_.prompt : result_.decode;
  counts.accesses += hits + misses;
  counts.hits += hits;
  counts.vram_hits += vram_hits;
  counts.misses += misses;
  counts.read_bytes += after.read_bytes - before.read_bytes;
  counts.copied_in_bytes += after.copied_in_bytes - before.copied_in_bytes;
  counts.copied_out_bytes += after.copied_out_bytes - before.copied_out_bytes;
  result_.hint_bytes += after.hints.issued_bytes - before.hints.issued_bytes;
  result_.steps.push_back({.hits = static_cast<uint32_t>(hits),
                           .vram_hits = static_cast<uint32_t>(vram_hits),
                           .misses = static_cast<uint32_t>(misses)});
}

absl::Status SlotStore::AddPrefetcher(const ExpertCatalog& catalog, PrefetchChoice choice) {
  PredictorShape shape = {.top_k = ExpertsOfToken(trace_),
                          .sequence_count = CountPlaces(trace_),
                          .rows_max = choice.rows_max};
  for (const LayerExperts& layer : catalog.layers) {
    shape.expert_counts.push_back(layer.expert_count);
  }
  if (choice.predictor.row->needs_tokens) {
    return absl::InvalidArgumentError(
        fmt::format("prefetch is \"{}\", which lives by the ids of tokens, and a trace has none\n  "
                    "try: measure it with stoker run --prefetch {}, or simulate another predictor",
                    options_.prefetch, options_.prefetch));
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

void SlotStore::PassRouting(const TraceRouting& routing) {
  if (prefetcher_ == nullptr) return;
  ids_.assign(trace_.ids.begin() + routing.first_id,
              trace_.ids.begin() + routing.first_id + routing.id_count);
  prefetcher_->OnRouting(trace_.header.layers[routing.layer_index].layer, routing.top_k, ids_);
}

void SlotStore::PassLookaheads(const TraceStep& step, int32_t layer_index) {
  if (prefetcher_ == nullptr) return;
  const int layer = trace_.header.layers[layer_index].layer;
  const int layers_max = prefetcher_->lookahead_layers(layer);
  for (int64_t i = 0; i < step.lookaheads.count; ++i) {
    const TraceLookahead& guess = trace_.lookaheads[step.lookaheads.first + i];
    if (guess.layer_index != layer_index) continue;
    if (guess.target_index - layer_index > layers_max) continue;
    const int target_layer = trace_.header.layers[guess.target_index].layer;
    if (!prefetcher_->wants_lookahead(target_layer)) continue;
    ids_.assign(trace_.guesses.begin() + guess.first_id,
                trace_.guesses.begin() + guess.first_id + guess.id_count);
    prefetcher_->OnLookahead(layer, target_layer, guess.count, ids_, /*spent_ns=*/0);
  }
}

void SlotStore::FindExperts(const Asked& asked) {
  const int32_t layer_index = asked.routing->layer_index;
  rows_by_expert_.assign(static_cast<size_t>(trace_.header.layers[layer_index].expert_count), 0);
  for (int64_t i = 0; i < asked.routing->id_count; ++i) {
    ++rows_by_expert_[trace_.ids[asked.routing->first_id + i]];
  }
  experts_.clear();
  rows_.clear();
  for (const ExpertKey key : stream_.uses_of(asked.request)) {
    experts_.push_back(key - stream_.first_keys[layer_index]);
    rows_.push_back(rows_by_expert_[static_cast<size_t>(experts_.back())]);
  }
}

// As the model's mixture goes about it.
absl::Status SlotStore::RunRequest(const TraceStep& step, const Asked& asked) {
  machine_->BeginLayer();
  if (RunResident(asked, step.rows.count)) return absl::OkStatus();
  RETURN_IF_ERROR(machine_->Await());
  TellResident();
  PassRouting(*asked.routing);
  FindExperts(asked);
  RETURN_IF_ERROR(cache_->Request(LayerOf(asked), experts_, rows_));
  PassLookaheads(step, asked.routing->layer_index);
  return machine_->Compute(WorkOf(asked), *cache_);
}

// Whether the device computes the layer by itself: then the processor hears of it later.
bool SlotStore::RunResident(const Asked& asked, int64_t step_rows) {
  if (machine_->device() == nullptr) return false;
  if (step_rows * asked.routing->top_k > kGroupedPairsMax) return false;
  if (cache_->Resident(LayerOf(asked)).parts == nullptr) return false;
  FindExperts(asked);
  machine_->ComputeResident(WorkOf(asked), static_cast<int>(experts_.size()));
  untold_.push_back(asked);
  return true;
}

void SlotStore::TellResident() {
  for (const Asked& asked : untold_) {
    PassRouting(*asked.routing);
    FindExperts(asked);
    cache_->NoteUses(LayerOf(asked), experts_, rows_);
  }
  untold_.clear();
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
  const CacheBudget budget = {.ram_bytes = options.budget_bytes,
                              .vram_bytes = options.vram_budget_bytes,
                              .has_device = options.vram_budget_bytes > 0};
  ASSIGN_OR_RETURN(CachePlan plan, PlanCache(CatalogOf(header), budget, ExpertsOfToken(trace),
                                             AlignmentsOf(header)));
  if (!options.is_recorded_budget || header.slot_counts.empty()) return plan;
  const bool has_vram = options.vram_budget_bytes > 0;
  return WithSlots(std::move(plan), header.slot_counts,
                   has_vram ? header.vram_slot_counts : std::vector<int64_t>());
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
