// A trace in the JSON of Chrome's trace viewer, which ui.perfetto.dev reads too: steps and causes
// as slices, worst misses as marks, hit rate and bytes as counters.
//
// A step's record has the time of each cause, not when it ran: within a step causes stand in a
// fixed order, as long as they took.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "runtime/trace/trace_exports.h"
#include "runtime/trace/trace_names.h"

namespace stoker {
namespace {

// Threads of the picture.
constexpr int kSteps = 1;
constexpr int kCauses = 2;
constexpr int kMisses = 3;

// What a step without times takes in the picture.
constexpr int64_t kUntimedStepNs = 1'000'000;

class Picture {
 public:
  Picture(const Trace& trace, TextOut& out) : trace_(trace), out_(out) {}

  absl::Status Draw() {
    out_.text() += "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
    Name("process_name", 0, "stoker: " + trace_.header.model);
    Name("thread_name", kSteps, "steps");
    Name("thread_name", kCauses, "causes, in a fixed order within a step");
    Name("thread_name", kMisses, "worst misses");
    int64_t untimed_ns = 0;
    for (const TraceStep& step : trace_.steps) {
      const bool has_time = step.wall_ns > 0;
      DrawStep(step, has_time ? step.begin_ns : untimed_ns,
               has_time ? step.wall_ns : kUntimedStepNs);
      untimed_ns += kUntimedStepNs;
      RETURN_IF_ERROR(out_.Pass());
    }
    out_.text() += "\n]}\n";
    return out_.Finish();
  }

 private:
  // Appends an event: what is common to all, then `rest`.
  template <typename... Args>
  void Event(fmt::format_string<Args...> format, Args&&... args) {
    if (!is_first_) out_.text() += ",\n";
    is_first_ = false;
    out_.text() += "{\"pid\":1,";
    fmt::format_to(std::back_inserter(out_.text()), format, std::forward<Args>(args)...);
    out_.text() += '}';
  }
  static std::string Quoted(const std::string& text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  static double Microseconds(int64_t ns) { return static_cast<double>(ns) / 1000; }

  void Name(std::string_view what, int thread, const std::string& name) {
    Event(R"("tid":{},"ph":"M","name":"{}","args":{{"name":{}}})", thread, what, Quoted(name));
  }

  void DrawStep(const TraceStep& step, int64_t begin_ns, int64_t wall_ns) {
    int prompt_rows = 0;
    for (const TraceRow& row : EntriesOf(trace_.rows, step.rows)) prompt_rows += row.is_prompt;
    Event(R"("tid":{},"ph":"X","ts":{:.3f},"dur":{:.3f},"name":"step {}","cat":"{}",)"
          R"("args":{{"rows":{},"prompt_rows":{},"tokens":{},"hits":{},"misses":{},)"
          R"("read_bytes":{}}})",
          kSteps, Microseconds(begin_ns), Microseconds(wall_ns), step.step,
          prompt_rows > 0 ? "prompt" : "decode", step.rows.count, prompt_rows, step.tokens,
          step.hits, step.misses_count, step.read_bytes);
    int64_t at_ns = begin_ns;
    for (size_t cause = 0; cause < step.causes.size(); ++cause) {
      const int64_t ns = step.causes[cause];
      if (ns == 0) continue;
      Event(R"("tid":{},"ph":"X","ts":{:.3f},"dur":{:.3f},"name":"{}")", kCauses,
            Microseconds(at_ns), Microseconds(ns), NameOf(static_cast<Cause>(cause)));
      at_ns += ns;
    }
    for (const MissRecord& miss : EntriesOf(trace_.misses, step.misses)) {
      Event(R"("tid":{},"ph":"i","s":"t","ts":{:.3f},"name":"layer {} expert {}",)"
            R"("args":{{"reason":"{}","evicted_step":{},"read_ns":{},"read_bytes":{}}})",
            kMisses, Microseconds(begin_ns), miss.id.layer, miss.id.expert, NameOf(miss.reason),
            miss.evicted_step, miss.read_ns, miss.read_bytes);
    }
    DrawCounters(step, begin_ns);
  }

  void DrawCounters(const TraceStep& step, int64_t begin_ns) {
    const auto count = [&](std::string_view name, std::string_view unit, double value) {
      Event(R"("ph":"C","ts":{:.3f},"name":"{}","args":{{"{}":{:.6g}}})", Microseconds(begin_ns),
            name, unit, value);
    };
    const uint64_t uses = step.hits + step.misses_count;
    if (uses > 0) {
      count("hit rate", "percent",
            100.0 * static_cast<double>(step.hits) / static_cast<double>(uses));
    }
    count("bytes read", "bytes", static_cast<double>(step.read_bytes));
    if (trace_.header.vram_budget_bytes == 0) return;
    count("hits in VRAM", "experts", static_cast<double>(step.vram_hits));
    count("bytes copied", "bytes",
          static_cast<double>(step.copied_in_bytes + step.copied_out_bytes));
  }

  const Trace& trace_;
  TextOut& out_;
  bool is_first_ = true;
};

}  // namespace

absl::Status ExportPerfetto(const Trace& trace, TextOut& out) { return Picture(trace, out).Draw(); }

}  // namespace stoker
