// stoker perplexity: how well a model predicts a text.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "cli/commands/commands.h"
#include "cli/flags.h"
#include "cli/open_engine.h"
#include "cli/summary.h"
#include "runtime/perplexity.h"

namespace stoker {
namespace {

// The window when --ctx does not name one; what published numbers are measured with.
constexpr int kDefaultWindow = 512;

class PerplexityCommand final : public Command {
 public:
  void Declare(CLI::App& app) override {
    model_.options.context = kDefaultWindow;
    model_.options.chunk = kEvaluationChunk;
    model_.Declare(app);
    app.add_option("-f,--file", file_, "The text; standard input when none is named");
    app.add_flag("--json", json_, "{\"perplexity\": ..., \"tokens\": ..., \"windows\": ...}");
  }

  absl::Status Check() override { return model_.Check(); }

  absl::Status Run(Console& console) override {
    console.set_quiet(model_.quiet);
    RETURN_IF_ERROR(model_.RequireModel());
    ASSIGN_OR_RETURN(const std::string text,
                     file_.empty() ? ReadStandardInput(console, "the text") : ReadTextFile(file_));
    EngineOptions options = model_.options;
    if (options.context == 0) options.context = kDefaultWindow;
    options.logits_rows_max = EvaluatedRowsMax(options);
    ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(options, console));
    // The text as it is: no BOS, and nothing in it is a command to the tokenizer.
    const std::vector<TokenId> ids =
        engine->tokenizer().Encode(text, {.add_special = false, .parse_special = false});
    ASSIGN_OR_RETURN(const PerplexityResult result,
                     MeasurePerplexity(*engine, ids, options.context,
                                       [&](const PerplexityResult& so_far, int64_t windows_total) {
                                         ShowProgress(console, so_far, windows_total);
                                       }));
    console.EndProgress();
    PrintLateNotices(*engine, console);
    return Print(console, result);
  }

 private:
  static void ShowProgress(Console& console, const PerplexityResult& so_far,
                           int64_t windows_total) {
    console.Note(fmt::format("window {} of {}: perplexity {:.4f}", so_far.window_count,
                             windows_total, so_far.perplexity));
  }

  absl::Status Print(Console& console, const PerplexityResult& result) const {
    if (json_) {
      return console.Print(JsonLine({{"perplexity", result.perplexity},
                                     {"mean_nats", result.mean_nats},
                                     {"tokens", result.position_count},
                                     {"windows", result.window_count},
                                     {"ids_left_out", result.ids_left_out}}));
    }
    return console.Print(fmt::format("perplexity {:.4f} over {} tokens in {} windows\n",
                                     result.perplexity, result.position_count,
                                     result.window_count));
  }

  ModelFlags model_;
  std::string file_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakePerplexityCommand() { return std::make_unique<PerplexityCommand>(); }

}  // namespace stoker
