// Our own trace files: what was recorded is what is read, whatever became of the file's end.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <xxhash.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <random>
#include <sstream>
#include <string>

#include "kernels/formats/half.h"
#include "runtime/trace/trace.h"
#include "runtime/trace/trace_names.h"
#include "runtime/trace/trace_recorder.h"
#include "tests/runtime/trace_text.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using testing::HasSubstr;

TraceHeader HeaderOf(int expert_count, bool has_weights) {
  TraceHeader header;
  header.format = "stoker";
  header.model = "a model \xff.gguf";
  header.model_hash = 0xfedcba9876543210;
  header.top_k = 3;
  header.weights_known = has_weights;
  header.budget_bytes = 12345;
  header.vram_budget_bytes = 678;
  header.policy = "lru";
  header.vram_policy = "lfu";
  header.admission = "always";
  header.prefetch = "none";
  header.layer_floor = 2;
  header.alignments = {512, 4096};
  header.slot_counts = {7, 8};
  header.vram_slot_counts = {1, 2};
  header.settings = "chunk = 64\n\"lfu.half_life\" = 2.5\n";
  for (int layer = 1; layer <= 4; ++layer) {
    header.layers.push_back({.layer = layer, .expert_count = expert_count, .expert_bytes = 1000});
    header.catalog.layers.push_back({.layer = layer,
                                     .expert_count = expert_count,
                                     .part_count = 1,
                                     .parts = {{.file = 1, .offset = 77, .bytes = 1000}},
                                     .stride_bytes = {1000}});
  }
  return header;
}

// Tells a recorder of a run of random steps, and keeps what a reader should find.
class RandomRun {
 public:
  RandomRun(uint64_t seed, TraceHeader header) : random_(seed) { expected_.header = header; }

  void Step(TraceRecorder& recorder, int prompt_rows) {
    step_ = TraceStep();
    step_.step = ++step_number_;
    Between(recorder);
    AddRows(recorder, prompt_rows);
    rows_.resize(static_cast<size_t>(step_.rows.count));
    recorder.OnStep(rows_);
    step_.routings.first = Count(expected_.routings);
    step_.lookaheads.first = Count(expected_.lookaheads);
    for (size_t index = 0; index < expected_.header.layers.size(); ++index) {
      Layer(recorder, static_cast<int>(index));
    }
    End(recorder);
  }
  const Trace& expected() const { return expected_; }
  VirtualClock& clock() { return clock_; }

 private:
  template <typename Entry>
  static int64_t Count(const std::vector<Entry>& entries) {
    return static_cast<int64_t>(entries.size());
  }
  int Below(int bound) { return static_cast<int>(random_() % static_cast<uint64_t>(bound)); }
  int LayerOf(int index) const { return expected_.header.layers[static_cast<size_t>(index)].layer; }

  // Something changes between steps, and is part of the next.
  void Between(TraceRecorder& recorder) {
    step_.residency.first = Count(expected_.residency);
    if (Below(2) == 0) Change(recorder);
    step_.placements.first = Count(expected_.placements);
    if (Below(2) == 0) rates_ = {.host = 1.0 * Below(1000), .copy_beside_host = 2e10, .drive = 1};
  }

  // By the rates of the step.
  void Place(TraceRecorder& recorder, int index) {
    constexpr int kFirstKey = 1000;
    const PlaceQuestion question = {.rule = PlaceRule::kAuto,
                                    .rates = rates_,
                                    .is_from_file = Below(2) == 0,
                                    .device_backlog_bytes = random_() >> Below(64)};
    std::vector<PlaceCandidate> experts;
    const int64_t first = Count(expected_.placed);
    for (const int32_t expert : Choose(1 + Below(4))) {
      const TracePlaced placed = {
          .expert = expert, .rows = 1 + Below(500), .is_worth_keeping = Below(2) == 0};
      expected_.placed.push_back(placed);
      experts.push_back({.key = kFirstKey + expert,
                         .rows = placed.rows,
                         .is_worth_keeping = placed.is_worth_keeping});
    }
    const int copy_count = Below(static_cast<int>(experts.size()) + 1);
    if (expected_.rates.empty() || rates_ != expected_.rates.back()) {
      expected_.rates.push_back(rates_);
    }
    recorder.OnPlacement({.layer = LayerOf(index),
                          .first_key = kFirstKey,
                          .question = question,
                          .experts = experts,
                          .copy_count = copy_count});
    expected_.placements.push_back({.layer_index = index,
                                    .rates_index = static_cast<int>(expected_.rates.size()) - 1,
                                    .is_from_file = question.is_from_file,
                                    .device_backlog_bytes = question.device_backlog_bytes,
                                    .copy_count = copy_count,
                                    .first = first,
                                    .count = Count(experts)});
  }

  void Change(TraceRecorder& recorder) {
    const auto changes = ResidencyChanges();
    const uint64_t bytes[] = {0, 1, 1000, 1024, uint64_t{1} << 40};
    const TraceResidency change = {
        .change = changes[static_cast<size_t>(Below(static_cast<int>(changes.size())))],
        .layer_index = Below(4),
        .expert = Below(expected_.header.layers[0].expert_count),
        .bytes = bytes[static_cast<size_t>(Below(5))]};
    recorder.OnResidency(change.change, {LayerOf(change.layer_index), change.expert}, change.bytes);
    expected_.residency.push_back(change);
  }

  void AddRows(TraceRecorder& recorder, int prompt_rows) {
    step_.rows.first = Count(expected_.rows);
    const auto add = [&](int64_t sequence, int position, int count, bool is_prompt,
                         int drafts = 0) {
      recorder.AddRows({.sequence = sequence,
                        .first_position = position,
                        .count = count,
                        .is_prompt = is_prompt,
                        .drafts = drafts});
      for (int row = 0; row < count; ++row) {
        expected_.rows.push_back({.sequence = static_cast<int32_t>(sequence),
                                  .position = position + row,
                                  .is_prompt = is_prompt,
                                  .is_draft = row >= count - drafts});
      }
    };
    const int drafts = Below(2) * Below(4);
    add(step_number_ / 3, Below(1000), 1 + drafts, false, drafts);
    if (prompt_rows > 0) add(1000 + step_number_, 0, prompt_rows, true);
    step_.rows.count = Count(expected_.rows) - step_.rows.first;
  }

  std::vector<int32_t> Choose(int64_t count) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < count; ++i) {
      ids.push_back(Below(expected_.header.layers[0].expert_count));
    }
    return ids;
  }

  void Layer(TraceRecorder& recorder, int index) {
    const std::vector<int32_t> ids = Choose(step_.rows.count * 3);
    std::vector<float> weights;
    for (size_t i = 0; i < ids.size(); ++i) weights.push_back(static_cast<float>(Below(999)) / 998);
    recorder.OnRouting(LayerOf(index), 3, ids, weights);
    expected_.routings.push_back({.layer_index = index,
                                  .top_k = 3,
                                  .first_id = Count(expected_.ids),
                                  .id_count = Count(ids)});
    expected_.ids.insert(expected_.ids.end(), ids.begin(), ids.end());
    if (expected_.header.weights_known) {
      for (const float weight : weights) {
        expected_.weights.push_back(FloatOfHalf(HalfOfFloat(weight)));
      }
    }
    if (Below(3) == 0) Change(recorder);
    if (Below(3) == 0) Place(recorder, index);
    if (index == 3 || Below(2) == 0) return;
    const std::vector<int32_t> guesses = Choose(step_.rows.count * 5);
    recorder.OnLookahead(LayerOf(index), LayerOf(index + 1), 5, guesses, {});
    expected_.lookaheads.push_back({.layer_index = index,
                                    .target_index = index + 1,
                                    .count = 5,
                                    .first_id = Count(expected_.guesses),
                                    .id_count = Count(guesses)});
    expected_.guesses.insert(expected_.guesses.end(), guesses.begin(), guesses.end());
  }

  void End(TraceRecorder& recorder) {
    step_.misses.first = Count(expected_.misses);
    StepRecord record;
    record.step = step_.step;
    for (int i = Below(4); i > 0; --i) {
      const bool is_evicted = Below(2) == 0;
      record.worst_misses.push_back(
          {.id = {.layer = LayerOf(Below(4)), .expert = Below(4)},
           .reason = is_evicted ? MissReason::kEvicted : MissReason::kNeverSeen,
           .evicted_step = is_evicted ? step_.step - Below(3) : -1,
           .read_ns = Below(1000000),
           .read_bytes = static_cast<uint64_t>(Below(1 << 30))});
    }
    expected_.misses.insert(expected_.misses.end(), record.worst_misses.begin(),
                            record.worst_misses.end());
    for (int64_t& ns : record.causes) ns = Below(1 << 20);
    record.wall_ns = std::accumulate(record.causes.begin(), record.causes.end(), int64_t{0});
    record.tokens = Below(3);
    for (uint64_t* count : {&record.hits, &record.misses, &record.vram_hits, &record.read_bytes,
                            &record.copied_in_bytes, &record.copied_out_bytes, &record.host_experts,
                            &record.device_experts}) {
      *count = random_() >> Below(64);
    }
    record.drive_busy_ns = Below(1000);
    record.system_ns = Below(1000);
    if (Below(2) == 0) {
      record.draft_rows = 1 + Below(8);
      record.drafts_right = Below(record.draft_rows);
      record.predicted_ns = Below(1000);
      record.wasted_ns = Below(1000);
    }
    clock_.AdvanceNs(record.wall_ns + Below(1000));
    Expect(record);
    recorder.EndStep(record);
  }

  void Expect(const StepRecord& record) {
    if (expected_.steps.empty()) start_ns_ = clock_.NowNs() - record.wall_ns;
    step_.begin_ns = clock_.NowNs() - record.wall_ns - start_ns_;
    step_.wall_ns = record.wall_ns;
    step_.system_ns = record.system_ns;
    step_.causes = record.causes;
    step_.tokens = record.tokens;
    step_.draft_rows = record.draft_rows;
    step_.drafts_right = record.drafts_right;
    step_.predicted_ns = record.predicted_ns;
    step_.wasted_ns = record.wasted_ns;
    step_.hits = record.hits;
    step_.misses_count = record.misses;
    step_.vram_hits = record.vram_hits;
    step_.read_bytes = record.read_bytes;
    step_.copied_in_bytes = record.copied_in_bytes;
    step_.copied_out_bytes = record.copied_out_bytes;
    step_.host_experts = record.host_experts;
    step_.device_experts = record.device_experts;
    step_.drive_busy_ns = record.drive_busy_ns;
    step_.routings.count = Count(expected_.routings) - step_.routings.first;
    step_.lookaheads.count = Count(expected_.lookaheads) - step_.lookaheads.first;
    step_.residency.count = Count(expected_.residency) - step_.residency.first;
    step_.misses.count = Count(expected_.misses) - step_.misses.first;
    step_.placements.count = Count(expected_.placements) - step_.placements.first;
    expected_.steps.push_back(step_);
  }

  std::mt19937_64 random_;
  VirtualClock clock_;
  Trace expected_;
  TraceStep step_;
  int step_number_ = 0;
  int64_t start_ns_ = 0;
  std::vector<StepRow> rows_;
  LinkRates rates_;  // of the running step
};

class TraceFileTest : public testing::Test {
 protected:
  std::string path() const { return folder_.File("run.trace"); }

  std::unique_ptr<TraceRecorder> Record(const TraceHeader& header, const Clock& clock) const {
    auto recorder = TraceRecorder::Create(path(), header, clock);
    EXPECT_TRUE(recorder.ok()) << recorder.status();
    return *std::move(recorder);
  }
  // A small trace of several blocks; its bytes.
  std::string SmallTrace(RandomRun& run) const {
    {
      const auto recorder = Record(run.expected().header, run.clock());
      for (int step = 0; step < 4; ++step) {
        run.Step(*recorder, step == 0 ? 2 : 0);
        if (step != 2) recorder->Flush();
      }
    }
    return Bytes();
  }
  std::string Bytes() const {
    std::ostringstream bytes;
    bytes << std::ifstream(path(), std::ios::binary).rdbuf();
    return bytes.str();
  }
  std::string Put(std::string_view bytes) const {
    const std::string other = folder_.File("other.trace");
    std::ofstream(other, std::ios::binary) << bytes;
    return other;
  }
  TemporaryDirectory folder_;
};

TEST_F(TraceFileTest, WhatWasRecordedIsWhatIsRead) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    RandomRun run(seed, HeaderOf(seed % 3 == 0 ? 300 : 256, seed % 2 == 0));
    {
      const auto recorder = Record(run.expected().header, run.clock());
      for (int step = 0; step < 40; ++step) run.Step(*recorder, step % 7 == 0 ? step : 0);
    }
    const auto trace = ReadTrace(path());
    ASSERT_TRUE(trace.ok()) << trace.status();
    EXPECT_EQ(trace->notice, "");
    EXPECT_EQ(HeaderText(trace->header), HeaderText(run.expected().header));
    EXPECT_EQ(StepTexts(*trace), StepTexts(run.expected()));
  }
}

TEST_F(TraceFileTest, WhatExpertsArePlacedByIsRead) {
  TraceHeader header = HeaderOf(4, false);
  header.place = "copy";
  const LinkRates links = {.host = 3e9, .copy_in = 2e10, .copy_beside_host = 1e10, .device = 9e11};
  RandomRun run(1, header);
  {
    const auto recorder = Record(header, run.clock());
    recorder->AddLinks(links);
    run.Step(*recorder, 2);
  }
  const auto trace = ReadTrace(path());
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(trace->header.place, "copy");
  ASSERT_TRUE(trace->links.has_value());
  for (double LinkRates::*const rate : kLinkRateFields) {
    EXPECT_EQ((*trace->links).*rate, links.*rate);
  }
}

TEST_F(TraceFileTest, StepsLargerThanTheBufferAreRecordedWhole) {
  for (const int expert_count : {200, 400}) {
    RandomRun run(7, HeaderOf(expert_count, true));
    {
      const auto recorder = Record(run.expected().header, run.clock());
      run.Step(*recorder, 30000);  // 4 layers of 360 kB
      run.Step(*recorder, 0);
    }
    const auto trace = ReadTrace(path());
    ASSERT_TRUE(trace.ok()) << trace.status();
    EXPECT_EQ(StepTexts(*trace), StepTexts(run.expected()));
  }
}

TEST_F(TraceFileTest, AFileCutAtAnyByteIsReadUpToItsLastWholeStep) {
  RandomRun run(3, HeaderOf(64, true));
  const std::string bytes = SmallTrace(run);
  const std::vector<std::string> steps = StepTexts(run.expected());
  size_t longest = 0;
  for (size_t cut = 1; cut < bytes.size(); ++cut) {
    const auto trace = ReadTrace(Put(bytes.substr(0, cut)));
    ASSERT_TRUE(trace.ok()) << cut << ": " << trace.status();
    EXPECT_THAT(trace->notice, HasSubstr("was not ended")) << cut;
    const std::vector<std::string> found = StepTexts(*trace);
    ASSERT_GE(found.size(), longest) << cut;  // more bytes, no fewer steps
    ASSERT_EQ(found, std::vector<std::string>(steps.begin(),
                                              steps.begin() + static_cast<int64_t>(found.size())))
        << cut;
    longest = found.size();
  }
  EXPECT_EQ(longest, steps.size());  // all, when only the end block is missing
}

TEST_F(TraceFileTest, AFlippedByteAnywhereIsFound) {
  RandomRun run(4, HeaderOf(64, true));
  const std::string bytes = SmallTrace(run);
  int errors = 0;
  for (size_t place = 0; place < bytes.size(); ++place) {
    std::string damaged = bytes;
    damaged[place] = static_cast<char>(damaged[place] ^ (1 << (place % 8)));
    const auto trace = ReadTrace(Put(damaged));
    errors += trace.ok() ? 0 : 1;
    if (trace.ok()) {
      EXPECT_NE(trace->notice, "") << place;
    } else if (place >= 8) {
      EXPECT_EQ(trace.status().code(), absl::StatusCode::kDataLoss) << place;
      EXPECT_THAT(std::string(trace.status().message()), HasSubstr("other.trace, block "));
    }
  }
  // What comes last may also have been cut; everything else is an error.
  EXPECT_GT(errors, static_cast<int>(bytes.size()) * 9 / 10);
}

TEST_F(TraceFileTest, BlocksThatWereMovedOrRepeatedAreFound) {
  RandomRun run(5, HeaderOf(64, true));
  const std::string bytes = SmallTrace(run);
  // Blocks: header, three of steps, end.
  std::vector<std::string> blocks;
  for (size_t at = kTraceMagic.size(); at < bytes.size();) {
    const size_t length = 16 + LittleEndian(reinterpret_cast<const uint8_t*>(bytes.data()) + at, 4);
    blocks.push_back(bytes.substr(at, length));
    at += length;
  }
  ASSERT_EQ(blocks.size(), 5u);
  const auto join = [&](std::initializer_list<int> order) {
    std::string joined(kTraceMagic);
    for (const int i : order) joined += blocks[static_cast<size_t>(i)];
    return joined;
  };
  EXPECT_TRUE(ReadTrace(Put(join({0, 1, 2, 3, 4}))).ok());
  for (const std::string& damaged :
       {join({0, 2, 1, 3, 4}), join({0, 1, 1, 2, 3, 4}), join({0, 1, 3, 4}), join({1, 2, 3, 4}),
        join({0, 1, 2, 3, 4, 4})}) {
    const auto trace = ReadTrace(Put(damaged));
    // A last block of another number looks like one that was not finished.
    if (trace.ok()) {
      EXPECT_NE(trace->notice, "");
    }
  }
  EXPECT_FALSE(ReadTrace(Put(join({0, 2, 1, 3, 4}))).ok());
}

// Blocks with right hashes and wrong contents: an error or a trace, no crash and no lie about
// ranges.
TEST_F(TraceFileTest, NonsenseWithRightHashesIsRefusedOrHarmless) {
  RandomRun run(6, HeaderOf(64, true));
  const std::string bytes = SmallTrace(run);
  const auto* const data = reinterpret_cast<const uint8_t*>(bytes.data());
  const size_t header_bytes = kTraceMagic.size() + 16 + LittleEndian(data + 8, 4);
  const size_t block_bytes = LittleEndian(data + header_bytes, 4);
  std::mt19937_64 random(1);
  int refused = 0;
  for (int round = 0; round < 1000; ++round) {
    std::string damaged = bytes.substr(0, header_bytes + 16 + block_bytes);
    for (uint64_t flips = 1 + random() % 3; flips > 0; --flips) {
      damaged[header_bytes + 16 + random() % block_bytes] = static_cast<char>(random());
    }
    const uint64_t hash = XXH3_64bits_withSeed(damaged.data() + header_bytes + 16, block_bytes,
                                               TraceBlockSeed(1, TraceBlock::kSteps, block_bytes));
    std::memcpy(damaged.data() + header_bytes + 8, &hash, 8);
    const auto trace = ReadTrace(Put(damaged));
    refused += trace.ok() ? 0 : 1;
    if (trace.ok()) StepTexts(*trace);  // walks every range
  }
  EXPECT_GT(refused, 0);
}

TEST_F(TraceFileTest, AReaderPassesOverWhatALaterVersionAdds) {
  RandomRun run(8, HeaderOf(64, true));
  {
    const auto writer = TraceWriter::Create(path(), [&] {
      // Written by hand: a field that is not known yet, and one cause, change and reason more.
      return std::string(
          R"({"model_hash": "1f", "news": [1], "top_k": 2, "weights": "none", "id_bytes": 1,
              "layers": [{"layer": 0, "experts": 4, "expert_bytes": 10, "shape": "odd"}],
              "causes": ["other", "dreaming"], "changes": ["read", "blessed"],
              "reasons": ["evicted", "hidden"]})");
    }());
    ASSERT_TRUE(writer.ok()) << writer.status();
    const auto put = [&](int kind, std::vector<uint8_t> payload) {
      uint8_t* out = (*writer)->Begin(static_cast<TraceRecord>(kind), payload.size());
      (*writer)->End(std::copy(payload.begin(), payload.end(), out));
    };
    put(1, {0, 0, 1, 0, 0, 42});       // rows, and a byte that is not known yet
    put(99, {1, 2, 3});                // a record that is not known yet
    put(2, {0, 2, 0, 1, 3, 1, 9, 9});  // routing
    put(4, {1, 0, 2, 1});              // blessed
    put(4, {0, 0, 2, 1, 7});           // read
    put(5, {0, 1, 1, 0, 0, 0});        // hidden
    // The end of a step.
    put(6, {2, 5, 9, 1, 2, 4, 5, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 0, 0, 0, 0, 77});
    (*writer)->EndStep();
  }
  const auto trace = ReadTrace(path());
  ASSERT_TRUE(trace.ok()) << trace.status();
  ASSERT_EQ(trace->steps.size(), 1u);
  EXPECT_THAT(trace->ids, testing::ElementsAre(3, 1));
  EXPECT_EQ(trace->steps[0].step, 1);
  EXPECT_EQ(trace->steps[0].wall_ns, 9);
  EXPECT_EQ(trace->steps[0].causes[static_cast<size_t>(Cause::kOther)], 9);
  EXPECT_EQ(trace->residency.size(), 1u);
  EXPECT_EQ(trace->residency[0].bytes, 10u);
  EXPECT_EQ(trace->misses.size(), 0u);
  EXPECT_EQ(trace->header.model_hash, 0x1fu);
}

TEST_F(TraceFileTest, AnotherVersionIsRefusedByName) {
  RandomRun run(9, HeaderOf(64, true));
  std::string bytes = SmallTrace(run);
  bytes[7] = '2';
  const auto trace = ReadTrace(Put(bytes));
  EXPECT_EQ(trace.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(trace.status().message()), HasSubstr("version '2'"));
  EXPECT_THAT(std::string(trace.status().message()), HasSubstr("version '1'"));
}

TEST_F(TraceFileTest, WhatIsWrittenIsReadableWhileTheRunGoesOn) {
  RandomRun run(10, HeaderOf(64, true));
  const auto recorder = Record(run.expected().header, run.clock());
  EXPECT_TRUE(ReadTrace(path()).ok());
  run.Step(*recorder, 5);
  recorder->Flush();
  const auto trace = ReadTrace(path());
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(StepTexts(*trace), StepTexts(run.expected()));
  EXPECT_THAT(trace->notice, HasSubstr("still running"));
}

// A step begins by writing what is older than a second.
TEST_F(TraceFileTest, ASecondIsTheMostThatAKilledRunLoses) {
  RandomRun run(11, HeaderOf(64, true));
  const auto recorder = Record(run.expected().header, run.clock());
  run.Step(*recorder, 0);
  run.clock().AdvanceNs(1'000'000'000);
  run.Step(*recorder, 0);
  const auto trace = ReadTrace(path());
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(trace->steps.size(), 1u);
}

TEST_F(TraceFileTest, AFileThatIsNoTraceIsNotOverwritten) {
  std::ofstream(path()) << "GGUF and precious weights";
  const VirtualClock clock;
  const auto recorder = TraceRecorder::Create(path(), HeaderOf(4, true), clock);
  EXPECT_EQ(recorder.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(recorder.status().message()), HasSubstr("is not overwritten"));
  EXPECT_EQ(Bytes(), "GGUF and precious weights");
}

TEST_F(TraceFileTest, AFormerTraceIsReplaced) {
  RandomRun long_run(12, HeaderOf(64, true)), short_run(13, HeaderOf(64, true));
  SmallTrace(long_run);
  {
    const auto recorder = Record(short_run.expected().header, short_run.clock());
    short_run.Step(*recorder, 0);
  }
  const auto trace = ReadTrace(path());
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(StepTexts(*trace), StepTexts(short_run.expected()));
}

TEST_F(TraceFileTest, AFolderThatIsNotThereIsAnErrorAtTheStart) {
  const VirtualClock clock;
  const auto recorder = TraceRecorder::Create(folder_.File("no/x"), HeaderOf(4, true), clock);
  EXPECT_EQ(recorder.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(recorder.status().message()), HasSubstr("no/x"));
  EXPECT_FALSE(TraceRecorder::Create(folder_.path(), HeaderOf(4, true), clock).ok());
  EXPECT_FALSE(TraceRecorder::Create("/dev/full", HeaderOf(4, true), clock).ok());
}

// The limit stands for a full disk: writes fail in the middle of a block.
TEST_F(TraceFileTest, AFullDiskEndsTheTraceAndNotTheRun) {
  RandomRun run(14, HeaderOf(64, true));
  rlimit former = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &former), 0);
  const rlimit limit = {.rlim_cur = 20000, .rlim_max = former.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  absl::Status status;
  {
    const auto recorder = Record(run.expected().header, run.clock());
    for (int step = 0; step < 400; ++step) {
      run.Step(*recorder, 3);
      if (step % 10 == 0) recorder->Flush();
    }
    status = recorder->status();
  }
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &former), 0);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("run.trace ends after"));
  EXPECT_LE(std::filesystem::file_size(path()), 20000u);
  const auto trace = ReadTrace(path());
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_GT(trace->steps.size(), 10u);
  EXPECT_LT(trace->steps.size(), 400u);
  std::vector<std::string> begun = StepTexts(run.expected());
  begun.resize(trace->steps.size());
  EXPECT_EQ(StepTexts(*trace), begun);
}

TEST_F(TraceFileTest, ADecodeStepTakesFewBytes) {
  // 58 layers of 256 experts, 8 used: the shape of DeepSeek-V3.
  TraceHeader header;
  header.weights_known = true;
  for (int layer = 3; layer < 61; ++layer) {
    header.layers.push_back({.layer = layer, .expert_count = 256, .expert_bytes = 1});
  }
  const std::vector<int32_t> ids(8, 200);
  const std::vector<float> weights(8, 0.125f);
  for (const bool has_weights : {true, false}) {
    header.weights_known = has_weights;
    const VirtualClock clock;
    uint64_t header_bytes = 0, bytes = 0;
    {
      const auto recorder = Record(header, clock);
      header_bytes = recorder->written_bytes();
      for (int step = 0; step < 100; ++step) {
        recorder->AddRows({.sequence = 0, .first_position = step, .count = 1});
        const StepRow row;
        recorder->OnStep({&row, 1});
        for (int layer = 3; layer < 61; ++layer) recorder->OnRouting(layer, 8, ids, weights);
        recorder->EndStep(StepRecord());
      }
      recorder->Flush();
      bytes = recorder->written_bytes() - header_bytes;
    }
    fmt::print("bytes a token {} weights: {:.1f}\n", has_weights ? "with" : "without",
               static_cast<double>(bytes) / 100);
    // 464 ids of a byte and as many weights of two, six bytes of head a layer, and the step's own.
    EXPECT_LT(bytes, 100u * (464 * (has_weights ? 3 : 1) + 58 * 6 + 60));
  }
}

}  // namespace
}  // namespace stoker
