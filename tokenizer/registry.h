// The kinds of tokenizers, by tokenizer.ggml.model.
#pragma once

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tokenizer/tokenizer.h"

namespace stoker {

struct TokenizerKind {
  std::string_view model;  // tokenizer.ggml.model
  absl::StatusOr<std::unique_ptr<Tokenizer>> (*make)(const GgufModel& gguf);
};

absl::Span<const TokenizerKind> TokenizerKinds();

}  // namespace stoker
