// Traces of other programs: read to what they say, told apart, refused with file and place.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <string>

#include "cache/policies/lru.h"
#include "cache/policy.h"
#include "runtime/trace/trace.h"
#include "runtime/trace/trace_formats.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ForeignTrace : public testing::Test {
 protected:
  std::string Write(const std::string& name, std::string_view text) const {
    std::ofstream(folder_.File(name), std::ios::binary) << text;
    return folder_.File(name);
  }
  static Trace Read(const std::string& path, const ReadTraceOptions& options = {}) {
    absl::StatusOr<Trace> trace = ReadTrace(path, options);
    EXPECT_TRUE(trace.ok()) << trace.status();
    return trace.ok() ? *std::move(trace) : Trace();
  }
  // The error names all of these.
  static void ExpectRefused(const std::string& path, const std::vector<std::string>& words) {
    const absl::StatusOr<Trace> trace = ReadTrace(path);
    ASSERT_FALSE(trace.ok()) << path;
    for (const std::string& word : words) {
      EXPECT_THAT(std::string(trace.status().message()), HasSubstr(word));
    }
  }
  TemporaryDirectory folder_;
};

constexpr std::string_view kShape = R"({"model": "toy", "n_layers": 2, "n_experts": 4, "top_k": 2,
  "n_tokens": 4, "first_moe_layer": 1, "order": "ids by router rank", "sequences": [
  {"start": 0, "n_tokens": 2, "phase": "prompt"}, {"start": 2, "n_tokens": 1, "phase": "decode",
  "first_pos": 2}, {"start": 3, "n_tokens": 1, "phase": "decode", "repetition": true}]})";
// [token][layer][rank]
const std::string kIds("\0\1\2\3\1\0\3\2\2\0\0\2\3\1\1\3", 16);

TEST_F(ForeignTrace, PackedIdsAreReadByEitherPath) {
  const std::string shape = Write("toy.json", kShape);
  const std::string ids = Write("toy.ids.u8", kIds);
  for (const std::string& path : {shape, ids}) {
    const Trace trace = Read(path);
    EXPECT_EQ(trace.header.format, "packed");
    EXPECT_EQ(trace.header.model, "toy");
    EXPECT_EQ(trace.header.top_k, 2);
    EXPECT_TRUE(trace.header.ranks_known);
    EXPECT_FALSE(trace.header.weights_known);
    ASSERT_EQ(trace.header.layers.size(), 2u);
    EXPECT_EQ(trace.header.layers[0].layer, 1);
    EXPECT_EQ(trace.header.layers[0].expert_bytes, 1u);
    // The prompt is one step, layer by layer; the token after it continues its sequence.
    ASSERT_EQ(trace.steps.size(), 2u);
    EXPECT_EQ(trace.steps[0].rows.count, 2);
    EXPECT_EQ(trace.steps[1].rows.count, 1);
    EXPECT_THAT(trace.ids, ElementsAre(0, 1, 1, 0, 2, 3, 3, 2, 2, 0, 0, 2));
    EXPECT_TRUE(trace.rows[1].is_prompt);
    EXPECT_EQ(trace.rows[1].position, 1);
    EXPECT_FALSE(trace.rows[2].is_prompt);
    EXPECT_EQ(trace.rows[2].position, 2);
    EXPECT_EQ(trace.steps[1].sequence_group, trace.steps[0].sequence_group);
  }
}

TEST_F(ForeignTrace, RepetitionIsLeftOutUnlessAskedFor) {
  const std::string path = Write("toy.json", kShape);
  Write("toy.ids.u8", kIds);
  EXPECT_EQ(Read(path).steps.size(), 2u);
  const Trace whole = Read(path, {.keep_repetition = true});
  ASSERT_EQ(whole.steps.size(), 3u);
  EXPECT_NE(whole.steps[2].sequence_group, whole.steps[1].sequence_group);
}

TEST_F(ForeignTrace, PackedIdsThatDoNotFitTheirShapeAreRefused) {
  const std::string path = Write("toy.json", kShape);
  ExpectRefused(path, {"toy.ids.u8", "toy.json describes"});  // is not there
  Write("toy.ids.u8", kIds.substr(1));
  ExpectRefused(path, {"toy.ids.u8", "15 bytes", "16 bytes", "cut off"});
  std::string damaged = kIds;
  damaged[9] = 4;
  Write("toy.ids.u8", damaged);
  ExpectRefused(path, {"toy.ids.u8 byte 9", "expert 4", "4 experts"});
}

TEST_F(ForeignTrace, APackedShapeWithoutItsFieldsIsRefused) {
  ExpectRefused(Write("a.json", R"({"n_layers": 2, "n_experts": 4})"), {"a.json", "top_k"});
  ExpectRefused(Write("a.json", R"({"n_layers": -1})"), {"a.json", "top_k"});
  ExpectRefused(Write("a.json", R"({"n_layers": 2, )"), {"a.json", "no JSON object", "cut off"});
  std::string shape(kShape);
  shape.replace(shape.find("prompt"), 6, "warmup");
  ExpectRefused(Write("a.json", shape), {"sequences[0].phase", "warmup"});
  shape = kShape;
  shape.replace(shape.find("\"start\": 3"), 10, "\"start\": 4");
  ExpectRefused(Write("a.json", shape), {"sequences[2].n_tokens is 1", "0 to 0"});
  shape = kShape;
  shape.replace(shape.find("\"n_layers\": 2"), 13, "\"n_layers\": 70000");
  ExpectRefused(Write("a.json", shape), {"n_layers is 70000", "1 to 65536"});
}

constexpr std::string_view kRouteHead =
    "# route_trace v1\n"
    "# model=/a path/m.gguf arch=x n_layer=3 n_expert=8 n_expert_used=2\n"
    "# layer=1 expert_bytes=100 dense_bytes=5\n"
    "# layer=2 expert_bytes=200 dense_bytes=5\n"
    "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n";
constexpr std::string_view kRouteRows =
    "0,0,0,1,0,7,0.75,0,100\n0,0,0,1,1,3,0.25,0,100\n"
    "0,0,1,1,0,3,0.5,1,0\n0,0,1,1,1,0,0.5,0,100\n"
    "0,0,1,2,0,5,0.9,0,200\n0,0,1,2,1,6,0.1,0,200\n"
    "0,1,2,1,0,7,0.6,1,0\n0,1,2,1,1,2,0.4,0,100\n"
    "0,1,2,2,0,5,0.7,1,0\n0,1,2,2,1,1,0.3,0,200\n";

std::string Route(std::string_view rows = kRouteRows) {
  return fmt::format("{}{}", kRouteHead, rows);
}

TEST_F(ForeignTrace, ARouteCsvIsReadWithWeightsBytesAndResidency) {
  const Trace trace = Read(Write("route.csv", Route()));
  EXPECT_EQ(trace.header.format, "route-csv");
  EXPECT_EQ(trace.header.model, "/a path/m.gguf");
  EXPECT_EQ(trace.header.layers[1].expert_bytes, 200u);
  EXPECT_EQ(trace.header.total_expert_bytes(), 8u * 300u);
  ASSERT_EQ(trace.steps.size(), 2u);
  EXPECT_EQ(trace.steps[0].rows.count, 2);
  // The last layer of the prompt ran for its last token alone.
  ASSERT_EQ(trace.routings.size(), 4u);
  EXPECT_EQ(trace.routings[0].id_count, 4);
  EXPECT_EQ(trace.routings[1].id_count, 2);
  EXPECT_THAT(trace.ids, ElementsAre(7, 3, 3, 0, 5, 6, 7, 2, 5, 1));
  EXPECT_THAT(trace.was_resident, ElementsAre(0, 0, 1, 0, 0, 0, 1, 0, 1, 0));
  EXPECT_EQ(trace.weights[8], 0.7f);
  EXPECT_TRUE(trace.header.weights_known);
}

TEST_F(ForeignTrace, ARouteCsvThatWasCutOffIsRefusedWithItsLine) {
  const std::string text = Route();
  for (size_t bytes = 20; bytes < text.size() - 1; ++bytes) {
    const absl::StatusOr<Trace> trace = ReadTrace(Write("route.csv", text.substr(0, bytes)));
    // At the border of steps nothing can be seen.
    if (trace.ok()) {
      EXPECT_EQ(trace->routings.size() % 2, 0u) << bytes;
      continue;
    }
    EXPECT_THAT(std::string(trace.status().message()), HasSubstr("route.csv line ")) << bytes;
  }
  ExpectRefused(Write("route.csv", text.substr(0, text.size() - 9)), {"line 15", "cut off"});
}

TEST_F(ForeignTrace, ADamagedRouteCsvIsRefusedWithItsLine) {
  const auto refused = [&](std::string_view from, std::string_view to,
                           const std::vector<std::string>& words) {
    std::string text = Route();
    text.replace(text.find(from), from.size(), to);
    ExpectRefused(Write("route.csv", text), words);
  };
  refused("0,0,1,1,0,3,", "0,0,1,1,0,8,", {"line 8", "expert 8"});
  refused("0,0,1,1,0,3,", "0,0,1,3,0,3,", {"line 8", "layer 3"});
  refused("0,0,1,1,0,3,", "0,0,1,1,zero,3,", {"line 8", "damaged"});
  refused("0,0,1,1,0,3,0.5,1,0\n", "", {"line 8", "slots 0 to 1"});
  refused("# layer=2", "# layer=1", {"line 4", "layer 1 comes after layer 1"});
  refused("n_expert=8", "n_expert=0", {"line 2", "n_expert"});
  refused("n_expert_used=2", "n_expert_used=9", {"line 2", "n_expert_used"});
  ExpectRefused(Write("route.csv", kRouteHead), {"line 5", "no line of routing"});
}

constexpr std::string_view kEvents =
    "event_index,scheduler_step,layer,requested_experts,misses,hits\n"
    "0,0,0,0 1,2,0\n1,0,1,1,1,0\n2,1,0,1 2,1,1\n";
constexpr std::string_view kManifest =
    R"({"model": {"num_layers": 2, "num_experts_per_layer": 3}, "cache_scope": "per_layer",
    "capacity_blocks_total": 4, "policy": "lru"})";

TEST_F(ForeignTrace, EventsAreReadByFolderOrFile) {
  Write("manifest.json", kManifest);
  const std::string file = Write("events.csv", kEvents);
  for (const std::string& path : {file, folder_.path()}) {
    const Trace trace = Read(path);
    EXPECT_EQ(trace.header.format, "events-csv");
    EXPECT_EQ(trace.header.policy, "lru-per-layer");
    EXPECT_EQ(trace.header.budget_bytes, 4u);
    EXPECT_EQ(trace.header.total_expert_bytes(), 6u);
    EXPECT_FALSE(trace.header.ranks_known);
    EXPECT_EQ(trace.header.top_k, 0);  // one event has one expert, the others two
    ASSERT_EQ(trace.steps.size(), 2u);
    EXPECT_THAT(trace.ids, ElementsAre(0, 1, 1, 1, 2));
    EXPECT_EQ(trace.routings[1].top_k, 1);
    EXPECT_EQ(trace.steps[0].misses_count, 3u);
    EXPECT_EQ(trace.steps[1].hits, 1u);
  }
}

TEST_F(ForeignTrace, DamagedEventsAreRefusedWithTheirLine) {
  ExpectRefused(Write("events.csv", kEvents), {"manifest.json"});
  Write("manifest.json", "{}");
  ExpectRefused(folder_.path(), {"manifest.json", "num_layers"});
  Write("manifest.json", kManifest);
  const auto refused = [&](std::string_view from, std::string_view to,
                           const std::vector<std::string>& words) {
    std::string text(kEvents);
    text.replace(text.find(from), from.size(), to);
    Write("events.csv", text);
    ExpectRefused(folder_.path(), words);
  };
  refused("1,0,1,1,1,0", "1,0,2,1,1,0", {"line 3", "layer 2"});
  refused("2,1,0,1 2", "2,1,0,1 3", {"line 4", "expert '3'"});
  refused("2,1,0,1 2", "2,1,0,1 1", {"line 4", "expert 1 is named twice"});
  refused("1,0,1,1,1,0\n2,1,0,1 2,1,1\n", "1,0,1", {"line 3", "cut off"});
  refused("0,0,0,0 1", "0,3,0,0 1", {"line 3", "step 0 comes after step 3"});
  refused("event_index", "event_number", {"events.csv line 1", "heading"});
}

TEST_F(ForeignTrace, AFileOfNoKnownFormatIsRefusedWithTheKnownOnes) {
  ExpectRefused(Write("a.bin", "GGUF"), {"a.bin", "packed", "route-csv", "events-csv"});
  ExpectRefused(Write("a.bin", ""), {"a.bin is empty"});
  ExpectRefused(folder_.File("nothing"), {"nothing"});
  ExpectRefused(folder_.path(), {folder_.path(), "events-csv"});
}

// What the recording device is known to have had: 4000 MiB, least recently used, no slots.
int64_t AgreedDecodeBits(const Trace& trace, uint64_t budget_bytes, int64_t* uses) {
  constexpr int kExperts = 128;
  const auto policy = ChoosePolicy("lru")->Make(
      {.key_count = static_cast<int>(trace.header.layers.size()) * kExperts});
  std::map<ExpertKey, uint64_t> resident;
  uint64_t resident_bytes = 0;
  int64_t agreed = 0;
  const auto use_all = [&](const TraceRouting& routing, int64_t row, bool is_decode) {
    const int64_t first = routing.first_id + row * routing.top_k;
    std::set<ExpertKey> members;
    const auto key_of = [&](int64_t place) {
      return routing.layer_index * kExperts + trace.ids[static_cast<size_t>(place)];
    };
    for (int64_t i = first; i < first + routing.top_k; ++i) members.insert(key_of(i));
    for (int64_t i = first; i < first + routing.top_k; ++i) {
      const bool is_hit = resident.contains(key_of(i));
      const bool was_hit = trace.was_resident[static_cast<size_t>(i)] != 0;
      if (is_decode) ++*uses;
      if (is_decode && is_hit == was_hit) ++agreed;
      if (is_hit) {
        policy->Touched(key_of(i));
        continue;
      }
      const uint64_t bytes =
          trace.header.layers[static_cast<size_t>(routing.layer_index)].expert_bytes;
      while (resident_bytes + bytes > budget_bytes) {
        const ExpertKey victim =
            policy->PickVictim(0, [&](ExpertKey key) { return !members.contains(key); });
        if (victim < 0) break;
        policy->Removed(victim);
        resident_bytes -= resident.at(victim);
        resident.erase(victim);
      }
      policy->Inserted(key_of(i), Arrival::kDemand);
      resident[key_of(i)] = bytes;
      resident_bytes += bytes;
    }
  };
  for (const TraceStep& step : trace.steps) {
    const bool is_decode = !trace.rows[static_cast<size_t>(step.rows.first)].is_prompt;
    for (int64_t r = step.routings.first; r < step.routings.first + step.routings.count; ++r) {
      const TraceRouting& routing = trace.routings[static_cast<size_t>(r)];
      for (int64_t row = 0; row < routing.id_count / routing.top_k; ++row) {
        use_all(routing, row, is_decode);
      }
    }
  }
  return agreed;
}

TEST(SharedTraces, RouteCsvReplaysToItsRecordedResidency) {
  SKIP_WITHOUT_SHARED();
  const auto trace = ReadTrace(SharedPath("data/traces/bigmoe-qwen.route.csv"));
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(trace->header.layers.size(), 48u);
  EXPECT_EQ(trace->steps.size(), 129u);  // the prompt and 128 tokens
  EXPECT_EQ(trace->steps[0].rows.count, 28);
  int64_t uses = 0;
  EXPECT_EQ(AgreedDecodeBits(*trace, uint64_t{4000} << 20, &uses), 36864);
  EXPECT_EQ(uses, 36864);
}

TEST(SharedTraces, GptOssHasItsSequencesAndNoRepetition) {
  SKIP_WITHOUT_SHARED();
  const std::string path = SharedPath("data/traces/gpt-oss-20b.ids.u8");
  const auto whole = ReadTrace(path, {.keep_repetition = true});
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->steps.size(), 107968u);
  EXPECT_EQ(whole->ids.size(), 10364928u);
  EXPECT_EQ(whole->steps.back().sequence_group, 350);
  const auto trace = ReadTrace(path);
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_LT(trace->steps.size(), whole->steps.size());
  EXPECT_TRUE(trace->header.ranks_known);
}

TEST(SharedTraces, KimiHasItsLayers) {
  SKIP_WITHOUT_SHARED();
  const auto trace = ReadTrace(SharedPath("data/traces/kimi-linear-48b-a3b.json"));
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(trace->steps.size(), 300u);
  EXPECT_EQ(trace->header.layers.front().layer, 1);
  EXPECT_EQ(trace->header.layers.back().layer, 26);
  EXPECT_EQ(trace->header.top_k, 8);
  EXPECT_FALSE(trace->header.ranks_known);
}

TEST(SharedTraces, ConformanceToyHasThirtyAccesses) {
  SKIP_WITHOUT_SHARED();
  const auto trace = ReadTrace(SharedPath("data/traces/conformance-toy"));
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(trace->ids.size(), 30u);
  EXPECT_EQ(trace->steps.size(), 5u);
  EXPECT_EQ(trace->header.budget_bytes * 2, trace->header.total_expert_bytes());
  uint64_t hits = 0, misses = 0;
  for (const TraceStep& step : trace->steps) hits += step.hits, misses += step.misses_count;
  EXPECT_EQ(hits, 12u);
  EXPECT_EQ(misses, 18u);
}

}  // namespace
}  // namespace stoker
