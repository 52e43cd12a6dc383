// Fuzzes the tokenizer: any text comes back as it was, and no vocabulary, however odd, does harm.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "tests/tokenizer/vocabularies.h"
#include "tokenizer/pre_tokenization.h"

namespace stoker {
namespace {

// Takes choices off the front of the input; zeros when it is used up.
class Input {
 public:
  explicit Input(std::string_view bytes) : rest_(bytes) {}
  uint8_t Byte() {
    if (rest_.empty()) return 0;
    const auto byte = static_cast<uint8_t>(rest_[0]);
    rest_.remove_prefix(1);
    return byte;
  }
  size_t Index(size_t count) {
    const size_t high = Byte();
    return (high << 8 | Byte()) % count;
  }
  std::string Text() {
    const size_t wanted = Byte() % 16;
    const size_t bytes = std::min(wanted, rest_.size());
    const std::string text(rest_.substr(0, bytes));
    rest_.remove_prefix(bytes);
    return text;
  }
  std::string_view rest() const { return rest_; }
  bool empty() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

// Encodes and decodes, and checks what holds for every tokenizer. Returns the decoded text.
std::string ThereAndBack(const Tokenizer& tokenizer, std::string_view text,
                         const EncodeOptions& options) {
  const std::vector<TokenId> ids = tokenizer.Encode(text, options);
  Utf8Stream stream;
  std::string pieces;
  std::string streamed;
  for (const TokenId id : ids) {
    CHECK(id >= 0 && id < tokenizer.vocab_count());
    const std::string_view piece = tokenizer.Piece(id, true);
    pieces += piece;
    streamed += stream.Push(piece);
    tokenizer.IsEndOfGeneration(id);
  }
  CHECK(streamed + stream.Finish() == pieces);
  return tokenizer.Decode(ids, true);
}

std::unique_ptr<Tokenizer> MustMake(const VocabularySpec& spec) {
  auto tokenizer = MakeTokenizer(spec.ToGguf());
  CHECK(tokenizer.ok());
  return *std::move(tokenizer);
}

// One tokenizer a row, as making them takes longer than using them.
const std::vector<std::unique_ptr<Tokenizer>>& SmallBpeTokenizers() {
  static const auto* const tokenizers = [] {
    auto* made = new std::vector<std::unique_ptr<Tokenizer>>;
    for (const PreTokenization& row : PreTokenizations()) {
      VocabularySpec spec = SmallBpe();
      spec.pre = row.names[0];
      made->push_back(MustMake(spec));
    }
    return made;
  }();
  return *tokenizers;
}

void FuzzBpeText(Input input) {
  const auto& tokenizers = SmallBpeTokenizers();
  const Tokenizer& tokenizer = *tokenizers[input.Byte() % tokenizers.size()];
  for (const bool markup : {false, true}) {
    CHECK(ThereAndBack(tokenizer, input.rest(), {.add_special = false, .parse_special = markup}) ==
          input.rest());
  }
}

void FuzzSentencePieceText(Input input) {
  static const auto* const tokenizer = MustMake(SmallSentencePiece()).release();
  constexpr std::string_view kWrittenSpace = "\u2581";
  std::string expected(input.rest());
  for (size_t at = 0; (at = expected.find(kWrittenSpace, at)) != std::string::npos; ++at) {
    expected.replace(at, kWrittenSpace.size(), " ");
  }
  CHECK(ThereAndBack(*tokenizer, input.rest(), {.add_special = false, .parse_special = false}) ==
        expected);
  ThereAndBack(*tokenizer, input.rest(), {});
}

// A small vocabulary with a few changes. Most are errors; what is accepted must work.
void FuzzVocabulary(Input input) {
  VocabularySpec spec = input.Byte() % 2 == 0 ? SmallBpe() : SmallSentencePiece();
  const auto rows = PreTokenizations();
  spec.pre = rows[input.Byte() % rows.size()].names[0];
  for (int changes = input.Byte() % 8; changes > 0 && !input.empty(); --changes) {
    switch (input.Byte() % 6) {
      case 0:
        spec.tokens[input.Index(spec.tokens.size())] = input.Text();
        break;
      case 1:
        spec.types[input.Index(spec.types.size())] = static_cast<int8_t>(input.Byte());
        break;
      case 2:
        if (spec.scores.empty()) break;
        spec.scores[input.Index(spec.scores.size())] = static_cast<float>(input.Byte());
        break;
      case 3:
        spec.merges.push_back(input.Text());
        break;
      case 4:
        spec.Add(input.Text(), static_cast<TokenType>(input.Byte() % 7));
        break;
      default:
        spec.types.resize(input.Index(spec.types.size() + 2));
        if (spec.types.empty()) return;
    }
  }
  GgufWriter writer = spec.ToGguf();
  writer.Set("tokenizer.ggml.bos_token_id", uint32_t{input.Byte()} * 2)
      .Set("tokenizer.ggml.unknown_token_id", int32_t{input.Byte()} * 2 - 4)
      .Set("tokenizer.ggml.add_space_prefix", input.Byte() % 2 == 0);
  const auto tokenizer = MakeTokenizer(writer);
  if (!tokenizer.ok()) return;
  ThereAndBack(**tokenizer, input.rest(), {});
}

// A whole file.
void FuzzFile(Input input) {
  const std::string_view bytes = input.rest();
  const auto gguf = GgufModel::Parse(
      absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()), "fuzz");
  if (!gguf.ok()) return;
  const auto tokenizer = Tokenizer::FromGguf(*gguf);
  if (tokenizer.ok()) ThereAndBack(**tokenizer, bytes, {});
}

void Fuzz(Input input) {
  switch (input.Byte() % 4) {
    case 0:
      return FuzzBpeText(input);
    case 1:
      return FuzzSentencePieceText(input);
    case 2:
      return FuzzVocabulary(input);
    default:
      return FuzzFile(input);
  }
}

}  // namespace
}  // namespace stoker

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  stoker::Fuzz(stoker::Input({reinterpret_cast<const char*>(data), bytes}));
  return 0;
}
