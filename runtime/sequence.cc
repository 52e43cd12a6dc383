// The rules by which a sequence ends, in the order in which they are asked.
#include "runtime/sequence.h"

#include <algorithm>

#include "base/status.h"

namespace stoker {

absl::Status ValidateRequest(const SequenceRequest& request, int vocab_count, int context) {
  if (request.prompt.empty()) {
    return absl::InvalidArgumentError(
        "the prompt is empty and the model adds no token of its own: give some text or ids");
  }
  if (request.prompt.size() > static_cast<size_t>(context)) {
    return absl::InvalidArgumentError(
        fmt::format("the prompt of {} tokens is longer than the context of {}: shorten it or "
                    "choose a larger context (--ctx)",
                    request.prompt.size(), context));
  }
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    if (request.prompt[i] >= 0 && request.prompt[i] < vocab_count) continue;
    return absl::InvalidArgumentError(
        fmt::format("token id {} (number {} of the prompt) is outside the vocabulary: ids go from "
                    "0 to {}",
                    request.prompt[i], i + 1, vocab_count - 1));
  }
  if (request.tokens_max < 1) {
    return absl::InvalidArgumentError(fmt::format(
        "the number of tokens to generate is {}: it must be at least 1", request.tokens_max));
  }
  for (const std::string& stop : request.stops) {
    if (stop.empty()) return absl::InvalidArgumentError("a stop string is empty: leave it out");
  }
  return Validate(request.sampling);
}

Sequence::Sequence(SequenceId id, SequenceRequest request, const Tokenizer& tokenizer, int context)
    : id_(id),
      request_(std::move(request)),
      tokenizer_(tokenizer),
      context_(context),
      text_(std::move(request_.stops)) {
  tokens_.resize(static_cast<size_t>(context) + 1);
  token_count_ = prompt_count();
  std::copy(request_.prompt.begin(), request_.prompt.end(), tokens_.begin());
}

int Sequence::DraftRoom() const {
  const int64_t left = request_.tokens_max - (token_count_ - prompt_count());
  return static_cast<int>(std::clamp<int64_t>(left - 1, 0, context_ - token_count_));
}

TokenEvent Sequence::Accept(TokenId token) {
  const bool is_first = token_count_ == prompt_count();
  TokenId& next = tokens_[static_cast<size_t>(token_count_)];
  was_drafted_ = draft_count_ > 0 && next == token;
  draft_count_ = was_drafted_ ? draft_count_ - 1 : 0;
  next = token;
  ++token_count_;
  TokenEvent event;
  event.sequence = id_;
  event.token = token;
  const bool stopped = is_first ? text_.Push(FirstText(token), event.text)
                                : text_.Push(tokenizer_.Piece(token, false), event.text);
  event.finish = stopped ? FinishReason::kStop : ReasonToEnd();
  if (event.finish != FinishReason::kNone && !stopped) text_.Finish(event.text);
  return event;
}

TokenEvent Sequence::End(FinishReason reason) {
  TokenEvent event;
  event.sequence = id_;
  event.finish = reason;
  text_.Finish(event.text);
  return event;
}

FinishReason Sequence::ReasonToEnd() const {
  if (request_.stop_at_end && tokenizer_.IsEndOfGeneration(tokens().back())) {
    return FinishReason::kEnd;
  }
  if (token_count_ - prompt_count() >= request_.tokens_max) return FinishReason::kLength;
  // The newest token, at position token_count_ - 1, has no place in the context.
  if (token_count_ > context_) return FinishReason::kContext;
  return FinishReason::kNone;
}

// The first token's text after a prompt that shows none (BOS alone): it begins a text, so a space
// that the tokenizer puts before every text is taken off again.
std::string Sequence::FirstText(TokenId token) const {
  const bool shows =
      std::any_of(request_.prompt.begin(), request_.prompt.end(),
                  [this](TokenId id) { return !tokenizer_.Piece(id, false).empty(); });
  if (shows) return std::string(tokenizer_.Piece(token, false));
  return tokenizer_.Decode({&token, 1}, false);
}

}  // namespace stoker
