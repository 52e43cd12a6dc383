// Merges bytes by rank within words.
#include "tokenizer/bpe_tokenizer.h"

#include <array>

#include "absl/container/flat_hash_map.h"
#include "base/status.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/pre_tokenization.h"
#include "tokenizer/symbol_merger.h"
#include "tokenizer/vocabulary_tokenizer.h"
#include "tokenizer/word_splitter.h"

namespace stoker {
namespace {

constexpr std::string_view kPreKey = "tokenizer.ggml.pre";
constexpr std::string_view kMergesKey = "tokenizer.ggml.merges";

// How two tokens merge, by both ids.
using MergeTable = absl::flat_hash_map<uint64_t, Merge>;
// The tokens that ordinary text may become, by what they stand for.
using IdOfBytes = absl::flat_hash_map<std::string_view, TokenId>;

uint64_t PairKey(TokenId left, TokenId right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

std::string BytesOfToken(std::string_view text, TokenType type) {
  return type == TokenType::kUserDefined ? std::string(text) : BytesFromAlphabet(text);
}

std::string KnownNames() {
  std::string names;
  for (const PreTokenization& row : PreTokenizations()) {
    for (const std::string_view name : row.names) {
      names.append(names.empty() ? "" : ", ").append(name);
    }
  }
  return names;
}

// Reads "left right" lines. The key between them is ids, so that merging never hashes text.
absl::StatusOr<MergeTable> ReadMerges(const std::vector<std::string>& lines,
                                      const std::vector<std::string>& texts,
                                      const Vocabulary& vocabulary) {
  absl::flat_hash_map<std::string_view, TokenId> ids;
  ids.reserve(texts.size());
  for (size_t i = 0; i < texts.size(); ++i) ids.emplace(texts[i], static_cast<TokenId>(i));
  const auto find = [&ids](std::string_view text) {
    const auto entry = ids.find(text);
    return entry == ids.end() ? kNoToken : entry->second;
  };
  MergeTable merges;
  merges.reserve(lines.size());
  std::string joined;
  for (size_t rank = 0; rank < lines.size(); ++rank) {
    const std::string_view line = lines[rank];
    // The left side is not empty, so a space at 0 belongs to it.
    const size_t space = line.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == line.size()) {
      return absl::InvalidArgumentError(fmt::format(
          "{}[{}] is {}, not two texts with a space between them", kMergesKey, rank, Shown(line)));
    }
    joined.assign(line.substr(0, space)).append(line.substr(space + 1));
    const TokenId left = find(line.substr(0, space));
    const TokenId right = find(line.substr(space + 1));
    const TokenId merged = find(joined);
    if (left == kNoToken || right == kNoToken || merged == kNoToken) {
      return absl::InvalidArgumentError(
          fmt::format("{}[{}] is {}, but its parts and {} are not all in the vocabulary; "
                      "tokens and merges are of different models, or the file is damaged",
                      kMergesKey, rank, Shown(line), Shown(joined)));
    }
    // Text never becomes a token without text.
    if (IsHidden(vocabulary.type(merged))) continue;
    merges.try_emplace(PairKey(left, right),
                       Merge{.order = static_cast<double>(rank), .id = merged});
  }
  return merges;
}

class BpeTokenizer final : public VocabularyTokenizer {
 public:
  BpeTokenizer(Vocabulary read, WordSplitter splitter, MergeTable merges,
               const PreTokenization& pre, std::string pre_name)
      : VocabularyTokenizer(std::move(read)),
        splitter_(std::move(splitter)),
        merges_(std::move(merges)),
        whole_words_first_(pre.whole_words_first),
        merges_by_bytes_(merges_.empty() && pre.merges_optional),
        pre_name_(std::move(pre_name)) {
    IndexTokens();
  }

  std::string description() const override {
    return fmt::format("byte-level BPE, {}, {} tokens", pre_name_, vocab_count());
  }

 private:
  void IndexTokens() {
    id_of_byte_.fill(kNoToken);
    const bool index_all = whole_words_first_ || merges_by_bytes_;
    for (TokenId id = 0; id < vocab_count(); ++id) {
      const TokenType type = vocabulary().type(id);
      if (type != TokenType::kNormal && type != TokenType::kUndefined) continue;
      const std::string_view bytes = vocabulary().bytes(id);
      if (bytes.size() == 1) id_of_byte_[static_cast<uint8_t>(bytes[0])] = id;
      if (index_all && !bytes.empty()) id_of_bytes_.try_emplace(bytes, id);
    }
  }

  void EncodeText(std::string_view text, Place, std::vector<TokenId>* ids) const override {
    EncodeWords(splitter_.Split(text), ids);
  }

  void EncodeWord(std::string_view word, SymbolMerger* merger,
                  std::vector<TokenId>* ids) const override {
    if (whole_words_first_) {
      const auto whole = id_of_bytes_.find(word);
      if (whole != id_of_bytes_.end()) {
        ids->push_back(whole->second);
        return;
      }
    }
    merger->Clear();
    for (size_t i = 0; i < word.size(); ++i) {
      merger->Add(static_cast<uint32_t>(i), 1, id_of_byte_[static_cast<uint8_t>(word[i])]);
    }
    const auto symbols = merges_by_bytes_
                             ? merger->Run([&](const Symbol& left, const Symbol& right) {
                                 return FindByBytes(word, left, right);
                               })
                             : merger->Run([&](const Symbol& left, const Symbol& right) {
                                 return FindByIds(left, right);
                               });
    for (const Symbol& symbol : symbols) {
      if (symbol.bytes == 0) continue;
      const TokenId id = symbol.id != kNoToken ? symbol.id : vocabulary().unknown();
      if (id >= 0) ids->push_back(id);
    }
  }

  Merge FindByIds(const Symbol& left, const Symbol& right) const {
    const auto merge = merges_.find(PairKey(left.id, right.id));
    return merge == merges_.end() ? Merge{} : merge->second;
  }

  Merge FindByBytes(std::string_view word, const Symbol& left, const Symbol& right) const {
    const size_t bytes = size_t{left.bytes} + right.bytes;
    if (bytes > vocabulary().token_bytes_max()) return {};
    const auto token = id_of_bytes_.find(word.substr(left.begin, bytes));
    if (token == id_of_bytes_.end()) return {};
    return {.order = static_cast<double>(token->second), .id = token->second};
  }

  WordSplitter splitter_;
  MergeTable merges_;
  bool whole_words_first_;
  bool merges_by_bytes_;
  std::string pre_name_;
  std::array<TokenId, 256> id_of_byte_;
  IdOfBytes id_of_bytes_;  // filled where it is needed
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeBpeTokenizer(const GgufModel& gguf) {
  ASSIGN_OR_RETURN(const std::string pre_name, gguf.String(kPreKey, "default"));
  const PreTokenization* pre = FindPreTokenization(pre_name);
  if (pre == nullptr) {
    return absl::UnimplementedError(
        fmt::format("{} is {}, a pre-tokenization this version does not know (it knows {}); try "
                    "a newer version",
                    kPreKey, Shown(pre_name), KnownNames()));
  }
  ASSIGN_OR_RETURN(Vocabulary vocabulary,
                   Vocabulary::Read(gguf, {.to_bytes = BytesOfToken, .adds_bos = pre->adds_bos}));
  const std::vector<std::string>* lines = gguf.Strings(kMergesKey);
  MergeTable merges;
  if (lines != nullptr) {
    ASSIGN_OR_RETURN(merges,
                     ReadMerges(*lines, *gguf.Strings("tokenizer.ggml.tokens"), vocabulary));
  } else if (gguf.Has(kMergesKey) || !pre->merges_optional) {
    return absl::InvalidArgumentError(
        fmt::format("{} is missing or not an array of text; a byte-level BPE vocabulary needs it: "
                    "convert or download the file again",
                    kMergesKey));
  }
  ASSIGN_OR_RETURN(WordSplitter splitter, WordSplitter::Make(pre->stages));
  return std::make_unique<BpeTokenizer>(std::move(vocabulary), std::move(splitter),
                                        std::move(merges), *pre, pre_name);
}

}  // namespace stoker
