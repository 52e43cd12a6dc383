// Turns the pieces of generated tokens into text that may be shown: whole characters, and nothing
// of a stop string.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace stoker {

// Holds back what could still become a stop string, and the bytes of an unfinished character. A
// stop may begin and end anywhere, across tokens too. Generation ends at the stop that completes
// first; of two that complete with the same byte, at the one that begins first.
class TextStream {
 public:
  explicit TextStream(std::vector<std::string> stops);

  // Takes the next bytes and appends to `text` what became certain. True when a stop string was
  // completed: what came before it has been appended, it and the rest never will be, and the stream
  // is over.
  bool Push(std::string_view bytes, std::string& text);
  // Appends what is still held back: no more bytes will come.
  void Finish(std::string& text);

 private:
  bool FindStop(size_t* begin) const;
  size_t HeldBytes() const;

  std::vector<std::string> stops_;
  std::string held_;  // no stop in it; a beginning of one at its end, or empty
  Utf8Stream characters_;
};

}  // namespace stoker
