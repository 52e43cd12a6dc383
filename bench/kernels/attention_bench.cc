// Attention of one key-value head on one thread: decode and prompt shapes of grouped-query models
// and of compressed latents (MLA).
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "kernels/backends.h"
#include "kernels/formats/half.h"
#include "kernels/ops.h"

namespace stoker {
namespace {

struct Case {
  const char* name;
  int rows;
  int heads;
  int key_dim;
  int value_dim;
  int64_t visible;  // of the first row
  bool values_are_keys = false;
};

constexpr Case kCases[] = {
    {"decode", 1, 8, 128, 128, 4096},
    {"decode one head", 1, 1, 128, 128, 4096},
    {"decode four heads", 1, 4, 64, 64, 4096},
    {"prompt start", 512, 8, 128, 128, 1},
    {"prompt later", 512, 8, 128, 128, 3584},
    {"prompt one head", 512, 1, 128, 128, 1},
    {"latent decode", 1, 16, 576, 512, 4096, true},
    {"latent decode", 1, 128, 576, 512, 4096, true},
};

std::vector<float> RandomFloats(size_t count) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<uint16_t> RandomHalves(size_t count) {
  std::vector<uint16_t> halves;
  for (const float value : RandomFloats(count)) halves.push_back(HalfOfFloat(value));
  return halves;
}

void Attend(benchmark::State& state, const Ops& ops, const Case& shape) {
  const int64_t key_count = shape.visible + shape.rows - 1;
  const auto keys = RandomHalves(static_cast<size_t>(key_count * shape.key_dim));
  const auto values = RandomHalves(static_cast<size_t>(key_count * shape.value_dim));
  const auto queries = static_cast<size_t>(shape.rows) * static_cast<size_t>(shape.heads);
  const auto q = RandomFloats(queries * static_cast<size_t>(shape.key_dim));
  std::vector<float> out(queries * static_cast<size_t>(shape.value_dim));
  std::vector<float> scratch(static_cast<size_t>(AttentionScratchFloats(
                                 shape.rows, shape.heads, shape.key_dim, shape.value_dim)) +
                             16);
  const AttentionArgs args = {
      .q = q.data(),
      .q_row_stride = int64_t{shape.heads} * shape.key_dim,
      .q_head_stride = shape.key_dim,
      .out = out.data(),
      .out_row_stride = int64_t{shape.heads} * shape.value_dim,
      .out_head_stride = shape.value_dim,
      .rows = shape.rows,
      .heads = shape.heads,
      .key_dim = shape.key_dim,
      .value_dim = shape.value_dim,
      .keys = keys.data(),
      .values = shape.values_are_keys ? keys.data() : values.data(),
      .key_stride = shape.key_dim,
      .value_stride = shape.values_are_keys ? shape.key_dim : shape.value_dim,
      .kv_dtype = Dtype::kF16,
      .visible = shape.visible,
      .scale = 0.088388f,
      .scratch =
          reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64)};
  for (auto _ : state) {
    ops.attention(args);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  double pairs = 0;  // of a query and a key that it sees
  for (int r = 0; r < shape.rows; ++r) {
    pairs += static_cast<double>(shape.visible + r) * shape.heads;
  }
  state.counters["FLOP/s"] = benchmark::Counter(2 * pairs * (shape.key_dim + shape.value_dim),
                                                benchmark::Counter::kIsIterationInvariantRate);
  state.SetBytesProcessed(state.iterations() * key_count * 2 *
                          (shape.key_dim + (shape.values_are_keys ? 0 : shape.value_dim)));
}

}  // namespace
}  // namespace stoker

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  for (const stoker::BackendRow& row : stoker::Backends()) {
    if (row.name == "reference" || !row.runs_here()) continue;
    for (const stoker::Case& shape : stoker::kCases) {
      const std::string name =
          fmt::format("{}/{}/rows:{}/heads:{}/dims:{}:{}/keys:{}", row.name, shape.name, shape.rows,
                      shape.heads, shape.key_dim, shape.value_dim, shape.visible);
      benchmark::RegisterBenchmark(name.c_str(), [&row, &shape](benchmark::State& state) {
        stoker::Attend(state, *row.ops, shape);
      })->Unit(benchmark::kMicrosecond);
    }
  }
  benchmark::RunSpecifiedBenchmarks();
}
