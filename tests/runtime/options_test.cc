// Claims of options.h: what is out of range is refused by name.
#include "runtime/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/status.h"

namespace stoker {
namespace {

using testing::AllOf;
using testing::HasSubstr;

EngineOptions Sound() {
  EngineOptions options;
  options.model_path = "model.gguf";
  return options;
}

void ExpectRefused(const absl::Status& status, std::string_view option, std::string_view value,
                   std::string_view allowed) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(MessageOf(status)),
              AllOf(HasSubstr(std::string(option)), HasSubstr(std::string(value)),
                    HasSubstr(std::string(allowed))));
}

TEST(MemoryBudget, ParsesBytesAndWords) {
  EXPECT_EQ(MemoryBudget::Parse("ram", "8G")->bytes, uint64_t{8} << 30);
  EXPECT_EQ(MemoryBudget::Parse("ram", "8G")->kind, MemoryBudget::Kind::kBytes);
  EXPECT_EQ(MemoryBudget::Parse("ram", "auto")->kind, MemoryBudget::Kind::kAuto);
  EXPECT_EQ(MemoryBudget::Parse("vram", "min")->kind, MemoryBudget::Kind::kMinimum);
}

TEST(MemoryBudget, RefusesWhatIsNoAmount) {
  for (const std::string_view text : {"", "much", "-1", "0", "8Q", "1e999", "automatic"}) {
    ExpectRefused(MemoryBudget::Parse("ram", text).status(), "ram", text, "\"auto\" or \"min\"");
  }
  ExpectRefused(MemoryBudget::Parse("vram", "much").status(), "vram", "much", "\"auto\"");
}

TEST(PlaceRule, NamesAreReadAsTheyAreWritten) {
  for (const PlaceRule rule :
       {PlaceRule::kAuto, PlaceRule::kGpu, PlaceRule::kCpu, PlaceRule::kCopy}) {
    EXPECT_EQ(*ParsePlaceRule(NameOf(rule)), rule);
  }
  ExpectRefused(ParsePlaceRule("here").status(), "place", "here", "auto, gpu, cpu, copy");
}

TEST(EngineOptions, DefaultsAreSound) {
  EXPECT_TRUE(Validate(Sound()).ok()) << Validate(Sound());
  EXPECT_TRUE(Validate(SamplingOptions()).ok());
}

TEST(EngineOptions, EachOptionOutOfRangeIsNamedWithItsRange) {
  const auto refused = [](auto change, std::string_view option, std::string_view value,
                          std::string_view allowed) {
    EngineOptions options = Sound();
    change(options);
    ExpectRefused(Validate(options), option, value, allowed);
  };
  refused([](EngineOptions& o) { o.threads = -1; }, "threads", "-1", "0 to 1024");
  refused([](EngineOptions& o) { o.threads = 5000; }, "threads", "5000", "0 to 1024");
  refused([](EngineOptions& o) { o.chunk = -7; }, "chunk", "-7", "0 to");
  refused([](EngineOptions& o) { o.context = -1; }, "context", "-1", "0 to");
  refused([](EngineOptions& o) { o.sequences_max = 0; }, "sequences_max", "0", "1 to");
  refused([](EngineOptions& o) { o.logits_rows_max = -1; }, "logits_rows_max", "-1", "0 to");
  refused([](EngineOptions& o) { o.policy = "fifo"; }, "policy", "fifo", "lru, lfu");
  refused([](EngineOptions& o) { o.prefetch = "oracle"; }, "predictor", "oracle",
          "none, lookahead");
  refused([](EngineOptions& o) { o.isa = "mmx"; }, "isa", "mmx", "avx2");
  refused([](EngineOptions& o) { o.io = "mmap"; }, "io", "mmap", "uring, pread, auto");
  refused([](EngineOptions& o) { o.kv = "q8"; }, "kv", "q8", "f16, f32");
  refused([](EngineOptions& o) { o.device = "tpu"; }, "device", "tpu", "auto, cpu, cuda, modelled");
  refused([](EngineOptions& o) { o.gpu = -2; }, "gpu", "-2", "-1 to");
  refused(
      [](EngineOptions& o) {
        o.device = "modelled";
        o.modelled.link_latency_us = -1;
      },
      "modelled_link_latency_us", "-1", "0 to");
  refused([](EngineOptions& o) { o.modelled_drive.rate = -1; }, "modelled_drive", "-1", "200MB/s");
  refused([](EngineOptions& o) { o.modelled_drive = {.rate = 1e9, .latency_us = -1}; },
          "modelled_drive_latency_us", "-1", "0 to");
  refused([](EngineOptions& o) { o.modelled_drive.latency_us = 5; }, "modelled_drive_latency_us",
          "without modelled_drive", "try:");
}

TEST(EngineOptions, WhatTheDeviceWouldNotUseIsRefusedNotDropped) {
  const auto refused = [](std::string_view device, auto change, std::string_view option) {
    EngineOptions options = Sound();
    options.device = device;
    EXPECT_TRUE(Validate(options).ok()) << device;
    change(options);
    ExpectRefused(Validate(options), option, device, "try:");
  };
  refused(
      "cpu", [](EngineOptions& o) { o.vram = MemoryBudget(); }, "vram");
  refused(
      "cpu", [](EngineOptions& o) { o.place = PlaceRule::kCopy; }, "place");
  refused(
      "cpu", [](EngineOptions& o) { o.gpu = 0; }, "gpu");
  refused(
      "modelled", [](EngineOptions& o) { o.gpu = 0; }, "gpu");
  refused(
      "cuda", [](EngineOptions& o) { o.modelled.memory_bytes = 1 << 20; }, "modelled");
  refused(
      "auto", [](EngineOptions& o) { o.modelled.memory_rate = 1e9; }, "modelled");
  refused(
      "cpu", [](EngineOptions& o) { o.modelled.link_rate = 1e9; }, "modelled");
  refused(
      "cpu", [](EngineOptions& o) { o.modelled.link_out_latency_us = 0; }, "modelled");
}

TEST(EngineOptions, WhatADeviceUsesIsAllowedWithIt) {
  EngineOptions options = Sound();
  options.vram = MemoryBudget{.kind = MemoryBudget::Kind::kMinimum};
  options.place = PlaceRule::kCpu;
  for (const char* device : {"auto", "cuda", "modelled"}) {
    options.device = device;
    EXPECT_TRUE(Validate(options).ok()) << Validate(options);
  }
  options.modelled = {.memory_bytes = 1 << 30, .memory_rate = 1e12, .link_rate = 1e10};
  EXPECT_TRUE(Validate(options).ok()) << Validate(options);
}

TEST(EngineOptions, AModelIsNeeded) {
  EXPECT_EQ(Validate(EngineOptions()).code(), absl::StatusCode::kInvalidArgument);
}

TEST(SamplingOptions, EachOptionOutOfRangeIsNamedWithItsRange) {
  const auto refused = [](auto change, std::string_view option, std::string_view value,
                          std::string_view allowed) {
    SamplingOptions options;
    change(options);
    ExpectRefused(Validate(options), option, value, allowed);
  };
  const float nan = std::nanf("");
  refused([](SamplingOptions& o) { o.temperature = -0.5f; }, "temperature", "-0.5", "0 to 100");
  refused([nan](SamplingOptions& o) { o.temperature = nan; }, "temperature", "nan", "0 to 100");
  refused([](SamplingOptions& o) { o.top_k = -1; }, "top_k", "-1", "0 to");
  refused([](SamplingOptions& o) { o.top_p = 0; }, "top_p", "0", "above 0");
  refused([](SamplingOptions& o) { o.top_p = 1.5f; }, "top_p", "1.5", "to 1");
  refused([nan](SamplingOptions& o) { o.min_p = nan; }, "min_p", "nan", "0 to 1");
  refused([](SamplingOptions& o) { o.repetition_penalty = 0; }, "repetition_penalty", "0", "100");
  refused([](SamplingOptions& o) { o.frequency_penalty = 1000; }, "frequency_penalty", "1000",
          "100");
  refused([](SamplingOptions& o) { o.presence_penalty = -1000; }, "presence_penalty", "-1000",
          "100");
  refused([](SamplingOptions& o) { o.penalty_window = -2; }, "penalty_window", "-2", "-1 to");
}

}  // namespace
}  // namespace stoker
