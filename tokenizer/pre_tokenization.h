// How a byte-level BPE vocabulary wants text cut into words before it merges bytes: a table.
#pragma once

#include <string_view>

#include "absl/types/span.h"

namespace stoker {

// A pre-tokenization, by the names that tokenizer.ggml.pre gives it.
struct PreTokenization {
  absl::Span<const std::string_view> names;
  // Regular expressions in the syntax of PCRE2, applied in order: each cuts every piece that the
  // former ones left into its matches and the gaps between them. \s and \S mean Unicode's
  // White_Space, as in the libraries that trained these vocabularies.
  absl::Span<const std::string_view> stages;
  // A word that is a token is that token, even where the merges would not lead there.
  bool whole_words_first = false;
  bool adds_bos = false;  // when the file does not say
  // Files without merges exist: a pair merges when its bytes are a token, lower ids first, as in
  // tiktoken, where ids are ranks.
  bool merges_optional = false;
};

absl::Span<const PreTokenization> PreTokenizations();

// The row of a name, or nullptr.
const PreTokenization* FindPreTokenization(std::string_view name);

}  // namespace stoker
