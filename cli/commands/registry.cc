// The commands in the order in which --help shows them.
#include "cli/commands/commands.h"

namespace stoker {
namespace {

constexpr CommandRow kCommands[] = {
    {"run", "Generate text from a prompt", MakeRunCommand},
    {"batch", "Answer a file of prompts, many at once; goes on where it ended", MakeBatchCommand},
    {"inspect", "Show what a model file holds and the memory it needs", MakeInspectCommand},
    {"bench", "Measure prompt and decode speed beside the machine's limits", MakeBenchCommand},
    {"logits", "Write the logits of a prompt to a safetensors file", MakeLogitsCommand},
    {"perplexity", "Measure how well a model predicts a text", MakePerplexityCommand},
    {"simulate", "Replay a trace under other policies and budgets", MakeSimulateCommand},
    {"tune", "Find the policy and parameters that a trace speaks for", MakeTuneCommand},
    {"tokenize", "Turn text on standard input into token ids", MakeTokenizeCommand},
    {"detokenize", "Turn token ids on standard input into text", MakeDetokenizeCommand},
    {"config show", "Show what a command would be told, and by whom", MakeConfigShowCommand},
    {"config check", "Check a configuration file without running", MakeConfigCheckCommand},
    {"trace export", "Write a recorded run as CSV, JSON or for Perfetto", MakeTraceExportCommand},
    {"trace report", "Draw a recorded run, or two, as one HTML page", MakeTraceReportCommand},
};

}  // namespace

absl::Span<const CommandRow> Commands() { return kCommands; }

}  // namespace stoker
