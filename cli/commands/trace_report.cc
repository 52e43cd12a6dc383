// stoker trace report: a recorded run, or two held against each other, as one HTML page.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "base/status.h"
#include "base/units.h"
#include "cli/commands/commands.h"
#include "runtime/report/report.h"
#include "runtime/trace/trace.h"

namespace stoker {
namespace {

// "7GB/s" into bytes per second; an empty text is 0, not known.
absl::StatusOr<double> ParseCeiling(std::string_view flag, const std::string& text) {
  if (text.empty()) return 0;
  const absl::StatusOr<double> rate = ParseRate(text);
  return rate.ok() ? rate : WithContext(rate.status(), flag);
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  bool is_written = file != nullptr;
  if (is_written) is_written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (file != nullptr) is_written = std::fclose(file) == 0 && is_written;
  if (is_written) return absl::OkStatus();
  return absl::InternalError(
      fmt::format("cannot write {}: {}\n  likely: the folder is missing or read-only, or the disk "
                  "is full\n  try: another place with -o",
                  path, std::strerror(errno)));
}

class TraceReportCommand final : public Command {
 public:
  void Declare(CLI::App& app) override {
    app.add_option("TRACE", trace_, "A file that stoker run --trace wrote, or a foreign trace");
    app.add_option("-o,--output", output_, "The page; - for standard output")
        ->capture_default_str();
    app.add_option("--compare", compare_, "Another trace, to be held against this one");
    app.add_option("--drive-ceiling", drive_ceiling_,
                   "What the drive can do, as stoker bench measured it: 2.1GB/s");
    app.add_option("--memory-ceiling", memory_ceiling_,
                   "What memory can do, as stoker bench measured it: 24GB/s");
  }

  absl::Status Check() override {
    RETURN_IF_ERROR(ParseCeiling("--drive-ceiling", drive_ceiling_).status());
    RETURN_IF_ERROR(ParseCeiling("--memory-ceiling", memory_ceiling_).status());
    if (compare_.empty() || (drive_ceiling_.empty() && memory_ceiling_.empty())) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        "--compare shows no ceilings\n  likely: the two runs had other machines or files\n"
        "  try: a report of each run for its rates");
  }

  absl::Status Run(Console& console) override {
    if (trace_.empty()) {
      return absl::InvalidArgumentError(
          "no trace was named\n  try: stoker trace report run.trace -o report.html");
    }
    ASSIGN_OR_RETURN(const std::string page, Page(console));
    if (output_ == "-") return console.Print(page);
    RETURN_IF_ERROR(WriteFile(output_, page));
    console.Note(fmt::format("{}: {}", output_, FormatBytes(page.size())));
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<std::string> Page(Console& console) const {
    ASSIGN_OR_RETURN(const Trace trace, Read(trace_, console));
    if (compare_.empty()) {
      ASSIGN_OR_RETURN(const double drive, ParseCeiling("--drive-ceiling", drive_ceiling_));
      ASSIGN_OR_RETURN(const double memory, ParseCeiling("--memory-ceiling", memory_ceiling_));
      return RenderReport(trace, {.drive_ceiling = drive, .memory_ceiling = memory});
    }
    ASSIGN_OR_RETURN(const Trace other, Read(compare_, console));
    return RenderComparison(trace, other);
  }

  static absl::StatusOr<Trace> Read(const std::string& path, Console& console) {
    absl::StatusOr<Trace> trace = ReadTrace(path);
    if (trace.ok() && !trace->notice.empty()) console.Note("note: " + trace->notice);
    return trace;
  }

  std::string trace_;
  std::string output_ = "report.html";
  std::string compare_;
  std::string drive_ceiling_, memory_ceiling_;
};

}  // namespace

std::unique_ptr<Command> MakeTraceReportCommand() { return std::make_unique<TraceReportCommand>(); }

}  // namespace stoker
