// Which block reader is taken when the preferred one is refused, apart from the kernel that
// refuses.
#pragma once

#include <memory>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "io/block_reader.h"

namespace stoker {

// MakeBlockReader with the maker of the io_uring reader passed in.
absl::StatusOr<BlockReaderChoice> ChooseBlockReader(
    std::string_view kind, const BlockReader::Options& options,
    absl::FunctionRef<absl::StatusOr<std::unique_ptr<BlockReader>>()> make_uring);

}  // namespace stoker
