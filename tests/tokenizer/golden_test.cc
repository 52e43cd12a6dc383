// Judges the tokenizer by real vocabularies: other implementations' ids for the same texts.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "base/status.h"
#include "tests/testing/shared_data.h"
#include "tests/tokenizer/vocabularies.h"
#include "tokenizer/pre_tokenization.h"

namespace stoker {
namespace {

using Json = nlohmann::json;

constexpr EncodeOptions kTextOnly = {.add_special = false, .parse_special = false};

Json Golden() {
  return Json::parse(ReadWholeFile(SourceDir() + "/tests/golden/tokenizer_ids.json"));
}

VocabularySpec ReadVocabulary(const std::string& name) {
  const std::string path = SharedPath("data/tokenizers/" + name);
  if (name == "mistral_v1_mixtral") return FromSentencePieceFile(path + ".spm.model");
  const bool is_deepseek = name == "deepseek_v3";
  return FromRankFile(path + ".tiktoken", {.in_alphabet = is_deepseek,
                                           .control_count = is_deepseek ? size_t{3} : size_t{0}});
}

// U+2581 is a space to SentencePiece.
std::string WithSpaces(std::string text, std::string_view written_space = "\u2581") {
  for (size_t at; (at = text.find(written_space)) != std::string::npos;) {
    text.replace(at, written_space.size(), " ");
  }
  return text;
}

class GoldenIds : public testing::TestWithParam<std::string> {};

// Every case of the golden file that uses this vocabulary.
TEST_P(GoldenIds, EqualOtherImplementations) {
  SKIP_WITHOUT_SHARED();
  const Json golden = Golden();
  VocabularySpec spec = ReadVocabulary(GetParam());
  int case_count = 0;
  for (const Json& one : golden["cases"]) {
    if (one["vocabulary"] != GetParam()) continue;
    ++case_count;
    spec.pre = one["pre"];
    const auto tokenizer = MakeTokenizer(spec.ToGguf());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    for (size_t i = 0; i < golden["texts"].size(); ++i) {
      const std::string text = golden["texts"][i];
      const std::vector<TokenId> ids = (*tokenizer)->Encode(text, kTextOnly);
      EXPECT_EQ(ids, one["ids"][i].get<std::vector<TokenId>>()) << spec.pre << ": " << text;
      EXPECT_EQ((*tokenizer)->Decode(ids, false), spec.model == "llama" ? WithSpaces(text) : text);
    }
  }
  EXPECT_GT(case_count, 0);
}
INSTANTIATE_TEST_SUITE_P(Vocabularies, GoldenIds,
                         testing::Values("deepseek_v3", "qwen", "o200k_base", "mistral_v1_mixtral"),
                         [](const auto& instance) { return instance.param; });

TEST(GoldenIds, CoverEveryPreTokenization) {
  const Json golden = Golden();
  for (const PreTokenization& row : PreTokenizations()) {
    bool covered = false;
    for (const Json& one : golden["cases"]) covered |= one["pre"] == std::string(row.names[0]);
    EXPECT_TRUE(covered) << row.names[0];
  }
}

// A vocabulary whose ids are ranks needs no merges.
TEST(GoldenIds, HoldWithoutMergesWhereTheyAreOptional) {
  SKIP_WITHOUT_SHARED();
  const Json golden = Golden();
  VocabularySpec spec = ReadVocabulary("o200k_base");
  spec.pre = "kimi-k2";
  spec.merges.clear();
  const auto tokenizer = MakeTokenizer(spec.ToGguf());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (const Json& one : golden["cases"]) {
    if (one["pre"] != "kimi-k2") continue;
    for (size_t i = 0; i < golden["texts"].size(); ++i) {
      EXPECT_EQ((*tokenizer)->Encode(golden["texts"][i].get<std::string>(), kTextOnly),
                one["ids"][i].get<std::vector<TokenId>>());
    }
  }
}

struct Vector {
  std::string text;
  std::vector<TokenId> ids;
};

std::vector<Vector> ReadVectors(const std::string& path) {
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  const std::string texts = ReadWholeFile(path + ".inp");
  std::istringstream lines(ReadWholeFile(path + ".out"));
  std::vector<Vector> vectors;
  for (size_t at = 0; at <= texts.size();) {
    const size_t end = std::min(texts.find(kSeparator, at), texts.size());
    Vector vector{.text = texts.substr(at, end - at)};
    std::string line;
    std::getline(lines, line);
    std::istringstream numbers(line);
    for (TokenId id; numbers >> id;) vector.ids.push_back(id);
    vectors.push_back(vector);
    at = end + kSeparator.size();
  }
  return vectors;
}

class LlamaCppVectors : public testing::TestWithParam<std::string> {};

TEST_P(LlamaCppVectors, EncodeAndDecode) {
  SKIP_WITHOUT_SHARED();
  const std::string path = SharedPath("data/tokenizers/vectors/ggml-vocab-" + GetParam() + ".gguf");
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer;
  if (GetParam() == "qwen2") {  // its vocabulary comes as a rank file
    tokenizer = MakeTokenizer(ReadVocabulary("qwen").ToGguf());
  } else {
    const auto gguf = GgufModel::Open(path);
    ASSERT_TRUE(gguf.ok()) << gguf.status();
    tokenizer = Tokenizer::FromGguf(*gguf);
  }
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::vector<Vector> vectors = ReadVectors(path);
  EXPECT_EQ(vectors.size(), 47u);
  for (const Vector& vector : vectors) {
    EXPECT_EQ((*tokenizer)->Encode(vector.text, kTextOnly), vector.ids) << vector.text;
    EXPECT_EQ((*tokenizer)->Decode(vector.ids, false), vector.text);
  }
}
INSTANTIATE_TEST_SUITE_P(Vocabularies, LlamaCppVectors,
                         testing::Values("deepseek-coder", "deepseek-llm", "gpt-2", "llama-spm",
                                         "qwen2"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

// The model that ships with the project.
TEST(ShippedVocabulary, RoundTripsEveryGoldenText) {
  const auto gguf = GgufModel::Open(SourceDir() + "/models/moe-27m.q4_k.gguf");
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  const auto tokenizer = Tokenizer::FromGguf(*gguf);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->description(), "byte-level BPE, qwen2, 4096 tokens");
  EXPECT_FALSE((*tokenizer)->adds_bos());
  EXPECT_TRUE((*tokenizer)->IsEndOfGeneration(0));
  const Json golden = Golden();
  for (const Json& text : golden["texts"]) {
    const std::vector<TokenId> ids = (*tokenizer)->Encode(text.get<std::string>(), kTextOnly);
    EXPECT_EQ((*tokenizer)->Decode(ids, false), text);
  }
  EXPECT_EQ((*tokenizer)->Encode("<|endoftext|>", {}), std::vector<TokenId>{0});
}

}  // namespace
}  // namespace stoker
