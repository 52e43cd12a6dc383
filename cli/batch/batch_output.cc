// Answers written, read back, and held against the input.
#include "cli/batch/batch_output.h"

#include <fmt/format.h>

#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "cli/flags.h"
#include "cli/summary.h"
#include "runtime/atomic_file.h"

namespace stoker {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kRemedy =
    "--restart to begin it anew, or another -o to leave it as it is";

std::string FormatHash(uint64_t hash) { return fmt::format("{:016x}", hash); }

// The record beside an output; InvalidArgument when there is none.
absl::StatusOr<BatchRecord> ReadRecord(const std::string& output_path) {
  const std::string path = BatchRecordPath(output_path);
  const absl::StatusOr<std::string> text = ReadTextFile(path);
  absl::StatusOr<BatchRecord> record =
      text.ok() ? DecodeBatchRecord(*text) : absl::StatusOr<BatchRecord>(text.status());
  if (record.ok()) return record;
  return absl::InvalidArgumentError(
      fmt::format("{} is not empty, and {} does not say that a batch wrote it: {}\n"
                  "  likely: the file is something else, or its record was removed\n"
                  "  try: another -o, or remove the file if it is of no use",
                  output_path, path, MessageOf(record.status())));
}

// What a line of an output says of itself.
struct Answered {
  int64_t line = 0;
  std::string request;
  std::string error;  // empty: it has a text
};

absl::StatusOr<Answered> ParseAnswered(std::string_view text) {
  const ordered_json object = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto has = [&object](const char* name, auto is_of_kind) {
    return object.contains(name) && (object[name].*is_of_kind)();
  };
  constexpr auto kIsText = &ordered_json::is_string;
  if (!object.is_object() || !has("line", &ordered_json::is_number_integer) ||
      !has("request", kIsText) || (!has("text", kIsText) && !has("error", kIsText))) {
    return absl::InvalidArgumentError("this is no line of a batch's output");
  }
  Answered answered = {.line = object["line"].get<int64_t>(),
                       .request = object["request"].get<std::string>()};
  if (!has("text", kIsText)) answered.error = object["error"].get<std::string>();
  return answered;
}

ordered_json LineOf(const BatchInput::Line& line, const BatchRequest& request) {
  return {{"id", ordered_json::parse(request.id_json)}, {"line", line.number}};
}

}  // namespace

absl::StatusOr<BatchOutput> BatchOutput::Open(const std::string& path, const BatchInput& input,
                                              const BatchRecord& record, const Options& options) {
  std::error_code error;
  if (std::filesystem::equivalent(path, input.path(), error)) {
    return absl::InvalidArgumentError(
        fmt::format("{} is the input and the output\n  try: another -o", path));
  }
  ASSIGN_OR_RETURN(LineFile file, LineFile::Open(path, options.write));
  BatchOutput output(path, input, std::move(file));
  ASSIGN_OR_RETURN(const uint64_t bytes, output.file_.Bytes());
  if (bytes > 0 && options.restart) {
    RETURN_IF_ERROR(ReadRecord(path).status());
    RETURN_IF_ERROR(output.file_.Clear());
  }
  RETURN_IF_ERROR(bytes > 0 && !options.restart ? output.Resume(record) : output.Begin(record));
  return output;
}

BatchOutput::BatchOutput(std::string path, const BatchInput& input, LineFile file)
    : path_(std::move(path)),
      input_(&input),
      file_(std::move(file)),
      is_done_(input.lines().size()) {}

// Of an empty file: whatever record lies beside it is of no use any more.
absl::Status BatchOutput::Begin(const BatchRecord& record) {
  const std::string path = BatchRecordPath(path_);
  const absl::Status status = ReplaceFile(path, EncodeBatchRecord(record));
  if (status.ok()) return status;
  return absl::InternalError(
      fmt::format("cannot write the record beside the output: {}\n  try: an -o in a folder that "
                  "you may write to, with space left",
                  MessageOf(status)));
}

absl::Status BatchOutput::Resume(const BatchRecord& record) {
  ASSIGN_OR_RETURN(const BatchRecord before, ReadRecord(path_));
  RETURN_IF_ERROR(CheckSameRun(before, record, path_));
  int64_t number = 0;
  RETURN_IF_ERROR(file_.ForEach([&](std::string_view text) { return TakeLine(text, ++number); }));
  return file_.CutTornLine();
}

absl::Status BatchOutput::TakeLine(std::string_view text, int64_t number) {
  const std::string place = fmt::format("{}:{}", path_, number);
  const absl::StatusOr<Answered> answered = ParseAnswered(text);
  if (!answered.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {}\n  likely: the file was edited, or is of another program\n  try: {}",
                    place, MessageOf(answered.status()), kRemedy));
  }
  const int64_t index = input_->IndexOf(answered->line);
  if (index < 0 ||
      FormatHash(input_->lines()[static_cast<size_t>(index)].hash) != answered->request) {
    return absl::InvalidArgumentError(
        fmt::format("{} answers line {} of {}, which {}\n  likely: the input was changed since\n"
                    "  try: the input as it was (lines may be added at its end), {}",
                    place, answered->line, input_->path(),
                    index < 0 ? "has no prompt" : "is another prompt now", kRemedy));
  }
  if (IsDone(index)) {
    return absl::InvalidArgumentError(
        fmt::format("{} answers line {} of {} a second time\n  likely: files were joined by hand\n"
                    "  try: {}",
                    place, answered->line, input_->path(), kRemedy));
  }
  MarkDone(index, answered->error);
  return absl::OkStatus();
}

void BatchOutput::MarkDone(int64_t index, std::string_view error) {
  is_done_[static_cast<size_t>(index)] = true;
  ++done_count_;
  if (error.empty()) return;
  if (failed_count_++ == 0) {
    first_failure_ =
        fmt::format("line {}: {}", input_->lines()[static_cast<size_t>(index)].number, error);
  }
}

absl::Status BatchOutput::PutAnswer(int64_t index, const BatchRequest& request,
                                    const BatchAnswer& answer) {
  CHECK(!IsDone(index));
  const BatchInput::Line& line = input_->lines()[static_cast<size_t>(index)];
  ordered_json object = LineOf(line, request);
  object["text"] = answer.text;
  object["finish"] = NameOf(answer.finish);
  object["prompt_tokens"] = answer.prompt_tokens;
  object["generated_tokens"] = answer.generated_tokens;
  object["seed"] = request.sampling.seed;
  object["request"] = FormatHash(line.hash);
  return Put(index, JsonLine(object), "");
}

absl::Status BatchOutput::PutError(int64_t index, const BatchRequest& request,
                                   std::string_view error) {
  CHECK(!IsDone(index) && !error.empty());
  const BatchInput::Line& line = input_->lines()[static_cast<size_t>(index)];
  ordered_json object = LineOf(line, request);
  object["error"] = error;
  object["request"] = FormatHash(line.hash);
  return Put(index, JsonLine(object), error);
}

absl::Status BatchOutput::Put(int64_t index, std::string_view line, std::string_view error) {
  line.remove_suffix(1);  // the newline, which is the file's to add
  RETURN_IF_ERROR(file_.Append(line));
  MarkDone(index, error);
  return absl::OkStatus();
}

}  // namespace stoker
