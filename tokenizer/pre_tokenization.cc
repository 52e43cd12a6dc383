// The table of pre-tokenizations. Adding one: its stages, a row, and its golden ids in the tests.
//
// The expressions are those of the models' published tokenizer.json or tiktoken files, with two
// kinds of rewriting that change no match: characters outside ASCII are escaped, and what needs
// another engine's class intersection is said with the complement.
#include "tokenizer/pre_tokenization.h"

#include <algorithm>

namespace stoker {
namespace {

using Names = std::string_view;
using Stage = std::string_view;

constexpr Stage kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// GPT-2 and OLMo.
constexpr Stage kGpt2[] = {kGpt2Words};

// StarCoder and Refact: each digit a word.
constexpr Stage kStarcoder[] = {R"(\p{N})", kGpt2Words};

// For files of before tokenizer.ggml.pre, as llama.cpp cuts them; close to most, equal to few.
constexpr Stage kDefault[] = {R"([\p{P}$+<=>^~|]+)", kGpt2Words, R"(\p{N}+)", R"([0-9][0-9][0-9])"};

// Llama 3 and GLM 4.
constexpr Stage kLlama3[] = {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
                             R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

// Qwen 2 and 3: as Llama 3, each digit a word.
constexpr Stage kQwen2[] = {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
                            R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

// Qwen 3.5: combining marks belong to their letters.
constexpr Stage kQwen35[] = {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N})"
                             R"(| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

// o200k (gpt-oss, Llama 4, MiniMax M2): words also end where lower case turns into upper.
constexpr Stage kO200k[] = {
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

// Kimi K2: as o200k, with runs of Han apart. [^\p{Ll}...\p{Han}] is Lu, Lt, Lm, Lo and M without
// Han; [^\p{Lu}\p{Lt}...\p{Han}] is Ll, Lm, Lo and M without Han.
constexpr Stage kKimiK2[] = {
    R"(\p{Han}+)"
    R"(|[^\r\n\p{L}\p{N}]?[^\p{Ll}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}]*)"
    R"([^\p{Lu}\p{Lt}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[^\p{Ll}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}]+)"
    R"([^\p{Lu}\p{Lt}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

// DeepSeek V3 and R1: numbers by three digits, then Han and kana, then words.
constexpr Stage kDeepseekV3[] = {
    R"(\p{N}{1,3})", R"([\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)",
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

constexpr Stage kDeepseekCjk = R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)";

// DeepSeek LLM and V2: letters of scripts with case, listed.
constexpr Stage kDeepseekLlm[] = {
    R"([\r\n])",
    R"(\s?[A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293})"
    R"(\x{295}-\x{2af}\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386})"
    R"(\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f})"
    R"(\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}\x{13f8}-\x{13fd})"
    R"(\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77})"
    R"(\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45})"
    R"(\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d})"
    R"(\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc})"
    R"(\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4})"
    R"(\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d})"
    R"(\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139})"
    R"(\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b})"
    R"(\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d})"
    R"(\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e})"
    R"(\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a})"
    R"(\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb})"
    R"(\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}\x{1e900}-\x{1e943}]+)",
    R"(\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+)",
    R"(\s+$)",
    kDeepseekCjk,
    R"(\p{N}+)"};

constexpr Stage kDeepseekCoder[] = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kDeepseekCjk,
                                    R"(\p{N})"};

constexpr Names kGpt2Names[] = {"gpt-2", "olmo"};
constexpr Names kStarcoderNames[] = {"starcoder", "refact"};
constexpr Names kDefaultNames[] = {"default"};
constexpr Names kLlama3Names[] = {"llama-bpe", "llama3", "llama-v3"};
constexpr Names kGlm4Names[] = {"glm4", "chatglm-bpe"};
constexpr Names kQwen2Names[] = {"qwen2", "deepseek-r1-qwen"};
constexpr Names kQwen35Names[] = {"qwen35"};
constexpr Names kO200kNames[] = {"gpt-4o", "llama4", "minimax-m2"};
constexpr Names kKimiK2Names[] = {"kimi-k2"};
constexpr Names kDeepseekV3Names[] = {"deepseek-v3"};
constexpr Names kDeepseekLlmNames[] = {"deepseek-llm"};
constexpr Names kDeepseekCoderNames[] = {"deepseek-coder"};

constexpr PreTokenization kRows[] = {
    {.names = kGpt2Names, .stages = kGpt2},
    {.names = kStarcoderNames, .stages = kStarcoder},
    {.names = kDefaultNames, .stages = kDefault},
    {.names = kLlama3Names, .stages = kLlama3, .whole_words_first = true, .adds_bos = true},
    {.names = kGlm4Names, .stages = kLlama3},
    {.names = kQwen2Names, .stages = kQwen2},
    {.names = kQwen35Names, .stages = kQwen35},
    {.names = kO200kNames, .stages = kO200k},
    {.names = kKimiK2Names, .stages = kKimiK2, .merges_optional = true},
    {.names = kDeepseekV3Names, .stages = kDeepseekV3},
    {.names = kDeepseekLlmNames, .stages = kDeepseekLlm},
    {.names = kDeepseekCoderNames, .stages = kDeepseekCoder},
};

}  // namespace

absl::Span<const PreTokenization> PreTokenizations() { return kRows; }

const PreTokenization* FindPreTokenization(std::string_view name) {
  for (const PreTokenization& row : kRows) {
    if (std::find(row.names.begin(), row.names.end(), name) != row.names.end()) return &row;
  }
  return nullptr;
}

}  // namespace stoker
