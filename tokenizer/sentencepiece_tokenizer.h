// SentencePiece-style BPE: tokenizer.ggml.model "llama".
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "tokenizer/tokenizer.h"

namespace stoker {

// Spaces are written as U+2581, a space is put before the text and before text that follows a
// special token (tokenizer.ggml.add_space_prefix, true when absent), and characters merge where
// the result is a token, the highest score first. What is left without a token goes byte by byte
// as "<0x0A>". Kudo and Richardson, https://arxiv.org/abs/1808.06226.
//
// U+2581 in a text cannot be told from a space and decodes to one.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeSentencePieceTokenizer(const GgufModel& gguf);

}  // namespace stoker
