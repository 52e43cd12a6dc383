// What recording a step costs: the encoding in the step's path, and the writing of blocks.
//
// The shape is DeepSeek-V3's: 58 layers of 256 experts, 8 used. A token of it at 3 tokens/s takes
// 333 ms, of which 0.5 % are 1.7 ms.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "runtime/trace/trace_recorder.h"

namespace stoker {
namespace {

constexpr int kLayers = 58;
constexpr int kUsed = 8;

TraceHeader Header() {
  TraceHeader header;
  header.weights_known = true;
  for (int layer = 0; layer < kLayers; ++layer) {
    header.layers.push_back({.layer = layer, .expert_count = 256, .expert_bytes = 24'800'000});
  }
  return header;
}

// A decode step in which `range(0)` percent of the experts are missing, each read and another
// evicted for it.
void RecordStep(benchmark::State& state) {
  const std::string path = (std::filesystem::temp_directory_path() / "stoker-trace-bench").string();
  const RealClock clock;
  absl::StatusOr<std::unique_ptr<TraceRecorder>> created =
      TraceRecorder::Create(path, Header(), clock);
  CHECK(created.ok());
  TraceRecorder& recorder = **created;
  const std::vector<int32_t> ids = {250, 3, 77, 128, 9, 200, 31, 64};
  const std::vector<float> weights(kUsed, 0.125f);
  StepRecord record;
  record.wall_ns = 333'000'000;
  record.worst_misses.assign(8, {.id = {.layer = 1, .expert = 2}, .read_ns = 3'000'000});
  const StepRow row;
  int64_t steps = 0, missing = 0;
  for (auto _ : state) {
    recorder.AddRows({.sequence = 0, .first_position = static_cast<int>(steps), .count = 1});
    recorder.OnStep({&row, 1});
    for (int layer = 0; layer < kLayers; ++layer) {
      recorder.OnRouting(layer, kUsed, ids, weights);
      for (missing += kUsed * state.range(0); missing >= 100; missing -= 100) {
        recorder.OnResidency(ResidencyChange::kEvicted, {layer, 5}, 0);
        recorder.OnResidency(ResidencyChange::kRead, {layer, 250}, 24'801'280);
      }
    }
    record.step = ++steps;
    recorder.EndStep(record);
  }
  recorder.Flush();
  CHECK(recorder.status().ok());
  state.counters["bytes_a_step"] =
      static_cast<double>(recorder.written_bytes()) / static_cast<double>(steps);
  created->reset();
  std::remove(path.c_str());
}
BENCHMARK(RecordStep)->ArgName("missing_percent")->Arg(0)->Arg(20)->Arg(100);

}  // namespace
}  // namespace stoker

BENCHMARK_MAIN();
