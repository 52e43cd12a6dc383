// The arithmetic of a step's time, and what it is fitted from.
#include "runtime/simulation/timing_model.h"

#include <gtest/gtest.h>

namespace stoker {
namespace {

TimingModel Model() {
  TimingModel timing;
  timing.drive_rate.value = 1e9;
  timing.drive_latency_ns.value = 100;
  timing.expert_rate.value = 1e10;
  timing.layer_ns.value = 1000;
  return timing;
}

TEST(TimingModel, ALayerWithoutMissesIsItsComputing) {
  EXPECT_EQ(Model().LayerNs({.expert_bytes = 10'000}), 1000 + 1000);
}

TEST(TimingModel, TheLongerOfComputingAndArrivingCounts) {
  // 2000 bytes take 100 + 2000 ns, and the last expert 100 ns more; all of them 400 ns.
  EXPECT_EQ(Model().LayerNs({.expert_bytes = 4000, .read_bytes = 2000, .last_bytes = 1000}),
            1000 + 2200);
  // 40000 bytes of residents take longer than 10 bytes take to come.
  EXPECT_EQ(Model().LayerNs({.expert_bytes = 40'000, .read_bytes = 10, .last_bytes = 10}),
            1000 + 4000);
}

Trace TraceWithTimes() {
  Trace trace;
  trace.header.layers = {{.layer = 0, .expert_count = 8, .expert_bytes = 1000},
                         {.layer = 1, .expert_count = 8, .expert_bytes = 1000}};
  trace.rows = {{.is_prompt = true}, {.is_prompt = false}};
  trace.ids = {1, 2, 3, 4};
  trace.routings = {{.layer_index = 0, .top_k = 2, .first_id = 0, .id_count = 2},
                    {.layer_index = 1, .top_k = 2, .first_id = 2, .id_count = 2}};
  TraceStep prompt = {.rows = {0, 1}, .routings = {0, 2}, .wall_ns = 1'000'000'000};
  TraceStep decode = {.rows = {1, 1}, .routings = {0, 2}, .wall_ns = 10'000};
  decode.causes[static_cast<size_t>(Cause::kWaitDrive)] = 2000;
  decode.causes[static_cast<size_t>(Cause::kExpertCompute)] = 4000;
  decode.read_bytes = 3000;
  decode.drive_busy_ns = 1500;
  trace.steps = {prompt, decode};
  return trace;
}

TEST(FitTiming, TakesWhatTheStepsOfDecodingSay) {
  const TimingModel timing = FitTiming(TraceWithTimes(), {});
  EXPECT_DOUBLE_EQ(timing.drive_rate.value, 2e9);      // 3000 bytes in 1500 ns
  EXPECT_DOUBLE_EQ(timing.drive_latency_ns.value, 0);  // which has the latencies in it
  EXPECT_DOUBLE_EQ(timing.expert_rate.value, 1e9);     // four experts in 4000 ns
  EXPECT_DOUBLE_EQ(timing.layer_ns.value, 2000);       // 4000 ns over two layers
  EXPECT_EQ(timing.layer_ns.source, TimingModel::Value::Source::kTrace);
  EXPECT_NE(FormatTiming(timing).find("drive 2.00 GB/s (from the trace)"), std::string::npos)
      << FormatTiming(timing);
}

TEST(FitTiming, AssumesWhatATraceWithoutTimesDoesNotSay) {
  Trace trace = TraceWithTimes();
  for (TraceStep& step : trace.steps) step.wall_ns = 0;
  const TimingModel timing = FitTiming(trace, {});
  EXPECT_EQ(timing.drive_rate.value, TimingModel().drive_rate.value);
  EXPECT_EQ(timing.drive_rate.source, TimingModel::Value::Source::kAssumed);
  EXPECT_NE(FormatTiming(timing).find("(assumed)"), std::string::npos);
}

TEST(FitTiming, PrefersWhatIsGiven) {
  const TimingModel timing =
      FitTiming(TraceWithTimes(), {.drive_rate = 7e9, .drive_latency_ns = 80'000});
  EXPECT_EQ(timing.drive_rate.value, 7e9);
  EXPECT_EQ(timing.drive_latency_ns.value, 80'000);
  EXPECT_EQ(timing.drive_rate.source, TimingModel::Value::Source::kGiven);
  EXPECT_EQ(timing.expert_rate.source, TimingModel::Value::Source::kTrace);
}

TEST(TimingModel, AGroupOnTheDeviceIsStartedAndComputed) {
  TimingModel timing;
  timing.device_rate.value = 1e9;
  timing.device_latency_ns.value = 70;
  EXPECT_EQ(timing.DeviceNs(1000), 1070);
}

TEST(FitTiming, TakesTheDeviceAndItsLinkFromWhatTheRunMeasured) {
  Trace trace = TraceWithTimes();
  trace.steps[1].host_experts = 1;
  trace.steps[1].device_experts = 3;
  trace.links = LinkRates{.host = 5e9, .copy_in = 8e9, .copy_out = 7e9, .device = 4e11};
  TimingModel timing = FitTiming(trace, {.copy_out_rate = 6e9});
  EXPECT_DOUBLE_EQ(timing.expert_rate.value, 2.5e8);  // one of the four experts in 4000 ns
  EXPECT_EQ(timing.copy_in_rate.value, 8e9);
  EXPECT_EQ(timing.copy_in_rate.source, TimingModel::Value::Source::kTrace);
  EXPECT_EQ(timing.copy_out_rate.value, 6e9);
  EXPECT_TRUE(timing.copy_out_rate.is_given());
  EXPECT_EQ(timing.device_rate.value, 4e11);
  EXPECT_EQ(timing.device_latency_ns.source, TimingModel::Value::Source::kAssumed);
  EXPECT_NE(FormatDeviceTiming(timing).find("from it 6.00 GB/s (given)"), std::string::npos)
      << FormatDeviceTiming(timing);
  trace.steps[1].host_experts = 0;
  EXPECT_EQ(FitTiming(trace, {}).expert_rate.value, 5e9);  // it computed none
}

}  // namespace
}  // namespace stoker
