// Checks both kinds of tokenizers on small vocabularies: special tokens, bytes, and bad files.
#include "tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <random>
#include <thread>

#include "base/status.h"
#include "tests/tokenizer/vocabularies.h"
#include "tokenizer/registry.h"

namespace stoker {
namespace {

using Ids = std::vector<TokenId>;
using testing::HasSubstr;

constexpr EncodeOptions kTextOnly = {.add_special = false, .parse_special = false};
constexpr EncodeOptions kWithMarkup = {.add_special = false, .parse_special = true};

std::unique_ptr<Tokenizer> Make(const GgufWriter& writer) {
  auto tokenizer = MakeTokenizer(writer);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

TokenId IdOf(const VocabularySpec& spec, std::string_view text) {
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    if (spec.tokens[i] == text) return static_cast<TokenId>(i);
  }
  ADD_FAILURE() << "no token " << text;
  return -1;
}

Ids IdsOf(const VocabularySpec& spec, const std::vector<std::string>& texts) {
  Ids ids;
  for (const std::string& text : texts) ids.push_back(IdOf(spec, text));
  return ids;
}

class EveryKind : public testing::TestWithParam<VocabularySpec> {};

TEST_P(EveryKind, EmptyTextIsNoTokens) {
  const auto tokenizer = Make(GetParam().ToGguf());
  EXPECT_EQ(tokenizer->Encode("", kTextOnly), Ids{});
  EXPECT_EQ(tokenizer->Decode({}, true), "");
}

TEST_P(EveryKind, AnyBytesComeBack) {  // seed 3
  const auto tokenizer = Make(GetParam().ToGguf());
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    while (text.size() < 1 + static_cast<size_t>(round % 40)) {
      text += random() % 2 ? static_cast<char>(random()) : " helo\n1"[random() % 7];
    }
    const Ids ids = tokenizer->Encode(text, kTextOnly);
    EXPECT_EQ(tokenizer->Decode(ids, false), text);
    for (const TokenId id : ids) {
      EXPECT_GE(id, 0);
      EXPECT_LT(id, tokenizer->vocab_count());
    }
  }
}

// n log n: with quadratic work this would take hours.
TEST_P(EveryKind, HugeWordsAreEncoded) {
  const auto tokenizer = Make(GetParam().ToGguf());
  for (const std::string_view unit : {"a", "hello", " ", "\xff", "日"}) {
    std::string text;
    while (text.size() < 1 << 20) text += unit;
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text, kTextOnly), false), text);
  }
}

TEST_P(EveryKind, ThreadsMayShareOne) {
  const auto tokenizer = Make(GetParam().ToGguf());
  const std::string text = "hello the hello hell \xff 12 in the hall";
  const Ids expected = tokenizer->Encode(text, {});
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) EXPECT_EQ(tokenizer->Encode(text, {}), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(EveryKind, PiecesOfSpecialTokensAreShownOnDemand) {
  const VocabularySpec& spec = GetParam();
  const auto tokenizer = Make(spec.ToGguf());
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    if (!IsHidden(static_cast<TokenType>(spec.types[i]))) continue;
    EXPECT_EQ(tokenizer->Piece(static_cast<TokenId>(i), false), "");
    EXPECT_EQ(tokenizer->Piece(static_cast<TokenId>(i), true), spec.tokens[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryKind, testing::Values(SmallBpe(), SmallSentencePiece()),
                         [](const auto& instance) { return instance.param.model; });

TEST(Registry, EveryKindIsTestedAbove) {
  ASSERT_EQ(TokenizerKinds().size(), 2u);
  EXPECT_EQ(TokenizerKinds()[0].model, SmallBpe().model);
  EXPECT_EQ(TokenizerKinds()[1].model, SmallSentencePiece().model);
}

// --- byte-level BPE ---

TEST(BpeTokenizer, MergesByRank) {
  const VocabularySpec spec = SmallBpe();
  const auto tokenizer = Make(spec.ToGguf());
  EXPECT_EQ(tokenizer->Encode("hello", kTextOnly), IdsOf(spec, {"hello"}));
  // "h e" comes before "Ġ h", so " he" never becomes "Ġhe".
  EXPECT_EQ(tokenizer->Encode(" he", kTextOnly), IdsOf(spec, {"Ġ", "he"}));
  EXPECT_EQ(tokenizer->Encode("aaaaa", kTextOnly), IdsOf(spec, {"aaaa", "a"}));
  EXPECT_EQ(tokenizer->Encode("é", kTextOnly), IdsOf(spec, {"Ã©"}));
  EXPECT_EQ(tokenizer->Encode("12", kTextOnly), IdsOf(spec, {"1", "2"}));  // qwen2: two words
}

TEST(BpeTokenizer, WholeWordsComeFirstWhereTheVocabularyWantsIt) {
  VocabularySpec spec = SmallBpe();
  spec.pre = "llama-bpe";
  EXPECT_EQ(Make(spec.ToGguf())->Encode(" he", kTextOnly), IdsOf(spec, {"Ġhe"}));
}

TEST(BpeTokenizer, ControlTokensComeFromTextOnlyOnDemand) {
  const VocabularySpec spec = SmallBpe();
  const auto tokenizer = Make(spec.ToGguf());
  EXPECT_EQ(tokenizer->Encode("a<|endoftext|><|end", kWithMarkup),
            IdsOf(spec, {"a", "<|endoftext|>", "<|end"}));
  const Ids plain = tokenizer->Encode("<|endoftext|><unk>", kTextOnly);
  EXPECT_EQ(tokenizer->Decode(plain, false), "<|endoftext|><unk>");
  for (const TokenId id : plain) EXPECT_LT(id, 256);
  // Tokens that only fill the table up never come from text.
  EXPECT_NE(tokenizer->Encode("[PAD]", kWithMarkup), IdsOf(spec, {"[PAD]"}));
}

TEST(BpeTokenizer, UserDefinedTokensAreAlwaysCutOut) {
  const VocabularySpec spec = SmallBpe();
  const auto tokenizer = Make(spec.ToGguf());
  EXPECT_EQ(tokenizer->Encode("<tool>y", kTextOnly), IdsOf(spec, {"<tool>", "y"}));
  EXPECT_EQ(tokenizer->Encode("<tool> x", kTextOnly), IdsOf(spec, {"<tool> x"}));  // the longest
  EXPECT_EQ(tokenizer->Encode("<tool> y", kTextOnly), IdsOf(spec, {"<tool>", "Ġ", "y"}));
  EXPECT_EQ(tokenizer->Piece(IdOf(spec, "<tool> x"), false), "<tool> x");
}

TEST(BpeTokenizer, BytesWithoutATokenBecomeTheUnknownOne) {
  VocabularySpec spec = SmallBpe();
  spec.tokens['z'] = "zz";  // no token for z alone now
  GgufWriter writer = spec.ToGguf();
  EXPECT_EQ(Make(writer)->Encode("az", kTextOnly), IdsOf(spec, {"a"}));
  writer.Set("tokenizer.ggml.unknown_token_id", static_cast<uint32_t>(IdOf(spec, "<unk>")));
  EXPECT_EQ(Make(writer)->Encode("az", kTextOnly), IdsOf(spec, {"a", "<unk>"}));
}

TEST(BpeTokenizer, AddsBosAndEosWhereTheFileSaysSo) {
  const VocabularySpec spec = SmallBpe();
  EXPECT_FALSE(Make(spec.ToGguf())->adds_bos());
  GgufWriter writer = spec.ToGguf();
  writer.Set("tokenizer.ggml.bos_token_id", uint32_t{7})
      .Set("tokenizer.ggml.eos_token_id", uint32_t{9})
      .Set("tokenizer.ggml.add_bos_token", true)
      .Set("tokenizer.ggml.add_eos_token", true);
  const auto tokenizer = Make(writer);
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->bos(), 7);
  EXPECT_EQ(tokenizer->eos(), 9);
  EXPECT_EQ(tokenizer->Encode("a", {}), (Ids{7, IdOf(spec, "a"), 9}));
  EXPECT_EQ(tokenizer->Encode("a", kTextOnly), IdsOf(spec, {"a"}));
}

TEST(BpeTokenizer, LlamaVocabulariesAddBosUnlessTold) {
  VocabularySpec spec = SmallBpe();
  spec.pre = "llama-bpe";
  EXPECT_FALSE(Make(spec.ToGguf())->adds_bos());  // it has none
  GgufWriter writer = spec.ToGguf();
  writer.Set("tokenizer.ggml.bos_token_id", uint32_t{7});
  EXPECT_TRUE(Make(writer)->adds_bos());
  writer.Set("tokenizer.ggml.add_bos_token", false);
  EXPECT_FALSE(Make(writer)->adds_bos());
}

TEST(BpeTokenizer, NoPreMeansDefault) {
  VocabularySpec spec = SmallBpe();
  spec.pre = "";
  EXPECT_EQ(Make(spec.ToGguf())->description(),
            fmt::format("byte-level BPE, default, {} tokens", spec.tokens.size()));
}

// --- ends of generation ---

TEST(Tokenizer, KnowsTheEndsOfGeneration) {
  VocabularySpec spec = SmallBpe();
  const TokenId turn = spec.Add("<|im_end|>");  // the file forgets that it is a control token
  const TokenId end = spec.Add("<|end|>", TokenType::kControl);
  spec.scores.clear();
  GgufWriter writer = spec.ToGguf();
  writer.Set("tokenizer.ggml.eos_token_id", uint32_t{5})
      .Set("tokenizer.ggml.eot_token_id", uint32_t{6})
      .Set("tokenizer.ggml.eom_token_id", uint32_t{7});
  const auto tokenizer = Make(writer);
  for (const TokenId id :
       {TokenId{5}, TokenId{6}, TokenId{7}, turn, end, IdOf(spec, "<|endoftext|>")}) {
    EXPECT_TRUE(tokenizer->IsEndOfGeneration(id)) << id;
  }
  for (const TokenId id : {TokenId{4}, IdOf(spec, "<|end"), TokenId{-1}}) {
    EXPECT_FALSE(tokenizer->IsEndOfGeneration(id)) << id;
  }
  EXPECT_EQ(tokenizer->Piece(turn, false), "");
}

TEST(Tokenizer, EndOfMessageIsNoEndWhereReturnAndCallExist) {
  VocabularySpec spec = SmallBpe();
  const TokenId end = spec.Add("<|end|>", TokenType::kControl);
  const TokenId result = spec.Add("<|return|>", TokenType::kControl);
  const TokenId call = spec.Add("<|call|>", TokenType::kControl);
  spec.scores.clear();
  const auto tokenizer = Make(spec.ToGguf());
  EXPECT_FALSE(tokenizer->IsEndOfGeneration(end));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(result));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(call));
}

// --- SentencePiece ---

TEST(SentencePieceTokenizer, MergesByScore) {
  const VocabularySpec spec = SmallSentencePiece();
  const auto tokenizer = Make(spec.ToGguf());
  EXPECT_EQ(tokenizer->Encode("the hell", kTextOnly), IdsOf(spec, {"▁the", "▁", "hell"}));
  EXPECT_EQ(tokenizer->Encode("ééé", kTextOnly), IdsOf(spec, {"▁", "éé", "é"}));
}

TEST(SentencePieceTokenizer, WritesUnknownCharactersAsBytes) {
  const VocabularySpec spec = SmallSentencePiece();
  const auto tokenizer = Make(spec.ToGguf());
  EXPECT_EQ(tokenizer->Encode("日\xff", kTextOnly),
            IdsOf(spec, {"▁", "<0xE6>", "<0x97>", "<0xA5>", "<0xFF>"}));
  // The text "<0x41>" is not the byte token.
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("<0x41>", kTextOnly), false), "<0x41>");
  EXPECT_GT(tokenizer->Encode("<0x41>", kTextOnly).size(), 3u);
}

TEST(SentencePieceTokenizer, ControlTokensComeFromTextOnlyOnDemand) {
  const VocabularySpec spec = SmallSentencePiece();
  const auto tokenizer = Make(spec.ToGguf());
  EXPECT_EQ(tokenizer->Encode("<s>", kWithMarkup), Ids{1});
  for (const TokenId id : tokenizer->Encode("<s></s><unk>", kTextOnly)) EXPECT_GT(id, 2);
}

TEST(SentencePieceTokenizer, SpaceBeforeTheTextComesAndGoes) {
  const VocabularySpec spec = SmallSentencePiece();
  const auto tokenizer = Make(spec.ToGguf());
  EXPECT_EQ(tokenizer->Encode("a", {}), IdsOf(spec, {"<s>", "▁", "a"}));
  EXPECT_EQ(tokenizer->Decode(IdsOf(spec, {"<s>", "▁", "a"}), false), "a");
  EXPECT_EQ(tokenizer->Decode(IdsOf(spec, {"<s>", "▁", "▁t"}), true), "<s> t");
  const std::string chat = "a[INST] e[INST]o</s> a";
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(chat, kWithMarkup), true), chat);
  EXPECT_EQ(tokenizer->Piece(IdOf(spec, "▁the"), false), " the");

  GgufWriter writer = spec.ToGguf();
  writer.Set("tokenizer.ggml.add_space_prefix", false);
  const auto without = Make(writer);
  EXPECT_EQ(without->Encode("a", kTextOnly), IdsOf(spec, {"a"}));
  EXPECT_EQ(without->Decode(IdsOf(spec, {"▁", "a"}), false), " a");
}

// Words are encoded one by one only where no token reaches over a border.
TEST(SentencePieceTokenizer, TokensMayReachOverSpaces) {
  VocabularySpec spec = SmallSentencePiece();
  spec.Add("a▁", TokenType::kNormal, 2);
  spec.Add("a▁h", TokenType::kNormal, 1);
  EXPECT_EQ(Make(spec.ToGguf())->Encode("a h", kTextOnly), IdsOf(spec, {"▁", "a▁h"}));
}

TEST(SentencePieceTokenizer, DefaultsAreThoseOfLlama) {
  const auto tokenizer = Make(SmallSentencePiece().ToGguf());
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(2));
}

// --- bad files ---

struct BadFile {
  std::string name;
  absl::StatusCode code;
  std::string says;  // part of the message
  std::function<GgufWriter()> make;
};
std::ostream& operator<<(std::ostream& out, const BadFile& bad) { return out << bad.name; }

class BadVocabulary : public testing::TestWithParam<BadFile> {};

TEST_P(BadVocabulary, IsAnErrorThatNamesTheKey) {
  const auto tokenizer = MakeTokenizer(GetParam().make());
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(tokenizer.status().code(), GetParam().code) << tokenizer.status();
  EXPECT_THAT(std::string(MessageOf(tokenizer.status())), HasSubstr(GetParam().says));
}

template <typename Change>
BadFile Bpe(std::string name, std::string says, Change change,
            absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
  return {name, code, says, [change] {
            VocabularySpec spec = SmallBpe();
            change(spec);
            return spec.ToGguf();
          }};
}
template <typename Change>
BadFile Piece(std::string name, std::string says, Change change) {
  return {name, absl::StatusCode::kInvalidArgument, says, [change] {
            VocabularySpec spec = SmallSentencePiece();
            change(spec);
            return spec.ToGguf();
          }};
}
template <typename T>
BadFile Key(std::string name, std::string key, T value, std::string says = "") {
  return {name, absl::StatusCode::kInvalidArgument, says.empty() ? key : says, [key, value] {
            GgufWriter writer = SmallBpe().ToGguf();
            writer.Set(key, value);
            return writer;
          }};
}

INSTANTIATE_TEST_SUITE_P(
    Files, BadVocabulary,
    testing::Values(
        BadFile{"NoModel", absl::StatusCode::kInvalidArgument, "tokenizer.ggml.model",
                [] { return GgufWriter(); }},
        Bpe(
            "UnknownModel", R"("bert")", [](auto& spec) { spec.model = "bert"; },
            absl::StatusCode::kUnimplemented),
        Bpe(
            "UnknownPre", R"("gpt-9")", [](auto& spec) { spec.pre = "gpt-9"; },
            absl::StatusCode::kUnimplemented),
        Bpe("NoTokens", "tokenizer.ggml.tokens", [](auto& spec) { spec.tokens.clear(); }),
        Bpe("FewTypes", "token_type", [](auto& spec) { spec.types.pop_back(); }),
        Bpe("BadType", "token_type[3] is 77", [](auto& spec) { spec.types[3] = 77; }),
        Bpe("NegativeType", "token_type[3] is -1", [](auto& spec) { spec.types[3] = -1; }),
        Bpe("DoubleToken", "tokens[9]", [](auto& spec) { spec.tokens[9] = spec.tokens[8]; }),
        Bpe("LongToken", "tokens[9]", [](auto& spec) { spec.tokens[9] = std::string(5000, 'x'); }),
        Bpe("NoMerges", "merges is missing", [](auto& spec) { spec.merges.clear(); }),
        Bpe("MergeWithoutSpace", "merges[2]", [](auto& spec) { spec.merges[2] = "hell"; }),
        Bpe("MergeOfNothing", "merges[2]", [](auto& spec) { spec.merges[2] = "h "; }),
        Bpe("EmptyMerge", "merges[2]", [](auto& spec) { spec.merges[2] = ""; }),
        Bpe("MergeIntoNothing", R"("hq")", [](auto& spec) { spec.merges[2] = "h q"; }),
        Bpe("MergeOfStrangers", "merges[2]", [](auto& spec) { spec.merges[2] = "日 h"; }),
        Bpe("TerminalEscapes", R"(\x1b[2J)",
            [](auto& spec) { spec.merges[2] = "h \x1b[2J" + std::string(100000, 'x'); }),
        Key("BosOutside", "tokenizer.ggml.bos_token_id", uint32_t{100000}),
        Key("EosOutside", "tokenizer.ggml.eos_token_id", uint32_t{100000}),
        Key("EotOutside", "tokenizer.ggml.eot_token_id", uint32_t{100000}),
        Key("UnknownOutside", "tokenizer.ggml.unknown_token_id", uint32_t{100000}),
        Key("BosNegative", "tokenizer.ggml.bos_token_id", int32_t{-5}),
        Key("BosText", "tokenizer.ggml.bos_token_id", "one"),
        Key("BosNotNamed", "tokenizer.ggml.add_bos_token", true),
        Key("EosNotNamed", "tokenizer.ggml.add_eos_token", true),
        Piece("NoScores", "tokenizer.ggml.scores", [](auto& spec) { spec.scores.clear(); }),
        Piece("FewScores", "tokenizer.ggml.scores", [](auto& spec) { spec.scores.pop_back(); }),
        Piece("ScoreNotANumber", "tokenizer.ggml.scores",
              [](auto& spec) { spec.scores[5] = std::numeric_limits<float>::quiet_NaN(); }),
        Piece("BadByteToken", "tokens[5]", [](auto& spec) { spec.tokens[5] = "<0xZZ>"; })),
    [](const auto& instance) { return instance.param.name; });

TEST(Vocabulary, ToleratesHolesAndNoneIds) {
  VocabularySpec spec = SmallBpe();
  spec.tokens.emplace_back("");
  spec.tokens.emplace_back("");
  spec.types.resize(spec.tokens.size(), static_cast<int32_t>(TokenType::kUnused));
  GgufWriter writer = spec.ToGguf();
  writer.Set("tokenizer.ggml.bos_token_id", std::numeric_limits<uint32_t>::max());
  const auto tokenizer = Make(writer);
  EXPECT_EQ(tokenizer->bos(), -1);
  EXPECT_EQ(tokenizer->Piece(tokenizer->vocab_count() - 1, true), "");
}

}  // namespace
}  // namespace stoker
