// Reads our own trace files back: block by block, believing what the hashes vouch for.
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>

#include "base/status.h"
#include "base/units.h"
#include "io/file.h"
#include "runtime/trace/trace_builder.h"
#include "runtime/trace/trace_file.h"
#include "runtime/trace/trace_formats.h"
#include "runtime/trace/trace_header.h"

namespace stoker {
namespace {

// Walks the blocks of a file.
class TraceFile {
 public:
  TraceFile(const std::string& path, FileDescriptor file, uint64_t bytes)
      : path_(path), file_(std::move(file)), bytes_(bytes) {}

  absl::StatusOr<Trace> Read() {
    RETURN_IF_ERROR(CheckMagic());
    RETURN_IF_ERROR(NextBlock());
    if (!has_block_) return Unfinished(Trace());
    if (kind_ != TraceBlock::kHeader) return Damaged("its first block is no header");
    absl::StatusOr<ParsedTraceHeader> header =
        ParseHeader({reinterpret_cast<const char*>(payload_.data()), payload_.size()});
    if (!header.ok()) {
      return Damaged(fmt::format("its header cannot be used: {}", MessageOf(header.status())));
    }
    TraceBuilder builder(*std::move(header));
    bool is_ended = false;
    for (;;) {
      RETURN_IF_ERROR(NextBlock());
      if (is_ended && block_offset_ < bytes_) return Damaged("there is more after its end");
      if (!has_block_) break;
      is_ended = kind_ == TraceBlock::kEnd;
      if (kind_ == TraceBlock::kSteps && !builder.Add(payload_.data(), payload_.size())) {
        return Damaged("a record in it makes no sense, though the block is whole");
      }
    }
    Trace trace = builder.Finish();
    return is_ended ? std::move(trace) : Unfinished(std::move(trace));
  }

 private:
  absl::Status CheckMagic() {
    char magic[kTraceMagic.size()] = {};
    ASSIGN_OR_RETURN(const size_t bytes, ReadAt(file_, 0, magic, sizeof(magic), path_));
    offset_ = bytes;
    const std::string_view seen(magic, bytes);
    if (seen == kTraceMagic.substr(0, bytes)) return absl::OkStatus();
    return absl::InvalidArgumentError(fmt::format(
        "{} is a trace of version '{}', this program reads version '{}': it is older or newer than "
        "the program that wrote it\n  try: stoker trace export of that program",
        path_, seen.back(), kTraceMagic.back()));
  }

  // Reads the next block, or finds that there is no whole one.
  absl::Status NextBlock() {
    has_block_ = false;
    block_offset_ = offset_;
    const uint64_t left = bytes_ - offset_;
    if (left < kTraceBlockHeadBytes) return absl::OkStatus();
    uint8_t head[kTraceBlockHeadBytes];
    ASSIGN_OR_RETURN(const size_t head_bytes, ReadAt(file_, offset_, head, sizeof(head), path_));
    if (head_bytes < sizeof(head)) return absl::OkStatus();
    const auto payload_bytes = static_cast<size_t>(LittleEndian(head, 4));
    kind_ = static_cast<TraceBlock>(head[4]);
    // The file was made longer, but the bytes were not there yet when the machine went down.
    const bool is_hole = std::all_of(head, head + sizeof(head), [](uint8_t b) { return b == 0; });
    if (is_hole) return absl::OkStatus();
    if (payload_bytes > kTraceBlockBytesMax || LittleEndian(head + 5, 3) != 0) {
      return Damaged("it is no block");
    }
    if (payload_bytes > left - kTraceBlockHeadBytes) return absl::OkStatus();
    payload_.resize(payload_bytes);
    ASSIGN_OR_RETURN(const size_t read_bytes, ReadAt(file_, offset_ + kTraceBlockHeadBytes,
                                                     payload_.data(), payload_bytes, path_));
    if (read_bytes < payload_bytes) return absl::OkStatus();
    const uint64_t hash = XXH3_64bits_withSeed(payload_.data(), payload_bytes,
                                               TraceBlockSeed(number_, kind_, payload_bytes));
    const uint64_t next = offset_ + kTraceBlockHeadBytes + payload_bytes;
    if (hash != LittleEndian(head + 8, 8)) {
      // The last one may have been on its way to the drive when the machine went down.
      return next == bytes_ ? absl::OkStatus() : Damaged("its hash is another");
    }
    offset_ = next;
    ++number_;
    has_block_ = true;
    return absl::OkStatus();
  }

  absl::Status Damaged(std::string_view what) const {
    return absl::DataLossError(fmt::format(
        "{}, block {} at byte {}: {}: the file was damaged after it was written, or edited\n  "
        "try: recording it again",
        path_, number_, block_offset_, what));
  }

  // A file without an end block: what is whole of it, and why there is no more.
  Trace Unfinished(Trace trace) const {
    const std::string rest = offset_ < bytes_
                                 ? fmt::format("; {} after byte {} are no whole block and left out",
                                               FormatBytes(bytes_ - offset_), offset_)
                                 : std::string();
    trace.notice = fmt::format(
        "{} was not ended by the run that wrote it (it was killed, ran out of disk, or is still "
        "running): it is read up to its last whole step, {} steps{}",
        path_, trace.steps.size(), rest);
    return trace;
  }

  const std::string& path_;
  const FileDescriptor file_;
  const uint64_t bytes_;
  uint64_t offset_ = 0;        // of the next block
  uint64_t block_offset_ = 0;  // of the one looked at last
  uint64_t number_ = 0;        // of the next block
  bool has_block_ = false;
  TraceBlock kind_ = TraceBlock::kHeader;
  std::vector<uint8_t> payload_;
};

}  // namespace

bool RecognizesOwn(const TraceSource& source) {
  if (source.is_folder || source.head.empty()) return false;
  // Of any version, or cut off within its first bytes.
  const size_t compared = std::min(source.head.size(), kTraceMagic.size() - 1);
  return source.head.substr(0, compared) == kTraceMagic.substr(0, compared);
}

absl::StatusOr<Trace> ReadOwn(const std::string& path, const ReadTraceOptions&) {
  ASSIGN_OR_RETURN(FileDescriptor file, OpenForReading(path));
  ASSIGN_OR_RETURN(const FileIdentity identity, IdentityOf(file, path));
  return TraceFile(path, std::move(file), identity.bytes).Read();
}

}  // namespace stoker
