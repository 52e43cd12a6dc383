// Products of float weights on one thread: bytes of weights a second beside what a plain read of
// the same memory reaches, and operations a second for prompts.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "kernels/backends.h"
#include "kernels/ops.h"

namespace stoker {
namespace {

// Random bits with a small exponent: finite in every float format.
std::vector<uint32_t> MakeWeights(int64_t bytes) {
  std::mt19937 random(1);
  std::vector<uint32_t> words(static_cast<size_t>(bytes) / 4);
  for (uint32_t& word : words) word = (random() & 0x83ff83ffu) | 0x30003000u;
  return words;
}

struct Case {
  Dtype dtype;
  int64_t rows;
  int64_t cols;
  int64_t count;
};

void Multiply(benchmark::State& state, const Ops& ops, const Case& shape) {
  const auto bytes = static_cast<int64_t>(RowBytes(shape.dtype, shape.cols)) * shape.rows;
  const std::vector<uint32_t> weights = MakeWeights(bytes);
  const auto x_floats = static_cast<size_t>((shape.cols + 15) / 16 * 16);
  std::vector<float> x(x_floats * static_cast<size_t>(shape.count) + 16, 0.25f);
  auto* x_first =
      reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(x.data()) + 63) / 64 * 64);
  std::vector<float> out(static_cast<size_t>(shape.rows * shape.count));
  std::vector<const std::byte*> x_rows;
  std::vector<float*> out_rows;
  for (int64_t j = 0; j < shape.count; ++j) {
    x_rows.push_back(x_first + static_cast<size_t>(j) * x_floats * sizeof(float));
    out_rows.push_back(out.data() + j * shape.rows);
  }
  const MatmulArgs args = {.w = {.data = reinterpret_cast<const std::byte*>(weights.data()),
                                 .dtype = shape.dtype,
                                 .rows = shape.rows,
                                 .cols = shape.cols},
                           .row_begin = 0,
                           .row_end = shape.rows,
                           .count = shape.count,
                           .x = x_rows.data(),
                           .out = out_rows.data()};
  for (auto _ : state) {
    ops.matmul(args);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * bytes);
  state.counters["FLOP/s"] =
      benchmark::Counter(2.0 * static_cast<double>(shape.rows * shape.cols * shape.count),
                         benchmark::Counter::kIsIterationInvariantRate);
}

// The ceiling of a matrix-vector product.
void ReadMemory(benchmark::State& state) {
  const std::vector<uint32_t> words = MakeWeights(int64_t{128} << 20);
  for (auto _ : state) {
    uint64_t sums[8] = {};
    for (size_t i = 0; i + 16 <= words.size(); i += 16) {
      for (size_t s = 0; s < 8; ++s) {
        uint64_t word;
        std::memcpy(&word, &words[i + 2 * s], sizeof(word));
        sums[s] += word;
      }
    }
    benchmark::DoNotOptimize(sums);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(words.size() * 4));
}
BENCHMARK(ReadMemory);

constexpr Case kCases[] = {
    {Dtype::kF32, 16384, 2048, 1},  // 128 MiB: from memory
    {Dtype::kF16, 32768, 2048, 1}, {Dtype::kBF16, 32768, 2048, 1},
    {Dtype::kF32, 128, 2048, 1},  // a router's 1 MiB, as likely as not in cache
    {Dtype::kF32, 128, 2048, 64},  {Dtype::kBF16, 2048, 2048, 2},
    {Dtype::kBF16, 2048, 2048, 8}, {Dtype::kBF16, 2048, 2048, 64},
    {Dtype::kF16, 2048, 7168, 64}, {Dtype::kF32, 128, 512, 64},
};

}  // namespace
}  // namespace stoker

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  for (const stoker::BackendRow& row : stoker::Backends()) {
    if (row.name == "reference" || !row.runs_here()) continue;
    for (const stoker::Case& shape : stoker::kCases) {
      const std::string name = fmt::format("{}/{}/{}x{}/count:{}", row.name, NameOf(shape.dtype),
                                           shape.rows, shape.cols, shape.count);
      benchmark::RegisterBenchmark(name.c_str(), [&row, &shape](benchmark::State& state) {
        stoker::Multiply(state, *row.ops, shape);
      });
    }
  }
  benchmark::RunSpecifiedBenchmarks();
}
