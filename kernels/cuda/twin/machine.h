// The machine that a kernel's twin runs on: one block after another, each thread of a block a
// fibre.
//
// Threads run until they have to wait (at a barrier, in a warp operation) and are resumed in a
// fixed order, so a run can be repeated exactly. What a GPU leaves undefined is made visible:
// shared memory starts as a pattern, reads of lanes that take no part give the pattern, and a
// different pattern or order (MachineOptions) must not change what a correct kernel computes. What
// can only be a mistake ends the program with the kernel, block and thread: a barrier or warp
// operation that not all its threads reach, threads that meet in different operations, writes
// beyond a shared array. What a launch on a GPU would refuse is refused with the same error code.
//
// Any OS thread may run kernels; each has its own machine.
#pragma once

#include <cstddef>
#include <cstdint>

namespace stoker::twin {

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): as CUDA's.
  constexpr dim3(unsigned of_x, unsigned of_y = 1, unsigned of_z = 1) : x(of_x), y(of_y), z(of_z) {}
};

// What a kernel reads of the machine, by CUDA's names.
extern constinit thread_local uint3 threadIdx;
extern constinit thread_local uint3 blockIdx;
extern constinit thread_local dim3 blockDim;
extern constinit thread_local dim3 gridDim;

struct LaunchShape {
  const char* kernel = "";  // its name, for messages
  dim3 grid;                // blocks
  dim3 block;               // threads of each
  size_t dynamic_shared_bytes = 0;
};

// Codes that a launch returns, those of CUDA's runtime.
inline constexpr int kInvalidValue = 1;
inline constexpr int kInvalidConfiguration = 9;

// Runs `body` once for each thread of each block.
int RunGrid(const LaunchShape& shape, void (*body)(void* context), void* context);

// Most shared memory of a block that every GPU from compute capability 8.0 on can be asked for.
inline constexpr size_t kSharedBytesMax = 99 * 1024;

// Where in the source a thread waits.
struct Site {
  const char* file = "";
  int line = 0;
};

// Called by a running thread only.
void SyncThreads(Site site);

enum class WarpOp : uint8_t { kSync, kShuffle, kBallot, kReduceAdd, kReduceMin, kReduceMax };
// Meets the other lanes of `mask` in the operation; `value` is what this lane brings, `source` (of
// kShuffle) the lane whose value it wants. kBallot: whether the value is not 0. The reductions are
// of int32_t.
uint64_t MeetWarp(WarpOp op, uint32_t mask, uint64_t value, int source, Site site);

// Lets the other threads of the block run: what a loop that waits for memory to change must call.
void Pause(Site site);

// Memory of the running block: the same for all its threads and filled with the pattern when the
// first of them asks. `key` tells variables apart.
void* SharedVariable(const void* key, const char* name, size_t bytes, size_t alignment);
void* DynamicShared();

// This OS thread's way of running kernels.
struct MachineOptions {
  uint8_t pattern = 0xff;  // of each byte that no thread has written; 0xff: NaN, -1
  bool threads_backward = false;
  bool blocks_backward = false;
};

// Sets the options of this OS thread while it lives.
class ScopedMachineOptions {
 public:
  explicit ScopedMachineOptions(const MachineOptions& options);
  ~ScopedMachineOptions();
  ScopedMachineOptions(const ScopedMachineOptions&) = delete;
  ScopedMachineOptions& operator=(const ScopedMachineOptions&) = delete;

 private:
  MachineOptions before_;
};

}  // namespace stoker::twin
