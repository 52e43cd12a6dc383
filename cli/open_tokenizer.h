// Opens a model file for its tokenizer alone.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "tokenizer/tokenizer.h"

namespace stoker {

// Errors carry the codes of AsOpeningError.
absl::StatusOr<std::unique_ptr<Tokenizer>> OpenTokenizer(const std::string& model_path);

}  // namespace stoker
