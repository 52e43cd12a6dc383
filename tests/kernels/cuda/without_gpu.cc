// What kernel tests do in a build without CUDA: they run the twin alone.
#include <cstdlib>

#include "base/check.h"
#include "tests/kernels/cuda/gpu_run.h"

namespace stoker {

bool HasGpu() { return false; }

std::byte* TakeShared(size_t) { CheckFailed(__FILE__, __LINE__, "this build can use a GPU"); }

void GiveShared(std::byte*) { CheckFailed(__FILE__, __LINE__, "this build can use a GPU"); }

int RunOnGpu(std::string_view, const void*) {
  CheckFailed(__FILE__, __LINE__, "this build can use a GPU");
}

}  // namespace stoker
