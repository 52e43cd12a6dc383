// The one place that turns an error into what the shell sees.
#include "cli/exit_status.h"

namespace stoker {

ExitStatus ExitStatusOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kAborted:
      return ExitStatus::kOk;
    case absl::StatusCode::kInvalidArgument:
      return ExitStatus::kUsage;
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kUnimplemented:
      return ExitStatus::kModel;
    case absl::StatusCode::kResourceExhausted:
      return ExitStatus::kMemory;
    case absl::StatusCode::kCancelled:
      return ExitStatus::kInterrupted;
    default:
      return ExitStatus::kFailure;
  }
}

std::string ExitStatusHelp() {
  return "Exit status:\n"
         "  0    done\n"
         "  1    something failed while running (a disk, an output file)\n"
         "  2    a flag, value, prompt or token id that cannot be used\n"
         "  3    the model file or trace is missing, damaged or not supported\n"
         "  4    the memory budget or the context does not fit\n"
         "  130  interrupted by Ctrl-C\n";
}

absl::Status AsOpeningError(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return absl::DataLossError(status.message());
    case absl::StatusCode::kFailedPrecondition:
      return absl::InvalidArgumentError(status.message());
    default:
      return status;
  }
}

}  // namespace stoker
