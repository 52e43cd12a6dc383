// Text to token ids and back, from GGUF metadata.
//
// Kinds: byte-level BPE ("gpt2": pre-tokenization named by tokenizer.ggml.pre) and
// SentencePiece-style ("llama"). Each kind is one file and one row (registry.cc); so is each
// pre-tokenization.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/gguf.h"

namespace stoker {

using TokenId = int32_t;

struct EncodeOptions {
  bool add_special = true;  // BOS (and EOS) where the model's metadata asks for them
  bool parse_special =
      true;  // special-token text in the input becomes the special token, as in chat templates
};

class Tokenizer {
 public:
  // InvalidArgument or Unimplemented naming the key when the vocabulary is malformed or of an
  // unknown kind or pre.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromGguf(const GgufModel& gguf);
  virtual ~Tokenizer() = default;

  // Any bytes; invalid UTF-8 is encoded byte by byte and decodes to the same bytes (byte-level BPE
  // and byte tokens).
  virtual std::vector<TokenId> Encode(std::string_view text,
                                      const EncodeOptions& options) const = 0;
  // The bytes of one token; special tokens give nothing unless `with_special`. Requires 0 <= id <
  // vocab_count().
  virtual std::string_view Piece(TokenId id, bool with_special) const = 0;
  // The bytes of a sequence (SPM: the space put before the text on encoding is taken off again).
  virtual std::string Decode(absl::Span<const TokenId> ids, bool with_special) const = 0;

  virtual int32_t vocab_count() const = 0;
  virtual TokenId bos() const = 0;  // -1 when the model has none
  virtual TokenId eos() const = 0;
  virtual bool adds_bos() const = 0;
  // Whether generation ends at this token: eos, eot, eom and the known end markers.
  virtual bool IsEndOfGeneration(TokenId id) const = 0;
  virtual std::string description() const = 0;  // "byte-level BPE, qwen2, 151936 tokens"
};

// Holds back the bytes of an unfinished UTF-8 character, so that streamed text is always whole
// characters. Bytes that can never become valid pass through as they are.
class Utf8Stream {
 public:
  // Returns what can be printed now.
  std::string Push(std::string_view bytes);
  // Returns the rest, finished or not.
  std::string Finish();

 private:
  std::string pending_;
};

}  // namespace stoker
