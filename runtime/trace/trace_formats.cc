// Tells the formats apart, by content.
#include "runtime/trace/trace_formats.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/status.h"
#include "io/file.h"

namespace stoker {
namespace {

constexpr TraceFormatRow kFormats[] = {
    {"stoker", "what stoker run --trace FILE wrote", RecognizesOwn, ReadOwn},
    {"packed", "NAME.ids.u8 and NAME.json: expert ids as bytes", RecognizesPacked, ReadPacked},
    {"route-csv", "a CSV that begins with '# route_trace'", RecognizesRouteCsv, ReadRouteCsv},
    {"events-csv", "a folder of events.csv and manifest.json", RecognizesEventsCsv, ReadEventsCsv},
};

absl::StatusOr<TraceSource> LookAt(const std::string& path) {
  TraceSource source{.path = path};
  std::error_code error;
  source.is_folder = std::filesystem::is_directory(path, error);
  if (source.is_folder) return source;
  ASSIGN_OR_RETURN(const FileDescriptor file, OpenForReading(path));
  source.head.resize(kTraceHeadBytes);
  ASSIGN_OR_RETURN(const size_t bytes,
                   ReadAt(file, 0, source.head.data(), source.head.size(), path));
  source.head.resize(bytes);
  return source;
}

absl::Status UnknownFormat(const TraceSource& source) {
  if (!source.is_folder && source.head.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{} is empty: the run that should have written it was ended before its first "
                    "step, or the disk was full\n  try: record it again",
                    source.path));
  }
  std::string known;
  for (const TraceFormatRow& row : TraceFormats()) {
    known += fmt::format("\n  {:<11} {}", row.name, row.description);
  }
  return absl::InvalidArgumentError(
      fmt::format("{} is no trace of a format that is read here; they are:{}", source.path, known));
}

}  // namespace

absl::Span<const TraceFormatRow> TraceFormats() { return kFormats; }

absl::StatusOr<Trace> ReadTrace(const std::string& path, const ReadTraceOptions& options) {
  ASSIGN_OR_RETURN(const TraceSource source, LookAt(path));
  for (const TraceFormatRow& row : kFormats) {
    if (!row.recognizes(source)) continue;
    ASSIGN_OR_RETURN(Trace trace, row.read(path, options));
    trace.header.format = std::string(row.name);
    return trace;
  }
  return UnknownFormat(source);
}

}  // namespace stoker
