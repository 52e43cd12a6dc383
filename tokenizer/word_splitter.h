// Cuts text into words by the regular expressions of a pre-tokenization.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace stoker {

class WordSplitter {
 public:
  // Compiles the stages (PreTokenization::stages). InternalError when one does not compile.
  static absl::StatusOr<WordSplitter> Make(absl::Span<const std::string_view> stages);
  WordSplitter(WordSplitter&&) noexcept;
  WordSplitter& operator=(WordSplitter&&) noexcept;
  ~WordSplitter();

  // The words of `text` in order; together they are the text. Bytes that are not UTF-8 are words
  // of their own, a run of them one word, and the expressions see the text between them as if it
  // stood alone. Safe from any number of threads.
  std::vector<std::string_view> Split(std::string_view text) const;

 private:
  struct Stages;
  explicit WordSplitter(std::unique_ptr<const Stages> stages);
  std::unique_ptr<const Stages> stages_;
};

}  // namespace stoker
