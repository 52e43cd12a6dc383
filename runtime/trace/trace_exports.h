// The formats that a trace is exported to: each is one file here and one row in trace_exports.cc.
// docs/TRACES.md lists their columns and fields.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/trace/trace.h"

namespace stoker {

// Text on its way out, in pieces: an export of a long run is larger than the run's trace.
class TextOut {
 public:
  using Sink = std::function<absl::Status(std::string_view)>;
  explicit TextOut(Sink sink) : sink_(std::move(sink)) {}

  std::string& text() { return text_; }  // append to it
  // Hands over what there is, once it is worth it.
  absl::Status Pass() { return text_.size() < kPieceBytes ? absl::OkStatus() : Finish(); }
  absl::Status Finish() {
    const absl::Status status = sink_(text_);
    text_.clear();
    return status;
  }

 private:
  static constexpr size_t kPieceBytes = size_t{1} << 20;
  Sink sink_;
  std::string text_;
};

struct TraceExportRow {
  std::string_view name;  // the flag, without dashes
  std::string_view description;
  // The sink's error.
  absl::Status (*write)(const Trace& trace, TextOut& out);
};
absl::Span<const TraceExportRow> TraceExports();

absl::Status ExportCsv(const Trace& trace, TextOut& out);
absl::Status ExportJson(const Trace& trace, TextOut& out);
absl::Status ExportPerfetto(const Trace& trace, TextOut& out);

// The entries of a step.
template <typename Entry>
absl::Span<const Entry> EntriesOf(const std::vector<Entry>& entries, const TraceRange& range) {
  return absl::MakeConstSpan(entries).subspan(static_cast<size_t>(range.first),
                                              static_cast<size_t>(range.count));
}

}  // namespace stoker
