// stoker tokenize: text on standard input to token ids.
#include <fmt/format.h>
#include <fmt/ranges.h>

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

class TokenizeCommand final : public Command {
 public:
  void Declare(CLI::App& app) override {
    DeclareModelPath(app, model_path_);
    app.add_flag("--no-bos", no_bos_, "Leave out the tokens that the model puts around a text");
    app.add_flag("--plain", plain_, "Read the text of special tokens as ordinary text");
    app.add_flag("--json", json_, "{\"ids\": [...], \"pieces\": [...]}");
  }

  absl::Status Run(Console& console) override {
    RETURN_IF_ERROR(RequireModelPath(model_path_));
    ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, OpenTokenizer(model_path_));
    ASSIGN_OR_RETURN(const std::string text, ReadStandardInput(console, "text"));
    const std::vector<TokenId> ids =
        tokenizer->Encode(text, {.add_special = !no_bos_, .parse_special = !plain_});
    if (!json_) return console.Print(fmt::format("{}\n", fmt::join(ids, " ")));
    nlohmann::ordered_json pieces = nlohmann::ordered_json::array();
    for (const TokenId id : ids) pieces.push_back(std::string(tokenizer->Piece(id, true)));
    return console.Print(JsonLine({{"ids", ids}, {"pieces", pieces}}));
  }

 private:
  std::string model_path_;
  bool no_bos_ = false;
  bool plain_ = false;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeTokenizeCommand() { return std::make_unique<TokenizeCommand>(); }

}  // namespace stoker
