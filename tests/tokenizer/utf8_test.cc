// Checks the rules of well-formed UTF-8, and what may be printed of an unfinished stream.
#include "tokenizer/utf8.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer.h"

namespace stoker {
namespace {

// The encoding of a code point by the bit pattern alone, also where that is not well-formed.
std::string Encoded(uint32_t code) {
  if (code < 0x80) return {static_cast<char>(code)};
  const auto tail = [code](int shift) { return static_cast<char>(0x80 | (code >> shift & 0x3f)); };
  if (code < 0x800) return {static_cast<char>(0xc0 | code >> 6), tail(0)};
  if (code < 0x10000) return {static_cast<char>(0xe0 | code >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xf0 | code >> 18), tail(12), tail(6), tail(0)};
}

const std::vector<std::string> kBroken = {
    "\x80",              // a continuation alone
    "\xc0\x80",          // overlong
    "\xc1\xbf",          // overlong
    "\xe0\x9f\xbf",      // overlong
    "\xf0\x8f\xbf\xbf",  // overlong
    "\xed\xa0\x80",      // a surrogate
    "\xf4\x90\x80\x80",  // beyond U+10FFFF
    "\xf5\x80\x80\x80",  // beyond
    "\xfe",
    "\xff",
};

TEST(Utf8, EveryCodePointButSurrogatesIsWellFormed) {
  for (uint32_t code = 0; code < 0x110000; ++code) {
    const std::string bytes = Encoded(code);
    const bool surrogate = code >= 0xd800 && code < 0xe000;
    ASSERT_EQ(Utf8CharacterBytes(bytes), surrogate ? 0 : bytes.size()) << code;
    ASSERT_EQ(Utf8CharacterBytes(bytes.substr(0, bytes.size() - 1)), 0u) << code;
  }
}

TEST(Utf8, EveryStartOfACharacterIsUnfinished) {
  for (uint32_t code = 0x80; code < 0x110000; ++code) {
    if (code == 0xd800) code = 0xe000;
    const std::string bytes = Encoded(code);
    for (size_t cut = 1; cut < bytes.size(); ++cut) {
      ASSERT_EQ(Utf8UnfinishedSuffix("x" + bytes.substr(0, cut)), cut) << code;
    }
    ASSERT_EQ(Utf8UnfinishedSuffix(bytes), 0u) << code;
  }
}

TEST(Utf8, WhatCanNeverBecomeACharacterIsNotUnfinished) {
  for (const std::string& broken : kBroken) {
    EXPECT_EQ(Utf8CharacterBytes(broken), 0u);
    EXPECT_EQ(Utf8UnfinishedSuffix(broken), 0u);
    EXPECT_EQ(Utf8UnfinishedSuffix(broken.substr(0, std::min<size_t>(2, broken.size()))), 0u);
  }
}

TEST(Utf8, WellFormedPrefixEndsAtTheFirstBrokenByte) {
  for (size_t length = 0; length < 40; ++length) {  // around the eight-byte steps
    std::string text(length, 'a');
    EXPECT_EQ(Utf8WellFormedPrefix(text), length);
    EXPECT_EQ(Utf8WellFormedPrefix(text + "é"), length + 2);
    for (const std::string& broken : kBroken) {
      EXPECT_EQ(Utf8WellFormedPrefix(text + broken + "tail, long enough"), length);
    }
  }
}

TEST(Utf8Stream, HoldsBackUnfinishedCharacters) {
  Utf8Stream stream;
  EXPECT_EQ(stream.Push("a\xf0"), "a");
  EXPECT_EQ(stream.Push("\x9f\x8c"), "");
  EXPECT_EQ(stream.Push("\x8a!"), "\U0001f30a!");
  EXPECT_EQ(stream.Finish(), "");
}

TEST(Utf8Stream, GivesTheUnfinishedRestAtTheEnd) {
  Utf8Stream stream;
  EXPECT_EQ(stream.Push("\xe4\xbd"), "");
  EXPECT_EQ(stream.Finish(), "\xe4\xbd");
  EXPECT_EQ(stream.Finish(), "");
  EXPECT_EQ(stream.Push("x"), "x");
}

TEST(Utf8Stream, PassesOnWhatCanNeverBecomeACharacter) {
  for (const std::string& broken : kBroken) {
    Utf8Stream stream;
    EXPECT_EQ(stream.Push(broken), broken);
    EXPECT_EQ(stream.Finish(), "");
  }
}

TEST(Utf8Stream, DoesNotHoldALeadThatIsFollowedByAnother) {
  Utf8Stream stream;
  EXPECT_EQ(stream.Push("\xe4\xe4"), "\xe4");
  EXPECT_EQ(stream.Push("\xbd\xa0"), "\xe4\xbd\xa0");
}

// Seed 1. However bytes are cut, what comes out is what went in, and whole text comes out in whole
// characters.
TEST(Utf8Stream, KeepsEveryByteHoweverTheyAreCut) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    const bool whole = round % 2 == 0;
    for (int i = 0; i < 12; ++i) {
      const uint32_t code = random() % 0x110000 >> random() % 17;
      if (code >= 0xd800 && code < 0xe000) continue;
      text += Encoded(code);
      if (!whole && random() % 3 == 0) text += static_cast<char>(random());
    }
    Utf8Stream stream;
    std::string printed;
    for (size_t at = 0; at < text.size();) {
      const size_t bytes = std::min<size_t>(1 + random() % 5, text.size() - at);
      const std::string ready = stream.Push(text.substr(at, bytes));
      EXPECT_TRUE(!whole || Utf8WellFormedPrefix(ready) == ready.size());
      printed += ready;
      at += bytes;
    }
    EXPECT_EQ(printed + stream.Finish(), text);
  }
}

TEST(ByteAlphabet, EveryByteHasItsOwnCharacter) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string character = AlphabetCharacter(static_cast<uint8_t>(byte));
    EXPECT_EQ(Utf8CharacterBytes(character), character.size());
    EXPECT_EQ(BytesFromAlphabet(character), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(AlphabetCharacter(' '), "Ġ");
  EXPECT_EQ(AlphabetCharacter('\n'), "Ċ");
}

TEST(ByteAlphabet, OtherCharactersStandForThemselves) {
  EXPECT_EQ(BytesFromAlphabet("<｜a▁b｜> \xff"), "<｜a▁b｜> \xff");
}

}  // namespace
}  // namespace stoker
