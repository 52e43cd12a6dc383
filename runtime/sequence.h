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
  absl::Span<const TokenId> tokens() const { return tokens_; }  // prompt and generated

  // Takes a generated token; the event tells its text and whether the sequence is over.
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
  std::vector<TokenId> tokens_;
  TextStream text_;
};

}  // namespace stoker
