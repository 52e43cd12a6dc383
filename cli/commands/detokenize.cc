// stoker detokenize: token ids on standard input to text.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "cli/commands/commands.h"
#include "cli/flags.h"
#include "cli/open_tokenizer.h"
#include "cli/summary.h"

namespace stoker {
namespace {

class DetokenizeCommand final : public Command {
 public:
  void Declare(CLI::App& app) override {
    DeclareModelPath(app, model_path_);
    app.add_flag("--special", special_, "Show special tokens as text");
    app.add_flag("--json", json_, "{\"text\": \"...\"}");
  }

  absl::Status Run(Console& console) override {
    RETURN_IF_ERROR(RequireModelPath(model_path_));
    ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, OpenTokenizer(model_path_));
    ASSIGN_OR_RETURN(const std::string input, ReadStandardInput(console, "token ids"));
    ASSIGN_OR_RETURN(const std::vector<TokenId> ids, ParseIds(input));
    RETURN_IF_ERROR(CheckIds(*tokenizer, ids));
    const std::string text = tokenizer->Decode(ids, special_);
    return console.Print(json_ ? JsonLine({{"text", text}}) : text);
  }

 private:
  std::string model_path_;
  bool special_ = false;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeDetokenizeCommand() { return std::make_unique<DetokenizeCommand>(); }

}  // namespace stoker
