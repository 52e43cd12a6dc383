// stoker trace export: a recorded run as text for other programs.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "cli/commands/commands.h"
#include "cli/exit_status.h"
#include "runtime/trace/trace.h"
#include "runtime/trace/trace_exports.h"

namespace stoker {
namespace {

// A file that text goes to.
class OutputFile {
 public:
  explicit OutputFile(std::string path)
      : path_(std::move(path)), file_(std::fopen(path_.c_str(), "wb")) {}
  ~OutputFile() {
    if (file_ != nullptr) std::fclose(file_);
  }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  absl::Status Write(std::string_view text) {
    if (file_ == nullptr || std::fwrite(text.data(), 1, text.size(), file_) != text.size()) {
      return Failed();
    }
    return absl::OkStatus();
  }
  absl::Status Close() {
    std::FILE* const file = std::exchange(file_, nullptr);
    return file == nullptr || std::fclose(file) != 0 ? Failed() : absl::OkStatus();
  }

 private:
  absl::Status Failed() const {
    return absl::InternalError(
        fmt::format("{} cannot be written: {}\n  try: a folder of yours, on "
                    "a disk that is not full",
                    path_, std::strerror(errno)));
  }

  const std::string path_;
  std::FILE* file_;
};

class TraceExportCommand final : public Command {
 public:
  void Declare(CLI::App& app) override {
    app.add_option("TRACE", path_, "What --trace wrote, or a trace of another program");
    for (const TraceExportRow& row : TraceExports()) {
      app.add_flag(fmt::format("--{}", row.name), chosen_[static_cast<size_t>(IndexOf(row))],
                   std::string(row.description));
    }
    app.add_option("-o,--output", output_, "A file to write to; default: standard output");
    app.add_flag("--repetition", options_.keep_repetition,
                 "With sequences that a foreign trace flags as degenerate loops");
  }

  absl::Status Run(Console& console) override {
    if (path_.empty()) {
      return absl::InvalidArgumentError(
          "no trace was named\n  try: stoker trace export run.trace --csv");
    }
    ASSIGN_OR_RETURN(const TraceExportRow* const row, Chosen());
    const absl::StatusOr<Trace> trace = ReadTrace(path_, options_);
    if (!trace.ok()) return AsOpeningError(trace.status());
    if (!trace->notice.empty()) console.Note("note: " + trace->notice);
    if (output_.empty()) {
      TextOut out([&](std::string_view text) { return console.Print(text); });
      return row->write(*trace, out);
    }
    OutputFile file(output_);
    TextOut out([&](std::string_view text) { return file.Write(text); });
    RETURN_IF_ERROR(row->write(*trace, out));
    return file.Close();
  }

 private:
  static constexpr size_t kExportsMax = 16;

  static int64_t IndexOf(const TraceExportRow& row) { return &row - TraceExports().data(); }

  // The one that was asked for.
  absl::StatusOr<const TraceExportRow*> Chosen() const {
    const TraceExportRow* found = nullptr;
    int count = 0;
    std::string names;
    for (const TraceExportRow& row : TraceExports()) {
      names += fmt::format("{}--{}", names.empty() ? "" : ", ", row.name);
      if (!chosen_[static_cast<size_t>(IndexOf(row))]) continue;
      found = &row;
      ++count;
    }
    if (count == 1) return found;
    return absl::InvalidArgumentError(
        fmt::format("{} formats were named, one is written\n  try: one of {}", count, names));
  }

  std::string path_;
  std::string output_;
  ReadTraceOptions options_;
  bool chosen_[kExportsMax] = {};  // by place in TraceExports
};

}  // namespace

std::unique_ptr<Command> MakeTraceExportCommand() { return std::make_unique<TraceExportCommand>(); }

}  // namespace stoker
