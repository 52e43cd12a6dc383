// The operations that a kind of device supplies, and how they are queued.
#pragma once

#include <cstdint>
#include <string_view>

#include "device/device.h"
#include "kernels/device_args.h"

namespace stoker {

template <typename Args>
struct DeviceOp {
  std::string_view name;
  int (*run)(const void* args, void* native_stream) = nullptr;  // as KernelCall::run
};

// The row of an operation: a launcher of typed arguments.
template <typename Args, int (*kLaunch)(const Args&, void*)>
constexpr DeviceOp<Args> MakeDeviceOp(std::string_view name) {
  static_assert(sizeof(Args) <= KernelCall::kArgsBytesMax);
  return {name, [](const void* args, void* native_stream) {
            return kLaunch(*static_cast<const Args*>(args), native_stream);
          }};
}

struct DeviceOps {
  std::string_view name;  // "cuda", "twin"
  DeviceOp<NormRowsArgs> norm_rows;
  DeviceOp<QuantizeRowsArgs> quantize_rows;
  DeviceOp<MatmulRowsArgs> matmul_rows;
  DeviceOp<GateRowsArgs> gate_rows;
  DeviceOp<FinishHeadsArgs> finish_heads;
  DeviceOp<FinishLatentArgs> finish_latent;
  DeviceOp<HeadProductArgs> head_product;
  DeviceOp<AttendRowsArgs> attend_rows;
  DeviceOp<RouteRowsArgs> route_rows;
  DeviceOp<GroupPairsArgs> group_pairs;
  DeviceOp<ExpertGroupArgs> expert_group;
  DeviceOp<SumPartsArgs> sum_parts;
  DeviceOp<LogSumExpArgs> log_sum_exp;
  DeviceOp<EmbedRowsArgs> embed_rows;
};

// Bytes of device memory that an operation reads and writes at least: what its time is held
// against, and what a modelled device takes for it.
uint64_t TouchedBytes(const NormRowsArgs& args);
uint64_t TouchedBytes(const QuantizeRowsArgs& args);
uint64_t TouchedBytes(const MatmulRowsArgs& args);
uint64_t TouchedBytes(const GateRowsArgs& args);
uint64_t TouchedBytes(const FinishHeadsArgs& args);
uint64_t TouchedBytes(const FinishLatentArgs& args);
uint64_t TouchedBytes(const HeadProductArgs& args);
uint64_t TouchedBytes(const AttendRowsArgs& args);
uint64_t TouchedBytes(const RouteRowsArgs& args);
uint64_t TouchedBytes(const GroupPairsArgs& args);
uint64_t TouchedBytes(const ExpertGroupArgs& args);
uint64_t TouchedBytes(const SumPartsArgs& args);
uint64_t TouchedBytes(const LogSumExpArgs& args);
uint64_t TouchedBytes(const EmbedRowsArgs& args);

template <typename Args>
void Enqueue(Device& device, Stream stream, const DeviceOp<Args>& op, const Args& args) {
  device.Launch(stream, {.name = op.name,
                         .run = op.run,
                         .args = &args,
                         .args_bytes = sizeof(Args),
                         .touched_bytes = TouchedBytes(args)});
}

// The operations for a kind of device (Device::kind): those compiled for the GPU, or their twin on
// the CPU. Null for a kind that this build has none for.
const DeviceOps* FindDeviceOps(std::string_view device_kind);

}  // namespace stoker
