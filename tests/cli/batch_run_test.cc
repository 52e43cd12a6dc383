// A batch on the shipped model: what it answers, whatever ends it on the way.
#include "cli/batch/batch_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "base/status.h"
#include "tests/runtime/shipped_model.h"
#include "tests/testing/fault_reader.h"
#include "tests/testing/memory_folder.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr int kSequences = 3;
constexpr int64_t kTooLong = 5;  // the index of the prompt that is longer than the context

EngineOptions Options() {
  EngineOptions options = SmallOptions();
  options.ram = {.kind = MemoryBudget::Kind::kBytes, .bytes = uint64_t{64} << 20};
  options.context = 64;
  options.chunk = 16;
  options.sequences_max = kSequences;
  return options;
}

std::string Prompts() {
  std::string text;
  for (const char* prompt :
       {"Once", "She said", "It was a cold evening", "The ship", "\\\"Come in,\\\" it said."}) {
    text +=
        fmt::format("{{\"prompt\": \"{}\", \"tokens_max\": {}}}\n", prompt, 2 + text.size() % 5);
  }
  std::string words;
  for (int i = 0; i < 100; ++i) words += "word ";
  text += fmt::format("{{\"prompt\": \"{}\"}}\n", words);
  return text + "{\"prompt\": \"The end\", \"temperature\": 0}\n{\"prompt\": \"A\", \"seed\": 3}\n";
}

// Ends a run after so many steps, or after so many bytes of output.
struct End {
  int64_t steps = 1'000'000;
  size_t bytes = 1'000'000;
};

class BatchRunTest : public ::testing::Test {
 protected:
  BatchRunTest() {
    std::ofstream(folder_.File("in.jsonl")) << Prompts();
    absl::StatusOr<BatchInput> input =
        BatchInput::Open(folder_.File("in.jsonl"), {.tokens_max = 4});
    EXPECT_TRUE(input.ok()) << input.status();
    input_ = std::make_unique<BatchInput>(*std::move(input));
  }

  absl::Status Run(Engine& engine, int sequences_max, End end = {}) {
    const auto write = [&end](int file, const char* bytes, size_t count) {
      const size_t written = std::min(count, end.bytes);
      end.bytes -= written;
      if (written > 0) return ::write(file, bytes, written);
      errno = EIO;
      return ssize_t{-1};
    };
    ASSIGN_OR_RETURN(BatchOutput output,
                     BatchOutput::Open(folder_.File("out.jsonl"), *input_, {}, {.write = write}));
    const VirtualClock clock;
    BatchRun run({.engine = engine,
                  .input = *input_,
                  .output = output,
                  .clock = clock,
                  .sequences_max = sequences_max,
                  .is_interrupted = [&end] { return end.steps-- == 0; },
                  .show =
                      [this](const BatchProgress& progress) {
                        progress_ = progress;
                        if (after_step_) after_step_();
                      }});
    const absl::Status status = run.Run();
    EXPECT_TRUE(engine.idle());
    return status;
  }

  std::vector<std::string> SortedLines() const {
    std::vector<std::string> lines;
    std::ifstream stream(folder_.File("out.jsonl"));
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    std::sort(lines.begin(), lines.end());
    return lines;
  }
  size_t OutputBytes() const {
    return static_cast<size_t>(std::filesystem::file_size(folder_.File("out.jsonl")));
  }
  void Forget() { std::filesystem::remove(folder_.File("out.jsonl")); }

  const TemporaryDirectory folder_{MemoryFolder()};
  std::unique_ptr<BatchInput> input_;
  BatchProgress progress_;  // after the latest step
  std::function<void()> after_step_;
};

TEST_F(BatchRunTest, EveryPromptGivesWhatItGivesAlone) {
  const std::unique_ptr<Engine> engine = OpenOrDie(Options());
  ASSERT_TRUE(Run(*engine, kSequences).ok());
  const std::vector<std::string> lines = SortedLines();
  ASSERT_THAT(lines, SizeIs(8));
  EXPECT_EQ(progress_.done_count, 8);
  EXPECT_EQ(progress_.failed_count, 1);
  EXPECT_EQ(progress_.prompt_count, 8);
  for (int64_t index = 0; index < 8; ++index) {
    const BatchRequest request = *input_->Read(index);
    const std::string& line = lines[static_cast<size_t>(index)];
    if (index == kTooLong) {
      EXPECT_THAT(line, AllOf(HasSubstr("\"error\":\"the prompt of "), HasSubstr("context of 64")));
      continue;
    }
    const SequenceOutcome alone =
        Generate(*engine, {.prompt = engine->tokenizer().Encode(request.prompt, {}),
                           .sampling = request.sampling,
                           .tokens_max = request.tokens_max});
    EXPECT_THAT(line, HasSubstr(fmt::format("\"generated_tokens\":{},\"seed\":{},",
                                            alone.tokens.size(), request.sampling.seed)));
    EXPECT_THAT(line, HasSubstr(fmt::format("\"line\":{},\"text\":\"", index + 1)));
    // The text without what JSON writes otherwise.
    std::string plain = line;
    std::erase(plain, '\\');
    std::string expected = alone.text;
    std::replace(expected.begin(), expected.end(), '\n', 'n');
    EXPECT_THAT(plain, HasSubstr("\"text\":\"" + expected + "\""));
  }
}

TEST_F(BatchRunTest, NeighboursDoNotShow) {
  const std::unique_ptr<Engine> engine = OpenOrDie(Options());
  ASSERT_TRUE(Run(*engine, kSequences).ok());
  const std::vector<std::string> together = SortedLines();
  Forget();
  ASSERT_TRUE(Run(*engine, 1).ok());
  EXPECT_THAT(SortedLines(), ElementsAreArray(together));
}

TEST_F(BatchRunTest, AKillAtAnyPlaceOfTheOutputLosesAndDoublesNoLine) {
  const std::unique_ptr<Engine> engine = OpenOrDie(Options());
  ASSERT_TRUE(Run(*engine, kSequences).ok());
  const std::vector<std::string> whole = SortedLines();
  const size_t whole_bytes = OutputBytes();
  for (size_t bytes = 0; bytes < whole_bytes; bytes += 61) {
    Forget();
    EXPECT_EQ(Run(*engine, kSequences, {.bytes = bytes}).code(), absl::StatusCode::kInternal);
    EXPECT_EQ(OutputBytes(), bytes);
    ASSERT_TRUE(Run(*engine, 1 + static_cast<int>(bytes % kSequences)).ok());
    ASSERT_THAT(SortedLines(), ElementsAreArray(whole)) << "killed after " << bytes << " bytes";
  }
}

TEST_F(BatchRunTest, AnInterruptBetweenAnyTwoStepsLosesAndDoublesNoLine) {
  const std::unique_ptr<Engine> engine = OpenOrDie(Options());
  ASSERT_TRUE(Run(*engine, kSequences).ok());
  const std::vector<std::string> whole = SortedLines();
  for (int64_t steps = 0;; ++steps) {
    Forget();
    const absl::Status status = Run(*engine, kSequences, {.steps = steps});
    if (status.ok()) break;
    EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
    ASSERT_LT(SortedLines().size(), whole.size());
    ASSERT_TRUE(Run(*engine, kSequences).ok());
    ASSERT_THAT(SortedLines(), ElementsAreArray(whole)) << "interrupted after " << steps;
  }
}

// A drive of which every read fails while it is broken.
class BreakableDrive {
 public:
  std::unique_ptr<Engine> Open() {
    EngineOptions options = Options();
    options.ram = {.kind = MemoryBudget::Kind::kMinimum};  // so that every step reads
    return OpenOrDie(options, {.wrap_reader = [this](std::unique_ptr<BlockReader> inner) {
                       inner_ = std::move(inner);
                       auto faulty = std::make_unique<FaultReader>(*inner_, FaultReader::Faults{});
                       reader_ = faulty.get();
                       return faulty;
                     }});
  }
  void Break() { reader_->FailRange(0, 0, uint64_t{1} << 40, EIO); }
  void Mend() { reader_->Mend(); }

 private:
  std::unique_ptr<BlockReader> inner_;
  FaultReader* reader_ = nullptr;
};

TEST_F(BatchRunTest, PromptsOfAFailedStepAreLeftForTheNextRun) {
  BreakableDrive drive;
  const std::unique_ptr<Engine> engine = drive.Open();
  ASSERT_TRUE(Run(*engine, kSequences).ok());
  const std::vector<std::string> whole = SortedLines();
  Forget();
  drive.Break();
  after_step_ = [&drive] { drive.Mend(); };
  const absl::Status status = Run(*engine, kSequences);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(MessageOf(status)),
              AllOf(HasSubstr("3 prompts ended with such a step and have no answer"),
                    HasSubstr("try: the same command again")));
  EXPECT_THAT(SortedLines(), SizeIs(whole.size() - kSequences));
  ASSERT_TRUE(Run(*engine, kSequences).ok());
  EXPECT_THAT(SortedLines(), ElementsAreArray(whole));
}

TEST_F(BatchRunTest, DriveThatIsGoneEndsTheRunAndNotThePrompts) {
  BreakableDrive drive;
  const std::unique_ptr<Engine> engine = drive.Open();
  drive.Break();
  const absl::Status status = Run(*engine, 1);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(MessageOf(status)),
              AllOf(HasSubstr("3 steps in a row failed"), HasSubstr("try: ")));
  EXPECT_THAT(SortedLines(), SizeIs(0));
  ASSERT_TRUE(Run(*OpenOrDie(Options()), kSequences).ok());
  EXPECT_THAT(SortedLines(), SizeIs(8));
}

}  // namespace
}  // namespace stoker
