// A block reader over byte vectors, so that what depends on order can be tested without a drive.
#pragma once

#include <map>
#include <random>
#include <string>
#include <vector>

#include "io/block_reader.h"
#include "io/read_queue.h"

namespace stoker {

// Behaves as every BlockReader must (depths, demand before hints, cancel, promote, short reads at
// the end of a file, strict about alignment), with files in memory and an order of completion that
// the seed decides. Deterministic; one thread.
class MemoryReader final : public BlockReader {
 public:
  struct MemoryOptions {
    BlockReader::Options reader;
    size_t alignment = 512;
    uint64_t seed = 1;  // which of the reads in the device completes next
    // Reads complete only by Complete() or CompleteOne(); a Reap that must wait completes one
    // itself, so that a test cannot hang.
    bool manual = false;
  };
  explicit MemoryReader(const MemoryOptions& options);
  MemoryReader() : MemoryReader(MemoryOptions{}) {}

  // Makes (or replaces) a file; open descriptors see the new bytes, and Identify a new identity.
  void PutFile(const std::string& path, std::vector<std::byte> bytes);
  // The bytes of a file, to rot them without a change of identity. Requires that it exists.
  std::vector<std::byte>& FileBytes(const std::string& path);

  // Tags of the reads in the device, in the order in which they entered.
  std::vector<uint64_t> entered() const;
  // Completes one read in the device; false when the tag is not there.
  bool Complete(uint64_t tag);
  // Completes one that the seed chooses; false when there is none.
  bool CompleteOne();
  // Every read that entered the device since the start: tags in order.
  const std::vector<uint64_t>& history() const { return history_; }
  uint64_t read_bytes() const { return read_bytes_; }

  std::string_view name() const override { return "memory"; }
  absl::StatusOr<int> AddFile(const std::string& path) override;
  size_t alignment(int) const override { return alignment_; }
  absl::StatusOr<FileIdentity> Identify(int file) const override;
  void RegisterMemory(absl::Span<std::byte>) override {}
  void Submit(const ReadRequest& request, ReadPriority priority) override;
  bool Promote(uint64_t tag) override { return queue_.Promote(tag); }
  bool Cancel(uint64_t tag) override { return queue_.Cancel(tag); }
  void Kick() override;
  size_t Reap(absl::Span<ReadCompletion> completions, Wait wait) override;
  size_t in_flight() const override { return queue_.in_flight(); }
  std::string notice() const override { return {}; }
  void Report(CounterVisitor& visitor) const override;

 private:
  struct File {
    FileIdentity identity;
    std::vector<std::byte> bytes;
  };
  void Finish(size_t position);

  const size_t alignment_;
  const bool is_manual_;
  ReadQueue queue_;
  std::mt19937_64 random_;
  std::map<std::string, File> files_;
  std::vector<std::string> opened_;  // path of each file number
  std::vector<int> in_device_;       // slots of the queue
  std::vector<uint64_t> history_;
  uint64_t read_bytes_ = 0;
};

}  // namespace stoker
