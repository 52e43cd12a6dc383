// A drive of set speed on a clock, so that waiting for one can be studied without having it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "io/block_reader.h"
#include "io/read_queue.h"

namespace stoker {

// Reads take the time that this model says:
//
//     start = the latest of: when it entered the drive, when the drive ended the transfer before
//     end   = start + bytes / rate
//     here  = end + latency
//
// So transfers follow one another and latencies overlap, as on a drive that is read whole experts
// at a time. Reads enter in the order that every BlockReader keeps (demand before hints, bounded
// depths), at the moment at which one before them has left, though nobody looked then.
//
// With an inner reader the bytes come from there, and a read ends when the inner one has ended and
// its time has come: the model slows a drive down and cannot speed it up. Without one nothing is
// read: every read succeeds in full and its target is not touched.
//
// On a virtual clock a Reap that must wait moves the clock; on the real one it sleeps. One thread.
class ModelledReader final : public BlockReader {
 public:
  struct ModelOptions {
    BlockReader::Options reader;
    double rate = 0;         // bytes a second; above 0
    int64_t latency_ns = 0;  // of each read, not below 0
    // Without an inner reader: of each file, a power of two. AddFile numbers files up to these.
    std::vector<size_t> alignments;
  };
  // `clock`, and `inner` unless null, must outlive the reader.
  ModelledReader(const ModelOptions& options, Clock& clock, std::unique_ptr<BlockReader> inner);

  std::string_view name() const override { return "modelled"; }
  absl::StatusOr<int> AddFile(const std::string& path) override;
  size_t alignment(int file) const override;
  absl::StatusOr<FileIdentity> Identify(int file) const override;
  void RegisterMemory(absl::Span<std::byte> memory) override;
  void Submit(const ReadRequest& request, ReadPriority priority) override;
  bool Promote(uint64_t tag) override { return queue_.Promote(tag); }
  bool Cancel(uint64_t tag) override { return queue_.Cancel(tag); }
  void Kick() override;
  size_t Reap(absl::Span<ReadCompletion> completions, Wait wait) override;
  size_t in_flight() const override { return queue_.in_flight(); }
  std::string notice() const override;
  void Report(CounterVisitor& visitor) const override;

 private:
  // A read in the drive.
  struct Transfer {
    int slot = -1;  // of the queue
    int64_t here_ns = 0;
    bool is_read = false;  // by the inner reader; true without one
    int64_t result = 0;
  };

  Transfer& At(size_t position) { return transfers_[(first_ + position) % transfers_.size()]; }
  void EnterAt(int64_t now_ns);
  void Advance();
  void FinishFirst();
  void TakeInner(Wait wait);

  const ModelOptions options_;
  Clock& clock_;
  const std::unique_ptr<BlockReader> inner_;
  ReadQueue queue_;
  std::vector<Transfer> transfers_;  // a ring, by entry; the ends ascend
  size_t first_ = 0;
  size_t transfer_count_ = 0;
  int64_t transfer_end_ns_ = 0;  // of the last that entered
  int file_count_ = 0;
};

}  // namespace stoker
