// One sequence from request to end: its tokens, its text, and when it is over.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/engine.h"
#include "runtime/text_stream.h"
#include "tokenizer/tokenizer.h"

namespace stoker {

// InvalidArgument for a request that cannot run: empty prompt, ids outside the vocabulary, a prompt
// longer than the context, sampling options or stops out of range.
absl::Status ValidateRequest(const SequenceRequest& request, int vocab_count, int context);

class Sequence {
 public:
  // Requires a valid request. Takes memory for `context` tokens now, so that steps take none.
  Sequence(SequenceId id, SequenceRequest request, const Tokenizer& tokenizer, int context);

  SequenceId id() const { return id_; }
  const SamplingOptions& sampling() const { return request_.sampling; }
  int prompt_count() const { return static_cast<int>(request_.prompt.size()); }
  // Prompt and generated.
  absl::Span<const TokenId> tokens() const {
    return {tokens_.data(), static_cast<size_t>(token_count_)};
  }

  // Guesses of the tokens that follow, kept behind tokens().
  int draft_count() const { return draft_count_; }
  // How many there is use for: the step that checks them gives one token more.
  int DraftRoom() const;
  // Room for kDraftLengthMax drafts lies behind tokens(), as far as the context allows.
  TokenId* data() { return tokens_.data(); }
  void SetDraftCount(int count) { draft_count_ = count; }
  // Whether the newest token was the first draft when it came.
  bool was_drafted() const { return was_drafted_; }

  // Takes a generated token; the event tells its text and whether the sequence is over. If it is
  // the first draft the other drafts stay, else all are dropped.
  TokenEvent Accept(TokenId token);
  // Ends the sequence without a token; what was held back becomes text.
  TokenEvent End(FinishReason reason);

 private:
  FinishReason ReasonToEnd() const;
  std::string FirstText(TokenId token) const;

  const SequenceId id_;
  SequenceRequest request_;
  const Tokenizer& tokenizer_;
  const int context_;
  std::vector<TokenId> tokens_;  // with room for drafts at the end
  int token_count_ = 0;
  int draft_count_ = 0;
  bool was_drafted_ = false;
  TextStream text_;
};

}  // namespace stoker
