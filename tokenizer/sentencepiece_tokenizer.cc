// Merges characters by score over whole texts.
#include "tokenizer/sentencepiece_tokenizer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "absl/container/flat_hash_map.h"
#include "base/status.h"
#include "tokenizer/symbol_merger.h"
#include "tokenizer/utf8.h"
#include "tokenizer/vocabulary_tokenizer.h"

namespace stoker {
namespace {

constexpr std::string_view kScoresKey = "tokenizer.ggml.scores";
constexpr std::string_view kWrittenSpace = "\u2581";

// The byte that "<0x0A>" means, or -1.
int ByteNamed(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  int byte = -1;
  const auto [end, error] = std::from_chars(text.data() + 3, text.data() + 5, byte, 16);
  return error == std::errc() && end == text.data() + 5 ? byte : -1;
}

std::string WithPlainSpaces(std::string_view text) {
  std::string plain;
  plain.reserve(text.size() + 1);
  size_t at = 0;
  for (size_t found; (found = text.find(kWrittenSpace, at)) != std::string_view::npos;) {
    plain.append(text.substr(at, found - at)).append(" ");
    at = found + kWrittenSpace.size();
  }
  plain.append(text.substr(at));
  return plain;
}

// Bytes of the spaces at the start of `text` and of what follows them up to the next space.
size_t WordBytes(std::string_view text) {
  const size_t begin = std::min(text.find_first_not_of(' '), text.size());
  return std::min(text.find(' ', begin), text.size());
}

std::string BytesOfToken(std::string_view text, TokenType type) {
  const int byte = type == TokenType::kByte ? ByteNamed(text) : -1;
  return byte >= 0 ? std::string(1, static_cast<char>(byte)) : WithPlainSpaces(text);
}

// Internally spaces stay spaces: tokens are kept with plain spaces, so texts need no rewriting.
class SentencePieceTokenizer final : public VocabularyTokenizer {
 public:
  SentencePieceTokenizer(Vocabulary read, const std::vector<std::string>& texts,
                         const std::vector<double>& scores, bool adds_space)
      : VocabularyTokenizer(std::move(read)), adds_space_(adds_space) {
    id_of_byte_.fill(kNoToken);
    tokens_.reserve(texts.size());
    for (TokenId id = 0; id < vocab_count(); ++id) {
      const auto index = static_cast<size_t>(id);
      IndexToken(id, texts[index], scores[index]);
    }
  }

  std::string description() const override {
    return fmt::format("SentencePiece, {} tokens", vocab_count());
  }

  std::string Decode(absl::Span<const TokenId> ids, bool with_special) const override {
    std::string text;
    Place place = Place::kAfterSpecial;
    for (const TokenId id : ids) {
      std::string_view piece = Piece(id, with_special);
      const bool is_special = IsCutOut(vocabulary().type(id));
      if (adds_space_ && place == Place::kAfterSpecial && !is_special && !piece.empty() &&
          piece[0] == ' ') {
        piece.remove_prefix(1);
      }
      text.append(piece);
      place = is_special ? Place::kAfterSpecial : Place::kAfterText;
    }
    return text;
  }

 private:
  // Whether SpecialTokens finds tokens of this type, and so text that follows one gets a space. The
  // unknown token counts as text: it mostly stands for some.
  static bool IsCutOut(TokenType type) {
    return type == TokenType::kControl || type == TokenType::kUserDefined;
  }

  void IndexToken(TokenId id, std::string_view text, double score) {
    const std::string_view bytes = vocabulary().bytes(id);
    switch (vocabulary().type(id)) {
      case TokenType::kByte:
        if (bytes.size() == 1) id_of_byte_[static_cast<uint8_t>(bytes[0])] = id;
        return;
      case TokenType::kNormal:
      case TokenType::kUndefined:
        // A token written with a plain space is out of reach: texts have none.
        if (bytes.empty() || text.find(' ') != std::string_view::npos) return;
        tokens_.try_emplace(bytes, Merge{.order = -score, .id = id});
        if (WordBytes(bytes) < bytes.size()) words_apart_ = false;
        return;
      default:
        return;
    }
  }

  Merge Find(std::string_view bytes) const {
    if (bytes.size() > vocabulary().token_bytes_max()) return {};
    const auto token = tokens_.find(bytes);
    return token == tokens_.end() ? Merge{} : token->second;
  }

  void EncodeText(std::string_view text, Place place, std::vector<TokenId>* ids) const override {
    std::string plain = WithPlainSpaces(text);
    if (adds_space_ && place == Place::kAfterSpecial) plain.insert(0, 1, ' ');
    std::vector<std::string_view> words;
    for (std::string_view rest = plain; !rest.empty(); rest.remove_prefix(words.back().size())) {
      words.push_back(rest.substr(0, words_apart_ ? WordBytes(rest) : rest.size()));
    }
    EncodeWords(words, ids);
  }

  void EncodeWord(std::string_view word, SymbolMerger* merger,
                  std::vector<TokenId>* ids) const override {
    merger->Clear();
    for (size_t at = 0; at < word.size();) {
      const size_t bytes = std::max<size_t>(1, Utf8CharacterBytes(word.substr(at)));
      merger->Add(static_cast<uint32_t>(at), static_cast<uint32_t>(bytes),
                  Find(word.substr(at, bytes)).id);
      at += bytes;
    }
    const auto symbols = merger->Run([&](const Symbol& left, const Symbol& right) {
      return Find(word.substr(left.begin, size_t{left.bytes} + right.bytes));
    });
    for (const Symbol& symbol : symbols) {
      if (symbol.bytes == 0) continue;
      if (symbol.id != kNoToken) {
        ids->push_back(symbol.id);
      } else {
        EncodeBytes(word.substr(symbol.begin, symbol.bytes), ids);
      }
    }
  }

  void EncodeBytes(std::string_view bytes, std::vector<TokenId>* ids) const {
    for (const char byte : bytes) {
      const TokenId named = id_of_byte_[static_cast<uint8_t>(byte)];
      const TokenId id = named != kNoToken ? named : vocabulary().unknown();
      if (id >= 0) ids->push_back(id);
    }
  }

  bool adds_space_;
  // No token has a space after something else, so nothing merges from one word into the next: they
  // can be encoded one by one, with the same result as all at once and many times as fast. So it is
  // with every vocabulary trained with split_by_whitespace, the default.
  bool words_apart_ = true;
  std::array<TokenId, 256> id_of_byte_;
  absl::flat_hash_map<std::string_view, Merge> tokens_;  // what text may become, by its bytes
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeSentencePieceTokenizer(const GgufModel& gguf) {
  ASSIGN_OR_RETURN(
      Vocabulary vocabulary,
      Vocabulary::Read(
          gguf, {.to_bytes = BytesOfToken, .bos = 1, .eos = 2, .unknown = 0, .adds_bos = true}));
  const auto count = static_cast<size_t>(vocabulary.count());
  const std::vector<std::string>& texts = *gguf.Strings("tokenizer.ggml.tokens");
  for (size_t i = 0; i < count; ++i) {
    if (vocabulary.type(static_cast<TokenId>(i)) == TokenType::kByte && ByteNamed(texts[i]) < 0) {
      return absl::InvalidArgumentError(
          fmt::format("tokenizer.ggml.tokens[{}] is of type byte, but {} is not like <0x0A>", i,
                      Shown(texts[i])));
    }
  }
  ASSIGN_OR_RETURN(const std::vector<double> scores, gguf.Floats(kScoresKey));
  if (scores.size() < count) {
    return absl::InvalidArgumentError(
        fmt::format("{} has {} entries for {} tokens; a SentencePiece vocabulary needs one each",
                    kScoresKey, scores.size(), count));
  }
  for (size_t i = 0; i < count; ++i) {
    if (!std::isfinite(scores[i])) {
      return absl::InvalidArgumentError(
          fmt::format("{}[{}] is not a finite number", kScoresKey, i));
    }
  }
  ASSIGN_OR_RETURN(const bool adds_space, gguf.Bool("tokenizer.ggml.add_space_prefix", true));
  return std::make_unique<SentencePieceTokenizer>(std::move(vocabulary), texts, scores, adds_space);
}

}  // namespace stoker
