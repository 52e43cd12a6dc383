// Runs grids of fibres: who is resumed when, how they meet, and what a deadlock says.
#include "kernels/cuda/twin/machine.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "base/check.h"
#include "kernels/cuda/twin/fibre.h"
#include "kernels/cuda/twin/shared_memory.h"

namespace stoker::twin {

constinit thread_local uint3 threadIdx;
constinit thread_local uint3 blockIdx;
constinit thread_local dim3 blockDim;
constinit thread_local dim3 gridDim;

namespace {

constexpr int kWarpLanes = 32;
constexpr size_t kThreadsMax = 1024;
// Rounds in which nobody did anything but Pause, after which nobody ever will.
constexpr int kIdleRoundsMax = 100'000;

// New: has no fibre yet. Paused: ready in the next round. Waiting: until others arrive.
enum class State : uint8_t { kNew, kReady, kPaused, kAtBarrier, kInWarp, kDone };

struct Thread {
  State state = State::kNew;
  WarpOp op = WarpOp::kSync;
  int source = 0;
  uint32_t mask = 0;
  uint64_t value = 0;   // brought to a warp operation
  uint64_t result = 0;  // taken from it
  Site site;
  uint3 index;
  Fibre* fibre = nullptr;
};

const char* NameOf(WarpOp op) {
  switch (op) {
    case WarpOp::kSync:
      return "__syncwarp";
    case WarpOp::kShuffle:
      return "a shuffle";
    case WarpOp::kBallot:
      return "a vote";
    default:
      return "a reduction";
  }
}

class Machine {
 public:
  int Run(const LaunchShape& shape, void (*body)(void*), void* context);

  void SyncThreads(Site site);
  uint64_t MeetWarp(WarpOp op, uint32_t mask, uint64_t value, int source, Site site);
  void Pause(Site site);

  SharedMemory& shared() { return shared_; }
  MachineOptions& options() { return options_; }

 private:
  void RunBlock();
  bool RunWarp(size_t first, size_t count);
  void Resume(size_t thread);
  void LeaveFor(State state, Site site);
  uint64_t ResultOf(const Thread* lanes, uint32_t mask, const Thread& lane) const;

  uint64_t PatternWord() const { return 0x0101010101010101u * options_.pattern; }
  size_t Ordered(size_t i, size_t count) const {
    return options_.threads_backward ? count - 1 - i : i;
  }
  static void RunBody(void* self) {
    auto* machine = static_cast<Machine*>(self);
    machine->body_(machine->context_);
  }

  [[noreturn]] void Fail(const char* what) const;
  [[noreturn]] void FailStuck() const;
  void Print(const Thread& thread) const;

  MachineOptions options_;
  SharedMemory shared_;
  std::vector<std::unique_ptr<Fibre>> fibres_;
  std::vector<Fibre*> idle_fibres_;
  Thread threads_[kThreadsMax];

  LaunchShape shape_;
  void (*body_)(void*) = nullptr;
  void* context_ = nullptr;
  bool running_ = false;
  size_t thread_count_ = 0;
  size_t current_ = 0;
  size_t done_count_ = 0;
  size_t barrier_count_ = 0;
};

Machine& ThisMachine() {
  static thread_local Machine machine;
  return machine;
}

int Machine::Run(const LaunchShape& shape, void (*body)(void*), void* context) {
  CHECK(!running_);
  const dim3 grid = shape.grid;
  const uint64_t block_threads = uint64_t{shape.block.x} * shape.block.y * shape.block.z;
  if (uint64_t{grid.x} * grid.y * grid.z == 0) return 0;
  if (block_threads == 0 || block_threads > kThreadsMax || shape.block.z > 64 ||
      grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    return kInvalidConfiguration;
  }
  if (shape.dynamic_shared_bytes > kSharedBytesMax) return kInvalidValue;
  shape_ = shape;
  body_ = body;
  context_ = context;
  running_ = true;
  thread_count_ = block_threads;
  blockDim = shape.block;
  gridDim = grid;
  for (size_t t = 0; t < thread_count_; ++t) {
    const auto i = static_cast<unsigned>(t);
    threads_[t].index = {i % shape.block.x, i / shape.block.x % shape.block.y,
                         i / shape.block.x / shape.block.y};
  }
  const uint64_t block_count = uint64_t{grid.x} * grid.y * grid.z;
  for (uint64_t i = 0; i < block_count; ++i) {
    const uint64_t b = options_.blocks_backward ? block_count - 1 - i : i;
    blockIdx = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                static_cast<unsigned>(b / grid.x / grid.y)};
    RunBlock();
  }
  running_ = false;
  return 0;
}

void Machine::RunBlock() {
  shared_.Start(shape_.dynamic_shared_bytes, options_.pattern);
  done_count_ = 0;
  barrier_count_ = 0;
  for (size_t t = 0; t < thread_count_; ++t) threads_[t].state = State::kNew;

  int idle_rounds = 0;
  while (done_count_ < thread_count_) {
    bool advanced = false;
    const size_t warp_count = (thread_count_ + kWarpLanes - 1) / kWarpLanes;
    for (size_t i = 0; i < warp_count; ++i) {
      const size_t first = Ordered(i, warp_count) * kWarpLanes;
      // A warp goes on for as long as its lanes find each other: they share what is cached.
      while (RunWarp(first, std::min<size_t>(kWarpLanes, thread_count_ - first))) advanced = true;
    }
    bool paused = false;
    for (size_t t = 0; t < thread_count_; ++t) {
      if (threads_[t].state != State::kPaused) continue;
      threads_[t].state = State::kReady;
      paused = true;
    }
    idle_rounds = advanced ? 0 : idle_rounds + 1;
    if (!advanced && (!paused || idle_rounds > kIdleRoundsMax)) FailStuck();
  }
  const char* overrun = shared_.End();
  if (overrun != nullptr) {
    std::fprintf(stderr, "shared memory was written beyond '%s'\n", overrun);
    Fail("a write out of bounds");
  }
}

// Resumes each lane once that can run; whether any got further than a pause.
bool Machine::RunWarp(size_t first, size_t count) {
  bool advanced = false;
  for (size_t i = 0; i < count; ++i) {
    const size_t t = first + Ordered(i, count);
    if (threads_[t].state != State::kNew && threads_[t].state != State::kReady) continue;
    const Site before = threads_[t].site;
    const bool fresh = threads_[t].state == State::kNew;
    Resume(t);
    // A thread that pauses where it paused before has only looked at memory once more.
    advanced |= fresh || threads_[t].state != State::kPaused ||
                threads_[t].site.line != before.line || threads_[t].site.file != before.file;
  }
  return advanced;
}

void Machine::Resume(size_t thread) {
  Thread& t = threads_[thread];
  current_ = thread;
  threadIdx = t.index;
  if (t.state == State::kNew) {
    if (idle_fibres_.empty()) {
      fibres_.push_back(std::make_unique<Fibre>(RunBody, this));
      idle_fibres_.push_back(fibres_.back().get());
    }
    t.fibre = idle_fibres_.back();
    idle_fibres_.pop_back();
    t.site = {};
  }
  t.state = State::kReady;
  if (t.fibre->Enter()) {
    t.state = State::kDone;
    ++done_count_;
    idle_fibres_.push_back(t.fibre);
  }
}

void Machine::LeaveFor(State state, Site site) {
  Thread& self = threads_[current_];
  self.state = state;
  self.site = site;
  self.fibre->Leave();
}

void Machine::SyncThreads(Site site) {
  Thread& self = threads_[current_];
  for (size_t t = 0; barrier_count_ > 0 && t < thread_count_; ++t) {
    const Thread& other = threads_[t];
    if (other.state != State::kAtBarrier) continue;
    if (other.site.line != site.line || other.site.file != site.file) {
      self.site = site;
      self.state = State::kAtBarrier;
      Print(other);
      Print(self);
      Fail("threads of a block meet at different barriers");
    }
    break;
  }
  if (++barrier_count_ < thread_count_) return LeaveFor(State::kAtBarrier, site);
  barrier_count_ = 0;
  for (size_t t = 0; t < thread_count_; ++t) threads_[t].state = State::kReady;
}

uint64_t Machine::MeetWarp(WarpOp op, uint32_t mask, uint64_t value, int source, Site site) {
  Thread& self = threads_[current_];
  const size_t first = current_ / kWarpLanes * kWarpLanes;
  Thread* lanes = threads_ + first;
  self.op = op;
  self.mask = mask;
  self.value = value;
  self.source = source;
  self.site = site;
  self.state = State::kInWarp;
  if (((mask >> (current_ - first)) & 1) == 0) {
    Print(self);
    Fail("a thread is not in the mask of its own warp operation");
  }
  for (int l = 0; l < kWarpLanes; ++l) {
    if (((mask >> l) & 1) == 0) continue;
    // A lane that waits with others first may still come: then it will be the last.
    if (first + l >= thread_count_ || lanes[l].state != State::kInWarp || lanes[l].mask != mask) {
      self.fibre->Leave();
      return self.result;
    }
    if (lanes[l].op != op || lanes[l].site.line != site.line) {
      Print(lanes[l]);
      Print(self);
      Fail("lanes of a mask meet in different warp operations");
    }
  }
  for (int l = 0; l < kWarpLanes; ++l) {
    if (((mask >> l) & 1) != 0) lanes[l].result = ResultOf(lanes, mask, lanes[l]);
  }
  for (int l = 0; l < kWarpLanes; ++l) {
    if (((mask >> l) & 1) != 0) lanes[l].state = State::kReady;
  }
  return self.result;
}

// What `lane` takes from an operation to which all of `mask` have come.
uint64_t Machine::ResultOf(const Thread* lanes, uint32_t mask, const Thread& lane) const {
  if (lane.op == WarpOp::kSync) return 0;
  if (lane.op == WarpOp::kShuffle) {
    const bool takes_part = ((mask >> lane.source) & 1) != 0;
    return takes_part ? lanes[lane.source].value : PatternWord();
  }
  uint64_t ballot = 0;
  uint32_t sum = 0;
  int32_t least = INT32_MAX;
  int32_t greatest = INT32_MIN;
  for (int l = 0; l < kWarpLanes; ++l) {
    if (((mask >> l) & 1) == 0) continue;
    const auto value = static_cast<uint32_t>(lanes[l].value);
    if (lanes[l].value != 0) ballot |= uint64_t{1} << l;
    sum += value;
    least = std::min(least, static_cast<int32_t>(value));
    greatest = std::max(greatest, static_cast<int32_t>(value));
  }
  if (lane.op == WarpOp::kBallot) return ballot;
  if (lane.op == WarpOp::kReduceAdd) return sum;
  return static_cast<uint32_t>(lane.op == WarpOp::kReduceMin ? least : greatest);
}

void Machine::Pause(Site site) { LeaveFor(State::kPaused, site); }

void Machine::Print(const Thread& thread) const {
  const auto& [x, y, z] = thread.index;
  std::fprintf(stderr, "  thread (%u, %u, %u) ", x, y, z);
  switch (thread.state) {
    case State::kAtBarrier:
      std::fprintf(stderr, "waits at __syncthreads, %s:%d\n", thread.site.file, thread.site.line);
      return;
    case State::kInWarp:
      std::fprintf(stderr, "waits in %s of lanes %08x, %s:%d\n", NameOf(thread.op), thread.mask,
                   thread.site.file, thread.site.line);
      return;
    case State::kDone:
      std::fprintf(stderr, "has returned\n");
      return;
    default:
      std::fprintf(stderr, "waits for memory to change, %s:%d\n", thread.site.file,
                   thread.site.line);
  }
}

void Machine::FailStuck() const {
  // One thread of each kind of wait tells the story.
  const Thread* printed[8] = {};
  size_t printed_count = 0;
  for (size_t i = 0; i < thread_count_ && printed_count < 8; ++i) {
    const Thread& t = threads_[i];
    const bool told = std::any_of(printed, printed + printed_count, [&](const Thread* other) {
      return other->state == t.state &&
             (t.state == State::kDone ||
              (other->mask == t.mask && other->site.line == t.site.line));
    });
    if (told) continue;
    Print(t);
    printed[printed_count++] = &t;
  }
  Fail(
      "threads wait for others that never come (likely a barrier or a warp operation inside a "
      "condition that not all of its threads meet)");
}

void Machine::Fail(const char* what) const {
  std::fprintf(stderr, "kernel '%s', block (%u, %u, %u), thread (%u, %u, %u): %s\n", shape_.kernel,
               blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z, what);
  std::abort();
}

}  // namespace

int RunGrid(const LaunchShape& shape, void (*body)(void*), void* context) {
  return ThisMachine().Run(shape, body, context);
}

void SyncThreads(Site site) { ThisMachine().SyncThreads(site); }

uint64_t MeetWarp(WarpOp op, uint32_t mask, uint64_t value, int source, Site site) {
  return ThisMachine().MeetWarp(op, mask, value, source, site);
}

void Pause(Site site) { ThisMachine().Pause(site); }

void* SharedVariable(const void* key, const char* name, size_t bytes, size_t alignment) {
  return ThisMachine().shared().Variable({key, name, bytes, alignment});
}

void* DynamicShared() { return ThisMachine().shared().dynamic(); }

ScopedMachineOptions::ScopedMachineOptions(const MachineOptions& options)
    : before_(ThisMachine().options()) {
  ThisMachine().options() = options;
}

ScopedMachineOptions::~ScopedMachineOptions() { ThisMachine().options() = before_; }

}  // namespace stoker::twin
