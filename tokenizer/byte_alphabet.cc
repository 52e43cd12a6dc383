// Maps bytes to GPT-2's printable characters and back.
#include "tokenizer/byte_alphabet.h"

#include <array>

#include "tokenizer/utf8.h"

namespace stoker {
namespace {

constexpr bool StandsForItself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
         (byte >= 0xae && byte <= 0xff);
}

constexpr size_t kOtherBytes = 68;

// The bytes that U+0100, U+0101, ... stand for.
constexpr std::array<uint8_t, kOtherBytes> MakeOtherBytes() {
  std::array<uint8_t, kOtherBytes> bytes = {};
  size_t count = 0;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    if (!StandsForItself(byte)) bytes[count++] = static_cast<uint8_t>(byte);
  }
  return bytes;
}
constexpr std::array<uint8_t, kOtherBytes> kOthers = MakeOtherBytes();

// The byte that a well-formed character of one or two bytes stands for, or -1.
int ByteOf(std::string_view character) {
  uint32_t code = static_cast<uint8_t>(character[0]);
  if (character.size() == 2) {
    code = (code & 0x1f) << 6 | (static_cast<uint8_t>(character[1]) & 0x3f);
  }
  if (code < 0x100) return StandsForItself(code) ? static_cast<int>(code) : -1;
  return code < 0x100 + kOtherBytes ? kOthers[code - 0x100] : -1;
}

}  // namespace

std::string AlphabetCharacter(uint8_t byte) {
  uint32_t code = byte;
  for (uint32_t i = 0; i < kOtherBytes; ++i) {
    if (kOthers[i] == byte) code = 0x100 + i;
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
}

std::string BytesFromAlphabet(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  while (!text.empty()) {
    const size_t taken = Utf8CharacterBytes(text);
    const int byte = taken == 1 || taken == 2 ? ByteOf(text.substr(0, taken)) : -1;
    const size_t copied = taken == 0 ? 1 : taken;
    if (byte >= 0) {
      bytes.push_back(static_cast<char>(byte));
    } else {
      bytes.append(text.substr(0, copied));
    }
    text.remove_prefix(copied);
  }
  return bytes;
}

}  // namespace stoker
