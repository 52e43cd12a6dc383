// Errors to exit statuses.
#include "cli/exit_status.h"

#include <gtest/gtest.h>

namespace stoker {
namespace {

TEST(ExitStatus, EachKindOfErrorHasItsStatus) {
  EXPECT_EQ(ExitStatusOf(absl::OkStatus()), ExitStatus::kOk);
  EXPECT_EQ(ExitStatusOf(absl::InvalidArgumentError("")), ExitStatus::kUsage);
  EXPECT_EQ(ExitStatusOf(absl::NotFoundError("")), ExitStatus::kModel);
  EXPECT_EQ(ExitStatusOf(absl::DataLossError("")), ExitStatus::kModel);
  EXPECT_EQ(ExitStatusOf(absl::UnimplementedError("")), ExitStatus::kModel);
  EXPECT_EQ(ExitStatusOf(absl::ResourceExhaustedError("")), ExitStatus::kMemory);
  EXPECT_EQ(ExitStatusOf(absl::CancelledError("")), ExitStatus::kInterrupted);
  EXPECT_EQ(ExitStatusOf(absl::UnavailableError("")), ExitStatus::kFailure);
  EXPECT_EQ(ExitStatusOf(absl::InternalError("")), ExitStatus::kFailure);
}

TEST(ExitStatus, AReaderThatLeftIsNoFailure) {
  EXPECT_EQ(ExitStatusOf(absl::AbortedError("")), ExitStatus::kOk);
}

TEST(ExitStatus, WhileOpeningAnInvalidArgumentIsAnInvalidFile) {
  EXPECT_EQ(ExitStatusOf(AsOpeningError(absl::InvalidArgumentError("m"))), ExitStatus::kModel);
  EXPECT_EQ(ExitStatusOf(AsOpeningError(absl::FailedPreconditionError("m"))), ExitStatus::kUsage);
  EXPECT_EQ(ExitStatusOf(AsOpeningError(absl::ResourceExhaustedError("m"))), ExitStatus::kMemory);
  EXPECT_EQ(AsOpeningError(absl::InvalidArgumentError("message")).message(), "message");
}

}  // namespace
}  // namespace stoker
