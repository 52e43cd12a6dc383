// Checks bytes against the table of well-formed UTF-8 sequences.
#include "tokenizer/utf8.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace stoker {
namespace {

// What may follow a lead byte: `bytes` in all, the second within [second_min, second_max], the
// others any continuation byte. bytes is 0 for what cannot lead.
struct Lead {
  size_t bytes;
  uint8_t second_min;
  uint8_t second_max;
};

constexpr Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0x80, 0xbf};
  if (byte < 0xc2) return {0, 0, 0};  // continuations, and leads of overlong forms
  if (byte < 0xe0) return {2, 0x80, 0xbf};
  if (byte == 0xe0) return {3, 0xa0, 0xbf};  // below: overlong
  if (byte == 0xed) return {3, 0x80, 0x9f};  // above: surrogates
  if (byte < 0xf0) return {3, 0x80, 0xbf};
  if (byte == 0xf0) return {4, 0x90, 0xbf};  // below: overlong
  if (byte < 0xf4) return {4, 0x80, 0xbf};
  if (byte == 0xf4) return {4, 0x80, 0x8f};  // above: beyond U+10FFFF
  return {0, 0, 0};
}

// Whether the bytes of `text` that are there agree with the lead's character.
bool Agrees(Lead lead, std::string_view text) {
  const size_t count = std::min(lead.bytes, text.size());
  for (size_t i = 1; i < count; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    const uint8_t min = i == 1 ? lead.second_min : 0x80;
    const uint8_t max = i == 1 ? lead.second_max : 0xbf;
    if (byte < min || byte > max) return false;
  }
  return true;
}

}  // namespace

size_t Utf8CharacterBytes(std::string_view text) {
  if (text.empty()) return 0;
  const Lead lead = LeadOf(static_cast<uint8_t>(text[0]));
  return lead.bytes <= text.size() && Agrees(lead, text) ? lead.bytes : 0;
}

size_t Utf8WellFormedPrefix(std::string_view text) {
  constexpr uint64_t kHighBits = 0x8080808080808080u;
  size_t at = 0;
  while (at < text.size()) {
    uint64_t word = kHighBits;
    if (at + sizeof(word) <= text.size()) std::memcpy(&word, text.data() + at, sizeof(word));
    if ((word & kHighBits) == 0) {  // eight ASCII bytes
      at += sizeof(word);
      continue;
    }
    const size_t bytes = Utf8CharacterBytes(text.substr(at));
    if (bytes == 0) return at;
    at += bytes;
  }
  return at;
}

size_t Utf8UnfinishedSuffix(std::string_view text) {
  const size_t bytes_max = std::min<size_t>(3, text.size());
  for (size_t bytes = 1; bytes <= bytes_max; ++bytes) {
    const std::string_view suffix = text.substr(text.size() - bytes);
    const Lead lead = LeadOf(static_cast<uint8_t>(suffix[0]));
    if (lead.bytes > bytes && Agrees(lead, suffix)) return bytes;
  }
  return 0;
}

}  // namespace stoker
