// What every kind of tokenizer does the same way: special tokens, BOS and EOS, and pieces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/special_tokens.h"
#include "tokenizer/symbol_merger.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace stoker {

// A kind adds how text is cut into words and how a word is encoded, and Decode where a sequence is
// more than its pieces. Immutable once made, so any number of threads may use one.
class VocabularyTokenizer : public Tokenizer {
 public:
  std::vector<TokenId> Encode(std::string_view text, const EncodeOptions& options) const final;
  std::string_view Piece(TokenId id, bool with_special) const final;
  std::string Decode(absl::Span<const TokenId> ids, bool with_special) const override;

  int32_t vocab_count() const final { return vocabulary_.count(); }
  TokenId bos() const final { return vocabulary_.bos(); }
  TokenId eos() const final { return vocabulary_.eos(); }
  bool adds_bos() const final { return vocabulary_.adds_bos(); }
  bool IsEndOfGeneration(TokenId id) const final;

 protected:
  explicit VocabularyTokenizer(Vocabulary vocabulary)
      : vocabulary_(std::move(vocabulary)), specials_(vocabulary_) {}

  // Where a run of ordinary text stands.
  enum class Place { kAfterSpecial, kAfterText };  // the start of the text counts as special
  // Appends the ids of a run of text without special tokens.
  virtual void EncodeText(std::string_view text, Place place, std::vector<TokenId>* ids) const = 0;
  // Appends the ids of one word. `merger` is room to work in.
  virtual void EncodeWord(std::string_view word, SymbolMerger* merger,
                          std::vector<TokenId>* ids) const = 0;

  // Appends the ids of words, each encoded once and then copied from where it was first written.
  // Words repeat: on prose this is more than twice as fast, with no cache that threads would share.
  void EncodeWords(absl::Span<const std::string_view> words, std::vector<TokenId>* ids) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  Vocabulary vocabulary_;
  SpecialTokens specials_;
};

}  // namespace stoker
