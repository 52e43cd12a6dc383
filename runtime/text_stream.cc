// Stop strings are looked for in bytes, before characters are put together.
#include "runtime/text_stream.h"

#include <algorithm>

namespace stoker {

TextStream::TextStream(std::vector<std::string> stops) : stops_(std::move(stops)) {}

// The stop whose last byte comes first; among equals the longest.
bool TextStream::FindStop(size_t* begin) const {
  size_t best_end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const size_t end = at + stop.size();
    if (end < best_end || (end == best_end && at < *begin)) {
      best_end = end;
      *begin = at;
    }
  }
  return best_end != std::string::npos;
}

// Length of the longest end of held_ that begins a stop.
size_t TextStream::HeldBytes() const {
  size_t longest = 0;
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > longest; --length) {
      if (held_.compare(held_.size() - length, length, stop, 0, length) == 0) longest = length;
    }
  }
  return longest;
}

bool TextStream::Push(std::string_view bytes, std::string& text) {
  if (stops_.empty()) {
    text += characters_.Push(bytes);
    return false;
  }
  held_ += bytes;
  size_t stop_begin = 0;
  if (FindStop(&stop_begin)) {
    text += characters_.Push(std::string_view(held_).substr(0, stop_begin));
    text += characters_.Finish();
    held_.clear();
    return true;
  }
  const size_t certain = held_.size() - HeldBytes();
  text += characters_.Push(std::string_view(held_).substr(0, certain));
  held_.erase(0, certain);
  return false;
}

void TextStream::Finish(std::string& text) {
  text += characters_.Push(held_);
  text += characters_.Finish();
  held_.clear();
}

}  // namespace stoker
