// Speculation where it is said to pay most: many sequences of a model with few, coarse experts, all
// of which a step needs anyway, so that drafts only add rows to experts that are read in any case.
//
// Drafts come from a drafter that knows the text and errs as often as it is told, because random
// weights have no smaller sibling. Rounds of all lengths are interleaved; medians are shown.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/units.h"
#include "runtime/engine.h"
#include "runtime/statistics.h"
#include "tests/testing/foreseeing_drafter.h"

namespace stoker {
namespace {

struct Setup {
  EngineOptions options;
  std::string ram = "min";
  std::string drive;
  int prompt_tokens = 8;
  int tokens = 24;
  int rounds = 3;
  double acceptance = 0.8;
  std::vector<int> lengths = {0, 1, 2, 4, 8, -1};
};

struct Result {
  double tokens_per_second = 0;
  double rows_per_step = 0;
  double read_bytes_per_token = 0;
  double prediction_error = 0;  // median of |predicted / actual - 1| over steps
  std::vector<std::vector<TokenId>> texts;
};

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::vector<TokenId> PromptOf(int sequence, int count, int vocab) {
  std::vector<TokenId> prompt;
  for (int i = 0; i < count; ++i) prompt.push_back((sequence * 977 + i * 7919 + 1) % vocab);
  return prompt;
}

// `texts`: of an earlier run without drafts; empty in that run.
absl::StatusOr<Result> RunOnce(const Setup& setup, int length,
                               const std::vector<std::vector<TokenId>>& texts) {
  EngineOptions options = setup.options;
  Engine::Parts parts;
  if (!texts.empty() && length != 0) {
    options.draft = "ngram";
    options.draft_length = length;
    parts.make_drafter = [&](const DrafterParts& shape) {
      return std::make_unique<ForeseeingDrafter>(texts, 1 - setup.acceptance, shape.vocab_count);
    };
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, Engine::Open(options, nullptr, parts));
  const int vocab = engine->spec().config.vocab_count;
  Result result;
  for (int i = 0; i < options.sequences_max; ++i) {
    SequenceRequest request;
    request.prompt = PromptOf(i, setup.prompt_tokens, vocab);
    request.sampling.temperature = 0;
    request.tokens_max = setup.tokens;
    request.stop_at_end = false;
    result.texts.push_back(request.prompt);
    RETURN_IF_ERROR(engine->Add(std::move(request)).status());
  }
  RunStatistics statistics;
  std::vector<double> errors;
  int64_t rows = 0;
  while (!engine->idle()) {
    ASSIGN_OR_RETURN(const absl::Span<const TokenEvent> events, engine->Step());
    RETURN_IF_ERROR(engine->last_error());
    const StepRecord& step = engine->last_step();
    statistics.Add(step);
    if (step.prompt_rows == 0) rows += step.decode_rows + step.draft_rows;
    if (step.predicted_ns > 0) {
      const int64_t drafting = step.causes[static_cast<size_t>(Cause::kDraft)];
      errors.push_back(std::abs(static_cast<double>(step.predicted_ns) /
                                    static_cast<double>(step.wall_ns - drafting) -
                                1));
    }
    for (const TokenEvent& event : events) {
      result.texts[static_cast<size_t>(event.sequence - 1)].push_back(event.token);
    }
  }
  const PhaseSummary decode = statistics.Summarize().decode;
  result.tokens_per_second = decode.tokens_per_second();
  result.rows_per_step = static_cast<double>(rows) / static_cast<double>(decode.steps);
  result.read_bytes_per_token =
      static_cast<double>(decode.read_bytes) / static_cast<double>(decode.tokens);
  result.prediction_error = Median(errors);
  return result;
}

absl::Status Measure(const Setup& setup) {
  ASSIGN_OR_RETURN(const Result plain, RunOnce(setup, 0, {}));
  std::vector<std::vector<Result>> results(setup.lengths.size());
  for (int round = 0; round < setup.rounds; ++round) {
    for (size_t i = 0; i < setup.lengths.size(); ++i) {
      ASSIGN_OR_RETURN(Result result, RunOnce(setup, setup.lengths[i], plain.texts));
      if (result.texts != plain.texts) {
        return absl::InternalError("drafts changed the text: that must not be");
      }
      results[i].push_back(std::move(result));
    }
  }
  const auto median = [](const std::vector<Result>& of, double Result::*field) {
    std::vector<double> values;
    for (const Result& result : of) values.push_back(result.*field);
    return Median(values);
  };
  fmt::print(
      "| drafts | tokens/s | ratio | rows a step | read a token | prediction off by |\n"
      "|---|---|---|---|---|---|\n");
  const double base = median(results[0], &Result::tokens_per_second);
  for (size_t i = 0; i < results.size(); ++i) {
    const double rate = median(results[i], &Result::tokens_per_second);
    fmt::print(
        "| {} | {:.2f} | {:.2f} | {:.1f} | {} | {:.0f} % |\n",
        setup.lengths[i] < 0 ? "auto" : fmt::format("{}", setup.lengths[i]), rate, rate / base,
        median(results[i], &Result::rows_per_step),
        FormatBytes(static_cast<uint64_t>(median(results[i], &Result::read_bytes_per_token))),
        100 * median(results[i], &Result::prediction_error));
  }
  return absl::OkStatus();
}

absl::Status RunBench(Setup& setup) {
  ASSIGN_OR_RETURN(setup.options.ram, MemoryBudget::Parse("ram", setup.ram));
  if (!setup.drive.empty()) {
    ASSIGN_OR_RETURN(setup.options.modelled_drive.rate, ParseRate(setup.drive));
  }
  return Measure(setup);
}

}  // namespace
}  // namespace stoker

int main(int argc, char** argv) {
  stoker::Setup setup;
  setup.options.sequences_max = 32;
  setup.options.context = 64;
  setup.options.chunk = 64;
  CLI::App app("Speculation over many sequences of a model of coarse experts.");
  app.add_option("-m,--model", setup.options.model_path, "The model")->required();
  app.add_option("--ram", setup.ram, "As of stoker run");
  app.add_option("--threads", setup.options.threads, "As of stoker run");
  app.add_option("--modelled-drive", setup.drive, "As of stoker run");
  app.add_option("--sequences", setup.options.sequences_max, "At once");
  app.add_option("--acceptance", setup.acceptance, "Chance that a draft is right");
  app.add_option("-n,--tokens", setup.tokens, "Of each sequence");
  app.add_option("--rounds", setup.rounds, "Measured of each length");
  app.add_option("--lengths", setup.lengths, "Of drafts; the first must be 0; -1: auto");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = stoker::RunBench(setup);
  if (status.ok()) return 0;
  fmt::print(stderr, "speculation_bench: {}\n", stoker::MessageOf(status));
  return 1;
}
