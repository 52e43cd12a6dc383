// Decides by hash what goes wrong with which read.
#include "tests/testing/fault_reader.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace stoker {
namespace {

// SplitMix64's finaliser: a good 64-bit mix.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

double UnitInterval(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

// What an error leaves behind is undefined; this makes a reader of it notice.
void Scribble(std::byte* begin, size_t bytes) { std::memset(begin, 0xdb, bytes); }

}  // namespace

void FaultReader::FailRange(int file, uint64_t begin, uint64_t end, int error, int times) {
  CHECK(error > 0);
  ranges_.push_back({.file = file, .begin = begin, .end = end, .error = error, .times = times});
}

void FaultReader::FlipByte(int file, uint64_t offset, int times) {
  ranges_.push_back({.file = file, .begin = offset, .end = offset + 1, .error = 0, .times = times});
}

void FaultReader::Submit(const ReadRequest& request, ReadPriority priority) {
  requests_[request.tag] = request;
  inner_.Submit(request, priority);
}

bool FaultReader::SpoilByRange(const ReadRequest& request, ReadCompletion& completion) {
  for (Range& range : ranges_) {
    const uint64_t end = request.offset + static_cast<uint64_t>(completion.result);
    if (range.file != request.file || range.times == 0) continue;
    if (range.begin >= end || range.end <= request.offset) continue;
    if (range.times > 0) --range.times;
    if (range.error != 0) {
      Scribble(request.target, request.bytes);
      completion.result = -range.error;
    } else {
      request.target[range.begin - request.offset] ^= std::byte{1};
    }
    return true;
  }
  return false;
}

void FaultReader::SpoilByChance(const ReadRequest& request, ReadCompletion& completion,
                                int& stall_reaps) {
  Place& place = places_[{request.file, request.offset + request.bytes}];
  const uint64_t hash =
      Mix(Mix(Mix(Mix(faults_.seed) + request.offset) + request.bytes + place.reads++) +
          static_cast<uint64_t>(request.file));
  enum { kShort, kIo, kInterrupted, kAgain, kStall, kFlip, kNone };
  const std::array<double, kNone> chances = {faults_.short_read,  faults_.io_error,
                                             faults_.interrupted, faults_.try_again,
                                             faults_.stall,       faults_.bit_flip};
  double draw = UnitInterval(hash);
  size_t fault = 0;
  while (fault < kNone && draw >= chances[fault]) draw -= chances[fault++];
  if (fault <= kAgain && place.consecutive >= faults_.consecutive_max) fault = kNone;

  const uint64_t detail = Mix(hash);
  const auto got = static_cast<uint64_t>(completion.result);
  const uint64_t units = got / inner_.alignment(request.file);
  if (fault == kShort && units < 2) fault = kNone;
  place.consecutive = fault <= kAgain ? place.consecutive + 1 : 0;
  if (fault == kNone) return;
  ++injected_;
  if (fault == kShort) {
    const uint64_t kept = (1 + detail % (units - 1)) * inner_.alignment(request.file);
    Scribble(request.target + kept, got - kept);
    completion.result = static_cast<int64_t>(kept);
  } else if (fault <= kAgain) {
    static constexpr std::array<int, kStall> kErrors = {0, EIO, EINTR, EAGAIN};
    Scribble(request.target, request.bytes);
    completion.result = -kErrors[fault];
  } else if (fault == kStall) {
    stall_reaps = faults_.stall_reaps;
  } else {
    request.target[detail % got] ^= std::byte{static_cast<unsigned char>(1u << (hash % 8))};
  }
}

void FaultReader::Take(ReadCompletion completion) {
  const auto at = requests_.find(completion.tag);
  CHECK(at != requests_.end());
  int stall_reaps = 0;
  if (completion.result > 0) {
    if (SpoilByRange(at->second, completion)) {
      ++injected_;
    } else {
      SpoilByChance(at->second, completion, stall_reaps);
    }
  }
  requests_.erase(at);
  held_.push_back({.completion = completion, .reaps = stall_reaps});
}

size_t FaultReader::Release(absl::Span<ReadCompletion> completions) {
  size_t count = 0;
  for (auto held = held_.begin(); held != held_.end() && count < completions.size();) {
    if (held->reaps > 0) {
      ++held;
    } else {
      completions[count++] = held->completion;
      held = held_.erase(held);
    }
  }
  return count;
}

size_t FaultReader::Reap(absl::Span<ReadCompletion> completions, Wait wait) {
  for (Held& held : held_) {
    if (held.reaps > 0) --held.reaps;
  }
  if (completions.empty()) return 0;
  std::array<ReadCompletion, 16> taken;
  for (;;) {
    const bool must_wait = wait == Wait::kUntilOne && held_.empty();
    const size_t count =
        inner_.Reap(absl::MakeSpan(taken), must_wait ? Wait::kUntilOne : Wait::kNo);
    for (size_t i = 0; i < count; ++i) Take(taken[i]);
    const size_t released = Release(completions);
    if (released > 0 || wait == Wait::kNo || (held_.empty() && inner_.in_flight() == 0))
      return released;
    for (Held& held : held_) {  // waiting passes the time that stalls take
      if (held.reaps > 0) --held.reaps;
    }
  }
}

}  // namespace stoker
