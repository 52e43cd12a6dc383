// Byte-level BPE: tokenizer.ggml.model "gpt2".
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "tokenizer/tokenizer.h"

namespace stoker {

// Text is cut into words by the pre-tokenization that tokenizer.ggml.pre names ("default" when the
// key is absent); within a word, bytes merge by the ranks in tokenizer.ggml.merges. Sennrich et
// al., https://arxiv.org/abs/1508.07909, over bytes as in GPT-2. A byte for which the vocabulary
// has no token becomes the unknown token or, where there is none, nothing.
//
// The text is taken as it is: some models' own tokenizers compose it first (NFC), which this does
// not, like llama.cpp.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeBpeTokenizer(const GgufModel& gguf);

}  // namespace stoker
