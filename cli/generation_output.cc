// How generated tokens leave the program: as text while they come, or as JSON records.
#include "cli/generation_output.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "cli/summary.h"

namespace stoker {
namespace {

class TextOutput final : public GenerationOutput {
 public:
  TextOutput(Console& console, size_t prompt_count) : console_(console), parts_(prompt_count) {}

  absl::Status Put(const Token& token) override {
    Part& part = parts_[token.prompt];
    part.waiting += token.event.text;
    part.finished |= token.event.finish != FinishReason::kNone;
    return Flush();
  }

  absl::Status Finish(const RunSummary& summary, const Engine& engine) override {
    if (console_.stdout_is_terminal() && !ends_with_newline_) {
      RETURN_IF_ERROR(console_.Print("\n"));
    }
    console_.Note(FormatSummary(summary) + FormatDrafts(engine.draft_totals()));
    return absl::OkStatus();
  }

 private:
  struct Part {
    std::string waiting;  // text not yet printed
    bool begun = false;
    bool finished = false;
  };

  absl::Status Flush() {
    for (; current_ < parts_.size(); ++current_) {
      Part& part = parts_[current_];
      RETURN_IF_ERROR(Begin(part));
      RETURN_IF_ERROR(PrintText(part.waiting));
      part.waiting.clear();
      if (!part.finished) break;
    }
    return absl::OkStatus();
  }

  absl::Status Begin(Part& part) {
    if (part.begun || parts_.size() == 1) return absl::OkStatus();
    part.begun = true;
    return PrintText(
        fmt::format("{}=== prompt {} ===\n", ends_with_newline_ ? "" : "\n", current_ + 1));
  }

  absl::Status PrintText(std::string_view text) {
    if (text.empty()) return absl::OkStatus();
    ends_with_newline_ = text.back() == '\n';
    return console_.Print(text);
  }

  Console& console_;
  std::vector<Part> parts_;
  size_t current_ = 0;
  bool ends_with_newline_ = true;
};

class JsonOutput final : public GenerationOutput {
 public:
  JsonOutput(Console& console, size_t prompt_count)
      : console_(console), counts_(prompt_count), finishes_(prompt_count) {}

  absl::Status Put(const Token& token) override {
    const TokenEvent& event = token.event;
    if (event.finish != FinishReason::kNone) finishes_[token.prompt] = NameOf(event.finish);
    if (event.token < 0 && event.text.empty()) return absl::OkStatus();
    nlohmann::ordered_json record = {{"type", "token"},
                                     {"prompt", token.prompt},
                                     {"index", counts_[token.prompt]++},
                                     {"id", event.token},
                                     {"text", event.text},
                                     {"time_ns", token.elapsed_ns},
                                     {"step", token.step.step},
                                     {"step_ns", token.step.wall_ns},
                                     {"causes", CausesJson(token.step.causes)},
                                     {"hits", token.step.hits},
                                     {"misses", token.step.misses},
                                     {"vram_hits", token.step.vram_hits},
                                     {"read_bytes", token.step.read_bytes},
                                     {"copied_in_bytes", token.step.copied_in_bytes},
                                     {"copied_out_bytes", token.step.copied_out_bytes}};
    if (event.finish != FinishReason::kNone) record["finish"] = NameOf(event.finish);
    return console_.Print(JsonLine(record));
  }

  absl::Status Finish(const RunSummary& summary, const Engine& engine) override {
    nlohmann::ordered_json record = SummaryJson(summary);
    record["device"] = DeviceJson(engine);
    record["drafts"] = DraftsJson(engine.draft_totals());
    record["finishes"] = finishes_;
    return console_.Print(JsonLine(record));
  }

 private:
  Console& console_;
  std::vector<int64_t> counts_;        // records so far, by prompt
  std::vector<std::string> finishes_;  // why each prompt's text ended
};

}  // namespace

std::unique_ptr<GenerationOutput> MakeTextOutput(Console& console, size_t prompt_count) {
  return std::make_unique<TextOutput>(console, prompt_count);
}

std::unique_ptr<GenerationOutput> MakeJsonOutput(Console& console, size_t prompt_count) {
  return std::make_unique<JsonOutput>(console, prompt_count);
}

}  // namespace stoker
