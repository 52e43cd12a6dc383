// stoker run: one-shot generation, streaming to stdout.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "base/status.h"
#include "cli/commands/commands.h"
#include "cli/flags.h"
#include "cli/generation_output.h"
#include "cli/interrupt.h"
#include "cli/open_engine.h"
#include "runtime/statistics.h"

namespace stoker {
namespace {

using PromptOfSequence = absl::flat_hash_map<SequenceId, size_t>;

// Steps an engine until every sequence has ended, or the user or the output's reader has had
// enough.
class Generation {
 public:
  Generation(Engine& engine, const PromptOfSequence& prompts, GenerationOutput& output)
      : engine_(engine), prompts_(prompts), output_(output) {}

  // The first error of a step or of the output; Cancelled after Ctrl-C.
  absl::Status Run() {
    const int64_t start_ns = clock_.NowNs();
    while (!engine_.idle()) {
      if (Interrupted()) Stop(absl::CancelledError("interrupted"));
      ASSIGN_OR_RETURN(const absl::Span<const TokenEvent> events, engine_.Step());
      statistics_.Add(engine_.last_step());
      Put(events, clock_.NowNs() - start_ns);
      Note(engine_.last_error());
    }
    return first_error_;
  }
  RunSummary Summarize() const { return statistics_.Summarize(); }
  bool context_filled() const { return context_filled_; }

 private:
  void Put(absl::Span<const TokenEvent> events, int64_t elapsed_ns) {
    for (const TokenEvent& event : events) {
      context_filled_ |= event.finish == FinishReason::kContext;
      if (!output_open_) continue;
      const absl::Status status = output_.Put({.prompt = prompts_.at(event.sequence),
                                               .elapsed_ns = elapsed_ns,
                                               .event = event,
                                               .step = engine_.last_step()});
      if (status.ok()) continue;
      output_open_ = false;
      Stop(status);
    }
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
    prompts_.Declare(app);
    DeclareSamplingFlags(app, sampling_);
    app.add_option("-n,--tokens", tokens_, "Tokens to generate; -1: until the text or context ends")
        ->capture_default_str()
        ->group("Generation");
    DeclareTexts(app, "--stop", stops_, "End before this text (repeatable)", "Generation");
    app.add_flag("--json", json_, "One JSON record a token, and a summary")->group("Generation");
  }

  absl::Status Check() override {
    RETURN_IF_ERROR(model_.Check());
    RETURN_IF_ERROR(Validate(sampling_));
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
    ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(options, console));
    ASSIGN_OR_RETURN(const PromptOfSequence prompts, AddAll(*engine, sources));
    const std::unique_ptr<GenerationOutput> output =
        json_ ? MakeJsonOutput(console, sources.size()) : MakeTextOutput(console, sources.size());
    WatchForInterrupt();
    Generation generation(*engine, prompts, *output);
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

  ModelFlags model_;
  PromptFlags prompts_;
  SamplingOptions sampling_;
  int64_t tokens_ = 128;
  std::vector<std::string> stops_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeRunCommand() { return std::make_unique<RunCommand>(); }

}  // namespace stoker
