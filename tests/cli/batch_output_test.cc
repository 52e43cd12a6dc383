// The file of prompts, the file of answers, and a kill at every byte of the latter.
#include "cli/batch/batch_output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/status.h"
#include "cli/batch/batch_input.h"
#include "tests/testing/memory_folder.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

constexpr char kPrompts[] =
    "{\"prompt\": \"Once\"}\n"
    "\n"
    "{\"prompt\": \"She said\", \"id\": \"b\"}\r\n"
    "{\"prompt\": \"The ship\", \"seed\": 5}\n"
    "{\"prompt\": \"too long\"}\n"
    "{\"prompt\": \"The end\"}";

class BatchFilesTest : public ::testing::Test {
 protected:
  std::string File(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_.File(name), std::ios::binary) << bytes;
    return folder_.File(name);
  }
  static std::string Bytes(const std::string& path) {
    std::ostringstream bytes;
    bytes << std::ifstream(path, std::ios::binary).rdbuf();
    return bytes.str();
  }
  BatchInput Input(const std::string& text = kPrompts) {
    absl::StatusOr<BatchInput> input = BatchInput::Open(File("in.jsonl", text), {});
    EXPECT_TRUE(input.ok()) << input.status();
    return *std::move(input);
  }
  std::string InputError(const std::string& text) {
    const absl::Status status = BatchInput::Open(File("in.jsonl", text), {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(MessageOf(status));
  }
  static BatchRecord Record() { return MakeBatchRecord("m.gguf", "0123", 256, "f16", {}); }

  absl::StatusOr<BatchOutput> Open(const BatchInput& input, BatchOutput::Options options = {}) {
    return BatchOutput::Open(path_, input, Record(), std::move(options));
  }
  std::string OpenError(const BatchInput& input, const BatchRecord& record = Record()) {
    const std::string before = Bytes(path_);
    const absl::Status status = BatchOutput::Open(path_, input, record, {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(Bytes(path_), before) << "a refused file must stay as it is";
    EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("try: "));
    return std::string(MessageOf(status));
  }

  // As a run that answers what has no answer; the prompt "too long" cannot be run.
  static absl::Status AnswerAll(const BatchInput& input, BatchOutput& output) {
    for (int64_t i = output.prompt_count() - 1; i >= 0; --i) {
      if (output.IsDone(i)) continue;
      const absl::StatusOr<BatchRequest> request = input.Read(i);
      if (!request.ok()) return request.status();
      const absl::Status status = request->prompt == "too long"
                                      ? output.PutError(i, *request, "the prompt is too long")
                                      : output.PutAnswer(i, *request,
                                                         {.text = request->prompt + " \"and\n\xff",
                                                          .finish = FinishReason::kLength,
                                                          .prompt_tokens = 2,
                                                          .generated_tokens = 3});
      RETURN_IF_ERROR(status);
    }
    return output.Sync();
  }
  // The same in a run of its own, which may write so many bytes.
  absl::Status RunUntil(const BatchInput& input, size_t bytes_left) {
    const auto write = [&bytes_left](int file, const char* bytes, size_t count) {
      const size_t written = std::min(count, bytes_left);
      bytes_left -= written;
      if (written > 0) return ::write(file, bytes, written);
      errno = EIO;
      return ssize_t{-1};
    };
    ASSIGN_OR_RETURN(BatchOutput output, Open(input, {.write = write}));
    return AnswerAll(input, output);
  }
  std::vector<std::string> SortedLines() const {
    std::vector<std::string> lines;
    std::istringstream stream(Bytes(path_));
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    std::sort(lines.begin(), lines.end());
    return lines;
  }
  // All answered.
  void Finish(const BatchInput& input) {
    absl::StatusOr<BatchOutput> output = Open(input);
    ASSERT_TRUE(output.ok()) << output.status();
    ASSERT_TRUE(AnswerAll(input, *output).ok());
  }

  const TemporaryDirectory folder_{MemoryFolder()};
  const std::string path_ = folder_.File("out.jsonl");
};

TEST_F(BatchFilesTest, InputIsReadByLineAndAgainByIndex) {
  const BatchInput input = Input();
  ASSERT_EQ(input.lines().size(), 5u);
  EXPECT_EQ(input.lines()[1].number, 3);
  EXPECT_EQ(input.IndexOf(6), 4);
  EXPECT_EQ(input.IndexOf(2), -1);
  EXPECT_EQ(input.IndexOf(7), -1);
  EXPECT_EQ(input.Read(4)->prompt, "The end");
  EXPECT_EQ(input.Read(1)->id_json, "\"b\"");
  EXPECT_EQ(input.Read(0)->sampling.seed, SeedOfLine(0, 1));
  // A line ending is no part of a line.
  EXPECT_EQ(input.lines()[1].hash, HashOfLine("{\"prompt\": \"She said\", \"id\": \"b\"}"));
}

TEST_F(BatchFilesTest, InputErrorNamesFileAndLine) {
  EXPECT_THAT(InputError("{\"prompt\": \"x\"}\n\n{\"prompt\": \"x\", \"tmp\": 1}\n"),
              AllOf(HasSubstr("in.jsonl:3: unknown field 'tmp'"), HasSubstr("try: temp")));
  EXPECT_THAT(InputError("\n  \n"), HasSubstr("holds no prompt\n  try: "));
  for (const std::string& path : {folder_.path(), std::string("/dev/stdin")}) {
    const absl::Status status = BatchInput::Open(path, {}).status();
    if (status.ok()) continue;  // standard input may be a file
    EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("try: "));
  }
  const absl::Status missing = BatchInput::Open(folder_.File("nowhere"), {}).status();
  EXPECT_THAT(std::string(MessageOf(missing)), AllOf(HasSubstr("nowhere"), HasSubstr("try: ")));
}

TEST_F(BatchFilesTest, InputThatChangesMeanwhileIsSaid) {
  const BatchInput input = Input();
  File("in.jsonl", "{\"prompt\": \"Twice\"}\n");
  for (const int64_t index : {0, 4}) {
    const absl::Status status = input.Read(index).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("has changed while the batch ran"));
  }
}

TEST_F(BatchFilesTest, AnswersSayWhatTheyAnswer) {
  const BatchInput input = Input();
  Finish(input);
  const std::vector<std::string> lines = SortedLines();
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_THAT(
      Bytes(path_),
      AllOf(HasSubstr(R"({"id":"b","line":3,"text":"She said \"and\n)"),
            HasSubstr(R"("finish":"length","prompt_tokens":2,"generated_tokens":3,"seed":5,)"),
            HasSubstr(R"({"id":5,"line":5,"error":"the prompt is too long","request":")")));
}

TEST_F(BatchFilesTest, AKillAtEveryByteLosesAndDoublesNoLine) {
  const BatchInput input = Input();
  Finish(input);
  const std::vector<std::string> whole = SortedLines();
  const size_t whole_bytes = Bytes(path_).size();
  for (size_t bytes = 0; bytes <= whole_bytes; ++bytes) {
    std::filesystem::remove(path_);
    const absl::Status killed = RunUntil(input, bytes);
    EXPECT_EQ(killed.ok(), bytes == whole_bytes) << bytes << ": " << killed;
    ASSERT_EQ(Bytes(path_).size(), bytes);
    // The run after it is killed too, some bytes on; the third may end.
    const absl::Status again = RunUntil(input, 97);
    ASSERT_TRUE(again.ok() || again.code() == absl::StatusCode::kInternal) << bytes << again;
    Finish(input);
    ASSERT_THAT(SortedLines(), ElementsAreArray(whole)) << "killed after " << bytes << " bytes";
  }
}

TEST_F(BatchFilesTest, FinishedFileIsKeptAsItIs) {
  const BatchInput input = Input();
  Finish(input);
  const std::string before = Bytes(path_);
  const absl::StatusOr<BatchOutput> output = Open(input);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->done_count(), 5);
  EXPECT_EQ(output->failed_count(), 1);
  EXPECT_EQ(output->first_failure(), "line 5: the prompt is too long");
  EXPECT_EQ(Bytes(path_), before);
}

TEST_F(BatchFilesTest, PromptsMayBeAddedAtTheEnd) {
  Finish(Input());
  const BatchInput more = Input(std::string(kPrompts) + "\n{\"prompt\": \"One more\"}\n");
  const absl::StatusOr<BatchOutput> output = Open(more);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->done_count(), 5);
  EXPECT_FALSE(output->IsDone(5));
}

TEST_F(BatchFilesTest, OutputOfAnotherRunIsRefusedAndSaysWhatDiffers) {
  const BatchInput input = Input();
  Finish(input);
  BatchDefaults other;
  other.sampling.temperature = 0.5f;
  other.stops = {"\n"};
  EXPECT_THAT(OpenError(input, MakeBatchRecord("m.gguf", "0123", 512, "f16", other)),
              AllOf(HasSubstr("ctx was 256, is 512; stop was [], is [\"\\n\"]; temp was 0.8, is "
                              "0.5"),
                    HasSubstr("--restart")));
  EXPECT_THAT(OpenError(input, MakeBatchRecord("n.gguf", "4567", 256, "f16", {})),
              HasSubstr("the model was m.gguf (0123), is n.gguf (4567)"));
  // The same model by another name is the same.
  EXPECT_TRUE(
      BatchOutput::Open(path_, input, MakeBatchRecord("moved.gguf", "0123", 256, "f16", {}), {})
          .ok());
  BatchRecord older = Record();
  older.options.front().first = "of-old";
  EXPECT_THAT(OpenError(input, older),
              HasSubstr("of-old was not set, is 256; ctx was 256, is not set"));
}

TEST_F(BatchFilesTest, OutputOfAnotherInputIsRefused) {
  Finish(Input());
  std::string changed = kPrompts;
  changed.replace(changed.find("Once"), 4, "Ones");
  EXPECT_THAT(OpenError(Input(changed)),
              AllOf(HasSubstr("answers line 1 of "), HasSubstr("is another prompt now")));
  EXPECT_THAT(OpenError(Input("{\"prompt\": \"Once\"}\n")), HasSubstr("has no prompt"));
}

TEST_F(BatchFilesTest, EditedOutputIsRefusedByLine) {
  const BatchInput input = Input();
  Finish(input);
  const std::string whole = Bytes(path_);
  const std::string first = whole.substr(0, whole.find('\n') + 1);
  File("out.jsonl", whole + first);
  EXPECT_THAT(OpenError(input), AllOf(HasSubstr("out.jsonl:6"), HasSubstr("a second time")));
  for (const char* line :
       {"hello\n", "\n", "{\"line\": 1}\n", "{\"line\":3,\"request\":\"0\",\"error\":5}\n",
        "{\"line\":1,\"request\":\"0\"}\n"}) {
    File("out.jsonl", first + line);
    EXPECT_THAT(OpenError(input), AllOf(HasSubstr("out.jsonl:2"), HasSubstr("no line of a batch")));
  }
}

TEST_F(BatchFilesTest, FileOfSomethingElseIsLeftAlone) {
  const BatchInput input = Input();
  for (const bool has_record : {false, true}) {
    if (has_record) File("out.jsonl.batch", "{\"stoker_batch\": 99}");
    File("out.jsonl", "no line at all");
    EXPECT_THAT(OpenError(input), HasSubstr("does not say that a batch wrote it"));
    EXPECT_EQ(Open(input, {.restart = true}).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(Bytes(path_), "no line at all");
  }
  for (const bool restart : {false, true}) {
    const absl::Status same =
        BatchOutput::Open(input.path(), input, Record(), {.restart = restart}).status();
    EXPECT_THAT(std::string(MessageOf(same)), HasSubstr("is the input and the output"));
    EXPECT_EQ(Bytes(input.path()), kPrompts);
  }
}

TEST_F(BatchFilesTest, RestartBeginsAnewUnderTheNewOptions) {
  const BatchInput input = Input();
  Finish(input);
  const BatchRecord other = MakeBatchRecord("m.gguf", "0123", 512, "f16", {});
  {
    const auto restarted = BatchOutput::Open(path_, input, other, {.restart = true});
    ASSERT_TRUE(restarted.ok()) << restarted.status();
    EXPECT_EQ(restarted->done_count(), 0);
    EXPECT_EQ(Bytes(path_), "");
  }
  EXPECT_TRUE(BatchOutput::Open(path_, input, other, {}).ok());
}

}  // namespace
}  // namespace stoker
