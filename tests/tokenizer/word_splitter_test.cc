// Asks every pre-tokenization the same questions.
#include "tokenizer/word_splitter.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>

#include "tokenizer/pre_tokenization.h"

namespace stoker {
namespace {

using Words = std::vector<std::string>;

Words Split(std::string_view pre, std::string_view text) {
  const auto splitter = WordSplitter::Make(FindPreTokenization(pre)->stages);
  EXPECT_TRUE(splitter.ok()) << splitter.status();
  Words words;
  for (const std::string_view word : splitter->Split(text)) words.emplace_back(word);
  return words;
}

std::string Repeated(std::string_view unit, size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += unit;
  return text;
}

class EveryPreTokenization : public testing::TestWithParam<std::string_view> {};

TEST_P(EveryPreTokenization, KeepsEveryByte) {
  const std::string broken("a\xff\xfe b\xe4\xbd c\xed\xa0\x80 1\xf0\x9f\x8c\n\0x", 20);
  for (const std::string& text :
       {std::string(), std::string(" "), std::string("Hello, world!\n\n 123 x"),
        std::string("é日本語 \u3000 \r\n"), broken, std::string("\xff"), std::string("\0", 1)}) {
    std::string joined;
    for (const std::string& word : Split(GetParam(), text)) {
      EXPECT_FALSE(word.empty());
      joined += word;
    }
    EXPECT_EQ(joined, text);
  }
}

// A megabyte without a border: no stack, match or time limit is met. With quadratic work this would
// not end before the test's time is up.
TEST_P(EveryPreTokenization, TakesHugeWords) {
  for (const std::string_view unit :
       {"a", "A", " ", "\n", " \n", "!", "日", "ก", "e\u0301", "'", "\xff"}) {
    const std::string text = Repeated(unit, 1 << 20);
    size_t bytes = 0;
    for (const std::string& word : Split(GetParam(), text)) bytes += word.size();
    EXPECT_EQ(bytes, text.size());
  }
  EXPECT_EQ(Split(GetParam(), Repeated("a", 1 << 20)).size(), 1u);
}

TEST_P(EveryPreTokenization, MakesBrokenBytesWordsOfTheirOwn) {
  EXPECT_EQ(Split(GetParam(),
                  "abc\xff\xfe"
                  "def"),
            (Words{"abc", "\xff\xfe", "def"}));
}

std::vector<std::string_view> FirstNames() {
  std::vector<std::string_view> names;
  for (const PreTokenization& row : PreTokenizations()) names.push_back(row.names[0]);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Rows, EveryPreTokenization, testing::ValuesIn(FirstNames()),
                         [](const auto& instance) {
                           std::string name(instance.param);
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(PreTokenizations, NamesAreUnique) {
  std::set<std::string_view> names;
  for (const PreTokenization& row : PreTokenizations()) {
    for (const std::string_view name : row.names) {
      EXPECT_TRUE(names.insert(name).second) << name;
      EXPECT_EQ(FindPreTokenization(name), &row);
    }
  }
  EXPECT_EQ(FindPreTokenization("gpt-3"), nullptr);
}

// A model's name finds the row whose golden ids are tested.
TEST(PreTokenizations, ModelsOfOneFamilyShareARow) {
  const std::pair<std::string_view, std::string_view> kSame[] = {
      {"olmo", "gpt-2"},         {"refact", "starcoder"}, {"llama3", "llama-bpe"},
      {"llama-v3", "llama-bpe"}, {"chatglm-bpe", "glm4"}, {"deepseek-r1-qwen", "qwen2"},
      {"llama4", "gpt-4o"},      {"minimax-m2", "gpt-4o"}};
  for (const auto& [name, first] : kSame) {
    ASSERT_NE(FindPreTokenization(name), nullptr) << name;
    EXPECT_EQ(FindPreTokenization(name)->names[0], first);
  }
  for (const std::string_view name :
       {"default", "qwen35", "kimi-k2", "deepseek-v3", "deepseek-llm", "deepseek-coder"}) {
    ASSERT_NE(FindPreTokenization(name), nullptr) << name;
  }
}

TEST(WordSplitter, CutsAsQwen2Does) {
  EXPECT_EQ(Split("qwen2", "It's 2024,  isn't IT'LL?\n\n  x"),
            (Words{"It", "'s", " ", "2", "0", "2", "4", ",", " ", " isn", "'t", " IT", "'LL",
                   "?\n\n", " ", " x"}));
}

// Each stage sees a piece as if it stood alone: the spaces before a number are one word, because
// nothing follows them in their piece.
TEST(WordSplitter, AppliesStagesToPieces) {
  EXPECT_EQ(Split("deepseek-v3", "a   1234 b"), (Words{"a", "   ", "123", "4", " b"}));
}

// U+180E is a space to PCRE2's \s and not to Unicode.
TEST(WordSplitter, WhiteSpaceIsUnicodes) {
  EXPECT_EQ(Split("gpt-2", "a\u180e b"), (Words{"a", "\u180e", " b"}));
  EXPECT_EQ(Split("gpt-2", "a \u180e"), (Words{"a", " \u180e"}));
  EXPECT_EQ(Split("gpt-2", "a\u2028\u3000\u0085"), (Words{"a", "\u2028\u3000\u0085"}));
}

TEST(WordSplitter, SaysWhichExpressionIsWrong) {
  const std::string_view stages[] = {"(unclosed"};
  const auto splitter = WordSplitter::Make(stages);
  EXPECT_EQ(splitter.status().code(), absl::StatusCode::kInternal);
  EXPECT_NE(splitter.status().ToString().find("(unclosed"), std::string::npos);
}

}  // namespace
}  // namespace stoker
