// Builds and walks the trie of special tokens.
#include "tokenizer/special_tokens.h"

namespace stoker {

SpecialTokens::SpecialTokens(const Vocabulary& vocabulary) : nodes_(1) {
  for (TokenId id = 0; id < vocabulary.count(); ++id) {
    const TokenType type = vocabulary.type(id);
    const bool markup = type == TokenType::kControl || type == TokenType::kUnknown;
    if (markup || type == TokenType::kUserDefined) Add(vocabulary.bytes(id), id, markup);
  }
}

void SpecialTokens::Add(std::string_view text, TokenId id, bool markup) {
  if (text.empty()) return;
  begins_[static_cast<uint8_t>(text[0])] = true;
  uint32_t node = 0;
  for (const char byte : text) {
    const auto [edge, added] =
        edges_.try_emplace(EdgeKey(node, byte), static_cast<uint32_t>(nodes_.size()));
    if (added) nodes_.emplace_back();
    node = edge->second;
  }
  nodes_[node] = {.id = id, .markup = markup};
}

SpecialTokens::Found SpecialTokens::FindAt(std::string_view text, size_t begin,
                                           bool with_markup) const {
  Found longest{.begin = begin};
  uint32_t node = 0;
  for (size_t at = begin; at < text.size(); ++at) {
    const auto edge = edges_.find(EdgeKey(node, text[at]));
    if (edge == edges_.end()) break;
    node = edge->second;
    if (nodes_[node].id >= 0 && (with_markup || !nodes_[node].markup)) {
      longest.bytes = at + 1 - begin;
      longest.id = nodes_[node].id;
    }
  }
  return longest;
}

SpecialTokens::Found SpecialTokens::FindNext(std::string_view text, bool with_markup) const {
  for (size_t begin = 0; begin < text.size(); ++begin) {
    if (!begins_[static_cast<uint8_t>(text[begin])]) continue;
    const Found found = FindAt(text, begin, with_markup);
    if (found.id >= 0) return found;
  }
  return {.begin = text.size()};
}

}  // namespace stoker
