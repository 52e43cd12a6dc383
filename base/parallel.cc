// The team on oneTBB: its threads come from a task arena and stay in one loop for the team's life.
#include "base/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <tbb/global_control.h>
#include <tbb/task_arena.h>

#include <atomic>

#include "base/check.h"
#include "base/clock.h"

namespace stoker {
namespace {

void PinCallingThread(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  // Refused (a container's cpuset, say) means unpinned, which is only slower.
  (void)pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

// Long against the end of a last chunk, short against the slice of time another program gets.
constexpr int kSpinsBeforeYield = 1000;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

// A region is published by raising `epoch`. Work is claimed by adding to `next`, whose high bits
// hold the epoch, so that a worker that wakes late can never claim a chunk of a region it did not
// see. Nor can one that was held up between its look at `next` and its claim: `next` is closed
// before the fields of a new region are written, so whoever has seen one of them fails to claim.
struct ThreadTeam::State {
  static constexpr int kChunkBits = 32;
  static constexpr uint64_t kClosed = 0xffffffffu;  // as a chunk: past the last of any region
  // oneTBB takes the smallest of all live controls, so every team asks for the same; the arena's
  // own size is what bounds this team. Without it a team larger than the machine, or a second team,
  // would wait for the first's threads.
  static constexpr size_t kParallelismMax = 256;

  Options options;
  tbb::global_control parallelism;
  tbb::task_arena arena;
  RealClock clock;

  alignas(64) std::atomic<uint32_t> epoch{0};
  alignas(64) std::atomic<uint64_t> next{0};  // epoch << 32 | next chunk
  alignas(64) std::atomic<int64_t> chunks_left{0};
  alignas(64) std::atomic<int> sleepers{0};
  std::atomic<int> workers_alive{0};
  std::atomic<int> next_worker{1};
  std::atomic<bool> stopping{false};

  // The running region; written before the epoch is raised.
  int64_t count = 0;
  int64_t grain = 1;
  std::atomic<int64_t> chunk_count{0};  // atomic: a late worker may look at it between regions
  const absl::FunctionRef<void(int64_t, int64_t, int)>* body = nullptr;

  explicit State(const Options& o)
      : options(o),
        parallelism(tbb::global_control::max_allowed_parallelism, kParallelismMax),
        arena(o.thread_count, 1) {}

  void WorkerLoop();
  bool AwaitEpoch(uint32_t seen);
  void RunChunks(uint32_t region, int worker);
};

void ThreadTeam::State::RunChunks(uint32_t region, int worker) {
  for (;;) {
    uint64_t claim = next.load(std::memory_order_acquire);
    do {
      if (static_cast<uint32_t>(claim >> kChunkBits) != region) return;
      if (static_cast<int64_t>(claim & kClosed) >= chunk_count.load(std::memory_order_acquire))
        return;
    } while (!next.compare_exchange_weak(claim, claim + 1, std::memory_order_acq_rel,
                                         std::memory_order_acquire));
    const int64_t begin = static_cast<int64_t>(claim & kClosed) * grain;
    (*body)(begin, begin + grain < count ? begin + grain : count, worker);
    chunks_left.fetch_sub(1, std::memory_order_acq_rel);
  }
}

// Returns false when the team stops.
bool ThreadTeam::State::AwaitEpoch(uint32_t seen) {
  const int64_t until_ns = clock.NowNs() + options.spin_ns;
  for (int spins = 0;; ++spins) {
    if (epoch.load(std::memory_order_acquire) != seen)
      return !stopping.load(std::memory_order_acquire);
    Pause();
    if ((spins & 63) == 63 && clock.NowNs() >= until_ns) break;
  }
  sleepers.fetch_add(1, std::memory_order_seq_cst);
  epoch.wait(seen, std::memory_order_seq_cst);
  sleepers.fetch_sub(1, std::memory_order_seq_cst);
  return !stopping.load(std::memory_order_acquire);
}

void ThreadTeam::State::WorkerLoop() {
  (void)epoch.load(std::memory_order_acquire);  // pairs with the constructor's store
  const int worker = next_worker.fetch_add(1);
  if (static_cast<size_t>(worker) < options.cpus.size())
    PinCallingThread(options.cpus[static_cast<size_t>(worker)]);
  uint32_t seen = 0;
  while (AwaitEpoch(seen)) {
    seen = epoch.load(std::memory_order_acquire);
    RunChunks(seen, worker);
  }
  workers_alive.fetch_sub(1, std::memory_order_release);
  workers_alive.notify_all();
}

ThreadTeam::ThreadTeam(const Options& options) {
  CHECK(options.thread_count >= 1);
  state_ = std::make_unique<State>(options);
  if (!options.cpus.empty()) PinCallingThread(options.cpus[0]);
  // oneTBB orders the hand-over too, but out of the thread sanitizer's sight.
  state_->epoch.store(0, std::memory_order_release);
  for (int worker = 1; worker < options.thread_count; ++worker) {
    state_->workers_alive.fetch_add(1);
    state_->arena.enqueue([state = state_.get()] { state->WorkerLoop(); });
  }
}

ThreadTeam::~ThreadTeam() {
  state_->stopping.store(true, std::memory_order_release);
  state_->epoch.fetch_add(1, std::memory_order_seq_cst);
  state_->epoch.notify_all();
  for (int alive = state_->workers_alive.load(); alive > 0; alive = state_->workers_alive.load()) {
    state_->workers_alive.wait(alive);
  }
}

int ThreadTeam::thread_count() const { return state_->options.thread_count; }

void ThreadTeam::ParallelFor(int64_t count, int64_t grain,
                             absl::FunctionRef<void(int64_t begin, int64_t end, int worker)> body) {
  CHECK(grain >= 1);
  if (count <= 0) return;
  const int64_t chunk_count = (count + grain - 1) / grain;
  CHECK(chunk_count < (int64_t{1} << 31));
  if (thread_count() == 1 || chunk_count == 1) {
    for (int64_t begin = 0; begin < count; begin += grain) {
      body(begin, begin + grain < count ? begin + grain : count, 0);
    }
    return;
  }
  State& s = *state_;
  const uint32_t region = s.epoch.load(std::memory_order_relaxed) + 1;
  s.next.store(uint64_t{region} << State::kChunkBits | State::kClosed, std::memory_order_relaxed);
  s.chunk_count.store(chunk_count, std::memory_order_release);
  s.count = count;
  s.grain = grain;
  s.body = &body;
  s.chunks_left.store(chunk_count, std::memory_order_relaxed);
  s.next.store(uint64_t{region} << State::kChunkBits, std::memory_order_release);
  s.epoch.store(region, std::memory_order_seq_cst);
  if (s.sleepers.load(std::memory_order_seq_cst) > 0) s.epoch.notify_all();
  s.RunChunks(region, 0);
  // The others' last chunks are usually microseconds away; but one that lost its processor to
  // another program must not be waited for by burning the processor that it could run on.
  for (int spins = 0; s.chunks_left.load(std::memory_order_acquire) > 0; ++spins) {
    if (spins < kSpinsBeforeYield) {
      Pause();
    } else {
      sched_yield();
    }
  }
}

}  // namespace stoker
