// A recorded run in memory: what was routed where, what became of the experts, where time went.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/expert_catalog.h"
#include "base/time_ledger.h"
#include "cache/expert_cache.h"
#include "cache/placement.h"
#include "cache/residency_observer.h"

namespace stoker {

// Where a trace comes from, and what is known of its model and of the store that ran it.
struct TraceHeader {
  struct Layer {
    int layer = 0;  // transformer layer
    int expert_count = 0;
    uint64_t expert_bytes = 0;  // weights of one expert; 1 where the format does not say
  };
  std::string format;       // "stoker", "packed", "route-csv", "events-csv"
  std::string model;        // its name or path
  uint64_t model_hash = 0;  // identity of the files; 0: unknown
  int top_k = 0;            // experts a token uses; 0: varies
  bool ranks_known = true;  // whether ids are in router rank order
  bool weights_known = false;
  std::vector<Layer> layers;  // with routed experts, ascending
  // The store that ran it; budget 0: unknown (the trace is another program's).
  uint64_t budget_bytes = 0;       // RAM slots
  uint64_t vram_budget_bytes = 0;  // VRAM slots
  std::string policy;
  std::string vram_policy;
  std::string admission;
  std::string prefetch;
  std::string place;  // as ParsePlaceRule, with a device
  int layer_floor = -1;
  std::vector<size_t> alignments;  // of the model's files, for the layout of slots
  // Where the experts lie in the files, and the slots of each size class as planned, per tier;
  // empty: unknown.
  ExpertCatalog catalog;
  std::vector<int64_t> slot_counts;
  std::vector<int64_t> vram_slot_counts;
  std::string settings;  // the rest of the run's options, as TOML

  uint64_t total_expert_bytes() const {
    uint64_t sum = 0;
    for (const Layer& l : layers) sum += l.expert_bytes * static_cast<uint64_t>(l.expert_count);
    return sum;
  }
};

// One row of a step.
struct TraceRow {
  int32_t sequence = 0;  // numbered from 0 over the trace
  int32_t position = 0;
  bool is_prompt = false;
  bool is_draft = false;  // a guessed token that the step checks
};

// What the routers of one layer decided for the rows of a step: all of them, or fewer where the
// last layer ran for the last rows alone (another program's traces).
struct TraceRouting {
  int layer_index = 0;  // into TraceHeader::layers
  int top_k = 0;
  int64_t first_id = 0;  // of [rows, top_k] in Trace::ids and, where known, Trace::weights
  int64_t id_count = 0;
};

// What was guessed at one layer for a later one.
struct TraceLookahead {
  int layer_index = 0;
  int target_index = 0;  // into TraceHeader::layers
  int count = 0;         // experts a row
  int64_t first_id = 0;  // of [rows, count] in Trace::guesses
  int64_t id_count = 0;
};

struct TraceResidency {
  ResidencyChange change = ResidencyChange::kRead;
  int layer_index = 0;  // into TraceHeader::layers
  int expert = 0;
  uint64_t bytes = 0;
};

// A choice of places: which experts in RAM the host computes, which are copied to the device. By
// its rates and ChoosePlaces.
struct TracePlacement {
  int layer_index = 0;  // into TraceHeader::layers
  int rates_index = 0;  // into Trace::rates
  bool is_from_file = false;
  uint64_t device_backlog_bytes = 0;
  int copy_count = 0;  // of the experts, the first ones
  int64_t first = 0;   // in Trace::placed
  int64_t count = 0;
};
struct TracePlaced {
  int expert = 0;
  int rows = 0;
  bool is_worth_keeping = false;
};

// A range of one of the arrays of Trace.
struct TraceRange {
  int64_t first = 0;
  int64_t count = 0;
};

struct TraceStep {
  int64_t step = 0;
  // Foreign traces: a new number means that the store starts cold, if asked. Ascending.
  int sequence_group = 0;
  TraceRange rows;
  TraceRange routings;
  TraceRange lookaheads;
  TraceRange residency;
  TraceRange misses;  // the worst of the step
  TraceRange placements;
  // Zero where the trace has no times.
  int64_t begin_ns = 0;  // from the start of the first step
  int64_t wall_ns = 0;
  int64_t system_ns = 0;  // as in StepRecord
  CauseTimes causes = {};
  int tokens = 0;
  int draft_rows = 0, drafts_right = 0;  // as in StepRecord, as are the next two
  int64_t predicted_ns = 0, wasted_ns = 0;
  uint64_t hits = 0, misses_count = 0, vram_hits = 0;
  uint64_t read_bytes = 0, copied_in_bytes = 0, copied_out_bytes = 0;
  uint64_t host_experts = 0, device_experts = 0;
  int64_t drive_busy_ns = 0;
};

struct Trace {
  TraceHeader header;
  // What the run placed experts by, as measured when it began; unset where it did not need to.
  std::optional<LinkRates> links;
  std::vector<TraceStep> steps;
  std::vector<TraceRow> rows;
  std::vector<TraceRouting> routings;  // of a step: in the order in which the store was asked
  std::vector<uint16_t> ids;
  std::vector<float> weights;  // as ids; empty unless TraceHeader::weights_known
  // As ids: whether the recording program had the expert in memory; empty where it does not say.
  std::vector<uint8_t> was_resident;
  std::vector<TraceLookahead> lookaheads;
  std::vector<uint16_t> guesses;
  std::vector<TraceResidency> residency;
  std::vector<MissRecord> misses;
  std::vector<TracePlacement> placements;
  std::vector<TracePlaced> placed;
  std::vector<LinkRates> rates;  // each time that they changed
  // What is wrong with the file and could be passed over (a torn last block); empty: nothing.
  std::string notice;
};

struct ReadTraceOptions {
  bool keep_repetition = false;  // foreign traces: sequences flagged as degenerate loops too
};
// A trace of ours, or one of the foreign formats that docs/TRACES.md lists, told apart by content.
// InvalidArgument or DataLoss naming file, place and likely cause; a file that ends in the middle
// of a block is read up to there, with a notice.
absl::StatusOr<Trace> ReadTrace(const std::string& path, const ReadTraceOptions& options = {});

}  // namespace stoker
