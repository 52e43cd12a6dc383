// stoker run: one-shot generation, streaming to stdout.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "base/status.h"
#include "cli/ceilings.h"
#include "cli/commands/commands.h"
#include "cli/exit_status.h"
#include "cli/flags.h"
#include "cli/generation_output.h"
#include "cli/interrupt.h"
#include "cli/open_engine.h"
#include "cli/watch_screen.h"
#include "runtime/inspection.h"
#include "runtime/statistics.h"
#include "runtime/team_options.h"

namespace stoker {
namespace {

using PromptOfSequence = absl::flat_hash_map<SequenceId, size_t>;

// Steps an engine until every sequence has ended, or the user or the output's reader has had
// enough.
class Generation {
 public:
  // `watch` may be null.
  Generation(Engine& engine, const PromptOfSequence& prompts, GenerationOutput& output,
             WatchScreen* watch)
      : engine_(engine), prompts_(prompts), output_(output), watch_(watch) {}

  // The first error of a step or of the output; Cancelled after Ctrl-C.
  absl::Status Run() {
    const int64_t start_ns = clock_.NowNs();
    while (!engine_.idle()) {
      if (Interrupted()) Stop(absl::CancelledError("interrupted"));
      ASSIGN_OR_RETURN(const absl::Span<const TokenEvent> events, engine_.Step());
      statistics_.Add(engine_.last_step());
      Put(events, clock_.NowNs() - start_ns);
      if (watch_ != nullptr) NoteOutput(watch_->Update(engine_.last_step()));
      Note(engine_.last_error());
    }
    if (watch_ != nullptr) NoteOutput(watch_->Finish());
    return first_error_;
  }
  RunSummary Summarize() const { return statistics_.Summarize(); }
  bool context_filled() const { return context_filled_; }

 private:
  void Put(absl::Span<const TokenEvent> events, int64_t elapsed_ns) {
    for (const TokenEvent& event : events) {
      context_filled_ |= event.finish == FinishReason::kContext;
      if (!output_open_) continue;
      NoteOutput(output_.Put({.prompt = prompts_.at(event.sequence),
                              .elapsed_ns = elapsed_ns,
                              .event = event,
                              .step = engine_.last_step()}));
    }
  }

  // There is no use in generating on once the text cannot be written.
  void NoteOutput(const absl::Status& status) {
    if (status.ok()) return;
    output_open_ = false;
    Stop(status);
  }

  void Stop(const absl::Status& reason) {
    Note(reason);
    for (const auto& [sequence, prompt] : prompts_) engine_.Cancel(sequence);
  }

  void Note(const absl::Status& status) {
    if (first_error_.ok()) first_error_ = status;
  }

  Engine& engine_;
  const PromptOfSequence& prompts_;
  GenerationOutput& output_;
  WatchScreen* watch_;
  RealClock clock_;
  RunStatistics statistics_;
  absl::Status first_error_;
  bool output_open_ = true;
  bool context_filled_ = false;
};

class RunCommand final : public Command {
 public:
  void Declare(CLI::App& app) override {
    model_.Declare(app);
    model_.DeclareDrafts(app);
    prompts_.Declare(app);
    DeclareSamplingFlags(app, sampling_);
    app.add_option("-n,--tokens", tokens_, "Tokens to generate; -1: until the text or context ends")
        ->capture_default_str()
        ->group("Generation");
    DeclareTexts(app, "--stop", stops_, "End before this text (repeatable)", "Generation");
    app.add_flag("--json", json_, "One JSON record a token, and a summary")->group("Generation");
    app.add_flag("--watch", watch_, "Show speed, hits, bandwidth and causes of time while it runs")
        ->group("Generation");
    app.add_flag("--ceilings", ceilings_,
                 "Before --watch, measure what the drive and memory can do (some seconds)")
        ->group("Generation");
  }

  absl::Status Check() override {
    RETURN_IF_ERROR(model_.Check());
    RETURN_IF_ERROR(Validate(sampling_));
    if (ceilings_ && !watch_) {
      return absl::InvalidArgumentError(
          "--ceilings has no meaning without --watch\n  try: stoker bench for the ceilings alone");
    }
    if (watch_ && model_.quiet) {
      return absl::InvalidArgumentError("--watch and --quiet exclude each other\n  try: only one");
    }
    if (tokens_ >= 1 || tokens_ == -1) return absl::OkStatus();
    return absl::InvalidArgumentError(
        fmt::format("--tokens is {}\n  try: a number from 1, or -1 for no limit", tokens_));
  }

  absl::Status Run(Console& console) override {
    console.set_quiet(model_.quiet);
    RETURN_IF_ERROR(model_.RequireModel());
    ASSIGN_OR_RETURN(const std::vector<PromptSource> sources, prompts_.Read(console));
    EngineOptions options = model_.options;
    options.sequences_max = static_cast<int>(sources.size());
    RETURN_IF_ERROR(Validate(options));
    if (watch_) RETURN_IF_ERROR(WatchScreen::Check(console));
    WatchCeilings ceilings;
    if (ceilings_) {
      ASSIGN_OR_RETURN(ceilings, MeasureCeilings(options, console));
    }
    ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(options, console));
    ASSIGN_OR_RETURN(const PromptOfSequence prompts, AddAll(*engine, sources));
    const std::unique_ptr<GenerationOutput> output =
        json_ ? MakeJsonOutput(console, sources.size()) : MakeTextOutput(console, sources.size());
    WatchForInterrupt();
    std::optional<WatchScreen> watch;
    if (watch_) watch.emplace(console, WeightsOf(*engine), ceilings);
    Generation generation(*engine, prompts, *output, watch.has_value() ? &*watch : nullptr);
    const absl::Status status = generation.Run();
    PrintLateNotices(*engine, console);
    if (generation.context_filled()) {
      console.Note(fmt::format("note: the context of {} tokens is full\n  try: a larger --ctx",
                               engine->context()));
    }
    const absl::Status finished = output->Finish(generation.Summarize(), *engine);
    return status.ok() ? finished : status;
  }

 private:
  absl::StatusOr<PromptOfSequence> AddAll(Engine& engine,
                                          const std::vector<PromptSource>& sources) const {
    PromptOfSequence prompts;
    for (size_t i = 0; i < sources.size(); ++i) {
      SequenceRequest request = {
          .prompt = EncodePrompt(engine.tokenizer(), sources[i]),
          .sampling = sampling_,
          .tokens_max = tokens_ < 0 ? std::numeric_limits<int64_t>::max() : tokens_,
          .stops = stops_};
      ASSIGN_OR_RETURN(const SequenceId id, engine.Add(std::move(request)));
      prompts[id] = i;
    }
    return prompts;
  }

  static WatchMeter::Weights WeightsOf(const Engine& engine) {
    const ExpertCatalog& experts = engine.spec().experts;
    const double count = static_cast<double>(std::max<int64_t>(1, experts.expert_count()));
    return {.trunk_bytes = engine.spec().trunk_bytes,
            .expert_bytes = static_cast<double>(experts.total_bytes()) / count,
            .has_device = engine.info().plan.device.is_used()};
  }

  // Before the engine takes its memory.
  static absl::StatusOr<WatchCeilings> MeasureCeilings(const EngineOptions& options,
                                                       Console& console) {
    const absl::StatusOr<Inspection> inspection = Inspect(options);
    if (!inspection.ok()) return AsOpeningError(inspection.status());
    const ThreadTeam::Options team = TeamOptionsHere(options.threads, nullptr);
    WatchCeilings ceilings;
    ASSIGN_OR_RETURN(ceilings.memory, MeasureMemoryBandwidth(team.thread_count));
    if (inspection->spec.experts.layers.empty()) return ceilings;
    ASSIGN_OR_RETURN(
        const DriveBandwidth drive,
        MeasureDriveBandwidth(inspection->gguf.paths(), inspection->spec.experts, options.io));
    if (!drive.notice.empty()) console.Note("note: " + drive.notice);
    ceilings.drive = drive.bytes_per_second;
    return ceilings;
  }

  ModelFlags model_;
  PromptFlags prompts_;
  SamplingOptions sampling_;
  int64_t tokens_ = 128;
  std::vector<std::string> stops_;
  bool json_ = false;
  bool watch_ = false;
  bool ceilings_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeRunCommand() { return std::make_unique<RunCommand>(); }

}  // namespace stoker
