// What an expert of a layer that is all in device memory has to do, by its number.
#pragma once

#include "kernels/cuda/port.cuh"
#include "kernels/device_args.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {

__device__ __forceinline__ ExpertTask TaskOf(const ExpertAddresses& addresses, int32_t expert,
                                             int32_t first_pair, int32_t pair_count) {
  const std::byte* const* parts = addresses.parts + int64_t{expert} * addresses.part_stride;
  return {.gate = parts[addresses.gate_part],
          .up = parts[addresses.up_part] + addresses.up_offset_bytes,
          .down = parts[addresses.down_part],
          .first_pair = first_pair,
          .pair_count = pair_count};
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
