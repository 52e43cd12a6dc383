// stoker logits: every logit of a prompt as a safetensors file, for people who compare engines.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "cli/commands/commands.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/open_engine.h"
#include "io/safetensors.h"

namespace stoker {
namespace {

enum TensorIndex { kLogits, kHidden };

class LogitsCommand final : public Command {
 public:
  void Declare(CLI::App& app) override {
    model_.options.chunk = kEvaluationChunk;
    model_.Declare(app);
    prompts_.Declare(app);
    app.add_option("-o,--output", output_, "The file to write: F32 \"logits\" [tokens, vocab]");
    app.add_flag("--hidden", hidden_,
                 "Also \"hidden\" [layers + 1, tokens, hidden]: the residual stream before each "
                 "layer and after the final norm");
  }

  absl::Status Check() override { return model_.Check(); }

  absl::Status Run(Console& console) override {
    console.set_quiet(model_.quiet);
    RETURN_IF_ERROR(model_.RequireModel());
    if (output_.empty()) {
      return absl::InvalidArgumentError("no output was named\n  try: -o OUT.safetensors");
    }
    ASSIGN_OR_RETURN(const std::vector<PromptSource> sources, prompts_.Read(console));
    if (sources.size() != 1) return absl::InvalidArgumentError("logits takes one prompt");
    EngineOptions options = model_.options;
    options.logits_rows_max = EvaluatedRowsMax(options);
    options.hidden_states = hidden_;
    ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(options, console));
    const std::vector<TokenId> ids = EncodePrompt(engine->tokenizer(), sources.front());
    WatchForInterrupt();
    const absl::Status status = Write(*engine, ids);
    PrintLateNotices(*engine, console);
    return status;
  }

 private:
  absl::Status Write(Engine& engine, const std::vector<TokenId>& ids) const {
    const ModelConfig& config = engine.spec().config;
    const int64_t tokens = static_cast<int64_t>(ids.size());
    std::vector<SafetensorsWriter::Tensor> tensors = {{"logits", {tokens, config.vocab_count}}};
    if (hidden_) tensors.push_back({"hidden", {config.layer_count + 1, tokens, config.hidden}});
    const absl::StatusOr<std::unique_ptr<SafetensorsWriter>> created =
        SafetensorsWriter::Create(output_, tensors);
    if (!created.ok()) return absl::InternalError(created.status().message());
    SafetensorsWriter& writer = **created;
    RETURN_IF_ERROR(engine.Evaluate(ids, hidden_, [&](const Engine::EvaluatedRows& rows) {
      if (Interrupted()) return absl::CancelledError("interrupted");
      return WriteRows(writer, config, tokens, rows);
    }));
    return writer.Close();
  }

  absl::Status WriteRows(SafetensorsWriter& writer, const ModelConfig& config, int64_t tokens,
                         const Engine::EvaluatedRows& rows) const {
    const int64_t vocab = config.vocab_count;
    RETURN_IF_ERROR(
        writer.Write(kLogits, rows.first * vocab,
                     absl::MakeConstSpan(rows.logits, static_cast<size_t>(rows.rows * vocab))));
    if (!hidden_) return absl::OkStatus();
    const int64_t hidden = config.hidden;
    for (int64_t layer = 0; layer <= config.layer_count; ++layer) {
      RETURN_IF_ERROR(
          writer.Write(kHidden, (layer * tokens + rows.first) * hidden,
                       absl::MakeConstSpan(rows.hidden + layer * rows.hidden_block_stride,
                                           static_cast<size_t>(rows.rows * hidden))));
    }
    return absl::OkStatus();
  }

  ModelFlags model_;
  PromptFlags prompts_;
  std::string output_;
  bool hidden_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeLogitsCommand() { return std::make_unique<LogitsCommand>(); }

}  // namespace stoker
