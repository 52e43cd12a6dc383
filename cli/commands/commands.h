// The commands there are: each is one file here and one row in registry.cc.
#pragma once

#include <memory>

#include "cli/command.h"

namespace stoker {

std::unique_ptr<Command> MakeRunCommand();
std::unique_ptr<Command> MakeBatchCommand();
std::unique_ptr<Command> MakeInspectCommand();
std::unique_ptr<Command> MakeBenchCommand();
std::unique_ptr<Command> MakeSimulateCommand();
std::unique_ptr<Command> MakeTuneCommand();
std::unique_ptr<Command> MakeLogitsCommand();
std::unique_ptr<Command> MakePerplexityCommand();
std::unique_ptr<Command> MakeTokenizeCommand();
std::unique_ptr<Command> MakeDetokenizeCommand();
std::unique_ptr<Command> MakeConfigShowCommand();
std::unique_ptr<Command> MakeConfigCheckCommand();
std::unique_ptr<Command> MakeTraceExportCommand();
std::unique_ptr<Command> MakeTraceReportCommand();

}  // namespace stoker
