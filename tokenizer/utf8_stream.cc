// Holds back unfinished characters between pieces.
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace stoker {

std::string Utf8Stream::Push(std::string_view bytes) {
  std::string ready = std::move(pending_);
  ready.append(bytes);
  const size_t unfinished = Utf8UnfinishedSuffix(ready);
  pending_ = ready.substr(ready.size() - unfinished);
  ready.resize(ready.size() - unfinished);
  return ready;
}

std::string Utf8Stream::Finish() {
  std::string rest = std::move(pending_);
  pending_.clear();
  return rest;
}

}  // namespace stoker
