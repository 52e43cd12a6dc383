// Aligned supersets, and the choice of a reader.
#include "io/block_reader.h"

#include <fmt/format.h>

#include <bit>

#include "base/check.h"
#include "base/status.h"
#include "io/block_reader_choice.h"

namespace stoker {

AlignedRange CoverAligned(uint64_t offset, size_t bytes, size_t alignment) {
  CHECK(std::has_single_bit(alignment));
  const uint64_t mask = alignment - 1;
  const uint64_t begin = offset & ~mask;
  const uint64_t end = (offset + bytes + mask) & ~mask;
  CHECK(end >= offset + bytes && offset + bytes >= offset);
  return {.offset = begin,
          .bytes = static_cast<size_t>(end - begin),
          .skip = static_cast<size_t>(offset - begin)};
}

absl::StatusOr<BlockReaderChoice> ChooseBlockReader(
    std::string_view kind, const BlockReader::Options& options,
    absl::FunctionRef<absl::StatusOr<std::unique_ptr<BlockReader>>()> make_uring) {
  if (kind != "uring" && kind != "pread" && kind != "auto") {
    return absl::InvalidArgumentError(
        fmt::format("'{}' is no way to read; there are uring, pread and auto", kind));
  }
  BlockReaderChoice choice;
  if (kind != "pread") {
    absl::StatusOr<std::unique_ptr<BlockReader>> uring = make_uring();
    if (uring.ok()) {
      choice.reader = *std::move(uring);
      return choice;
    }
    if (kind == "uring") return WithContext(uring.status(), "reading by uring was asked for");
    choice.notice =
        fmt::format("{}; reading by threads and pread instead", MessageOf(uring.status()));
  }
  choice.reader = MakePreadReader(options);
  return choice;
}

absl::StatusOr<BlockReaderChoice> MakeBlockReader(std::string_view kind,
                                                  const BlockReader::Options& options) {
  return ChooseBlockReader(kind, options, [&options] { return MakeUringReader(options); });
}

}  // namespace stoker
