// The speed of products with stored weights on one core: weights per second streamed (bytes) and
// multiplied (MAC), for each backend, format and number of activation rows.
//
// "stream" walks a matrix much larger than the caches, as decoding does; "cached" stays within a
// second-level cache and shows what instructions cost; counts from kPanelRowsMin on use panels.
#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "device/buffer.h"
#include "fmt/format.h"
#include "kernels/backends.h"

namespace stoker {
namespace {

constexpr Dtype kDtypes[] = {Dtype::kQ8_0, Dtype::kQ4_0, Dtype::kQ4_K, Dtype::kQ5_K,
                             Dtype::kQ6_K, Dtype::kF16,  Dtype::kBF16, Dtype::kF32};
constexpr int64_t kCols = 2048;
constexpr int64_t kCountMax = 128;

// Random bytes, on huge pages as the engine keeps weights, whose scales, wherever they are, are
// finite: 0x2c is a half's high byte of 2^-4.
HostBuffer RandomWeights(Dtype dtype, int64_t rows) {
  HostBuffer buffer =
      HostBuffer::Create(RowBytes(dtype, kCols) * static_cast<size_t>(rows)).value();
  std::mt19937_64 random(1);
  for (size_t i = 0; i + 8 <= buffer.bytes(); i += 8) {
    const uint64_t word = random() & 0x2c7f2c7f2c7f2c7full;
    std::memcpy(buffer.data() + i, &word, 8);
  }
  return buffer;
}

// Activation rows, their panels and outputs, aligned.
struct Activations {
  Activations(const Ops& ops, Dtype dtype, int64_t count, int64_t rows)
      : kind(ActivationKindOf(dtype)),
        row_bytes(ActivationRowBytes(kind, kCols)),
        panel_bytes(PanelBytes(kind, kCols)),
        storage(static_cast<size_t>(count) * row_bytes +
                static_cast<size_t>(count + kPanelRows) / kPanelRows * panel_bytes + 64),
        values(static_cast<size_t>(count * rows)) {
    std::byte* at = storage.data() + (64 - reinterpret_cast<uintptr_t>(storage.data()) % 64) % 64;
    std::mt19937_64 random(2);
    std::normal_distribution<float> normal;
    std::vector<float> floats(kCols);
    for (int64_t j = 0; j < count; ++j) {
      for (float& value : floats) value = normal(random);
      ops.quantize(kind, floats.data(), kCols, at);
      x.push_back(at);
      out.push_back(values.data() + j * rows);
      at += row_bytes;
    }
    if (panel_bytes == 0) return;
    panels = at;
    for (int64_t j = 0; j < count; j += kPanelRows) {
      ops.pack(kind, x.data() + j, std::min(kPanelRows, count - j), kCols,
               at + static_cast<size_t>(j / kPanelRows) * panel_bytes);
    }
  }

  ActivationKind kind;
  size_t row_bytes;
  size_t panel_bytes;
  std::vector<std::byte> storage;
  std::vector<float> values;
  std::vector<const std::byte*> x;
  std::vector<float*> out;
  const std::byte* panels = nullptr;
};

void Matmul(benchmark::State& state, const Ops* ops, Dtype dtype, int64_t rows, int64_t count) {
  const HostBuffer weights = RandomWeights(dtype, rows);
  const Activations activations(*ops, dtype, count, rows);
  const MatmulArgs args{.w = {weights.data(), dtype, rows, kCols},
                        .row_begin = 0,
                        .row_end = rows,
                        .count = count,
                        .x = activations.x.data(),
                        .panels = activations.panels,
                        .out = activations.out.data()};
  for (auto _ : state) ops->matmul(args);
  const double runs = static_cast<double>(state.iterations());
  const auto rate = benchmark::Counter::kIsRate;
  state.counters["GB/s"] = benchmark::Counter(
      runs * static_cast<double>(RowBytes(dtype, kCols)) * static_cast<double>(rows) * 1e-9, rate);
  state.counters["GMAC/s"] =
      benchmark::Counter(runs * static_cast<double>(rows * kCols * count) * 1e-9, rate);
}

void Quantize(benchmark::State& state, const Ops* ops, Dtype dtype) {
  const ActivationKind kind = ActivationKindOf(dtype);
  const std::vector<float> x(kCols, 1.0f);
  Activations activations(*ops, dtype, kPanelRows, 1);
  std::vector<std::byte> panel(activations.panel_bytes + 64);
  std::byte* at = panel.data() + (64 - reinterpret_cast<uintptr_t>(panel.data()) % 64) % 64;
  for (auto _ : state) {
    for (const std::byte* row : activations.x) {
      ops->quantize(kind, x.data(), kCols, const_cast<std::byte*>(row));
    }
    ops->pack(kind, activations.x.data(), kPanelRows, kCols, at);
  }
  state.counters["rows/s"] = benchmark::Counter(
      static_cast<double>(state.iterations() * kPanelRows), benchmark::Counter::kIsRate);
}

void RegisterAll() {
  for (const BackendRow& backend : Backends()) {
    if (!backend.runs_here() || backend.name == "reference") continue;
    for (const Dtype dtype : kDtypes) {
      const auto add = [&](std::string_view regime, int64_t rows, int64_t count) {
        const std::string name =
            fmt::format("{}/{}/{}/{}", backend.name, NameOf(dtype), regime, count);
        benchmark::RegisterBenchmark(name.c_str(), Matmul, backend.ops, dtype, rows, count)
            ->Unit(benchmark::kMillisecond);
      };
      const auto stream_rows = static_cast<int64_t>((size_t{192} << 20) / RowBytes(dtype, kCols));
      add("stream", stream_rows, 1);
      for (const int64_t count : {1, 2, 3, 4, 8, 9, 16, 32, 64}) add("cached", 192, count);
      add("cached", 192, kCountMax);
      if (ActivationKindOf(dtype) == ActivationKind::kF32) continue;
      benchmark::RegisterBenchmark(
          fmt::format("{}/{}/quantize_and_pack", backend.name, NameOf(dtype)).c_str(), Quantize,
          backend.ops, dtype);
    }
  }
}

}  // namespace
}  // namespace stoker

int main(int argc, char** argv) {
  stoker::RegisterAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
