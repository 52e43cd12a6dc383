// Finds the tokens that are cut out of a text before anything else looks at it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "tokenizer/vocabulary.h"

namespace stoker {

// A trie over the texts of the special tokens: user-defined ones, which always count, and control
// and unknown ones, which count only where the text may contain markup. Finding the next one costs
// one table look-up a byte, however many there are. Of several at one place the longest is taken,
// and the leftmost place first.
class SpecialTokens {
 public:
  explicit SpecialTokens(const Vocabulary& vocabulary);

  struct Found {
    size_t begin = 0;  // the end of the text when there is none
    size_t bytes = 0;
    TokenId id = -1;  // -1 when there is none
  };
  Found FindNext(std::string_view text, bool with_markup) const;

 private:
  struct Node {
    TokenId id = -1;      // the token that ends here
    bool markup = false;  // it counts only as markup
  };
  void Add(std::string_view text, TokenId id, bool markup);
  Found FindAt(std::string_view text, size_t begin, bool with_markup) const;

  static uint64_t EdgeKey(uint32_t node, char byte) {
    return uint64_t{node} << 8 | static_cast<uint8_t>(byte);
  }

  std::vector<Node> nodes_;                        // nodes_[0] is the root
  absl::flat_hash_map<uint64_t, uint32_t> edges_;  // (node, byte) to node
  bool begins_[256] = {};                          // bytes that a special token begins with
};

}  // namespace stoker
