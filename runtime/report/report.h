// One self-contained page of a recorded run, or of two held against each other.
#pragma once

#include <string>

#include "runtime/trace/trace.h"

namespace stoker {

// Rates that the run's own are set beside, in bytes per second, as stoker bench measures them. 0:
// not known.
struct ReportOptions {
  double drive_ceiling = 0;
  double memory_ceiling = 0;
};

// HTML with its style, script, pictures and numbers inside: it loads nothing, and its length is
// bounded by the shape of the model, not by the length of the run.
std::string RenderReport(const Trace& trace, const ReportOptions& options);
std::string RenderComparison(const Trace& first, const Trace& other);

}  // namespace stoker
