// Claims of text_stream.h.
#include "runtime/text_stream.h"

#include <gtest/gtest.h>

#include <random>

namespace stoker {
namespace {

TEST(TextStream, WithoutStopsTextPassesAtOnce) {
  TextStream stream({});
  std::string text;
  EXPECT_FALSE(stream.Push("hello", text));
  EXPECT_EQ(text, "hello");
}

TEST(TextStream, CharactersComeWhole) {
  TextStream stream({});
  std::string text;
  stream.Push("a\xc3", text);
  EXPECT_EQ(text, "a");
  stream.Push("\xa9z", text);
  EXPECT_EQ(text, "a\xc3\xa9z");
}

TEST(TextStream, StopAcrossPiecesIsNeverShown) {
  TextStream stream({"</end>"});
  std::string text;
  EXPECT_FALSE(stream.Push("so it goes <", text));
  EXPECT_EQ(text, "so it goes ");
  EXPECT_FALSE(stream.Push("/en", text));
  EXPECT_EQ(text, "so it goes ");
  EXPECT_TRUE(stream.Push("d> and more", text));
  EXPECT_EQ(text, "so it goes ");
}

TEST(TextStream, WhatOnlyLookedLikeAStopIsShownAfterAll) {
  TextStream stream({"abcd"});
  std::string text;
  EXPECT_FALSE(stream.Push("xabc", text));
  EXPECT_EQ(text, "x");
  EXPECT_FALSE(stream.Push("abc", text));
  EXPECT_EQ(text, "xabc");
  stream.Finish(text);
  EXPECT_EQ(text, "xabcabc");
}

TEST(TextStream, TheStopThatCompletesFirstWins) {
  TextStream stream({"abcd", "bc"});
  std::string text;
  EXPECT_FALSE(stream.Push("1ab", text));
  EXPECT_TRUE(stream.Push("cd", text));
  EXPECT_EQ(text, "1a");
}

TEST(TextStream, OfTwoThatCompleteTogetherTheLongerIsCut) {
  TextStream stream({"c", "abc"});
  std::string text;
  EXPECT_FALSE(stream.Push("xab", text));
  EXPECT_TRUE(stream.Push("c", text));
  EXPECT_EQ(text, "x");
}

TEST(TextStream, AStopMayBeginInsideACharacter) {
  TextStream stream({"\xa9!"});  // the second byte of an e with acute accent
  std::string text;
  EXPECT_FALSE(stream.Push("\xc3\xa9", text));
  EXPECT_EQ(text, "");
  stream.Push("?", text);
  EXPECT_EQ(text, "\xc3\xa9?");
}

// However a text is cut into pieces, what is shown is the text before its first stop.
TEST(TextStream, CuttingIntoPiecesDoesNotShow) {
  std::mt19937 random(21);
  const std::vector<std::string> stops = {"aab", "abab", "bba"};
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 30; ++i) text += "abc"[random() % 3];
    size_t end = std::string::npos, cut = text.size();
    for (const std::string& stop : stops) {
      const size_t at = text.find(stop);
      if (at == std::string::npos) continue;
      if (at + stop.size() < end || (at + stop.size() == end && at < cut)) {
        end = at + stop.size();
        cut = at;
      }
    }
    TextStream stream(stops);
    std::string shown;
    bool stopped = false;
    for (size_t at = 0; at < text.size() && !stopped;) {
      const size_t length = 1 + random() % 4;
      stopped = stream.Push(std::string_view(text).substr(at, length), shown);
      // What is shown can never be taken back.
      ASSERT_EQ(text.substr(0, cut).substr(0, shown.size()), shown) << text;
      at += length;
    }
    if (!stopped) stream.Finish(shown);
    EXPECT_EQ(shown, text.substr(0, cut)) << text;
    EXPECT_EQ(stopped, end != std::string::npos);
  }
}

}  // namespace
}  // namespace stoker
