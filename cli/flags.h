// The flag tables that several commands share, and what they fill in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/console.h"
#include "runtime/options.h"
#include "tokenizer/tokenizer.h"

namespace CLI {
class App;
}

namespace stoker {

// Where a run's options come from: flags first, then the file of --config, then defaults.
struct ModelFlags {
  EngineOptions options;
  std::string ram = "auto";
  std::string draft_length = "auto";
  // Empty: not given.
  std::string vram;
  std::string place;
  std::string modelled_memory;
  std::string modelled_bandwidth;
  std::string modelled_link;
  std::string modelled_link_out;
  std::string modelled_drive;
  bool quiet = false;

  void Declare(CLI::App& app);
  // Of commands that generate, besides.
  void DeclareDrafts(CLI::App& app);
  // Fills the options in that are read from text. InvalidArgument naming flag, value and range.
  absl::Status Check();
  // InvalidArgument when no model was named.
  absl::Status RequireModel() const;

 private:
  void DeclareDevice(CLI::App& app);
  void DeclareExperts(CLI::App& app);
  absl::Status CheckDevice();
};

// The flag of commands that read a model file and do not run it.
void DeclareModelPath(CLI::App& app, std::string& path);
absl::Status RequireModelPath(std::string_view path);

// Commands that want every row's logits take prompts in smaller chunks unless told otherwise: 128
// rows of a vocabulary of 150,000 are 73 MiB.
inline constexpr int kEvaluationChunk = 128;
// The rows of logits that a step of such a command has, for EngineOptions::logits_rows_max.
int EvaluatedRowsMax(const EngineOptions& options);

void DeclareSamplingFlags(CLI::App& app, SamplingOptions& sampling);

// Declares a flag that may be given several times, one value each time, any text.
void DeclareTexts(CLI::App& app, const std::string& names, std::vector<std::string>& values,
                  const std::string& description, const std::string& group);

// One prompt as the user gave it.
struct PromptSource {
  std::string text = {};
  std::vector<TokenId> ids = {};  // instead of the text
  bool is_ids = false;
};

struct PromptFlags {
  std::vector<std::string> texts;  // -p
  std::vector<std::string> files;  // -f
  std::vector<std::string> ids;    // --ids

  void Declare(CLI::App& app);
  // All prompts: texts, then files, then ids; standard input when none was named. InvalidArgument:
  // a file that cannot be read, ids that are not numbers.
  absl::StatusOr<std::vector<PromptSource>> Read(Console& console) const;
};

// "1 2 3" or "1,2,3". InvalidArgument naming the word that is no id.
absl::StatusOr<std::vector<TokenId>> ParseIds(std::string_view text);
// A whole file, or standard input. InvalidArgument when it cannot be read.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);
absl::StatusOr<std::string> ReadStandardInput(Console& console, std::string_view what);

std::vector<TokenId> EncodePrompt(const Tokenizer& tokenizer, const PromptSource& source);
// InvalidArgument naming the first id outside the vocabulary.
absl::Status CheckIds(const Tokenizer& tokenizer, absl::Span<const TokenId> ids);

}  // namespace stoker
