// Claims of sequence.h: how sequences end, and what text they show.
#include "runtime/sequence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/status.h"

namespace stoker {
namespace {

using testing::HasSubstr;

// Ids are characters; id 0 is BOS, id 1 ends. As SentencePiece-style tokenizers do, decoding takes
// one space off the front.
class LetterTokenizer final : public Tokenizer {
 public:
  LetterTokenizer() {
    for (int i = 0; i < 128; ++i) letters_.push_back(static_cast<char>(i));
  }
  std::vector<TokenId> Encode(std::string_view text, const EncodeOptions&) const override {
    return {text.begin(), text.end()};
  }
  std::string_view Piece(TokenId id, bool with_special) const override {
    if (id <= 1 && !with_special) return {};
    return std::string_view(letters_).substr(static_cast<size_t>(id), 1);
  }
  std::string Decode(absl::Span<const TokenId> ids, bool with_special) const override {
    std::string text;
    for (const TokenId id : ids) text += Piece(id, with_special);
    return text.starts_with(' ') ? text.substr(1) : text;
  }
  int32_t vocab_count() const override { return 128; }
  TokenId bos() const override { return 0; }
  TokenId eos() const override { return 1; }
  bool adds_bos() const override { return true; }
  bool IsEndOfGeneration(TokenId id) const override { return id == 1; }
  std::string description() const override { return "letters"; }

 private:
  std::string letters_;
};

constexpr int kContext = 16;

SequenceRequest Request(std::string_view prompt) {
  SequenceRequest request;
  request.prompt.assign(prompt.begin(), prompt.end());
  return request;
}

struct Outcome {
  std::string text;
  FinishReason finish = FinishReason::kNone;
  size_t accepted = 0;
};

// Feeds letters until the sequence ends.
Outcome Feed(SequenceRequest request, std::string_view letters) {
  const LetterTokenizer tokenizer;
  Sequence sequence(1, std::move(request), tokenizer, kContext);
  Outcome outcome;
  for (const char letter : letters) {
    const TokenEvent event = sequence.Accept(letter);
    EXPECT_EQ(event.token, letter);
    outcome.text += event.text;
    outcome.finish = event.finish;
    ++outcome.accepted;
    if (event.finish != FinishReason::kNone) break;
  }
  return outcome;
}

TEST(Sequence, EndsAtAnEndOfGenerationToken) {
  const Outcome outcome = Feed(Request("ab"), "cd\x01zz");
  EXPECT_EQ(outcome.finish, FinishReason::kEnd);
  EXPECT_EQ(outcome.text, "cd");
  EXPECT_EQ(outcome.accepted, 3u);
}

TEST(Sequence, RunsOverTheEndWhenTold) {
  SequenceRequest request = Request("ab");
  request.stop_at_end = false;
  EXPECT_EQ(Feed(request, "cd\x01zz").text, "cdzz");
}

TEST(Sequence, EndsAfterTokensMaxAndShowsWhatWasHeldBack) {
  SequenceRequest request = Request("ab");
  request.tokens_max = 3;
  request.stops = {"exx"};
  const Outcome outcome = Feed(request, "cdexx");
  EXPECT_EQ(outcome.finish, FinishReason::kLength);
  EXPECT_EQ(outcome.text, "cde");
}

TEST(Sequence, EndsBeforeAStopString) {
  SequenceRequest request = Request("ab");
  request.stops = {"def"};
  const Outcome outcome = Feed(request, "cdefgh");
  EXPECT_EQ(outcome.finish, FinishReason::kStop);
  EXPECT_EQ(outcome.text, "c");
  EXPECT_EQ(outcome.accepted, 4u);
}

// 14 of 16 positions are prompt: two tokens have a place, a third can be known but not used.
TEST(Sequence, EndsWhereTheContextDoes) {
  const Outcome outcome = Feed(Request("abcdefghijklmn"), "123456");
  EXPECT_EQ(outcome.finish, FinishReason::kContext);
  EXPECT_EQ(outcome.text, "123");
}

TEST(Sequence, TheSpaceBeforeATextIsTakenOffAfterBosAlone) {
  EXPECT_EQ(Feed(Request(std::string_view("\0", 1)), " once \x01").text, "once ");
  EXPECT_EQ(Feed(Request("a"), " once \x01").text, " once ");
}

TEST(Sequence, EndingEarlyShowsWhatWasHeldBack) {
  const LetterTokenizer tokenizer;
  SequenceRequest request = Request("ab");
  request.stops = {"de"};
  Sequence sequence(7, request, tokenizer, kContext);
  EXPECT_EQ(sequence.Accept('d').text, "");
  const TokenEvent event = sequence.End(FinishReason::kCancelled);
  EXPECT_EQ(event.sequence, 7);
  EXPECT_EQ(event.token, -1);
  EXPECT_EQ(event.text, "d");
  EXPECT_EQ(event.finish, FinishReason::kCancelled);
}

void ExpectRefused(const SequenceRequest& request, std::string_view why) {
  const absl::Status status = ValidateRequest(request, 128, kContext);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr(std::string(why)));
}

TEST(Sequence, RequestsThatCannotRunAreRefusedWithTheNumbers) {
  EXPECT_TRUE(ValidateRequest(Request("abcdefghijklmnop"), 128, kContext).ok());
  ExpectRefused(Request(""), "empty");
  ExpectRefused(Request("abcdefghijklmnopq"), "17 tokens is longer than the context of 16");
  SequenceRequest outside = Request("ab");
  outside.prompt.push_back(128);
  ExpectRefused(outside, "token id 128 (number 3 of the prompt)");
  outside.prompt.back() = -1;
  ExpectRefused(outside, "token id -1");
  SequenceRequest none = Request("ab");
  none.tokens_max = 0;
  ExpectRefused(none, "at least 1");
  SequenceRequest stops = Request("ab");
  stops.stops = {"x", ""};
  ExpectRefused(stops, "stop string is empty");
  SequenceRequest sampling = Request("ab");
  sampling.sampling.top_p = 2;
  ExpectRefused(sampling, "top_p");
}

// Puts the letters behind the sequence's tokens as drafts.
void Draft(Sequence& sequence, std::string_view letters) {
  std::copy(letters.begin(), letters.end(), sequence.data() + sequence.tokens().size());
  sequence.SetDraftCount(static_cast<int>(letters.size()));
}

TEST(Sequence, TheDraftsBehindARightOneStayAndAWrongOneDropsAll) {
  const LetterTokenizer tokenizer;
  Sequence sequence(1, Request("ab"), tokenizer, kContext);
  Draft(sequence, "cde");
  sequence.Accept('c');
  EXPECT_TRUE(sequence.was_drafted());
  EXPECT_EQ(sequence.draft_count(), 2);
  sequence.Accept('x');
  EXPECT_FALSE(sequence.was_drafted());
  EXPECT_EQ(sequence.draft_count(), 0);
  EXPECT_EQ(sequence.tokens(), (std::vector<TokenId>{'a', 'b', 'c', 'x'}));
}

// A single draft leaves none behind whether it was right or not.
TEST(Sequence, AWrongSingleDraftIsNotTakenForARightOne) {
  const LetterTokenizer tokenizer;
  Sequence sequence(1, Request("ab"), tokenizer, kContext);
  Draft(sequence, "c");
  sequence.Accept('x');
  EXPECT_FALSE(sequence.was_drafted());
}

TEST(Sequence, DraftsAreOfNoUseBeyondTheLastTokenOrTheContext) {
  const LetterTokenizer tokenizer;
  SequenceRequest request = Request("ab");
  request.tokens_max = 4;
  Sequence sequence(1, request, tokenizer, kContext);
  EXPECT_EQ(sequence.DraftRoom(), 3);
  sequence.Accept('c');
  EXPECT_EQ(sequence.DraftRoom(), 2);
  EXPECT_EQ(Sequence(1, Request("abcdefghijklmn"), tokenizer, kContext).DraftRoom(), 2);
  EXPECT_EQ(Sequence(1, Request("abcdefghijklmnop"), tokenizer, kContext).DraftRoom(), 0);
}

}  // namespace
}  // namespace stoker
