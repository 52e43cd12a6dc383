// Speculation where it is said to pay most: many sequences of a model with few, coarse experts, all
// of which a step needs anyway, so that drafts only add rows to experts that are read in any case.
//
// Drafts come from a drafter that knows the text and errs as often as it is told, because random
// weights have no smaller sibling. Rounds of all lengths are interleaved; medians are shown. What
// counts is the time in which all sequences decode: not their prompts, nor the end, when some have
// all their tokens and steps become narrow. (`stoker batch` starts another prompt then.)
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "base/status.h"
#include "base/units.h"
#include "runtime/engine.h"
#include "tests/testing/foreseeing_drafter.h"

namespace stoker {
namespace {

struct Setup {
  EngineOptions options;
  std::string ram = "min";
  std::string drive;
  std::vector<std::string> settings;  // "key=value"
  int prompt_tokens = 8;
  int tokens = 24;
  int skipped = 4;
  int rounds = 3;
  double acceptance = 0.8;
  std::vector<int> lengths = {0, 1, 2, 4, 8, -1};
};

struct Result {
  double tokens_per_second = 0;
  double step_ms = 0;
  double rows_per_step = 0;
  double read_bytes_per_token = 0;
  double wait_share = 0;        // of the time, for the drive with nothing to compute
  double drive_share = 0;       // of the time, in which the drive was reading
  double prediction_error = 0;  // median of |predicted / actual - 1| over steps
  std::vector<std::vector<TokenId>> texts;
};

// Sums over the steps that count.
struct Tally {
  int seen = 0, steps = 0, tokens = 0, rows = 0;
  int64_t ns = 0, wait_ns = 0, drive_ns = 0;
  uint64_t read_bytes = 0;
  std::vector<double> errors;

  void Add(const StepRecord& step);
  void Sum(Result& result) const;
};

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void Tally::Add(const StepRecord& step) {
  const auto cost = [&step](Cause cause) { return step.causes[static_cast<size_t>(cause)]; };
  ++steps;
  tokens += step.tokens;
  rows += step.decode_rows + step.draft_rows;
  ns += step.wall_ns;
  wait_ns += cost(Cause::kWaitDrive);
  drive_ns += step.drive_busy_ns;
  read_bytes += step.read_bytes;
  if (step.predicted_ns == 0) return;
  const auto actual_ns = static_cast<double>(step.wall_ns - cost(Cause::kDraft));
  errors.push_back(std::abs(static_cast<double>(step.predicted_ns) / actual_ns - 1));
}

void Tally::Sum(Result& result) const {
  const auto time = static_cast<double>(ns);
  result.tokens_per_second = tokens / time * 1e9;
  result.step_ms = time / steps / 1e6;
  result.rows_per_step = static_cast<double>(rows) / steps;
  result.read_bytes_per_token = static_cast<double>(read_bytes) / tokens;
  result.wait_share = static_cast<double>(wait_ns) / time;
  result.drive_share = static_cast<double>(drive_ns) / time;
  result.prediction_error = Median(errors);
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
  Tally tally;
  while (!engine->idle()) {
    ASSIGN_OR_RETURN(const absl::Span<const TokenEvent> events, engine->Step());
    RETURN_IF_ERROR(engine->last_error());
    const StepRecord& step = engine->last_step();
    if (step.prompt_rows == 0 && step.decode_rows == options.sequences_max) {
      if (++tally.seen > setup.skipped) tally.Add(step);
    }
    for (const TokenEvent& event : events) {
      result.texts[static_cast<size_t>(event.sequence - 1)].push_back(event.token);
    }
  }
  if (tally.steps == 0) {
    return absl::InvalidArgumentError("the first sequence ended before a step counted: more -n");
  }
  tally.Sum(result);
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
      "| drafts | tokens/s | ratio | rows a step | step, ms | waiting | drive busy | read a token "
      "| "
      "prediction off by |\n|---|---|---|---|---|---|---|---|---|\n");
  const double base = median(results[0], &Result::tokens_per_second);
  for (size_t i = 0; i < results.size(); ++i) {
    const double rate = median(results[i], &Result::tokens_per_second);
    fmt::print(
        "| {} | {:.2f} | {:.2f} | {:.1f} | {:.0f} | {:.0f} % | {:.0f} % | {} | {:.0f} % |\n",
        setup.lengths[i] < 0 ? "auto" : fmt::format("{}", setup.lengths[i]), rate, rate / base,
        median(results[i], &Result::rows_per_step), median(results[i], &Result::step_ms),
        100 * median(results[i], &Result::wait_share),
        100 * median(results[i], &Result::drive_share),
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
  for (const std::string& setting : setup.settings) {
    const size_t equals = setting.find('=');
    double value = 0;
    if (equals == std::string::npos || !absl::SimpleAtod(setting.substr(equals + 1), &value)) {
      return absl::InvalidArgumentError("--set takes KEY=NUMBER, as hints.rows=32");
    }
    setup.options.settings.push_back({.key = setting.substr(0, equals), .value = value});
  }
  return Measure(setup);
}

}  // namespace
}  // namespace stoker

int main(int argc, char** argv) {
  stoker::Setup setup;
  setup.options.sequences_max = 32;
  setup.options.context = 256;
  setup.options.chunk = 64;
  CLI::App app("Speculation over many sequences of a model of coarse experts.");
  app.add_option("-m,--model", setup.options.model_path, "The model")->required();
  app.add_option("--ram", setup.ram, "As of stoker run");
  app.add_option("--threads", setup.options.threads, "As of stoker run");
  app.add_option("--modelled-drive", setup.drive, "As of stoker run");
  app.add_option("--sequences", setup.options.sequences_max, "At once");
  app.add_option("--acceptance", setup.acceptance, "Chance that a draft is right");
  app.add_option("-n,--tokens", setup.tokens, "Of each sequence");
  app.add_option("--context", setup.options.context, "As of stoker run");
  app.add_option("--policy", setup.options.policy, "As of stoker run");
  app.add_option("--prefetch", setup.options.prefetch, "As of stoker run");
  app.add_option("--set", setup.settings, "KEY=NUMBER: a parameter, as a flag of stoker run");
  app.add_option("--skip", setup.skipped, "Steps with all sequences that do not count yet");
  app.add_option("--rounds", setup.rounds, "Measured of each length");
  app.add_option("--lengths", setup.lengths, "Of drafts; the first must be 0; -1: auto");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = stoker::RunBench(setup);
  if (status.ok()) return 0;
  fmt::print(stderr, "speculation_bench: {}\n", stoker::MessageOf(status));
  return 1;
}
