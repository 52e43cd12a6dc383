// The house invariant: logits and tokens are the same bits for every memory budget, policy, thread
// count, instruction set, prompt chunking, batch neighbour, reader and recovered fault.
//
// One baseline; variations of one thing at a time; and combinations drawn by seed.
#include <gtest/gtest.h>
#include <xxhash.h>

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/check.h"
#include "kernels/backends.h"
#include "runtime/choices.h"
#include "runtime/inspection.h"
#include "tests/runtime/shipped_model.h"
#include "tests/testing/fault_reader.h"

namespace stoker {
namespace {

constexpr int kGenerated = 16;
constexpr int kShortPrompt = 12;  // for the reference kernels, which are written to be read
// For the twin of a GPU's kernels, which plays every thread of a GPU on the processor.
constexpr int kTwinPrompt = 7;
constexpr int kTwinGenerated = 5;

struct Conditions {
  double budget = 1;  // 0: the least, 1: everything resident
  std::string policy = "lru";
  std::string prefetch = "none";
  int threads = 1;
  std::string isa = "auto";
  int chunk = 0;
  bool has_neighbours = false;
  bool has_faults = false;
  std::string io = "auto";
  int prompt_max = 1000;  // tokens of the prompt that are used
  int generated = kGenerated;
  std::string device = "cpu";
  double vram = 1;  // 0: no expert, 1: every one
  PlaceRule place = PlaceRule::kAuto;
  double link_rate = 2e9;  // of copies, modelled
  std::string vram_policy = "lru";

  std::string Describe() const {
    std::string text = fmt::format(
        "budget {} policy {} prefetch {} threads {} isa {} chunk {} neighbours {} faults {} io {} "
        "prompt {}",
        budget, policy, prefetch, threads, isa, chunk, has_neighbours, has_faults, io, prompt_max);
    if (device == "cpu") return text;
    return text + fmt::format(" device {} vram {} place {} link {:.0e} vram policy {}", device,
                              vram, NameOf(place), link_rate, vram_policy);
  }
};

// Hashes of logits as they are, bit for bit, and what was chosen from them.
struct Trace {
  std::vector<uint64_t> prompt_hashes;  // of each position, by Evaluate
  std::vector<uint64_t> step_hashes;    // of each generated token, by Step
  std::vector<TokenId> tokens;
  friend bool operator==(const Trace&, const Trace&) = default;
};

uint64_t Hash(absl::Span<const float> logits) {
  return XXH3_64bits(logits.data(), logits.size() * sizeof(float));
}

// At most 2 failures in a row at a place; the store tries 4 times.
FaultReader::Faults RecoverableFaults() {
  return {.seed = 77,
          .short_read = 0.1,
          .io_error = 0.1,
          .interrupted = 0.1,
          .try_again = 0.1,
          .stall = 0.1};
}

class Exactness : public testing::Test {
 protected:
  // Opens an engine under these conditions and records what comes of the prompt.
  Trace Run(const Conditions& conditions) {
    SCOPED_TRACE(conditions.Describe());
    Engine::Parts parts;
    Trace trace;
    watched_ = 0;
    parts.see_logits = [&](SequenceId id, absl::Span<const float> logits) {
      if (id == watched_) trace.step_hashes.push_back(Hash(logits));
    };
    readers_.clear();
    FaultReader* faults = nullptr;
    if (conditions.has_faults) {
      parts.wrap_reader = [&](std::unique_ptr<BlockReader> inner) {
        readers_.push_back(std::move(inner));
        auto reader = std::make_unique<FaultReader>(*readers_.back(), RecoverableFaults());
        faults = reader.get();
        return reader;
      };
    }
    if (conditions.device != "cpu") parts.links = LinksOf(conditions);
    const auto engine = OpenOrDie(OptionsOf(conditions), parts);
    std::vector<TokenId> prompt = PromptIds(*engine);
    prompt.resize(std::min(prompt.size(), static_cast<size_t>(conditions.prompt_max)));
    GenerateAmongNeighbours(*engine, conditions, prompt, trace);
    EvaluatePrompt(*engine, prompt, trace);
    if (faults != nullptr) {
      EXPECT_GT(faults->injected(), 0u);
    }
    EXPECT_EQ(trace.tokens.size(), static_cast<size_t>(conditions.generated));
    return trace;
  }

  // The outcome of everything at its default, run once a process.
  const Trace& Baseline() {
    static const Trace* const baseline = [this] {
      auto* trace = new Trace(Run({}));
      const std::vector<uint64_t>& hashes = trace->step_hashes;
      fmt::print("baseline logits hash {:016x}\n",
                 XXH3_64bits(hashes.data(), hashes.size() * sizeof(uint64_t)));
      return trace;
    }();
    return *baseline;
  }

  void ExpectSame(const Conditions& conditions, const Trace& expected) {
    const Trace trace = Run(conditions);
    EXPECT_EQ(trace.tokens, expected.tokens) << conditions.Describe();
    EXPECT_EQ(trace.step_hashes, expected.step_hashes) << conditions.Describe();
    EXPECT_EQ(trace.prompt_hashes, expected.prompt_hashes) << conditions.Describe();
  }

 private:
  static EngineOptions OptionsOf(const Conditions& conditions) {
    EngineOptions options = SmallOptions();
    options.policy = conditions.policy;
    options.prefetch = conditions.prefetch;
    options.threads = conditions.threads;
    options.isa = conditions.isa;
    options.chunk = conditions.chunk;
    options.io = conditions.io;
    options.sequences_max = conditions.has_neighbours ? 5 : 1;
    options.logits_rows_max = 128;
    options.device = conditions.device;
    if (conditions.device != "cpu") SetVram(conditions, options);
    const MemoryPlan plan = InspectOrDie(options).plan;
    options.ram = Between(plan.minimum_bytes, plan.full_bytes, conditions.budget);
    return options;
  }

  static Inspection InspectOrDie(const EngineOptions& options) {
    absl::StatusOr<Inspection> inspection = Inspect(options);
    EXPECT_TRUE(inspection.ok()) << inspection.status();
    CHECK(inspection.ok());
    return *std::move(inspection);
  }

  static MemoryBudget Between(uint64_t least, uint64_t most, double share) {
    const double span = static_cast<double>(most - least);
    return {.kind = MemoryBudget::Kind::kBytes,
            .bytes = least + static_cast<uint64_t>(share * span)};
  }

  static void SetVram(const Conditions& conditions, EngineOptions& options) {
    options.modelled = {.memory_bytes = uint64_t{1} << 30, .link_rate = conditions.link_rate};
    const DevicePlan device = InspectOrDie(options).plan.device;
    options.vram = Between(device.minimum_bytes, device.full_bytes, conditions.vram);
    options.place = conditions.place;
    options.vram_policy = conditions.vram_policy;
  }

  // Set, not measured, so that a run can be repeated: a processor as fast as a link of 2 GB/s.
  static LinkRates LinksOf(const Conditions& conditions) {
    return {.host = 2e9,
            .host_row = 8e9,
            .copy_in = conditions.link_rate,
            .copy_out = conditions.link_rate,
            .host_beside_copy = 1.5e9,
            .copy_beside_host = 0.75 * conditions.link_rate,
            .drive = 1e9};
  }

  // Two neighbours are under way when the sequence comes, two come after it.
  void GenerateAmongNeighbours(Engine& engine, const Conditions& conditions,
                               const std::vector<TokenId>& prompt, Trace& trace) {
    const auto add_neighbour = [&](size_t length) {
      std::vector<TokenId> other(prompt.rbegin(), prompt.rbegin() + static_cast<ptrdiff_t>(length));
      CHECK(engine.Add(GreedyRequest(other, std::min(12, conditions.generated))).ok());
    };
    if (conditions.has_neighbours) {
      add_neighbour(prompt.size() / 2);
      CHECK(engine.Step().ok());
      add_neighbour(prompt.size() / 3);
    }
    const absl::StatusOr<SequenceId> id = engine.Add(GreedyRequest(prompt, conditions.generated));
    CHECK(id.ok());
    watched_ = *id;
    if (conditions.has_neighbours) {
      add_neighbour(prompt.size());
      add_neighbour(1);
    }
    trace.tokens = RunToEnd(engine, *id).tokens;
    EXPECT_TRUE(engine.last_error().ok()) << engine.last_error();
    while (!engine.idle()) CHECK(engine.Step().ok());
  }

  static void EvaluatePrompt(Engine& engine, const std::vector<TokenId>& prompt, Trace& trace) {
    const auto vocab = static_cast<size_t>(engine.spec().config.vocab_count);
    const absl::Status status =
        engine.Evaluate(prompt, false, [&](const Engine::EvaluatedRows& rows) {
          for (int row = 0; row < rows.rows; ++row) {
            trace.prompt_hashes.push_back(
                Hash({rows.logits + static_cast<size_t>(row) * vocab, vocab}));
          }
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok()) << status;
  }

  SequenceId watched_ = 0;
  std::vector<std::unique_ptr<BlockReader>> readers_;  // behind fault readers
};

std::vector<std::string> FastBackends() {
  std::vector<std::string> names;
  for (const BackendRow& row : Backends()) {
    if (row.name != "reference" && row.runs_here()) names.emplace_back(row.name);
  }
  return names;
}

TEST_F(Exactness, MemoryBudgetDoesNotShow) {
  for (const double budget : {0.0, 0.1, 0.35, 0.7}) ExpectSame({.budget = budget}, Baseline());
}

TEST_F(Exactness, PolicyDoesNotShow) {
  for (const char* policy : {"lru", "lfu"}) {
    ExpectSame({.budget = 0.2, .policy = policy}, Baseline());
  }
}

TEST_F(Exactness, PrefetchDoesNotShow) {
  for (const std::string& prefetch : PredictorChoices()) {
    ExpectSame({.budget = 0.2, .prefetch = prefetch}, Baseline());
  }
  ExpectSame({.budget = 0, .prefetch = "lookahead", .chunk = 7}, Baseline());
  ExpectSame({.budget = 0.3, .prefetch = "lookahead", .threads = 2, .has_neighbours = true},
             Baseline());
  ExpectSame({.budget = 0.3, .prefetch = "co-occurrence", .has_faults = true}, Baseline());
}

TEST_F(Exactness, ThreadCountDoesNotShow) {
  for (const int threads : {2, 3}) ExpectSame({.threads = threads}, Baseline());
}

TEST_F(Exactness, InstructionSetDoesNotShow) {
  for (const std::string& isa : FastBackends()) ExpectSame({.isa = isa}, Baseline());
}

TEST_F(Exactness, ReferenceKernelsGiveTheSameBits) {
  const Trace fast = Run({.prompt_max = kShortPrompt});
  ExpectSame({.isa = "reference", .prompt_max = kShortPrompt}, fast);
}

TEST_F(Exactness, PromptChunkingDoesNotShow) {
  for (const int chunk : {1, 7, 64}) ExpectSame({.chunk = chunk}, Baseline());
}

// The fewest slots and large chunks: the chunk's experts are worked off in passes.
TEST_F(Exactness, PassesOverAChunkDoNotShow) {
  for (const int chunk : {7, 0}) ExpectSame({.budget = 0, .chunk = chunk}, Baseline());
}

TEST_F(Exactness, NeighboursInTheBatchDoNotShow) {
  for (const double budget : {0.0, 1.0}) {
    ExpectSame({.budget = budget, .chunk = 7, .has_neighbours = true}, Baseline());
  }
}

TEST_F(Exactness, RecoveredFaultsDoNotShow) {
  for (const double budget : {0.0, 0.5}) {
    ExpectSame({.budget = budget, .has_faults = true}, Baseline());
  }
}

TEST_F(Exactness, ReaderDoesNotShow) {
  for (const char* io : {"auto", "pread"}) ExpectSame({.budget = 0.1, .io = io}, Baseline());
}

// Without room for an expert in VRAM it is refused.
bool NeedsVram(PlaceRule place) { return place == PlaceRule::kGpu || place == PlaceRule::kCopy; }

// With a device, over what it holds and who computes the rest.
class DeviceExactness : public Exactness {
 protected:
  void ExpectSameAsProcessor(Conditions conditions) {
    conditions.device = "modelled";
    conditions.prompt_max = kTwinPrompt;
    conditions.generated = kTwinGenerated;
    ExpectSame(conditions, ProcessorAlone());
  }

 private:
  const Trace& ProcessorAlone() {
    static const Trace* const trace =
        new Trace(Run({.prompt_max = kTwinPrompt, .generated = kTwinGenerated}));
    return *trace;
  }
};

TEST_F(DeviceExactness, VramBudgetDoesNotShow) {
  for (const double vram : {0.1, 0.5}) ExpectSameAsProcessor({.budget = 0, .vram = vram});
  for (const double vram : {0.0, 0.3}) ExpectSameAsProcessor({.budget = 1, .vram = vram});
}

TEST_F(DeviceExactness, VramPlaceAndRateOfTheLinkTogetherDoNotShow) {
  for (const double vram : {0.0, 0.3, 1.0}) {
    for (const PlaceRule place :
         {PlaceRule::kAuto, PlaceRule::kGpu, PlaceRule::kCpu, PlaceRule::kCopy}) {
      if (vram == 0 && NeedsVram(place)) continue;
      for (const double link_rate : {5e7, 2e10}) {
        ExpectSameAsProcessor(
            {.budget = 0.3, .vram = vram, .place = place, .link_rate = link_rate});
      }
    }
  }
}

// More rows than one pass over an expert's weights serves.
TEST_F(DeviceExactness, LongerPromptsDoNotShow) {
  const Trace expected = Run({.prompt_max = kShortPrompt, .generated = 2});
  for (const double vram : {0.2, 1.0}) {
    ExpectSame({.budget = 0.2,
                .prompt_max = kShortPrompt,
                .generated = 2,
                .device = "modelled",
                .vram = vram},
               expected);
  }
}

TEST_F(DeviceExactness, ChunksPoliciesThreadsAndNeighboursDoNotShow) {
  for (const int chunk : {1, 3}) ExpectSameAsProcessor({.budget = 0, .chunk = chunk, .vram = 0.2});
  for (const char* policy : {"lru", "lfu"}) {
    ExpectSameAsProcessor({.budget = 0.2, .policy = policy, .threads = 2, .vram = 0.2});
  }
  ExpectSameAsProcessor({.budget = 0.2, .has_neighbours = true, .vram = 0.4});
  ExpectSameAsProcessor({.budget = 0.2, .has_faults = true, .vram = 0.4});
}

TEST_F(DeviceExactness, PrefetchDoesNotShow) {
  for (const std::string& prefetch : PredictorChoices()) {
    ExpectSameAsProcessor({.budget = 0.3, .prefetch = prefetch, .vram = 0.2});
  }
  for (const double vram : {0.0, 1.0}) {
    ExpectSameAsProcessor({.budget = 0.2, .prefetch = "lookahead", .vram = vram});
  }
}

// Draws conditions. Another seed by STOKER_EXACTNESS_SEED, more draws by STOKER_EXACTNESS_COUNT.
class Draws {
 public:
  explicit Draws(int count) : count_(count) {
    const char* const seed_text = std::getenv("STOKER_EXACTNESS_SEED");
    const char* const count_text = std::getenv("STOKER_EXACTNESS_COUNT");
    const unsigned long seed = seed_text != nullptr ? std::strtoul(seed_text, nullptr, 10) : 1;
    if (count_text != nullptr) count_ = std::atoi(count_text);
    fmt::print("combinations of seed {}\n", seed);
    random_.seed(seed);
  }
  int count() const { return count_; }

  Conditions Next() {
    Conditions conditions;
    conditions.budget = Pick(std::vector<double>{0, 0.05, 0.2, 0.5, 0.9, 1});
    conditions.policy = Pick(std::vector<std::string>{"lru", "lfu"});
    conditions.threads = Pick(std::vector<int>{1, 2});
    conditions.isa = Pick(FastBackends());
    conditions.chunk = Pick(std::vector<int>{1, 7, 64, 0});
    conditions.has_neighbours = random_() % 2 == 0;
    conditions.has_faults = random_() % 2 == 0 && conditions.budget < 1;
    conditions.io = Pick(std::vector<std::string>{"auto", "pread"});
    conditions.prefetch = Pick(PredictorChoices());
    return conditions;
  }
  Conditions NextWithDevice() {
    Conditions conditions = Next();
    conditions.vram = Pick(std::vector<double>{0, 0.1, 0.3, 0.7, 1});
    conditions.place = Pick(std::vector<PlaceRule>{PlaceRule::kAuto, PlaceRule::kGpu,
                                                   PlaceRule::kCpu, PlaceRule::kCopy});
    if (conditions.vram == 0 && NeedsVram(conditions.place)) conditions.place = PlaceRule::kAuto;
    conditions.link_rate = Pick(std::vector<double>{5e7, 2e9, 2e10});
    conditions.vram_policy = Pick(std::vector<std::string>{"lru", "lfu"});
    // Whether faults are met depends on what is read, which may be little.
    conditions.has_faults = false;
    return conditions;
  }

 private:
  template <typename Value>
  Value Pick(const std::vector<Value>& values) {
    return values[random_() % values.size()];
  }

  int count_;
  std::mt19937_64 random_;
};

TEST_F(Exactness, CombinationsDrawnBySeedDoNotShow) {
  Draws draws(12);
  for (int i = 0; i < draws.count(); ++i) {
    const Conditions conditions = draws.Next();
    fmt::print("  {}\n", conditions.Describe());
    ExpectSame(conditions, Baseline());
  }
}

TEST_F(DeviceExactness, CombinationsDrawnBySeedDoNotShow) {
  Draws draws(6);
  for (int i = 0; i < draws.count(); ++i) {
    const Conditions conditions = draws.NextWithDevice();
    ExpectSameAsProcessor(conditions);
  }
}

}  // namespace
}  // namespace stoker
