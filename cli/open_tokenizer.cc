// Opens a model file for its tokenizer alone.
#include "cli/open_tokenizer.h"

#include "cli/exit_status.h"
#include "io/gguf.h"

namespace stoker {

absl::StatusOr<std::unique_ptr<Tokenizer>> OpenTokenizer(const std::string& model_path) {
  const absl::StatusOr<GgufModel> gguf = GgufModel::Open(model_path);
  if (!gguf.ok()) return AsOpeningError(gguf.status());
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::FromGguf(*gguf);
  if (!tokenizer.ok()) return AsOpeningError(tokenizer.status());
  return tokenizer;
}

}  // namespace stoker
