// The engine on this machine: the parts put together and stepped.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/parallel.h"
#include "base/time_ledger.h"
#include "cache/expert_cache.h"
#include "device/buffer.h"
#include "io/block_reader.h"
#include "model/kv_cache.h"
#include "model/model.h"
#include "runtime/drafting_store.h"
#include "runtime/engine.h"
#include "runtime/no_experts.h"
#include "runtime/prefetch_observer.h"
#include "runtime/sampler.h"
#include "runtime/scheduler.h"
#include "runtime/sequence.h"
#include "runtime/speculation.h"
#include "runtime/step_limits.h"
#include "runtime/step_observers.h"
#include "runtime/trace/trace_recorder.h"
#include "runtime/usage_recorder.h"
#include "tokenizer/tokenizer.h"

namespace stoker {

// What runtime/open.cc opens, in the order in which it is taken; released the other way round.
struct EngineParts {
  const Clock* clock = nullptr;
  std::unique_ptr<RealClock>
      own_clock;  // behind `clock` unless a test gave one; of modelled drives
  std::function<int64_t()> system_time_ns;
  std::unique_ptr<TimeLedger> ledger;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<BlockReader> trunk_reader;
  std::unique_ptr<BlockReader> expert_reader;
  std::unique_ptr<ThreadTeam> team;
  StepLimits limits;
  EngineInfo info;
  const Ops* ops = nullptr;
  std::unique_ptr<Device> device;  // null: the processor does everything
  const DeviceOps* device_ops = nullptr;
  double device_memory_rate = 0;  // 0: not known
  std::unique_ptr<Model> model;
  std::unique_ptr<KvCache> kv;
  NoExperts no_experts;                           // what a dense model is given
  std::unique_ptr<TraceRecorder> recorder;        // null when the run is not recorded
  std::unique_ptr<ExpertCache> cache;             // null for a dense model
  std::unique_ptr<ExpertProvider> wrapped_cache;  // null unless a test wraps it
  std::unique_ptr<Prefetcher> prefetcher;         // null without a predictor
  std::unique_ptr<PrefetchObserver> prefetch_observer;
  std::unique_ptr<UsageRecorder> usage;           // null when no profile is kept
  StepObservers observers;                        // of what the routers decide
  HostBuffer outputs;                             // StepOutput's logits, hidden states, sums
  std::unique_ptr<BlockReader> draft_reader;      // of a draft model
  std::unique_ptr<ShadowCache> shadow;            // null when nothing drafts, or all is resident
  std::unique_ptr<Speculation> speculation;       // null when nothing drafts
  std::unique_ptr<DraftingStore> drafting_store;  // null without speculation or experts
  std::function<void(SequenceId, absl::Span<const float>)> see_logits;  // may be empty
};

class LocalEngine final : public Engine {
 public:
  explicit LocalEngine(EngineParts parts);

  const EngineInfo& info() const override { return parts_.info; }
  const ModelSpec& spec() const override { return parts_.model->spec(); }
  const Tokenizer& tokenizer() const override { return *parts_.tokenizer; }
  int context() const override { return parts_.limits.context; }

  absl::StatusOr<SequenceId> Add(SequenceRequest request) override;
  void Cancel(SequenceId id) override;
  bool idle() const override { return sequences_.empty(); }
  absl::StatusOr<absl::Span<const TokenEvent>> Step() override;
  absl::Status last_error() const override { return last_error_; }
  const StepRecord& last_step() const override { return record_; }
  absl::Status Evaluate(absl::Span<const TokenId> ids, bool want_hidden,
                        const std::function<absl::Status(const EvaluatedRows&)>& sink) override;
  const CacheCounts& cache_counts() const override;
  DraftTotals draft_totals() const override;
  std::optional<LinkRates> links() const override;
  void Report(CounterVisitor& visitor) const override;

 private:
  // Sequences that wait and run, all together: far above any use, and a bound.
  static constexpr size_t kSequencesQueuedMax = 4096;
  // Misses kept in a StepRecord.
  static constexpr size_t kWorstMissesMax = 8;

  // A step's record runs from BeginRecord to EndRecord.
  void BeginRecord();
  void EndRecord();
  void EndTrace();
  void EndStore();
  absl::Status Forward(const StepOutput& output);
  ExpertProvider& Experts();
  void DraftTokens();
  void BuildRows(absl::Span<const StepPart> plan);
  void EndCancelled();
  void SampleTokens(absl::Span<const StepPart> plan);
  int SamplePart(const StepPart& part, int first_row, float* logits);
  void TellDrafter(const StepPart& part, int kept_rows, const float* normed);
  bool SampleToken(Sequence& sequence, float* logits);
  void FailAll(absl::Span<const StepPart> plan);
  void Finish(Sequence& sequence, FinishReason reason);
  Sequence* Find(SequenceId id);
  void Forget(SequenceId id);
  absl::Status CheckEvaluate(absl::Span<const TokenId> ids, bool want_hidden) const;
  absl::Status EvaluateRows(absl::Span<const TokenId> ids, int first, bool want_hidden);

  EngineParts parts_;
  StepOutput output_;
  Scheduler scheduler_;
  Sampler sampler_;
  SequenceId next_id_ = 1;
  SequenceId evaluated_ = 0;  // what Evaluate's rows are of
  int64_t step_ = 0;
  std::vector<std::unique_ptr<Sequence>> sequences_;  // waiting and running, by arrival
  std::vector<SequenceId> cancelled_;                 // to be ended by the next step
  std::vector<StepRow> rows_;
  std::vector<Speculation::Item> drafting_;  // sequences that may have drafts
  std::vector<TokenEvent> events_;
  absl::Status last_error_;
  StepRecord record_;
  CacheCounts counts_before_;  // at the start of the step, as is the next
  int64_t system_before_ns_ = 0;
  bool trace_failed_ = false;
  bool usage_failed_ = false;
  bool drafting_failed_ = false;
  uint64_t draft_misses_ = 0;  // of the step, while drafting
};

}  // namespace stoker
