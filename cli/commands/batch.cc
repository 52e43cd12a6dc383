// stoker batch: answers a file of prompts, many at once, and goes on where a run before it ended.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "cli/batch/batch_input.h"
#include "cli/batch/batch_output.h"
#include "cli/batch/batch_progress.h"
#include "cli/batch/batch_record.h"
#include "cli/batch/batch_run.h"
#include "cli/commands/commands.h"
#include "cli/exit_status.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/open_engine.h"
#include "cli/summary.h"
#include "runtime/inspection.h"
#include "runtime/model_identity.h"
#include "runtime/step_limits.h"

namespace stoker {
namespace {

// What paid in every case measured with the shipped model: 1.4 times the speed of one at a time
// where all experts are in RAM (16 reach 1.9), and 1.8 times where few are. There 8 are already
// slower than one: their contexts take the memory of slots, and a step needs more experts than
// there are.
constexpr int kDefaultSequences = 4;

class BatchCommand final : public Command {
 public:
  void Declare(CLI::App& app) override {
    model_.options.sequences_max = kDefaultSequences;
    model_.Declare(app);
    model_.DeclareDrafts(app);
    const std::string group = "Batch";
    app.add_option("-i,--input", input_path_,
                   "The prompts: one JSON object a line, with \"prompt\", and where wanted \"id\" "
                   "and this prompt's own sampling: \"temperature\", \"top_k\", \"seed\", "
                   "\"tokens_max\", \"stop\", ...")
        ->group(group);
    app.add_option("-o,--output", output_path_,
                   "The answers: one JSON object a line, in the order in which they are ready, "
                   "with the prompt's \"id\" and \"line\". The same command again goes on where "
                   "the last one ended; OUTPUT.batch holds what it needs for that")
        ->group(group);
    app.add_flag("--restart", restart_, "Begin the output anew")->group(group);
    app.add_option("--sequences", model_.options.sequences_max,
                   "Prompts that run at once; each takes memory for a context")
        ->capture_default_str()
        ->group(group);
    app.add_option("-n,--tokens", defaults_.tokens_max,
                   "Tokens to generate; -1: until the text or context ends")
        ->capture_default_str()
        ->group(group);
    DeclareTexts(app, "--stop", defaults_.stops, "End before this text (repeatable)", group);
    DeclareSamplingFlags(app, defaults_.sampling);
    app.get_option("--seed")->description(
        "Same seed, same texts: each line has a seed of its own, made of this and its number");
  }

  absl::Status Check() override {
    RETURN_IF_ERROR(model_.Check());
    RETURN_IF_ERROR(Validate(defaults_.sampling));
    if (defaults_.tokens_max >= 1 || defaults_.tokens_max == -1) return absl::OkStatus();
    return absl::InvalidArgumentError(fmt::format(
        "--tokens is {}\n  try: a number from 1, or -1 for no limit", defaults_.tokens_max));
  }

  absl::Status Run(Console& console) override {
    console.set_quiet(model_.quiet);
    RETURN_IF_ERROR(model_.RequireModel());
    RETURN_IF_ERROR(RequirePaths());
    ASSIGN_OR_RETURN(const BatchInput input, BatchInput::Open(input_path_, defaults_));
    ASSIGN_OR_RETURN(const BatchRecord record, MakeRecord());
    ASSIGN_OR_RETURN(BatchOutput output,
                     BatchOutput::Open(output_path_, input, record, {.restart = restart_}));
    const int64_t left_count = output.prompt_count() - output.done_count();
    if (output.done_count() > 0) {
      console.Note(fmt::format("{} of {} prompts have their answers in {} already",
                               output.done_count(), output.prompt_count(), output_path_));
    }
    if (left_count > 0) RETURN_IF_ERROR(RunLeft(input, output, left_count, console));
    return FailuresIn(output);
  }

 private:
  absl::Status RequirePaths() const {
    if (!input_path_.empty() && !output_path_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        fmt::format("no file was named for the {}\n  try: -i prompts.jsonl -o answers.jsonl",
                    input_path_.empty() ? "prompts" : "answers"));
  }

  // Before the model is loaded, which may take long.
  absl::StatusOr<BatchRecord> MakeRecord() const {
    const absl::StatusOr<Inspection> inspection = Inspect(model_.options);
    if (!inspection.ok()) return AsOpeningError(inspection.status());
    const absl::StatusOr<uint64_t> weights = IdentifyWeights(inspection->gguf);
    if (!weights.ok()) return AsOpeningError(weights.status());
    const std::string& path = model_.options.model_path;
    return MakeBatchRecord(
        path.substr(path.rfind('/') + 1),
        FormatIdentity(IdentifyModel(inspection->gguf)) + FormatIdentity(*weights),
        ResolveLimits(inspection->spec.config, model_.options).context, model_.options.kv,
        defaults_);
  }

  absl::Status RunLeft(const BatchInput& input, BatchOutput& output, int64_t left_count,
                       Console& console) const {
    EngineOptions options = model_.options;
    options.sequences_max = static_cast<int>(std::min<int64_t>(options.sequences_max, left_count));
    ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(options, console));
    WatchForInterrupt();
    const RealClock clock;
    BatchProgressView view(console);
    BatchRun run({.engine = *engine,
                  .input = input,
                  .output = output,
                  .clock = clock,
                  .sequences_max = options.sequences_max,
                  .is_interrupted = Interrupted,
                  .show = [&view](const BatchProgress& progress) { view.Update(progress); }});
    const absl::Status status = run.Run();
    console.EndProgress();
    PrintLateNotices(*engine, console);
    console.Note(FormatSummary(run.Summarize()) + FormatDrafts(engine->draft_totals()));
    const BatchProgress progress = run.progress();
    console.Note(fmt::format("{} of {} prompts done, {} of them by this run in {}, {} failed",
                             progress.done_count, progress.prompt_count,
                             progress.done_count - progress.done_before_count,
                             FormatWait(progress.elapsed_ns), progress.failed_count));
    if (progress.done_count < progress.prompt_count) {
      console.Note("the same command again goes on from here");
    }
    return status;
  }

  absl::Status FailuresIn(const BatchOutput& output) const {
    if (output.failed_count() == 0) return absl::OkStatus();
    return absl::InvalidArgumentError(fmt::format(
        "{} of {} prompts could not be run; {} says why under \"error\"\n  the first: {}\n"
        "  try: mend these lines and give them as a batch of their own",
        output.failed_count(), output.prompt_count(), output_path_, output.first_failure()));
  }

  ModelFlags model_;
  BatchDefaults defaults_;
  std::string input_path_;
  std::string output_path_;
  bool restart_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeBatchCommand() { return std::make_unique<BatchCommand>(); }

}  // namespace stoker
