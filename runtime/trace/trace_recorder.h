// Records what a run does: the observer that turns routing, guesses, residency and step records
// into a trace file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "cache/residency_observer.h"
#include "model/step_observer.h"
#include "runtime/engine.h"
#include "runtime/trace/trace.h"
#include "runtime/trace/trace_writer.h"

namespace stoker {

// One thread, the engine's. A call encodes into a buffer; the file is written at the start of a
// step when enough has come together or a second has gone by, and when nobody waits (Flush). So a
// killed run loses the steps of its last second, and a step pays for nothing but the encoding.
// Allocates nothing after Create.
class TraceRecorder final : public StepObserver, public ResidencyObserver {
 public:
  // What a recorder takes: the buffer, and tables that are small beside it.
  static constexpr uint64_t kPlanBytes = TraceWriter::kBufferBytes + (uint64_t{16} << 10);

  // `header`: format, ids and weights are filled in here. `clock` must outlive the recorder. Errors
  // as TraceWriter::Create.
  static absl::StatusOr<std::unique_ptr<TraceRecorder>> Create(const std::string& path,
                                                               const TraceHeader& header,
                                                               const Clock& clock);

  // Rows that the coming step has, in its order: consecutive positions of one sequence. Sequences
  // are counted from 0 over the trace.
  struct Rows {
    int64_t sequence = 0;
    int first_position = 0;
    int count = 0;
    bool is_prompt = false;
    int drafts = 0;  // of the rows, the last ones
  };
  void AddRows(const Rows& rows);

  // What experts are placed by, before the first step.
  void AddLinks(const LinkRates& links);

  void OnStep(absl::Span<const StepRow> rows) override;
  void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts,
                 absl::Span<const float> weights) override;
  void OnLookahead(int layer, int target_layer, int count, absl::Span<const int32_t> experts,
                   absl::Span<const float> scores) override;
  void OnResidency(ResidencyChange change, ExpertId id, uint64_t bytes) override;
  void OnPlacement(const Placement& placement) override;

  // The step that OnStep began has ended; without such a step nothing happens.
  void EndStep(const StepRecord& record);
  void Flush();

  // The error that ended the recording, if any.
  const absl::Status& status() const { return writer_->status(); }
  uint64_t written_bytes() const { return writer_->written_bytes(); }

 private:
  TraceRecorder(const TraceHeader& header, const Clock& clock, std::unique_ptr<TraceWriter> writer);
  void PutRates(TraceRecord kind, const LinkRates& rates);
  uint8_t* PutIds(uint8_t* out, absl::Span<const int32_t> experts) const;
  void PutMiss(const MissRecord& miss, int64_t step);
  int IndexOf(int layer) const;

  const Clock& clock_;
  const std::unique_ptr<TraceWriter> writer_;
  const bool has_weights_;
  size_t id_bytes_ = 1;
  std::vector<int> layer_index_;         // by layer; -1: has no routed experts
  std::vector<uint64_t> expert_bytes_;   // by layer index
  std::optional<LinkRates> last_rates_;  // that were put
  bool in_step_ = false;
  int64_t start_ns_ = -1;    // of the first step; -1: there was none yet
  int64_t last_end_ns_ = 0;  // of the last step, from then on
  int64_t last_flush_ns_ = 0;
  int64_t last_step_ = 0;
};

}  // namespace stoker
