// Writes pages of made-up runs into a folder, for report_page_test.py to open in a browser.
#include <fstream>
#include <string>

#include "runtime/report/report.h"
#include "tests/runtime/synthetic_trace.h"

namespace stoker {
namespace {

void Write(const std::string& path, const std::string& page) { std::ofstream(path) << page; }

void WriteAll(const std::string& folder) {
  const SyntheticTraceOptions everything = {
      .collapsed_layer = 2, .has_prefetch = true, .has_vram = true};
  Write(folder + "/everything.html",
        RenderReport(SyntheticTrace::Make(everything), {.drive_ceiling = 2e9}));
  const SyntheticTraceOptions large = {.layers = 58,
                                       .experts = 256,
                                       .top_k = 8,
                                       .decode_steps = 400,
                                       .model = "<b>a-long-name-without-any-place-to-break</b>"};
  Write(folder + "/large.html", RenderReport(SyntheticTrace::Make(large), {}));
  Write(folder + "/foreign.html", RenderReport(SyntheticTrace::Make({.has_times = false}), {}));
  const SyntheticTraceOptions other = {
      .spike_every = 20, .other_choice = 0.1, .model = "models/synthetic-6x32.q2_k.gguf"};
  Write(folder + "/comparison.html",
        RenderComparison(SyntheticTrace::Make({}), SyntheticTrace::Make(other)));
}

}  // namespace
}  // namespace stoker

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  stoker::WriteAll(argv[1]);
  return 0;
}
