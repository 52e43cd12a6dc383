// Lists over one slab: waiting demands, waiting hints, done reads.
#include "io/read_queue.h"

#include <algorithm>
#include <cerrno>

#include "base/check.h"

namespace stoker {

ReadQueue::ReadQueue(const BlockReader::Options& options)
    : queue_depth_(std::max(1, options.queue_depth)),
      hint_depth_(std::clamp(options.hint_depth, 1, queue_depth_)),
      slots_(static_cast<size_t>(std::max(1, options.backlog_max))) {
  free_.reserve(slots_.size());
  for (int slot = static_cast<int>(slots_.size()) - 1; slot >= 0; --slot) free_.push_back(slot);
}

ReadQueue::List& ReadQueue::WaitingOf(ReadPriority priority) {
  return priority == ReadPriority::kDemand ? demands_ : hints_;
}

void ReadQueue::Append(List& list, int slot) {
  At(slot).before = list.tail;
  At(slot).after = -1;
  (list.tail >= 0 ? At(list.tail).after : list.head) = slot;
  list.tail = slot;
}

void ReadQueue::Remove(List& list, int slot) {
  const Slot& s = At(slot);
  (s.before >= 0 ? At(s.before).after : list.head) = s.after;
  (s.after >= 0 ? At(s.after).before : list.tail) = s.before;
}

void ReadQueue::Push(const ReadRequest& request, ReadPriority priority) {
  CHECK(!free_.empty());
  const int slot = free_.back();
  free_.pop_back();
  At(slot).request = request;
  At(slot).priority = priority;
  Append(WaitingOf(priority), slot);
  ++in_flight_;
}

int ReadQueue::Enter() {
  if (in_device_ >= queue_depth_) return -1;
  const bool is_demand = demands_.head >= 0;
  if (!is_demand && hints_in_device_ >= hint_depth_) return -1;
  List& list = is_demand ? demands_ : hints_;
  const int slot = list.head;
  if (slot < 0) return -1;
  Remove(list, slot);
  ++in_device_;
  if (!is_demand) ++hints_in_device_;
  return slot;
}

void ReadQueue::Retreat(int slot) {
  const ReadPriority priority = At(slot).priority;
  --in_device_;
  if (priority == ReadPriority::kHint) --hints_in_device_;
  List& list = WaitingOf(priority);
  At(slot).before = -1;
  At(slot).after = list.head;
  (list.head >= 0 ? At(list.head).before : list.tail) = slot;
  list.head = slot;
}

void ReadQueue::Finish(int slot, int64_t result) {
  --in_device_;
  if (At(slot).priority == ReadPriority::kHint) --hints_in_device_;
  At(slot).result = result;
  Append(done_, slot);
  ++counts_.reads;
  if (result < 0) {
    ++counts_.read_errors;
  } else {
    counts_.read_bytes += static_cast<uint64_t>(result);
    if (static_cast<uint64_t>(result) < request(slot).bytes) ++counts_.short_reads;
  }
}

int ReadQueue::FindHint(uint64_t tag) const {
  for (int slot = hints_.head; slot >= 0; slot = slots_[static_cast<size_t>(slot)].after) {
    if (request(slot).tag == tag) return slot;
  }
  return -1;
}

bool ReadQueue::Promote(uint64_t tag) {
  const int slot = FindHint(tag);
  if (slot < 0) return false;
  Remove(hints_, slot);
  At(slot).priority = ReadPriority::kDemand;
  Append(demands_, slot);
  ++counts_.promoted_hints;
  return true;
}

bool ReadQueue::Cancel(uint64_t tag) {
  const int slot = FindHint(tag);
  if (slot < 0) return false;
  Remove(hints_, slot);
  At(slot).result = -ECANCELED;
  Append(done_, slot);
  ++counts_.cancelled_hints;
  return true;
}

size_t ReadQueue::TakeDone(absl::Span<ReadCompletion> completions) {
  size_t count = 0;
  while (count < completions.size() && done_.head >= 0) {
    const int slot = done_.head;
    Remove(done_, slot);
    completions[count++] = {.tag = request(slot).tag, .result = At(slot).result};
    free_.push_back(slot);
    --in_flight_;
  }
  return count;
}

void ReadQueue::Report(CounterVisitor& visitor) const {
  visitor.Counter("reads", counts_.reads);
  visitor.Counter("read_bytes", counts_.read_bytes);
  visitor.Counter("short_reads", counts_.short_reads);
  visitor.Counter("read_errors", counts_.read_errors);
  visitor.Counter("cancelled_hints", counts_.cancelled_hints);
  visitor.Counter("promoted_hints", counts_.promoted_hints);
  visitor.Gauge("reads_in_flight", static_cast<double>(in_flight_));
}

}  // namespace stoker
