// What bench makes of its samples.
#include "cli/bench_report.h"

#include <gtest/gtest.h>

namespace stoker {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

// Two repetitions over a trunk of 1000 bytes and one layer of experts of 100 bytes each: a prompt
// of 10 tokens in one step of 1 s, then 4 tokens in 4 steps that took 2 s or 4 s.
BenchReport Report() {
  BenchReport report;
  report.trunk_bytes = 1000;
  LayerExperts layer;
  layer.expert_count = 8;
  layer.part_count = 1;
  layer.parts[0].bytes = 100;
  report.experts.layers.push_back(layer);
  report.memory_ceiling = 2000;
  report.drive_ceiling.bytes_per_second = 500;
  for (const int64_t seconds : {2, 4}) {
    BenchSample sample;
    sample.summary.prompt = {
        .steps = 1, .tokens = 10, .wall_ns = kSecondNs, .hits = 2, .misses = 6};
    sample.summary.prompt_rows = 10;
    sample.summary.decode = {
        .steps = 4, .tokens = 4, .wall_ns = seconds * kSecondNs, .hits = 6, .misses = 2};
    sample.summary.decode.system_ns = kSecondNs / 2;
    sample.drive_bytes = 800;
    sample.drive_busy_ns = 2 * kSecondNs;
    report.samples.push_back(sample);
  }
  return report;
}

TEST(BenchReport, SpreadIsMedianAndMedianAbsoluteDeviation) {
  EXPECT_EQ(SpreadOf({5}).median, 5);
  EXPECT_EQ(SpreadOf({1, 9, 2}).median, 2);
  EXPECT_EQ(SpreadOf({1, 9, 2}).deviation, 1);
  EXPECT_EQ(SpreadOf({4, 1, 3, 2}).median, 2.5);
  EXPECT_EQ(SpreadOf({}).median, 0);
}

TEST(BenchReport, PhasesCountTrunkAndExpertsReadFromMemory) {
  const std::vector<BenchRow> rows = BenchRows(Report());
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].name, "prompt");
  EXPECT_EQ(rows[0].tokens_per_second.median, 10);
  EXPECT_EQ(rows[0].bytes_per_token, 180);           // (1000 + 8 * 100) / 10
  EXPECT_EQ(rows[0].bytes_per_second.median, 1800);  // in 1 s
  EXPECT_EQ(rows[0].share(), 0.9);
  EXPECT_EQ(rows[0].hit_rate, 0.25);
  EXPECT_EQ(rows[1].name, "decode");
  EXPECT_EQ(rows[1].tokens_per_second.median, 1.5);  // of 2 and 1
  EXPECT_EQ(rows[1].tokens_per_second.deviation, 0.5);
  EXPECT_EQ(rows[1].bytes_per_token, 1200);         // (4 * 1000 + 8 * 100) / 4
  EXPECT_DOUBLE_EQ(rows[1].system_share, 1.0 / 6);  // 1 s of 6
  EXPECT_EQ(rows[0].system_share, 0);
}

TEST(BenchReport, DriveRateIsOverTheTimeThatTheDriveWasBusy) {
  const BenchRow drive = BenchRows(Report())[2];
  EXPECT_EQ(drive.name, "drive");
  EXPECT_EQ(drive.bytes_per_second.median, 400);
  EXPECT_EQ(drive.share(), 0.8);
}

TEST(BenchReport, NoDriveRowWhenNothingWasRead) {
  BenchReport report = Report();
  for (BenchSample& sample : report.samples) sample.drive_bytes = 0;
  EXPECT_EQ(BenchRows(report).size(), 2u);
}

// As Report, on a device: half of decode's experts in VRAM, the rest by the processor or, 300 bytes
// of them, copied.
BenchReport DeviceReport() {
  BenchReport report = Report();
  report.info.plan.device.kind = "modelled";
  report.links = {
      .copy_in = 1000, .host_beside_copy = 300, .copy_beside_host = 200, .device = 3600};
  for (BenchSample& sample : report.samples) {
    RunSummary& summary = sample.summary;
    summary.prompt.hits = summary.prompt.vram_hits = 8;
    summary.prompt.misses = 0;
    summary.decode.vram_hits = 4;
    summary.decode.host_experts = 1;
    summary.decode.copied_in_bytes = 300;
    for (const Cause cause : {Cause::kExpertCompute, Cause::kWaitCopy}) {
      summary.decode.causes[static_cast<size_t>(cause)] = kSecondNs / 2;
    }
    summary.all.copied_in_bytes = 700;
    summary.all.wall_ns = 2 * kSecondNs;
  }
  return report;
}

TEST(BenchReport, TheDevicesMemoryIsTheCeilingWhereEveryExpertWasInIt) {
  const std::vector<BenchRow> rows = BenchRows(DeviceReport());
  EXPECT_EQ(rows[0].link, "memory of the device");
  EXPECT_EQ(rows[0].share(), 0.5);
  EXPECT_EQ(rows[1].link, "memory of the device");
  EXPECT_EQ(rows[1].ceiling, 0);
}

TEST(BenchReport, CopiesAndTheSplitStandBesideWhatTheLinksCarry) {
  const std::vector<BenchRow> rows = BenchRows(DeviceReport());
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(rows[3].name, "copies");
  EXPECT_EQ(rows[3].bytes_per_token, 50);  // 700 / (10 + 4)
  EXPECT_EQ(rows[3].share(), 0.35);        // in 2 s, of 1000 a second
  EXPECT_EQ(rows[4].name, "split");
  EXPECT_EQ(rows[4].bytes_per_token, 100);  // (100 computed + 300 copied) / 4
  EXPECT_EQ(rows[4].share(), 0.8);          // in 1 s, of 300 + 200 together
}

TEST(BenchReport, NoSplitWhereExpertsHadOneWayOnly) {
  BenchReport report = DeviceReport();
  report.info.place = PlaceRule::kCopy;
  EXPECT_EQ(BenchRows(report).size(), 4u);
  report = DeviceReport();
  for (BenchSample& sample : report.samples) sample.summary.decode.host_experts = 0;
  EXPECT_EQ(BenchRows(report).size(), 4u);
}

TEST(BenchReport, FormatsAreKnownByName) {
  for (const char* name : {"markdown", "csv", "json"}) {
    const absl::StatusOr<BenchFormat> format = FindBenchFormat(name);
    ASSERT_TRUE(format.ok());
    EXPECT_NE((*format)(Report()).find("decode"), std::string::npos);
  }
  EXPECT_EQ(FindBenchFormat("xml").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace stoker
