// Reads tokenizer.ggml.* and trusts none of it.
#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <array>
#include <limits>

#include "absl/container/flat_hash_set.h"
#include "base/status.h"

namespace stoker {
namespace {

constexpr std::string_view kTokensKey = "tokenizer.ggml.tokens";
constexpr std::string_view kTypesKey = "tokenizer.ggml.token_type";

// The longest tokens seen in the wild are runs of 1024 spaces. A bound keeps the cost of looking
// for a special token at every place of a text small, whatever the file says.
constexpr size_t kTokenBytesMax = 4096;

// Tokens that end generation whatever the metadata says, by text: files often name only one of the
// several that a model uses.
constexpr std::array<std::string_view, 16> kEndTexts = {
    "<|eot_id|>",    "<|im_end|>",    "<|end|>",         "<|return|>",
    "<|call|>",      "<|endoftext|>", "<|eom_id|>",      "<|eot|>",
    "<|eom|>",       "<|EOT|>",       "[EOT]",           "[EOS]",
    "<end_of_turn>", "[e~[",          "<|end_of_text|>", "<｜end▁of▁sentence｜>",
};

absl::Status Malformed(std::string_view message) {
  return absl::InvalidArgumentError(
      fmt::format("{}; the file is damaged or was converted by a faulty tool: convert or download "
                  "it again",
                  message));
}

// A special token's id; -1 when absent or, as some converters write it, 2^32 - 1.
absl::StatusOr<TokenId> ReadId(const GgufModel& gguf, std::string_view key, int32_t token_count,
                               TokenId fallback) {
  constexpr int64_t kNone = std::numeric_limits<uint32_t>::max();
  if (fallback >= token_count) fallback = -1;
  ASSIGN_OR_RETURN(const int64_t id, gguf.Int(key, fallback, -1, kNone));
  if (id == kNone) return -1;
  if (id >= token_count) {
    return Malformed(fmt::format("{} is {}, but there are {} tokens", key, id, token_count));
  }
  return static_cast<TokenId>(id);
}

}  // namespace

std::string Shown(std::string_view text) {
  constexpr size_t kShownMax = 48;
  return fmt::format("{:?}{}", text.substr(0, kShownMax), text.size() > kShownMax ? "..." : "");
}

absl::StatusOr<Vocabulary> Vocabulary::Read(const GgufModel& gguf, const Defaults& defaults) {
  const std::vector<std::string>* texts = gguf.Strings(kTokensKey);
  if (texts == nullptr || texts->empty()) {
    return Malformed(fmt::format("{} is missing, empty or not an array of text", kTokensKey));
  }
  if (texts->size() > std::numeric_limits<TokenId>::max()) {
    return Malformed(fmt::format("{} has {} entries", kTokensKey, texts->size()));
  }
  Vocabulary vocabulary;
  RETURN_IF_ERROR(vocabulary.ReadTypes(gguf, texts->size()));
  RETURN_IF_ERROR(vocabulary.CollectEnds(gguf, *texts));
  RETURN_IF_ERROR(vocabulary.ReadTokens(*texts, defaults.to_bytes));
  RETURN_IF_ERROR(vocabulary.ReadSpecials(gguf, defaults));
  return vocabulary;
}

absl::Status Vocabulary::ReadTypes(const GgufModel& gguf, size_t token_count) {
  types_.assign(token_count, TokenType::kNormal);
  if (!gguf.Has(kTypesKey)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<int64_t> types, gguf.Ints(kTypesKey));
  if (types.size() < token_count) {
    return Malformed(
        fmt::format("{} has {} entries for {} tokens", kTypesKey, types.size(), token_count));
  }
  for (size_t i = 0; i < token_count; ++i) {
    if (types[i] < 0 || types[i] > static_cast<int64_t>(TokenType::kByte)) {
      return Malformed(fmt::format("{}[{}] is {}, not a type (0 to 6)", kTypesKey, i, types[i]));
    }
    types_[i] = static_cast<TokenType>(types[i]);
  }
  return absl::OkStatus();
}

absl::Status Vocabulary::ReadTokens(const std::vector<std::string>& texts, ToBytes to_bytes) {
  absl::flat_hash_set<std::string_view> seen;
  seen.reserve(texts.size());
  ends_.reserve(texts.size() + 1);
  ends_.push_back(0);
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string& text = texts[i];
    if (text.size() > kTokenBytesMax) {
      return Malformed(fmt::format("{}[{}] has {} bytes; at most {} make sense", kTokensKey, i,
                                   text.size(), kTokenBytesMax));
    }
    // Empty entries are holes in the table, and there may be several.
    if (!text.empty() && !seen.insert(text).second) {
      return Malformed(fmt::format("{}[{}] is {} for the second time", kTokensKey, i, Shown(text)));
    }
    const TokenType type = types_[i];
    if (IsHidden(type)) {
      arena_.append(text);
    } else {
      arena_.append(to_bytes(text, type));
    }
    token_bytes_max_ = std::max(token_bytes_max_, arena_.size() - ends_.back());
    ends_.push_back(arena_.size());
  }
  return absl::OkStatus();
}

absl::Status Vocabulary::ReadSpecials(const GgufModel& gguf, const Defaults& defaults) {
  ASSIGN_OR_RETURN(bos_, ReadId(gguf, "tokenizer.ggml.bos_token_id", count(), defaults.bos));
  ASSIGN_OR_RETURN(eos_, ReadId(gguf, "tokenizer.ggml.eos_token_id", count(), defaults.eos));
  ASSIGN_OR_RETURN(unknown_,
                   ReadId(gguf, "tokenizer.ggml.unknown_token_id", count(), defaults.unknown));
  constexpr std::string_view kAddsBos = "tokenizer.ggml.add_bos_token";
  constexpr std::string_view kAddsEos = "tokenizer.ggml.add_eos_token";
  ASSIGN_OR_RETURN(adds_bos_, gguf.Bool(kAddsBos, defaults.adds_bos && bos_ >= 0));
  ASSIGN_OR_RETURN(adds_eos_, gguf.Bool(kAddsEos, false));
  if (adds_bos_ && bos_ < 0) {
    return Malformed(fmt::format("{} is true, but no bos_token_id is given", kAddsBos));
  }
  if (adds_eos_ && eos_ < 0) {
    return Malformed(fmt::format("{} is true, but no eos_token_id is given", kAddsEos));
  }
  if (eos_ >= 0) end_of_generation_.push_back(eos_);
  return absl::OkStatus();
}

// Finds the tokens that end generation; those found by text become control tokens, which files
// sometimes forget to say.
absl::Status Vocabulary::CollectEnds(const GgufModel& gguf, const std::vector<std::string>& texts) {
  for (const std::string_view key :
       {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    ASSIGN_OR_RETURN(const TokenId id, ReadId(gguf, key, count(), -1));
    if (id >= 0) end_of_generation_.push_back(id);
  }
  TokenId end_of_message = -1;
  bool has_return = false;
  bool has_call = false;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (std::find(kEndTexts.begin(), kEndTexts.end(), texts[i]) == kEndTexts.end()) continue;
    types_[i] = TokenType::kControl;
    has_return |= texts[i] == "<|return|>";
    has_call |= texts[i] == "<|call|>";
    if (texts[i] == "<|end|>") {
      end_of_message = static_cast<TokenId>(i);
    } else {
      end_of_generation_.push_back(static_cast<TokenId>(i));
    }
  }
  // Harmony vocabularies use <|end|> between the messages of one answer.
  if (end_of_message >= 0 && !(has_return && has_call)) {
    end_of_generation_.push_back(end_of_message);
  }
  return absl::OkStatus();
}

}  // namespace stoker
