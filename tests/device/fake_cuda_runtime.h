// A CUDA runtime without a GPU, linked in the place of the real one, so that the CUDA device's own
// logic is tested everywhere.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace stoker {

// What is queued on a stream is done as late as can be: when somebody synchronises with it, and
// piecewise as somebody asks. So a wait that was forgotten shows as wrong bits.
struct FakeGpu {
  std::string name = "Fake GPU";
  size_t memory_bytes = 256 << 20;
  size_t used_bytes = 0;              // by others
  int capability = 8;                 // major
  cudaError_t opening = cudaSuccess;  // what making a context on it says
};

struct FakeCuda {
  std::vector<FakeGpu> gpus = {FakeGpu()};
  int driver_version = CUDART_VERSION;
  cudaError_t registering = cudaSuccess;    // what cudaHostRegister says
  cudaError_t capturing = cudaSuccess;      // what cudaStreamEndCapture says
  cudaError_t instantiating = cudaSuccess;  // what cudaGraphInstantiateWithFlags says
  // Every call from here on says so, until it is reset to success: the GPU is lost.
  cudaError_t lost = cudaSuccess;

  // What was done.
  int current = 0;
  std::vector<int> resets;
  std::vector<int> priorities;  // of the streams made
  size_t taken_bytes = 0;
  int live_streams = 0;
  int live_events = 0;
  int live_graphs = 0;  // of both kinds
  int event_synchronisations = 0;
};

// The one that the runtime's functions work on, which are global as well.
FakeCuda& TheFakeCuda();

}  // namespace stoker
