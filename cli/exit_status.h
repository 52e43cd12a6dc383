// The one place that turns an error into what the shell sees.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace stoker {

enum class ExitStatus : int {
  kOk = 0,
  kFailure = 1,        // something failed while running: a disk, an output file
  kUsage = 2,          // a flag, a value, a prompt or an id that cannot be used
  kModel = 3,          // the model file is missing, damaged or not supported
  kMemory = 4,         // the budget or the context does not fit
  kInterrupted = 130,  // Ctrl-C
};

// kAborted stands for "the reader of our output left", which is no failure: `stoker run | head`.
ExitStatus ExitStatusOf(const absl::Status& status);

// The lines of --help that list them.
std::string ExitStatusHelp();

// An error of opening a model, moved to a code by which ExitStatusOf tells what kind it is: options
// were validated before, so an invalid argument can only be an invalid file, and a failed
// precondition only a flag that this machine cannot honour.
absl::Status AsOpeningError(const absl::Status& status);

}  // namespace stoker
