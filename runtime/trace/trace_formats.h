// The formats of traces there are: each is one file here and one row in trace_formats.cc.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/trace/trace.h"

namespace stoker {

// What a format is recognized by.
struct TraceSource {
  std::string path;
  bool is_folder = false;
  std::string head;  // the first bytes of the file, kTraceHeadBytes or all
};
inline constexpr size_t kTraceHeadBytes = 4096;

struct TraceFormatRow {
  std::string_view name;  // TraceHeader::format
  std::string_view description;
  bool (*recognizes)(const TraceSource& source);
  absl::StatusOr<Trace> (*read)(const std::string& path, const ReadTraceOptions& options);
};
absl::Span<const TraceFormatRow> TraceFormats();

// No text of a foreign trace that we would read is larger.
inline constexpr uint64_t kTraceTextBytesMax = uint64_t{1} << 32;

// What the program records itself.
bool RecognizesOwn(const TraceSource& source);
absl::StatusOr<Trace> ReadOwn(const std::string& path, const ReadTraceOptions& options);

// NAME.ids.u8 beside NAME.json: expert ids as bytes, and their shape. Either path.
bool RecognizesPacked(const TraceSource& source);
absl::StatusOr<Trace> ReadPacked(const std::string& path, const ReadTraceOptions& options);

// "# route_trace v1": a line per expert of a token, with weight and residency.
bool RecognizesRouteCsv(const TraceSource& source);
absl::StatusOr<Trace> ReadRouteCsv(const std::string& path, const ReadTraceOptions& options);

// events.csv and manifest.json in a folder: a set of experts per layer and step. Either path.
bool RecognizesEventsCsv(const TraceSource& source);
absl::StatusOr<Trace> ReadEventsCsv(const std::string& path, const ReadTraceOptions& options);

}  // namespace stoker
