// Makes small vocabularies and reads real ones into GGUF keys.
#include "tests/tokenizer/vocabularies.h"

#include <cstring>
#include <fstream>
#include <sstream>

#include "absl/container/flat_hash_map.h"
#include "base/check.h"
#include "base/status.h"
#include "tokenizer/byte_alphabet.h"

namespace stoker {
namespace {

using Ranks = absl::flat_hash_map<std::string_view, size_t>;

std::string InAlphabet(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += AlphabetCharacter(static_cast<uint8_t>(byte));
  return text;
}

std::string FromBase64(std::string_view text) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int bit_count = 0;
  for (const char c : text) {
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) break;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    bit_count += 6;
    if (bit_count < 8) continue;
    bit_count -= 8;
    bytes.push_back(static_cast<char>(bits >> bit_count & 0xff));
  }
  return bytes;
}

// Where the token is cut in two when everything below its rank has merged; 0 when it has no parts.
size_t PartsOf(std::string_view token, size_t token_rank, const Ranks& ranks) {
  std::vector<size_t> cuts;
  for (size_t i = 0; i <= token.size(); ++i) cuts.push_back(i);
  while (cuts.size() > 3) {
    size_t best = 0;
    size_t best_rank = token_rank;
    for (size_t i = 0; i + 2 < cuts.size(); ++i) {
      const auto pair = ranks.find(token.substr(cuts[i], cuts[i + 2] - cuts[i]));
      if (pair != ranks.end() && pair->second < best_rank) {
        best_rank = pair->second;
        best = i + 1;
      }
    }
    if (best == 0) return 0;
    cuts.erase(cuts.begin() + static_cast<std::ptrdiff_t>(best));
  }
  return cuts.size() == 3 ? cuts[1] : 0;
}

// Reads the fields of one protobuf message; enough of the wire format for a SentencePiece model.
class ProtoReader {
 public:
  explicit ProtoReader(std::string_view bytes) : rest_(bytes) {}

  bool Next() {
    if (rest_.empty()) return false;
    const uint64_t key = Varint();
    field = static_cast<int>(key >> 3);
    text = {};
    switch (key & 7) {
      case 0:
        number = Varint();
        break;
      case 1:
        text = Take(8);
        break;
      case 2:
        text = Take(Varint());
        break;
      default:
        text = Take(4);
    }
    return true;
  }

  int field = 0;
  uint64_t number = 0;    // of a varint field
  std::string_view text;  // of any other

 private:
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<uint8_t>(Take(1)[0]);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
  }
  std::string_view Take(uint64_t bytes) {
    CHECK(bytes <= rest_.size());
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }
  std::string_view rest_;
};

}  // namespace

std::string ReadWholeFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TokenId VocabularySpec::Add(std::string_view text, TokenType type, float score) {
  tokens.emplace_back(text);
  types.push_back(static_cast<int32_t>(type));
  scores.push_back(score);
  return static_cast<TokenId>(tokens.size()) - 1;
}

GgufWriter VocabularySpec::ToGguf() const {
  GgufWriter writer;
  writer.Set("tokenizer.ggml.model", model);
  if (!pre.empty()) writer.Set("tokenizer.ggml.pre", pre);
  writer.SetArray("tokenizer.ggml.tokens", tokens);
  if (!types.empty()) writer.SetArray("tokenizer.ggml.token_type", types);
  if (!scores.empty()) writer.SetArray("tokenizer.ggml.scores", scores);
  if (!merges.empty()) writer.SetArray("tokenizer.ggml.merges", merges);
  return writer;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(const GgufWriter& writer) {
  ASSIGN_OR_RETURN(const GgufModel gguf, GgufModel::Parse(writer.Build(), "vocabulary.gguf"));
  return Tokenizer::FromGguf(gguf);
}

VocabularySpec SmallBpe() {
  VocabularySpec spec;
  for (int byte = 0; byte < 256; ++byte) spec.Add(AlphabetCharacter(static_cast<uint8_t>(byte)));
  spec.merges = {"h e", "l l", "he ll", "hell o", "Ġ h",  "Ġh e",
                 "Ġ Ġ", "1 2", "Ã ©",   "a a",    "aa aa"};
  for (const std::string& merge : spec.merges) {
    std::string merged = merge;
    merged.erase(merged.find(' '), 1);
    spec.Add(merged);
  }
  spec.Add("<|endoftext|>", TokenType::kControl);
  spec.Add("<|end", TokenType::kControl);
  spec.Add("<tool>", TokenType::kUserDefined);
  spec.Add("<tool> x", TokenType::kUserDefined);
  spec.Add("<unk>", TokenType::kUnknown);
  spec.Add("[PAD]", TokenType::kUnused);
  spec.scores.clear();
  return spec;
}

VocabularySpec SmallSentencePiece() {
  VocabularySpec spec{.model = "llama", .pre = ""};
  spec.Add("<unk>", TokenType::kUnknown);
  spec.Add("<s>", TokenType::kControl);
  spec.Add("</s>", TokenType::kControl);
  for (int byte = 0; byte < 256; ++byte) {
    spec.Add(fmt::format("<0x{:02X}>", byte), TokenType::kByte);
  }
  float score = 0;
  for (const std::string_view piece :
       {"▁t", "he", "▁the", "▁▁", "▁▁▁▁", "in", "▁h", "ll", "hell", "éé", "▁", "a",
        "e",  "h",  "i",    "l",  "n",    "o",  "s",  "t",  "é",    "<",  ">", "/"}) {
    spec.Add(piece, TokenType::kNormal, score--);
  }
  spec.Add("[INST]", TokenType::kUserDefined);
  return spec;
}

VocabularySpec FromRankFile(const std::string& path, const RankFile& file) {
  VocabularySpec spec;
  std::vector<std::string> tokens;
  std::istringstream lines(ReadWholeFile(path));
  std::string base64;
  for (size_t rank = 0; lines >> base64 >> rank;) {
    CHECK(rank == tokens.size());
    tokens.push_back(FromBase64(base64));
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i < file.control_count) {
      spec.Add(tokens[i], TokenType::kControl);
      continue;
    }
    if (file.in_alphabet) tokens[i] = BytesFromAlphabet(tokens[i]);
    spec.Add(InAlphabet(tokens[i]));
  }
  spec.scores.clear();
  Ranks ranks;
  for (size_t i = file.control_count; i < tokens.size(); ++i) ranks.emplace(tokens[i], i);
  for (size_t i = file.control_count; i < tokens.size(); ++i) {
    const std::string_view token = tokens[i];
    const size_t cut = PartsOf(token, i, ranks);
    if (cut == 0) continue;
    spec.merges.push_back(InAlphabet(token.substr(0, cut)) + " " + InAlphabet(token.substr(cut)));
  }
  return spec;
}

VocabularySpec FromSentencePieceFile(const std::string& path) {
  VocabularySpec spec{.model = "llama", .pre = ""};
  const std::string bytes = ReadWholeFile(path);
  for (ProtoReader model(bytes); model.Next();) {
    if (model.field != 1) continue;
    std::string_view text;
    float score = 0;
    auto type = TokenType::kNormal;  // numbered as in GGUF
    for (ProtoReader piece(model.text); piece.Next();) {
      if (piece.field == 1) text = piece.text;
      if (piece.field == 2) std::memcpy(&score, piece.text.data(), sizeof(score));
      if (piece.field == 3) type = static_cast<TokenType>(piece.number);
    }
    spec.Add(text, type, score);
  }
  return spec;
}

}  // namespace stoker
