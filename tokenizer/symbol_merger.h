// Merges neighbouring symbols, best pair first: the loop that BPE and SentencePiece have in common.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "tokenizer/tokenizer.h"

namespace stoker {

inline constexpr TokenId kNoToken = -1;

// A run of bytes of the text being encoded. A symbol merged into its left neighbour has no bytes.
struct Symbol {
  uint32_t begin = 0;  // byte offset in the text
  uint32_t bytes = 0;
  int32_t previous = -1;  // index of the neighbours that are left, -1 at the ends
  int32_t next = -1;
  TokenId id = kNoToken;
};

// What two neighbours become, and how early. Lower goes first. A double holds every rank (an
// integer below 2^32) and every score (a float) exactly.
struct Merge {
  double order = 0;
  TokenId id = kNoToken;  // kNoToken: they do not merge
};

// Merges until no pair merges; the leftmost of equal pairs goes first. With a heap over the pairs
// and links between the symbols, n symbols cost O(n log n): a megabyte without a space is encoded
// about as fast as prose. Reusable, so that short words do not allocate.
class SymbolMerger {
 public:
  void Clear() { symbols_.clear(); }
  // Requires at most 2^31 - 1 symbols.
  void Add(uint32_t begin, uint32_t bytes, TokenId id) {
    const auto index = static_cast<int32_t>(symbols_.size());
    if (index > 0) symbols_.back().next = index;
    symbols_.push_back({.begin = begin, .bytes = bytes, .previous = index - 1, .id = id});
  }

  // `find(left, right)` gives the Merge of two symbols. Ends with the merged symbols in order;
  // those without bytes are to be passed over.
  template <typename Find>
  absl::Span<const Symbol> Run(const Find& find) {
    heap_.clear();
    for (int32_t i = 1; i < static_cast<int32_t>(symbols_.size()); ++i) Consider(i - 1, i, find);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), GoesLater);
      const Candidate best = heap_.back();
      heap_.pop_back();
      Symbol& left = symbols_[best.left];
      // Symbols only grow, so a candidate whose size still fits is not out of date.
      if (left.bytes == 0 || left.next < 0) continue;
      const int32_t right_index = left.next;
      Symbol& right = symbols_[right_index];
      if (left.bytes + right.bytes != best.bytes) continue;
      left.bytes = best.bytes;
      left.id = best.id;
      left.next = right.next;
      right.bytes = 0;
      if (left.next >= 0) symbols_[left.next].previous = best.left;
      if (left.previous >= 0) Consider(left.previous, best.left, find);
      if (left.next >= 0) Consider(best.left, left.next, find);
    }
    return symbols_;
  }

 private:
  struct Candidate {
    double order;
    int32_t left;
    uint32_t bytes;  // of both symbols when the candidate was found
    TokenId id;
  };
  static bool GoesLater(const Candidate& a, const Candidate& b) {
    return a.order != b.order ? a.order > b.order : a.left > b.left;
  }

  template <typename Find>
  void Consider(int32_t left, int32_t right, const Find& find) {
    const Merge merge = find(symbols_[left], symbols_[right]);
    if (merge.id == kNoToken) return;
    heap_.push_back({.order = merge.order,
                     .left = left,
                     .bytes = symbols_[left].bytes + symbols_[right].bytes,
                     .id = merge.id});
    std::push_heap(heap_.begin(), heap_.end(), GoesLater);
  }

  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace stoker
