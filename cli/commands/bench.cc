// stoker bench: prompt and decode speed, each rate beside the ceiling that was measured for it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/units.h"
#include "cli/bench_report.h"
#include "cli/ceilings.h"
#include "cli/commands/commands.h"
#include "cli/exit_status.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/link_report.h"
#include "cli/open_engine.h"
#include "io/gguf.h"
#include "runtime/link_survey.h"
#include "runtime/statistics.h"

namespace stoker {
namespace {

constexpr TokenId kIdStep = 7919;  // a prime: walks through any vocabulary

// Runs one prompt and its continuation on an engine and sorts what it cost by phase.
class Repetition {
 public:
  explicit Repetition(Engine& engine) : engine_(engine) {}

  absl::StatusOr<BenchSample> Run(const SequenceRequest& request) {
    RETURN_IF_ERROR(engine_.Add(request).status());
    while (!engine_.idle()) {
      if (Interrupted()) return absl::CancelledError("interrupted");
      const CacheCounts before = engine_.cache_counts();
      RETURN_IF_ERROR(engine_.Step().status());
      RETURN_IF_ERROR(engine_.last_error());
      statistics_.Add(engine_.last_step());
      sample_.drive_busy_ns += engine_.cache_counts().busy_ns - before.busy_ns;
      sample_.drive_bytes += engine_.cache_counts().read_bytes - before.read_bytes;
    }
    sample_.summary = statistics_.Summarize();
    return sample_;
  }

 private:
  Engine& engine_;
  RunStatistics statistics_;
  BenchSample sample_;
};

class BenchCommand final : public Command {
 public:
  void Declare(CLI::App& app) override {
    model_.Declare(app);
    model_.DeclareDrafts(app);
    const std::string group = "Bench";
    app.add_option("-p,--prompt-tokens", prompt_tokens_, "Tokens of the prompt")
        ->capture_default_str()
        ->group(group);
    app.add_option("-n,--tokens", tokens_, "Tokens to generate")
        ->capture_default_str()
        ->group(group);
    app.add_option("-r,--repetitions", repetitions_, "Measured repetitions, after one that is not")
        ->capture_default_str()
        ->group(group);
    app.add_option("-f,--file", file_, "Text that the prompt is taken from; else made-up ids")
        ->group(group);
    app.add_flag("--links", links_,
                 "Instead, what the processor, memory, drive and the device's link carry alone and "
                 "together; a model is optional")
        ->group(group);
    app.add_option("--format", format_, "markdown, csv or json")
        ->capture_default_str()
        ->group(group);
  }

  absl::Status Check() override {
    RETURN_IF_ERROR(model_.Check());
    RETURN_IF_ERROR(FindBenchFormat(format_).status());
    if (prompt_tokens_ >= 1 && tokens_ >= 2 && repetitions_ >= 1) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "a bench needs at least 1 prompt token, 2 generated ones and 1 repetition\n"
        "  try: -p 512 -n 128 -r 5");
  }

  absl::Status Run(Console& console) override {
    console.set_quiet(model_.quiet);
    if (links_) return RunLinks(console);
    RETURN_IF_ERROR(model_.RequireModel());
    ASSIGN_OR_RETURN(const BenchFormat format, FindBenchFormat(format_));
    BenchReport report = {.model_path = model_.options.model_path, .options = model_.options};
    {
      ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(model_.options, console));
      RETURN_IF_ERROR(MeasureEngine(*engine, console, report));
      PrintLateNotices(*engine, console);
    }  // its memory is given back before the machine is measured
    RETURN_IF_ERROR(MeasureCeilings(console, report));
    return console.Print(format(report));
  }

 private:
  absl::Status RunLinks(Console& console) const {
    ASSIGN_OR_RETURN(const LinkFormat format, FindLinkFormat(format_));
    absl::StatusOr<LinkSurvey> survey = SurveyLinks(model_.options);
    if (!survey.ok()) return AsOpeningError(survey.status());
    ASSIGN_OR_RETURN(const double memory, MeasureMemoryBandwidth(survey->threads));
    survey->rows.insert(survey->rows.begin(), {.link = "memory read", .rate = memory});
    if (!survey->notice.empty()) console.Note("note: " + survey->notice);
    return console.Print(format(*survey));
  }

  absl::Status MeasureEngine(Engine& engine, Console& console, BenchReport& report) {
    report.info = engine.info();
    report.trunk_bytes = engine.spec().trunk_bytes;
    report.experts = engine.spec().experts;
    ASSIGN_OR_RETURN(const SequenceRequest request, MakeRequest(engine));
    WatchForInterrupt();
    for (int repetition = 0; repetition <= repetitions_; ++repetition) {
      ASSIGN_OR_RETURN(BenchSample sample, Repetition(engine).Run(request));
      console.Note(fmt::format(
          "{}: prompt {:.1f} tokens/s, decode {:.1f} tokens/s",
          repetition == 0 ? std::string("warming up") : fmt::format("repetition {}", repetition),
          sample.summary.prompt.tokens_per_second(), sample.summary.decode.tokens_per_second()));
      if (repetition > 0) report.samples.push_back(std::move(sample));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<SequenceRequest> MakeRequest(const Engine& engine) const {
    SequenceRequest request;
    request.sampling.temperature = 0;
    request.tokens_max = tokens_;
    request.stop_at_end = false;
    if (file_.empty()) {
      for (int64_t i = 0; i < prompt_tokens_; ++i) {
        request.prompt.push_back(
            static_cast<TokenId>(i * kIdStep % engine.tokenizer().vocab_count()));
      }
      return request;
    }
    ASSIGN_OR_RETURN(const std::string text, ReadTextFile(file_));
    request.prompt = engine.tokenizer().Encode(text, EncodeOptions{});
    if (request.prompt.size() < static_cast<size_t>(prompt_tokens_)) {
      return absl::InvalidArgumentError(
          fmt::format("{} has {} tokens, fewer than the prompt of {}\n  try: -p {}", file_,
                      request.prompt.size(), prompt_tokens_, request.prompt.size()));
    }
    request.prompt.resize(static_cast<size_t>(prompt_tokens_));
    return request;
  }

  absl::Status MeasureCeilings(Console& console, BenchReport& report) const {
    if (report.info.plan.device.is_used()) {
      EngineOptions options = model_.options;
      if (report.experts.layers.empty()) options.model_path.clear();  // links of a usual expert
      ASSIGN_OR_RETURN(report.links, RatesOfLinks(options));
    } else {
      ASSIGN_OR_RETURN(report.memory_ceiling, MeasureMemoryBandwidth(report.info.threads));
    }
    if (report.experts.layers.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const GgufModel gguf, GgufModel::Open(model_.options.model_path));
    ASSIGN_OR_RETURN(report.drive_ceiling,
                     MeasureDriveBandwidth(gguf.paths(), report.experts, model_.options.io));
    if (!report.drive_ceiling.notice.empty()) {
      console.Note("note: " + report.drive_ceiling.notice);
    }
    return absl::OkStatus();
  }

  ModelFlags model_;
  int64_t prompt_tokens_ = 512;
  int64_t tokens_ = 128;
  int repetitions_ = 5;
  bool links_ = false;
  std::string file_;
  std::string format_ = "markdown";
};

}  // namespace

std::unique_ptr<Command> MakeBenchCommand() { return std::make_unique<BenchCommand>(); }

}  // namespace stoker
