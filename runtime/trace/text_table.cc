// Splitting text, and reading a file of it.
#include "runtime/trace/text_table.h"

#include <fmt/format.h>

#include "base/status.h"
#include "base/units.h"
#include "io/file.h"

namespace stoker {

bool TextLines::Next(std::string_view* line) {
  if (rest_.empty()) return false;
  ++number_;
  const size_t end = rest_.find('\n');
  is_whole_ = end != std::string_view::npos;
  *line = rest_.substr(0, end);
  rest_.remove_prefix(is_whole_ ? end + 1 : rest_.size());
  if (!line->empty() && line->back() == '\r') line->remove_suffix(1);
  return true;
}

absl::Status TextLines::ErrorAt(int64_t number, std::string_view what) const {
  return absl::InvalidArgumentError(fmt::format("{} line {}: {}", path_, number, what));
}

void SplitText(std::string_view line, char separator, std::vector<std::string_view>* parts) {
  parts->clear();
  for (;;) {
    const size_t end = line.find(separator);
    parts->push_back(line.substr(0, end));
    if (end == std::string_view::npos) return;
    line.remove_prefix(end + 1);
  }
}

absl::StatusOr<std::string> ReadWholeText(const std::string& path, uint64_t bytes_max) {
  ASSIGN_OR_RETURN(const FileDescriptor file, OpenForReading(path));
  ASSIGN_OR_RETURN(const FileIdentity identity, IdentityOf(file, path));
  if (identity.bytes > bytes_max) {
    return absl::ResourceExhaustedError(
        fmt::format("{} has {}, more than the {} that are read of such a file: it is probably not "
                    "what its name says",
                    path, FormatBytes(identity.bytes), FormatBytes(bytes_max)));
  }
  std::string text(identity.bytes, '\0');
  ASSIGN_OR_RETURN(const size_t bytes, ReadAt(file, 0, text.data(), text.size(), path));
  text.resize(bytes);
  return text;
}

}  // namespace stoker
