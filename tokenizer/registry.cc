// Chooses the kind of tokenizer that a file names.
#include "tokenizer/registry.h"

#include <string>

#include "base/status.h"
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/sentencepiece_tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace stoker {
namespace {

constexpr std::string_view kModelKey = "tokenizer.ggml.model";

constexpr TokenizerKind kKinds[] = {
    {.model = "gpt2", .make = MakeBpeTokenizer},
    {.model = "llama", .make = MakeSentencePieceTokenizer},
};

}  // namespace

absl::Span<const TokenizerKind> TokenizerKinds() { return kKinds; }

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromGguf(const GgufModel& gguf) {
  ASSIGN_OR_RETURN(const std::string model, gguf.String(kModelKey));
  std::string known;
  for (const TokenizerKind& kind : kKinds) {
    if (kind.model == model) return kind.make(gguf);
    known.append(known.empty() ? "" : ", ").append(kind.model);
  }
  return absl::UnimplementedError(fmt::format(
      "{} is {}, a kind this version does not know (it knows {})", kModelKey, Shown(model), known));
}

}  // namespace stoker
