// The printable alphabet in which byte-level BPE vocabularies write bytes.
//
// From GPT-2's encoder: printable Latin-1 characters stand for themselves, the other bytes for the
// characters from U+0100 on, in order. https://github.com/openai/gpt-2/blob/master/src/encoder.py
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace stoker {

// The character, as UTF-8, that stands for a byte.
std::string AlphabetCharacter(uint8_t byte);

// The bytes that a vocabulary's text stands for. Characters that are not in the alphabet, as in
// tokens added by hand, stand for themselves.
std::string BytesFromAlphabet(std::string_view text);

}  // namespace stoker
