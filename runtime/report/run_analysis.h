// Everything that a page says of one run, computed before any of it is drawn.
#pragma once

#include <string>
#include <vector>

#include "runtime/report/drafts.h"
#include "runtime/report/latency.h"
#include "runtime/report/report.h"
#include "runtime/report/residency.h"
#include "runtime/report/routing.h"
#include "runtime/trace/trace.h"

namespace stoker {

struct RunAnalysis {
  TraceHeader header;
  std::string notice;  // what is wrong with the file
  Latency latency;
  Routing routing;
  Residency residency;
  Drafts drafts;
  ReportOptions options;

  // Bytes per second; 0: not known. Of the drive, while at least one read was under way; of the
  // experts' weights, while the processor computed them in decode steps (0 with a device).
  double drive_rate = 0;
  double expert_rate = 0;
};
RunAnalysis AnalyzeRun(const Trace& trace, const ReportOptions& options);

// What stands out, in sentences, most important first.
struct Finding {
  bool is_warning = false;
  std::string text;
};
std::vector<Finding> FindingsOf(const RunAnalysis& run);

}  // namespace stoker
