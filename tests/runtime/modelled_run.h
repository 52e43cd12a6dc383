// Runs of a tiny model on a virtual clock: every link of the machine has a set speed, so that
// what a run does and how long it takes can be repeated, and predicted.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <memory>
#include <utility>

#include "base/clock.h"
#include "bench/synthetic/shape.h"
#include "device/modelled_device.h"
#include "io/modelled_reader.h"
#include "tests/runtime/recorded_run.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {

inline constexpr double kAtOnce = std::numeric_limits<double>::infinity();

// By default only the drive takes time.
struct ModelledSpeeds {
  double drive_rate = 1e8;
  int64_t drive_latency_ns = 50'000;
  double host_rate = kAtOnce;  // bytes of experts that the processor computes a second
  ModelledRates device = {.memory_bytes_per_second = kAtOnce,
                          .copy_in_bytes_per_second = kAtOnce,
                          .copy_out_bytes_per_second = kAtOnce,
                          .launch_ns = 0,
                          .repeat_ns = 0,
                          .copy_in_ns = 0,
                          .copy_out_ns = 0};
};

// The store, with the processor's computing of experts taking its time.
class TimedExperts final : public ExpertProvider {
 public:
  TimedExperts(ExpertProvider& store, double host_rate, VirtualClock& clock)
      : store_(store), host_rate_(host_rate), clock_(clock) {}

  int pins_max(int layer) const override { return store_.pins_max(layer); }
  absl::Status Request(int layer, absl::Span<const int32_t> experts,
                       absl::Span<const int32_t> rows) override {
    return store_.Request(layer, experts, rows);
  }
  absl::StatusOr<int> Collect(absl::Span<ExpertRef> out, Wait wait) override {
    return store_.Collect(out, wait);
  }
  int outstanding() const override { return store_.outstanding(); }
  void NoteHostCompute(uint64_t bytes, uint64_t row_bytes, int64_t) override {
    const auto ns = static_cast<int64_t>(static_cast<double>(bytes) * 1e9 / host_rate_);
    clock_.AdvanceNs(ns);
    store_.NoteHostCompute(bytes, row_bytes, ns);
  }
  ResidentLayer Resident(int layer) override { return store_.Resident(layer); }
  void NoteUses(int layer, absl::Span<const int32_t> experts,
                absl::Span<const int32_t> rows) override {
    store_.NoteUses(layer, experts, rows);
  }

 protected:
  void Unpin(int32_t) override { ADD_FAILURE() << "refs are the store's own"; }

 private:
  ExpertProvider& store_;
  const double host_rate_;
  VirtualClock& clock_;
};

// Written once a process: 48 experts of 110 KiB in three layers, three of which a token uses. Whole
// pages of each expert are in the file, the last one's too. It is small because the kernels of a
// device are slow on the processor.
inline const std::string& TinyModelPath() {
  static const TemporaryDirectory* const directory = new TemporaryDirectory();
  static const std::string* const path = [] {
    auto shape = FindSyntheticShape("tiny-qwen3moe");
    EXPECT_TRUE(shape.ok()) << shape.status();
    shape->experts_used = 3;
    GgufStream stream;
    EXPECT_TRUE(DeclareSynthetic(*shape, stream).ok());
    auto* const file = new std::string(directory->path() + "/tiny.gguf");
    EXPECT_TRUE(stream.Write(*file).ok());
    std::ofstream(*file, std::ios::app) << std::string(4096, '\0');
    return file;
  }();
  return *path;
}

// Runs one sequence of `tokens` tokens; with a device if the options ask for a modelled one. The
// steps of the trace have their times.
inline RecordedRun RunModelled(const EngineOptions& options, const ModelledSpeeds& speeds,
                               int tokens) {
  VirtualClock clock;
  Engine::Parts parts;
  parts.clock = &clock;
  parts.wrap_reader = [&](std::unique_ptr<BlockReader> inner) {
    ModelledReader::ModelOptions model;
    model.rate = speeds.drive_rate;
    model.latency_ns = speeds.drive_latency_ns;
    return std::make_unique<ModelledReader>(model, clock, std::move(inner));
  };
  parts.wrap_experts = [&](ExpertProvider& store) {
    return std::make_unique<TimedExperts>(store, speeds.host_rate, clock);
  };
  if (options.device == "modelled") {
    parts.open_device = [&]() -> absl::StatusOr<std::unique_ptr<Device>> {
      auto device = MakeModelledDevice(
          {.rates = speeds.device, .modelled_memory_bytes = uint64_t{1} << 30}, &clock);
      if (!device.ok()) return device.status();
      return *std::move(device);
    };
    // Experts are placed by rates even where they take no time.
    const auto known = [](double rate, double made_up) { return rate == kAtOnce ? made_up : rate; };
    const double host_rate = known(speeds.host_rate, 1e9);
    parts.links = LinkRates{.host = host_rate,
                            .host_row = 8 * host_rate,
                            .copy_in = known(speeds.device.copy_in_bytes_per_second, 2e9),
                            .copy_out = known(speeds.device.copy_out_bytes_per_second, 2e9),
                            .device = known(speeds.device.memory_bytes_per_second, 1e11),
                            .drive = speeds.drive_rate};
  }
  RecordedRun run = RecordRun(options, 1, tokens, parts, {11, 12, 13, 14});
  for (size_t i = 0; i < run.steps.size(); ++i) {
    const StepRecord& record = run.steps[i];
    TraceStep& step = run.trace.steps[i];
    step.wall_ns = record.wall_ns;
    step.causes = record.causes;
    step.read_bytes = record.read_bytes;
    step.drive_busy_ns = record.drive_busy_ns;
    step.copied_in_bytes = record.copied_in_bytes;
    step.copied_out_bytes = record.copied_out_bytes;
    step.host_experts = record.host_experts;
    step.device_experts = record.device_experts;
  }
  return run;
}

}  // namespace stoker
