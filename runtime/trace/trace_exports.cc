// The table of exports.
#include "runtime/trace/trace_exports.h"

namespace stoker {
namespace {

constexpr TraceExportRow kExports[] = {
    {"csv", "Routing: one line for each expert of each token", ExportCsv},
    {"json", "Everything: one JSON object a line, the header and then the steps", ExportJson},
    {"perfetto", "Time by cause, for ui.perfetto.dev or chrome://tracing", ExportPerfetto},
};

}  // namespace

absl::Span<const TraceExportRow> TraceExports() { return kExports; }

}  // namespace stoker
