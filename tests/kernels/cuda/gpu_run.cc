// The GPU side of kernel tests.
#include "tests/kernels/cuda/gpu_run.h"

#include <cuda_runtime_api.h>

#include "base/check.h"
#include "device/device.h"
#include "kernels/cuda/tables.h"

namespace stoker {
namespace {

using Launcher = int (*)(const void* args, void* native_stream);

Launcher FindLauncher(std::string_view name) {
  const DeviceOps& ops = cuda::kOps;
  Launcher found = nullptr;
  const auto look = [&](const auto& op) { found = op.name == name ? op.run : found; };
  look(ops.norm_rows);
  look(ops.quantize_rows);
  look(ops.matmul_rows);
  look(ops.gate_rows);
  look(ops.finish_heads);
  look(ops.finish_latent);
  look(ops.head_product);
  look(ops.attend_rows);
  look(ops.route_rows);
  look(ops.group_pairs);
  look(ops.expert_group);
  look(ops.sum_parts);
  look(ops.log_sum_exp);
  look(ops.embed_rows);
  return found;
}

}  // namespace

bool HasGpu() {
  static const bool has_gpu = UsableGpuCount() > 0;
  return has_gpu;
}

std::byte* TakeShared(size_t bytes) {
  void* memory = nullptr;
  CHECK(cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal) == cudaSuccess);
  return static_cast<std::byte*>(memory);
}

void GiveShared(std::byte* memory) { CHECK(cudaFree(memory) == cudaSuccess); }

int RunOnGpu(std::string_view name, const void* args) {
  const Launcher launch = FindLauncher(name);
  CHECK(launch != nullptr);
  const int code = launch(args, nullptr);
  return code != 0 ? code : cudaDeviceSynchronize();
}

}  // namespace stoker
