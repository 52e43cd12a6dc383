// Reads experts: submission, resumption, retries, and the checks on what arrived.
#include "cache/expert_loader.h"

#include <fmt/format.h>
#if defined(__x86_64__)
// The same XXH3 by the widest vectors there are: 1.5 to 2 times as fast.
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace stoker {
namespace {

bool IsTransient(int error) { return error == EINTR || error == EAGAIN || error == EIO; }

}  // namespace

ExpertLoader::ExpertLoader(const ExpertLayout& layout, Options options, BlockReader& reader,
                           const Clock& clock)
    : layout_(layout),
      options_(std::move(options)),
      reader_(reader),
      clock_(clock),
      loads_(options_.slot_count),
      queue_(static_cast<size_t>(options_.slot_count) * kExpertPartsMax),
      hashes_(options_.verify_hashes ? layout.key_count() : 0, 0) {}

absl::StatusOr<std::unique_ptr<ExpertLoader>> ExpertLoader::Create(const ExpertLayout& layout,
                                                                   Options options,
                                                                   BlockReader& reader,
                                                                   const Clock& clock) {
  std::unique_ptr<ExpertLoader> loader(new ExpertLoader(layout, std::move(options), reader, clock));
  RETURN_IF_ERROR(loader->IdentifyFiles());
  return loader;
}

absl::Status ExpertLoader::IdentifyFiles() {
  for (const ExpertLayout::Layer& layer : layout_.layers()) {
    for (int p = 0; p < layer.part_count; ++p) {
      for (int file = static_cast<int>(identities_.size()); file <= layer.parts[p].range.file;
           ++file) {
        ASSIGN_OR_RETURN(const FileIdentity identity, reader_.Identify(file));
        identities_.push_back(identity);
      }
      RETURN_IF_ERROR(CheckReach(layer, layer.parts[p]));
    }
  }
  return absl::OkStatus();
}

absl::Status ExpertLoader::CheckReach(const ExpertLayout::Layer& layer,
                                      const ExpertLayout::Part& part) const {
  const uint64_t end = part.range.offset +
                       static_cast<uint64_t>(layer.expert_count - 1) * part.stride_bytes +
                       part.range.bytes;
  const uint64_t file_bytes = identities_[part.range.file].bytes;
  if (end <= file_bytes) return absl::OkStatus();
  return absl::DataLossError(fmt::format(
      "{}: the experts of layer {} reach to byte {}, but the file has {}; it was truncated or not "
      "downloaded whole: fetch it again",
      FileName(part.range.file), layer.layer, end, file_bytes));
}

void ExpertLoader::Start(int32_t slot, ExpertKey key, std::byte* target, ReadPriority priority) {
  Load& load = loads_[slot];
  CHECK(load.reads_left == 0);
  load.key = key;
  load.target = target;
  load.priority = priority;
  load.start_ns = clock_.NowNs();
  load.reads_left = layout_.layer_of(key).part_count;
  load.read_bytes = 0;
  load.status = absl::OkStatus();
  for (int p = 0; p < load.reads_left; ++p) {
    load.reads[p] = {.place = layout_.Read(key, p)};
    queue_.Push(static_cast<uint32_t>(slot * kExpertPartsMax + p));
  }
  if (load_count_++ == 0) busy_since_ns_ = load.start_ns;
}

void ExpertLoader::Promote(int32_t slot) {
  Load& load = loads_[slot];
  CHECK(load.reads_left > 0 && load.priority == ReadPriority::kHint);
  load.priority = ReadPriority::kDemand;
  load.start_ns = clock_.NowNs();
  load.status = absl::OkStatus();
  for (int p = 0; p < layout_.layer_of(load.key).part_count; ++p) {
    const auto tag = static_cast<uint32_t>(slot * kExpertPartsMax + p);
    Read& read = load.reads[p];
    if (!std::exchange(read.is_lost, false)) {
      reader_.Promote(tag);
      continue;
    }
    read.attempts = 0;
    ++load.reads_left;
    queue_.Push(tag);
  }
}

bool ExpertLoader::Cancel(int32_t slot) {
  Load& load = loads_[slot];
  CHECK(load.reads_left > 0 && load.priority == ReadPriority::kHint);
  bool is_cancelled = false;
  for (int p = 0; p < layout_.layer_of(load.key).part_count; ++p) {
    is_cancelled |= reader_.Cancel(static_cast<uint32_t>(slot * kExpertPartsMax + p));
  }
  if (is_cancelled && load.status.ok()) load.status = absl::CancelledError();
  return is_cancelled;
}

void ExpertLoader::Kick() {
  SubmitQueued();
  reader_.Kick();
}

void ExpertLoader::SubmitQueued() {
  while (!queue_.empty() && reader_.in_flight() < kReadsMax) {
    const uint32_t tag = queue_.Pop();
    const Load& load = loads_[tag / kExpertPartsMax];
    const Read& read = load.reads[tag % kExpertPartsMax];
    reader_.Submit({.file = read.place.file,
                    .offset = read.place.read_offset + read.done_bytes,
                    .target = load.target + read.place.position + read.done_bytes,
                    .bytes = read.place.read_bytes - read.done_bytes,
                    .tag = tag},
                   load.priority);
  }
}

void ExpertLoader::Poll(BlockReader::Wait wait, Ended ended) {
  ReadCompletion completions[64];
  SubmitQueued();
  const size_t count = reader_.Reap(absl::MakeSpan(completions), wait);
  for (size_t i = 0; i < count; ++i) Complete(completions[i], ended);
  if (!queue_.empty()) Kick();
}

void ExpertLoader::Complete(const ReadCompletion& completion, Ended ended) {
  Load& load = loads_[completion.tag / kExpertPartsMax];
  Read& read = load.reads[completion.tag % kExpertPartsMax];
  CHECK(load.reads_left > 0);
  if (completion.result > 0) {
    read_bytes_ += static_cast<uint64_t>(completion.result);
    load.read_bytes += static_cast<uint64_t>(completion.result);
  }
  // Given up as a hint, and wanted again before that was noticed.
  const bool is_wanted_again = load.status.ok() && completion.result == -ECANCELED;
  if (is_wanted_again) read.attempts = 0;
  if (is_wanted_again || (load.status.ok() && NeedsMore(load, read, completion.result))) {
    if (!is_wanted_again) ++retries_;
    queue_.Push(static_cast<uint32_t>(completion.tag));
    return;
  }
  read.is_lost = !load.status.ok() && !IsComplete(read, completion.result);
  if (--load.reads_left == 0) End(static_cast<int32_t>(completion.tag / kExpertPartsMax), ended);
}

// Whether the read must be submitted again for what it still lacks. The wanted bytes may all be
// there although the superset is not: it can reach past the end of the file.
bool ExpertLoader::NeedsMore(Load& load, Read& read, int64_t result) {
  if (result > 0) {
    if (IsComplete(read, result)) return false;
    const size_t alignment = reader_.alignment(read.place.file);
    const size_t progress = static_cast<size_t>(result) / alignment * alignment;
    read.done_bytes += progress;
    if (progress > 0) {
      read.attempts = 0;
      return true;
    }
  }
  return MayRetry(load, read, result);
}

bool ExpertLoader::MayRetry(Load& load, Read& read, int64_t result) {
  const bool is_worth_it = result >= 0 || IsTransient(static_cast<int>(-result));
  if (is_worth_it && ++read.attempts < kAttemptsMax) return true;
  load.status = ReadError(load, read, result);
  return false;
}

void ExpertLoader::End(int32_t slot, Ended ended) {
  Load& load = loads_[slot];
  if (load.status.ok()) load.status = Verify(load);
  const int64_t now_ns = clock_.NowNs();
  if (--load_count_ == 0) busy_ns_ += now_ns - busy_since_ns_;
  ended({.slot = slot,
         .key = load.key,
         .status = std::exchange(load.status, absl::OkStatus()),
         .priority = load.priority,
         .read_ns = now_ns - load.start_ns,
         .read_bytes = load.read_bytes});
}

absl::Status ExpertLoader::Verify(const Load& load) {
  const int part_count = layout_.layer_of(load.key).part_count;
  for (int p = 0; p < part_count; ++p) {
    const int file = load.reads[p].place.file;
    const bool is_seen = p > 0 && load.reads[p - 1].place.file == file;
    if (!is_seen) RETURN_IF_ERROR(VerifyIdentity(load, file));
  }
  return options_.verify_hashes ? VerifyHash(load) : absl::OkStatus();
}

absl::Status ExpertLoader::VerifyIdentity(const Load& load, int file) const {
  absl::StatusOr<FileIdentity> identity = reader_.Identify(file);
  if (!identity.ok()) return WithContext(identity.status(), ExpertName(load));
  if (*identity == identities_[file]) return absl::OkStatus();
  return absl::DataLossError(fmt::format(
      "{}: {} changed while it was in use ({} bytes now, {} when opened); leave the model's files "
      "alone while it runs, and start again",
      ExpertName(load), FileName(file), identity->bytes, identities_[file].bytes));
}

absl::Status ExpertLoader::VerifyHash(const Load& load) {
  const int part_count = layout_.layer_of(load.key).part_count;
  uint64_t hash = 0;
  for (int p = 0; p < part_count; ++p) {
    const ExpertLayout::PartRead& place = load.reads[p].place;
    hash = XXH3_64bits_withSeed(load.target + place.position + place.skip, place.bytes, hash);
  }
  hash = std::max<uint64_t>(hash, 1);  // 0 stands for "not read yet"
  uint64_t& known = hashes_[load.key];
  if (known == 0) known = hash;
  if (known == hash) return absl::OkStatus();
  const ExpertLayout::PartRead& place = load.reads[0].place;
  return absl::DataLossError(fmt::format(
      "{}: {} around byte {} gave other data than at its first read, though the file says it did "
      "not change; the drive, its cable or the memory is failing: check the kernel log and the "
      "file's checksum",
      ExpertName(load), FileName(place.file), place.read_offset + place.skip));
}

absl::Status ExpertLoader::ReadError(const Load& load, const Read& read, int64_t result) const {
  const int file = read.place.file;
  const uint64_t offset = read.place.read_offset + read.done_bytes;
  if (result < 0) {
    const int error = static_cast<int>(-result);
    return absl::UnavailableError(fmt::format(
        "{}: reading {} at byte {}: {}{}; the drive or its file system may be failing: check the "
        "kernel log",
        ExpertName(load), FileName(file), offset, std::strerror(error),
        IsTransient(error) ? fmt::format(", {} times in a row", kAttemptsMax) : ""));
  }
  RETURN_IF_ERROR(VerifyIdentity(load, file));
  return absl::DataLossError(fmt::format(
      "{}: {} cannot be read beyond byte {}, {} bytes short", ExpertName(load), FileName(file),
      offset + result,
      read.place.skip + read.place.bytes - read.done_bytes - static_cast<size_t>(result)));
}

std::string ExpertLoader::FileName(int file) const {
  const size_t index = static_cast<size_t>(file);
  return index < options_.file_names.size() ? options_.file_names[index]
                                            : fmt::format("file {}", file);
}

std::string ExpertLoader::ExpertName(const Load& load) const {
  const ExpertId id = layout_.id(load.key);
  return fmt::format("loading layer {} expert {}", id.layer, id.expert);
}

}  // namespace stoker
