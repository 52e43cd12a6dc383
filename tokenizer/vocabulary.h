// The list of tokens that a GGUF file carries, read and checked: what every kind of tokenizer
// needs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/gguf.h"
#include "tokenizer/tokenizer.h"

namespace stoker {

// As numbered in tokenizer.ggml.token_type.
enum class TokenType : uint8_t {
  kUndefined = 0,    // treated as normal
  kNormal = 1,       // comes from text
  kUnknown = 2,      // stands for what the vocabulary cannot write
  kControl = 3,      // marks up a conversation; has no text of its own
  kUserDefined = 4,  // text that is always one token, before anything else is looked at
  kUnused = 5,       // fills the table up
  kByte = 6,         // "<0x0A>": one byte of text that no other token writes
};

// Whether a token has no text of its own: its bytes are printed only on demand.
constexpr bool IsHidden(TokenType type) {
  return type == TokenType::kUnknown || type == TokenType::kControl || type == TokenType::kUnused;
}

// Text from a file as messages show it: quoted, cut short, and with escapes for what a terminal
// would act on.
std::string Shown(std::string_view text);

class Vocabulary {
 public:
  // Turns the text of a normal or user-defined token, as the file writes it, into the bytes that
  // the token stands for.
  using ToBytes = std::string (*)(std::string_view text, TokenType type);
  // What the file may leave unsaid.
  struct Defaults {
    ToBytes to_bytes;
    TokenId bos = -1;  // ignored when the vocabulary is too small for it; so are the next two
    TokenId eos = -1;
    TokenId unknown = -1;
    bool adds_bos = false;
  };

  // InvalidArgument names the key and the entry: no tokens or too many, two of one text, one that
  // is too long, arrays of other lengths, a special id outside the vocabulary, or BOS asked for
  // and not named.
  static absl::StatusOr<Vocabulary> Read(const GgufModel& gguf, const Defaults& defaults);

  int32_t count() const { return static_cast<int32_t>(types_.size()); }
  TokenType type(TokenId id) const { return types_[static_cast<size_t>(id)]; }
  // The bytes a token stands for, hidden ones included. The view lives as long as the vocabulary.
  std::string_view bytes(TokenId id) const {
    const auto index = static_cast<size_t>(id);
    return std::string_view(arena_).substr(ends_[index], ends_[index + 1] - ends_[index]);
  }
  size_t token_bytes_max() const { return token_bytes_max_; }

  TokenId bos() const { return bos_; }
  TokenId eos() const { return eos_; }
  TokenId unknown() const { return unknown_; }
  bool adds_bos() const { return adds_bos_; }
  bool adds_eos() const { return adds_eos_; }
  // Few.
  absl::Span<const TokenId> end_of_generation() const { return end_of_generation_; }

 private:
  absl::Status ReadTypes(const GgufModel& gguf, size_t token_count);
  absl::Status ReadTokens(const std::vector<std::string>& texts, ToBytes to_bytes);
  absl::Status ReadSpecials(const GgufModel& gguf, const Defaults& defaults);
  absl::Status CollectEnds(const GgufModel& gguf, const std::vector<std::string>& texts);

  std::vector<TokenType> types_;
  std::string arena_;         // bytes of token 0, token 1, ...
  std::vector<size_t> ends_;  // [count + 1] where each begins, and where the last ends
  size_t token_bytes_max_ = 0;
  TokenId bos_ = -1;
  TokenId eos_ = -1;
  TokenId unknown_ = -1;
  bool adds_bos_ = false;
  bool adds_eos_ = false;
  std::vector<TokenId> end_of_generation_;
};

}  // namespace stoker
