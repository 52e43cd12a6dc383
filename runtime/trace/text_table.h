// Text of comma-separated lines, read in place: what the foreign traces are made of.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace stoker {

// Walks the lines of a text, which must outlive it; knows the number of each for messages.
class TextLines {
 public:
  TextLines(std::string_view path, std::string_view text) : path_(path), rest_(text) {}

  // The next line without its end; false when there is none.
  bool Next(std::string_view* line);
  int64_t number() const { return number_; }  // of the line that Next gave, from 1
  // Whether that line had an end: false for the last one of a file that was cut off.
  bool is_whole() const { return is_whole_; }

  // "PATH line N: what": InvalidArgument.
  absl::Status Error(std::string_view what) const { return ErrorAt(number_, what); }
  absl::Status ErrorAt(int64_t number, std::string_view what) const;

 private:
  std::string path_;
  std::string_view rest_;
  int64_t number_ = 0;
  bool is_whole_ = true;
};

// The parts of a line between separators; valid as long as the line.
void SplitText(std::string_view line, char separator, std::vector<std::string_view>* parts);

// The whole text as a number; a whole number may have another base.
template <typename Number, typename... Base>
bool ParseWhole(std::string_view text, Number* number, Base... base) {
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), *number, base...);
  return error == std::errc() && end == text.data() + text.size();
}

// The file's bytes. NotFound and others as the system says; ResourceExhausted above `bytes_max`.
absl::StatusOr<std::string> ReadWholeText(const std::string& path, uint64_t bytes_max);

}  // namespace stoker
