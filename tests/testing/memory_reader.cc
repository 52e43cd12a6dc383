// Copies in place of reads, in an order that a seed decides.
#include "tests/testing/memory_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace stoker {

MemoryReader::MemoryReader(const MemoryOptions& options)
    : alignment_(options.alignment),
      is_manual_(options.manual),
      queue_(options.reader),
      random_(options.seed) {}

void MemoryReader::PutFile(const std::string& path, std::vector<std::byte> bytes) {
  const auto [at, is_new] = files_.try_emplace(path);
  File& file = at->second;
  if (is_new) file.identity.inode = files_.size();
  file.identity.bytes = bytes.size();
  ++file.identity.mtime_ns;
  file.bytes = std::move(bytes);
}

std::vector<std::byte>& MemoryReader::FileBytes(const std::string& path) {
  const auto at = files_.find(path);
  CHECK(at != files_.end());
  return at->second.bytes;
}

absl::StatusOr<int> MemoryReader::AddFile(const std::string& path) {
  if (!files_.contains(path)) return absl::NotFoundError(fmt::format("{}: no such file", path));
  opened_.push_back(path);
  return static_cast<int>(opened_.size()) - 1;
}

absl::StatusOr<FileIdentity> MemoryReader::Identify(int file) const {
  return files_.at(opened_.at(static_cast<size_t>(file))).identity;
}

void MemoryReader::Submit(const ReadRequest& request, ReadPriority priority) {
  CHECK(request.file >= 0 && static_cast<size_t>(request.file) < opened_.size());
  CHECK(request.offset % alignment_ == 0 && request.bytes % alignment_ == 0);
  CHECK(reinterpret_cast<uintptr_t>(request.target) % alignment_ == 0);
  queue_.Push(request, priority);
}

void MemoryReader::Kick() {
  for (int slot = queue_.Enter(); slot >= 0; slot = queue_.Enter()) {
    in_device_.push_back(slot);
    history_.push_back(queue_.request(slot).tag);
  }
}

void MemoryReader::Finish(size_t position) {
  const int slot = in_device_[position];
  in_device_.erase(in_device_.begin() + static_cast<ptrdiff_t>(position));
  const ReadRequest& request = queue_.request(slot);
  const File& file = files_.at(opened_[static_cast<size_t>(request.file)]);
  size_t count = 0;
  if (request.offset < file.bytes.size()) {
    count = std::min<size_t>(request.bytes, file.bytes.size() - request.offset);
    std::memcpy(request.target, file.bytes.data() + request.offset, count);
  }
  read_bytes_ += count;
  queue_.Finish(slot, static_cast<int64_t>(count));
}

std::vector<uint64_t> MemoryReader::entered() const {
  std::vector<uint64_t> tags;
  for (const int slot : in_device_) tags.push_back(queue_.request(slot).tag);
  return tags;
}

bool MemoryReader::Complete(uint64_t tag) {
  for (size_t i = 0; i < in_device_.size(); ++i) {
    if (queue_.request(in_device_[i]).tag != tag) continue;
    Finish(i);
    return true;
  }
  return false;
}

bool MemoryReader::CompleteOne() {
  if (in_device_.empty()) return false;
  Finish(random_() % in_device_.size());
  return true;
}

size_t MemoryReader::Reap(absl::Span<ReadCompletion> completions, Wait wait) {
  Kick();
  if (!is_manual_) {
    // Some, not all: the owner meets every mixture of done and pending.
    for (size_t left = random_() % (in_device_.size() + 1); left > 0; --left) CompleteOne();
  }
  if (wait == Wait::kUntilOne && !queue_.has_done()) CompleteOne();
  const size_t count = queue_.TakeDone(completions);
  Kick();
  return count;
}

void MemoryReader::Report(CounterVisitor& visitor) const { queue_.Report(visitor); }

}  // namespace stoker
