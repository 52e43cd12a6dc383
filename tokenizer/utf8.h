// Tells whole UTF-8 characters from broken ones: text comes from outside, and pieces cut
// characters.
//
// Well-formed means the Unicode standard's table 3-7: no overlong forms, no surrogates, nothing
// above U+10FFFF.
#pragma once

#include <cstddef>
#include <string_view>

namespace stoker {

// Bytes of the well-formed character at the start of `text`; 0 when there is none.
size_t Utf8CharacterBytes(std::string_view text);

// Bytes of the longest prefix of `text` that is well-formed.
size_t Utf8WellFormedPrefix(std::string_view text);

// Bytes, at most 3, at the end of `text` that begin a character which more bytes could complete.
size_t Utf8UnfinishedSuffix(std::string_view text);

}  // namespace stoker
