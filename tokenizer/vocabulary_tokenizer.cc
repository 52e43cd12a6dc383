// Cuts special tokens out of a text and puts pieces together again.
#include "tokenizer/vocabulary_tokenizer.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "base/check.h"

namespace stoker {
namespace {

// Symbols count bytes in 32 bits. Runs beyond this are cut, which at worst splits a word there.
constexpr size_t kRunBytesMax = size_t{1} << 30;

}  // namespace

std::vector<TokenId> VocabularyTokenizer::Encode(std::string_view text,
                                                 const EncodeOptions& options) const {
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 3 + 2);
  if (options.add_special && vocabulary_.adds_bos()) ids.push_back(vocabulary_.bos());
  Place place = Place::kAfterSpecial;
  while (!text.empty()) {
    const SpecialTokens::Found special = specials_.FindNext(text, options.parse_special);
    std::string_view run = text.substr(0, special.begin);
    while (!run.empty()) {
      EncodeText(run.substr(0, kRunBytesMax), place, &ids);
      run.remove_prefix(std::min(run.size(), kRunBytesMax));
      place = Place::kAfterText;
    }
    if (special.id >= 0) {
      ids.push_back(special.id);
      place = Place::kAfterSpecial;
    }
    text.remove_prefix(special.begin + special.bytes);
  }
  if (options.add_special && vocabulary_.adds_eos()) ids.push_back(vocabulary_.eos());
  return ids;
}

void VocabularyTokenizer::EncodeWords(absl::Span<const std::string_view> words,
                                      std::vector<TokenId>* ids) const {
  struct Written {  // where in the ids
    size_t begin;
    size_t count;
  };
  absl::flat_hash_map<std::string_view, Written> written;
  SymbolMerger merger;
  for (const std::string_view word : words) {
    const auto [entry, is_new] = written.try_emplace(word, Written{ids->size(), 0});
    if (is_new) {
      EncodeWord(word, &merger, ids);
      entry->second.count = ids->size() - entry->second.begin;
      continue;
    }
    const Written from = entry->second;
    for (size_t i = 0; i < from.count; ++i) ids->push_back(TokenId{(*ids)[from.begin + i]});
  }
}

std::string_view VocabularyTokenizer::Piece(TokenId id, bool with_special) const {
  CHECK(id >= 0 && id < vocabulary_.count());
  if (!with_special && IsHidden(vocabulary_.type(id))) return {};
  return vocabulary_.bytes(id);
}

std::string VocabularyTokenizer::Decode(absl::Span<const TokenId> ids, bool with_special) const {
  std::string text;
  for (const TokenId id : ids) text.append(Piece(id, with_special));
  return text;
}

bool VocabularyTokenizer::IsEndOfGeneration(TokenId id) const {
  const absl::Span<const TokenId> ends = vocabulary_.end_of_generation();
  return std::find(ends.begin(), ends.end(), id) != ends.end();
}

}  // namespace stoker
