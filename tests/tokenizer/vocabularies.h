// Vocabularies for the tests of the tokenizer: small ones made here, real ones from rank files.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/testing/gguf_writer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace stoker {

// What a GGUF file says about a tokenizer; empty arrays are left out.
struct VocabularySpec {
  std::string model = "gpt2";
  std::string pre = "qwen2";
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<float> scores;
  std::vector<std::string> merges;

  TokenId Add(std::string_view text, TokenType type = TokenType::kNormal, float score = 0);
  GgufWriter ToGguf() const;
};

// The tokenizer of a file with these keys.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(const GgufWriter& writer);

// Byte-level BPE: the 256 bytes (id = byte), a few merges ("he", "ll", "hell", "hello", " h", ...),
// two control tokens, two user-defined ones and an unknown one.
VocabularySpec SmallBpe();
// SentencePiece: <unk> 0, <s> 1, </s> 2, the 256 byte tokens (id = byte + 3), characters and a few
// longer pieces, one user-defined.
VocabularySpec SmallSentencePiece();

// A byte-level BPE vocabulary from a rank file ("token in base64, rank" lines, ranks from 0).
// Merges are derived: a token's two parts are what merging with all lower ranks leaves of it.
struct RankFile {
  bool in_alphabet = false;  // the tokens are written in the printable alphabet, not as bytes
  size_t control_count = 0;  // how many of the first tokens are control tokens
};
VocabularySpec FromRankFile(const std::string& path, const RankFile& file);

// A SentencePiece vocabulary from a model file of that library (a protobuf message).
VocabularySpec FromSentencePieceFile(const std::string& path);

std::string ReadWholeFile(const std::string& path);

}  // namespace stoker
