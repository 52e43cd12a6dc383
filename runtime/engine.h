// The one public face: opens a model under a memory budget and runs sequences on it.
//
// One thread drives an engine. Results depend on the model, the prompt and the sampling options
// alone (docs/ARCHITECTURE.md, Exact).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/counters.h"
#include "base/time_ledger.h"
#include "cache/expert_cache.h"
#include "cache/placement.h"
#include "device/device.h"
#include "io/block_reader.h"
#include "model/model.h"
#include "model/step_observer.h"
#include "runtime/budget.h"
#include "runtime/options.h"
#include "speculative/drafter.h"
#include "speculative/governor.h"
#include "tokenizer/tokenizer.h"

namespace stoker {

using SequenceId = int64_t;

struct SequenceRequest {
  std::vector<TokenId> prompt;  // at least one id
  SamplingOptions sampling;
  int64_t tokens_max = 128;        // generated tokens; bounded by the context too
  std::vector<std::string> stops;  // generation ends before any of these strings
  bool stop_at_end = true;         // end at an end-of-generation token
};

enum class FinishReason : uint8_t { kNone, kEnd, kStop, kLength, kContext, kCancelled, kFailed };
std::string_view NameOf(FinishReason reason);

// One generated token of one sequence.
struct TokenEvent {
  SequenceId sequence = 0;
  TokenId token = -1;  // -1: no token, only the end (cancelled, failed)
  std::string text;    // whole characters that became certain with this token
  FinishReason finish = FinishReason::kNone;
};

// Where one step's time went.
struct StepRecord {
  int64_t step = 0;
  int64_t wall_ns = 0;
  int prompt_rows = 0;            // rows that were prompt
  int decode_rows = 0;            // rows that were the newest token of a sequence
  int draft_rows = 0;             // rows that were drafts to check
  int drafts_right = 0;           // of those, right: tokens that came without a step of their own
  int64_t predicted_ns = 0;       // what was expected of it, drafting left out; 0: nothing
  int64_t wasted_ns = 0;          // of wall_ns, spent on drafts that were wrong: an estimate
  int tokens = 0;                 // tokens that came of it; 0 also when the step failed
  CauseTimes causes = {};         // sums to wall_ns
  int64_t system_ns = 0;          // system CPU time of the process meanwhile, over all threads
  uint64_t hits = 0, misses = 0;  // experts
  uint64_t vram_hits = 0;         // of the hits, in the device's memory
  uint64_t read_bytes = 0;
  HintCounts hints;              // what came of guesses
  uint64_t copied_in_bytes = 0;  // to the device, and from it
  uint64_t copied_out_bytes = 0;
  uint64_t host_experts = 0;  // computed by the processor, and by the device
  uint64_t device_experts = 0;
  int64_t drive_busy_ns = 0;             // at least one read of an expert was under way
  std::vector<MissRecord> worst_misses;  // slowest first, a few
};

// What speculation did since the start.
struct DraftTotals {
  std::string drafter;    // as the user named it; empty: there is none
  int fixed_length = -1;  // not negative: always so many drafts are checked
  bool is_on = false;     // else: drafts are being checked now
  bool has_failed = false;
  uint64_t drafted = 0, checked = 0, right = 0;
  // By place in the draft: those checked whose predecessors were right, and the right ones of them.
  std::array<uint64_t, kDraftLengthMax> checked_at = {}, right_at = {};
  uint64_t steps = 0;          // that only decoded
  uint64_t steps_checked = 0;  // of those, with drafts to check
  int64_t step_ns = 0;         // of those steps, with drafting
  int64_t draft_ns = 0;        // of that, drafting while nothing else went on
  int64_t ahead_ns = 0;        // drafting in the time of waits for experts
  Governor::Belief belief;     // why it is on or off
  int64_t compared_ns = 0;     // of steps that could be compared with ones without drafts
  int64_t won_ns = 0;  // against the same tokens without drafts, as predicted; negative: lost
};

struct EngineInfo {
  MemoryPlan plan;
  std::string isa;  // backend taken
  std::string io;   // reader taken
  int threads = 0;
  std::string device;                  // its name; empty: the processor does everything
  std::string device_description;      // its name, which of how many, its link
  PlaceRule place = PlaceRule::kAuto;  // of experts, with a device
  // What experts are placed by, as found at start; unset where they are not placed by rates.
  std::optional<LinkRates> links;
  std::vector<std::string> notices;       // what was asked for and came otherwise, for the operator
  std::vector<std::string> late_notices;  // the same, of what has come up since it was opened
  int64_t load_ns = 0;
};

class Engine {
 public:
  // Parts a test may put in place of the real ones; null means the real one.
  struct Parts {
    const Clock* clock = nullptr;
    std::function<int64_t()> system_time_ns;  // system CPU time so far
    // Opens the device, in place of what the options say.
    std::function<absl::StatusOr<std::unique_ptr<Device>>()> open_device;
    // In place of measured rates.
    std::optional<LinkRates> links;
    // Wraps the expert reader (fault injection).
    std::function<std::unique_ptr<BlockReader>(std::unique_ptr<BlockReader>)> wrap_reader;
    // Wraps what the model asks for experts, to see or to model the host's computing; it passes
    // everything on.
    std::function<std::unique_ptr<ExpertProvider>(ExpertProvider&)> wrap_experts;
    // Hears what the routers decide; must outlive the engine.
    StepObserver* observer = nullptr;
    // Drafts in place of what the options name, which must name a drafter.
    std::function<std::unique_ptr<Drafter>(const DrafterParts& parts)> make_drafter;
    // Sees the logits of each token before it is sampled.
    std::function<void(SequenceId sequence, absl::Span<const float> logits)> see_logits;
  };
  static absl::StatusOr<std::unique_ptr<Engine>> Open(const EngineOptions& options,
                                                      const Model::Progress& progress);
  static absl::StatusOr<std::unique_ptr<Engine>> Open(const EngineOptions& options,
                                                      const Model::Progress& progress,
                                                      const Parts& parts);
  virtual ~Engine() = default;

  virtual const EngineInfo& info() const = 0;
  virtual const ModelSpec& spec() const = 0;
  virtual const Tokenizer& tokenizer() const = 0;
  virtual int context() const = 0;

  // Queues a sequence; it starts when a place is free. InvalidArgument: empty prompt, an id outside
  // the vocabulary, a prompt longer than the context (both numbers named), bad sampling options.
  virtual absl::StatusOr<SequenceId> Add(SequenceRequest request) = 0;
  // Ends a sequence at the next step; unknown ids are ignored.
  virtual void Cancel(SequenceId id) = 0;
  virtual bool idle() const = 0;
  // Runs one step over every running sequence. The events are valid until the next call. An error
  // that hits one step (a read that failed for good) finishes the sequences of that step with
  // kFailed, is what last_error() says until the next Step, and leaves the engine usable; Step
  // itself fails only when the engine is no longer usable.
  virtual absl::StatusOr<absl::Span<const TokenEvent>> Step() = 0;
  virtual absl::Status last_error() const = 0;  // of the latest Step; OK when it went well
  virtual const StepRecord& last_step() const = 0;

  // Logits of every position of `ids` as one fresh sequence, in chunks: `sink` gets [rows, vocab]
  // logits of rows that begin at position `first`, what each row's softmax divides by, and hidden
  // [layers + 1, rows, hidden] when `want_hidden`. For logits and perplexity; requires idle() and
  // logits_rows_max > 0.
  struct EvaluatedRows {
    int first = 0;
    int rows = 0;
    const float* logits = nullptr;
    const ExpSum* exp_sums = nullptr;  // [rows]
    const float* hidden = nullptr;
    int64_t hidden_block_stride = 0;
  };
  virtual absl::Status Evaluate(absl::Span<const TokenId> ids, bool want_hidden,
                                const std::function<absl::Status(const EvaluatedRows&)>& sink) = 0;

  virtual const CacheCounts& cache_counts() const = 0;
  virtual DraftTotals draft_totals() const = 0;
  // What experts are placed by now: as found at start, then as steps have shown.
  virtual std::optional<LinkRates> links() const = 0;
  virtual void Report(CounterVisitor& visitor) const = 0;
};

}  // namespace stoker
