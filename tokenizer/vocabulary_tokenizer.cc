// Cuts special tokens out of a text and puts pieces together again.
#include "tokenizer/vocabulary_tokenizer.h"

#include <algorithm>

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
