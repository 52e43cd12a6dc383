// Drives PCRE2, just-in-time compiled where the machine allows it.
#include "tokenizer/word_splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "tokenizer/utf8.h"

namespace stoker {
namespace {

struct FreePcre {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
using Code = std::unique_ptr<pcre2_code, FreePcre>;
using MatchData = std::unique_ptr<pcre2_match_data, FreePcre>;
using MatchContext = std::unique_ptr<pcre2_match_context, FreePcre>;

// PCRE2's own \s also takes U+180E, which Unicode took out of White_Space in version 6.3. Being
// mostly an ASCII bitmap, this is faster than a property look-up, too.
constexpr std::string_view kWhiteSpace =
    "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"
    "\\x{3000}";

// Writes \s and \S out. \S inside a class is not supported, and no row has it.
std::string WithWhiteSpace(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c != '\\' || i + 1 == pattern.size()) {
      if (c == '[') in_class = true;
      if (c == ']') in_class = false;
      out.push_back(c);
      continue;
    }
    const char escaped = pattern[++i];
    if (escaped == 's' && in_class) {
      out.append(kWhiteSpace);
    } else if (escaped == 's' || escaped == 'S') {
      out.append(escaped == 's' ? "[" : "[^").append(kWhiteSpace).append("]");
    } else {
      out.append({'\\', escaped});
    }
  }
  return out;
}

absl::StatusOr<Code> Compile(std::string_view pattern) {
  const std::string expanded = WithWhiteSpace(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expanded.data()), expanded.size(),
                          PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY, &error, &offset, nullptr));
  if (code == nullptr) {
    std::array<PCRE2_UCHAR, 256> message = {};
    pcre2_get_error_message(error, message.data(), message.size());
    return absl::InternalError(fmt::format("pre-tokenization '{}' does not compile: {} at {}",
                                           pattern, reinterpret_cast<const char*>(message.data()),
                                           offset));
  }
  // Where executable memory is forbidden this fails, and matching interprets: same words, slower.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  return code;
}

// What matching needs besides the code; one a call, so that calls share nothing.
struct Scratch {
  MatchData data{pcre2_match_data_create(1, nullptr)};
  MatchContext context{pcre2_match_context_create(nullptr)};
  Scratch() { pcre2_set_match_limit(context.get(), UINT32_MAX); }
};

// Appends the matches in `piece`, which is UTF-8, and the gaps between them. If PCRE2 gives up (it
// is out of memory), what is left is one gap.
void SplitPiece(const pcre2_code* code, std::string_view piece, const Scratch& scratch,
                std::vector<std::string_view>* words) {
  const auto subject = reinterpret_cast<PCRE2_SPTR>(piece.data());
  size_t done = 0;
  while (done < piece.size()) {
    // The text was checked once, as a whole.
    const int found =
        pcre2_match(code, subject, piece.size(), done, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                    scratch.data.get(), scratch.context.get());
    if (found < 0) break;
    const PCRE2_SIZE* match = pcre2_get_ovector_pointer(scratch.data.get());
    if (match[0] > done) words->push_back(piece.substr(done, match[0] - done));
    words->push_back(piece.substr(match[0], match[1] - match[0]));
    done = match[1];
  }
  if (done < piece.size()) words->push_back(piece.substr(done));
}

size_t BrokenPrefix(std::string_view text) {
  size_t bytes = 0;
  while (bytes < text.size() && Utf8CharacterBytes(text.substr(bytes)) == 0) ++bytes;
  return bytes;
}

}  // namespace

struct WordSplitter::Stages {
  std::vector<Code> codes;
};

WordSplitter::WordSplitter(std::unique_ptr<const Stages> stages) : stages_(std::move(stages)) {}
WordSplitter::WordSplitter(WordSplitter&&) noexcept = default;
WordSplitter& WordSplitter::operator=(WordSplitter&&) noexcept = default;
WordSplitter::~WordSplitter() = default;

absl::StatusOr<WordSplitter> WordSplitter::Make(absl::Span<const std::string_view> stages) {
  auto compiled = std::make_unique<Stages>();
  for (const std::string_view stage : stages) {
    ASSIGN_OR_RETURN(Code code, Compile(stage));
    compiled->codes.push_back(std::move(code));
  }
  return WordSplitter(std::move(compiled));
}

std::vector<std::string_view> WordSplitter::Split(std::string_view text) const {
  const Scratch scratch;
  std::vector<std::string_view> words;
  std::vector<std::string_view> pieces;
  std::vector<std::string_view> cut;
  while (!text.empty()) {
    const size_t good_bytes = Utf8WellFormedPrefix(text);
    pieces.clear();
    if (good_bytes > 0) pieces.push_back(text.substr(0, good_bytes));
    for (const Code& code : stages_->codes) {
      cut.clear();
      for (const std::string_view piece : pieces) SplitPiece(code.get(), piece, scratch, &cut);
      std::swap(pieces, cut);
    }
    words.insert(words.end(), pieces.begin(), pieces.end());
    text.remove_prefix(good_bytes);
    const size_t broken_bytes = BrokenPrefix(text);
    if (broken_bytes > 0) words.push_back(text.substr(0, broken_bytes));
    text.remove_prefix(broken_bytes);
  }
  return words;
}

}  // namespace stoker
