// Brings experts from files into slots, and makes sure that what came is what is in the files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "cache/bounded_queue.h"
#include "cache/expert_cache.h"
#include "cache/expert_layout.h"
#include "io/block_reader.h"

namespace stoker {

// One load is one expert: up to four aligned reads, all submitted at once. A short read is resumed
// from the last aligned byte that came; EINTR, EAGAIN and EIO are read again, at most kAttemptsMax
// times in a row without progress; anything else, and a file that ends too early, fails the load.
// Loads do not touch each other: one that fails leaves the rest to end as they may.
//
// A load on a hint is the same with reads that come after all demand, and can be given up or turned
// into demand until it has ended.
//
// When the last read of a load is in, each file it came from is identified again (it must be what
// it was at creation) and the XXH3 of its parts, chained, is compared with that of the first time.
//
// One thread; allocates nothing after Create, except to say what went wrong.
class ExpertLoader {
 public:
  static constexpr int kAttemptsMax = ExpertCache::kReadAttemptsMax;
  // Reads handed to the reader and not yet complete; further ones wait here. Less than any
  // reader's backlog_max, and far more than a drive needs to be busy.
  static constexpr size_t kReadsMax = 1024;

  struct Options {
    bool verify_hashes = true;
    std::vector<std::string> file_names;  // by file number; for messages
    int32_t slot_count = 0;
  };
  struct Outcome {
    int32_t slot = -1;
    ExpertKey key = -1;
    absl::Status status;
    ReadPriority priority = ReadPriority::kDemand;
    int64_t read_ns = 0;      // from Start or Promote to here
    uint64_t read_bytes = 0;  // supersets
  };
  using Ended = absl::FunctionRef<void(const Outcome&)>;

  // Identifies the files and checks that they reach as far as the layout does: DataLoss when one
  // does not. `layout`, `reader` and `clock` must outlive the loader.
  static absl::StatusOr<std::unique_ptr<ExpertLoader>> Create(const ExpertLayout& layout,
                                                              Options options, BlockReader& reader,
                                                              const Clock& clock);

  // Queues the reads of an expert into the slot's memory, which must be aligned to the layout's
  // slot alignment and stay there until the load has ended. The slot has no load under way.
  void Start(int32_t slot, ExpertKey key, std::byte* target,
             ReadPriority priority = ReadPriority::kDemand);
  // Of a load on a hint that has not ended. Promote: it is waited for from now on; what of it was
  // given up or could not be read is read anew. Cancel: what has not entered the drive is not read,
  // and the load ends as Cancelled; false, and it goes on, when nothing of it can be spared.
  void Promote(int32_t slot);
  bool Cancel(int32_t slot);
  // Hands queued reads to the reader, and those to the kernel.
  void Kick();
  // Takes completions, waiting for one if told to, and calls `ended` for each load that ended.
  void Poll(BlockReader::Wait wait, Ended ended);
  bool is_busy() const { return load_count_ > 0; }

  uint64_t read_bytes() const { return read_bytes_; }
  uint64_t retries() const { return retries_; }
  // Time during which a load was under way, as far as Poll was called to notice.
  int64_t busy_ns() const { return busy_ns_; }

 private:
  struct Read {
    ExpertLayout::PartRead place;
    size_t done_bytes = 0;  // a multiple of the file's alignment
    int attempts = 0;       // in a row without progress
    bool is_lost = false;   // ended without what it was for
  };
  struct Load {
    ExpertKey key = -1;
    std::byte* target = nullptr;
    ReadPriority priority = ReadPriority::kDemand;
    int reads_left = 0;
    int64_t start_ns = 0;
    uint64_t read_bytes = 0;
    absl::Status status;
    Read reads[kExpertPartsMax];
  };

  ExpertLoader(const ExpertLayout& layout, Options options, BlockReader& reader,
               const Clock& clock);
  absl::Status IdentifyFiles();
  absl::Status CheckReach(const ExpertLayout::Layer& layer, const ExpertLayout::Part& part) const;
  void SubmitQueued();
  void Complete(const ReadCompletion& completion, Ended ended);
  static bool IsComplete(const Read& read, int64_t result) {
    return result > 0 && read.done_bytes + result >= read.place.skip + read.place.bytes;
  }
  bool NeedsMore(Load& load, Read& read, int64_t result);
  bool MayRetry(Load& load, Read& read, int64_t result);
  void End(int32_t slot, Ended ended);
  absl::Status Verify(const Load& load);
  absl::Status VerifyIdentity(const Load& load, int file) const;
  absl::Status VerifyHash(const Load& load);
  absl::Status ReadError(const Load& load, const Read& read, int64_t result) const;
  std::string FileName(int file) const;
  std::string ExpertName(const Load& load) const;

  const ExpertLayout& layout_;
  const Options options_;
  BlockReader& reader_;
  const Clock& clock_;
  std::vector<FileIdentity> identities_;  // by file number
  std::vector<Load> loads_;               // by slot
  BoundedQueue<uint32_t> queue_;          // tags of reads that wait for the reader
  std::vector<uint64_t> hashes_;          // by key; 0: not read yet
  int32_t load_count_ = 0;
  uint64_t read_bytes_ = 0;
  uint64_t retries_ = 0;
  int64_t busy_since_ns_ = 0;
  int64_t busy_ns_ = 0;
};

}  // namespace stoker
