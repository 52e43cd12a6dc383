// Reading prompts line by line, and again one by one.
#include "cli/batch/batch_input.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/status.h"

namespace stoker {
namespace {

std::string_view WithoutLineEnding(std::string_view text) {
  if (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
  return text;
}

bool IsBlank(std::string_view text) {
  return text.find_first_not_of(" \t\r") == std::string_view::npos;
}

// The buffer that getline(3) takes memory for.
struct LineBuffer {
  ~LineBuffer() { std::free(data); }
  char* data = nullptr;
  size_t capacity = 0;
};

}  // namespace

uint64_t HashOfLine(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

absl::StatusOr<BatchInput> BatchInput::Open(const std::string& path,
                                            const BatchDefaults& defaults) {
  std::error_code error;
  if (std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error)) {
    return absl::InvalidArgumentError(
        fmt::format("{} is not a regular file: prompts are read when their turn comes, and again "
                    "when a batch is resumed\n  try: save them to a file first",
                    path));
  }
  File file(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (file == nullptr) {
    return absl::InvalidArgumentError(fmt::format(
        "cannot open {}: {}\n  try: -i with a file of JSON lines", path, std::strerror(errno)));
  }
  BatchInput input(path, defaults, std::move(file));
  RETURN_IF_ERROR(input.ReadLines());
  return input;
}

BatchInput::BatchInput(std::string path, BatchDefaults defaults, File file)
    : path_(std::move(path)), defaults_(std::move(defaults)), file_(std::move(file)) {}

absl::Status BatchInput::ReadLines() {
  LineBuffer buffer;
  int64_t number = 0;
  int64_t offset_bytes = 0;
  ssize_t count = 0;
  while ((count = getline(&buffer.data, &buffer.capacity, file_.get())) > 0) {
    const std::string_view text = WithoutLineEnding({buffer.data, static_cast<size_t>(count)});
    ++number;
    if (!IsBlank(text)) {
      const auto request = ParseBatchRequest(text, number, defaults_);
      if (!request.ok()) {
        return WithContext(request.status(), fmt::format("{}:{}", path_, number));
      }
      lines_.push_back({.number = number,
                        .offset_bytes = offset_bytes,
                        .bytes = static_cast<int64_t>(text.size()),
                        .hash = HashOfLine(text)});
    }
    offset_bytes += count;
  }
  if (std::ferror(file_.get()) != 0) {
    return absl::InvalidArgumentError(
        fmt::format("cannot read {}: {}", path_, std::strerror(errno)));
  }
  if (!lines_.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "{} holds no prompt\n  try: one object a line, such as {{\"prompt\": \"Once\"}}", path_));
}

int64_t BatchInput::IndexOf(int64_t number) const {
  const auto found =
      std::lower_bound(lines_.begin(), lines_.end(), number,
                       [](const Line& line, int64_t wanted) { return line.number < wanted; });
  if (found == lines_.end() || found->number != number) return -1;
  return found - lines_.begin();
}

absl::StatusOr<BatchRequest> BatchInput::Read(int64_t index) const {
  const Line& line = lines_[static_cast<size_t>(index)];
  std::string text(static_cast<size_t>(line.bytes), '\0');
  const bool is_read = fseeko(file_.get(), line.offset_bytes, SEEK_SET) == 0 &&
                       std::fread(text.data(), 1, text.size(), file_.get()) == text.size();
  if (!is_read || HashOfLine(text) != line.hash) {
    return absl::InvalidArgumentError(
        fmt::format("{}:{}: this line has changed while the batch ran\n  try: leave the input as "
                    "it is until the batch has ended, then run the same command again",
                    path_, line.number));
  }
  return ParseBatchRequest(text, line.number, defaults_);
}

}  // namespace stoker
