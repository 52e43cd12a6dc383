// The part that every block reader shares: which read enters the device next, and which are done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "io/block_reader.h"

namespace stoker {

// A slab of backlog_max reads threaded into three lists: demands that wait, hints that wait, and
// reads that are done. A read in the device is in none. All memory is taken at construction; every
// operation is O(1) but for finding a waiting hint by its tag, which walks the hints. Not
// thread-safe.
class ReadQueue {
 public:
  explicit ReadQueue(const BlockReader::Options& options);

  // Accepts a read. Requires in_flight() < backlog_max and a depth that lets it enter some day.
  void Push(const ReadRequest& request, ReadPriority priority);
  // The slot of the read that enters the device now, or -1: the oldest demand; without one, the
  // oldest hint while fewer than hint_depth hints are in the device; nothing beyond queue_depth.
  int Enter();
  // Takes a slot back to the head of its list after Enter (the device had no room after all).
  void Retreat(int slot);
  // The device is through with a read.
  void Finish(int slot, int64_t result);
  // See BlockReader.
  bool Promote(uint64_t tag);
  bool Cancel(uint64_t tag);
  // Moves completions out, oldest first; returns how many.
  size_t TakeDone(absl::Span<ReadCompletion> completions);

  const ReadRequest& request(int slot) const { return slots_[static_cast<size_t>(slot)].request; }
  size_t in_flight() const { return in_flight_; }
  int in_device() const { return in_device_; }
  // Reads, bytes, short reads, errors, cancelled and promoted hints since the start.
  void Report(CounterVisitor& visitor) const;
  bool has_done() const { return done_.head >= 0; }

 private:
  struct Slot {
    ReadRequest request;
    int64_t result = 0;
    ReadPriority priority = ReadPriority::kDemand;
    int before = -1;
    int after = -1;
  };
  struct List {
    int head = -1;
    int tail = -1;
  };

  Slot& At(int slot) { return slots_[static_cast<size_t>(slot)]; }
  List& WaitingOf(ReadPriority priority);
  void Append(List& list, int slot);
  void Remove(List& list, int slot);
  int FindHint(uint64_t tag) const;

  const int queue_depth_;
  const int hint_depth_;
  std::vector<Slot> slots_;
  std::vector<int> free_;
  List demands_;
  List hints_;
  List done_;
  size_t in_flight_ = 0;
  int in_device_ = 0;
  int hints_in_device_ = 0;

  struct Counts {
    uint64_t reads = 0;
    uint64_t read_bytes = 0;
    uint64_t short_reads = 0;
    uint64_t read_errors = 0;
    uint64_t cancelled_hints = 0;
    uint64_t promoted_hints = 0;
  };
  Counts counts_;
};

}  // namespace stoker
