// Reads one value of a float storage type at any address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "base/dtype.h"
#include "kernels/formats/half.h"

namespace stoker::reference {

// Element i of an array of kF32, kF16 or kBF16, widened exactly.
inline float LoadFloat(Dtype dtype, const void* data, int64_t i) {
  if (dtype == Dtype::kF32) {
    float value;
    std::memcpy(&value, static_cast<const std::byte*>(data) + i * 4, sizeof(value));
    return value;
  }
  CHECK(dtype == Dtype::kF16 || dtype == Dtype::kBF16);
  uint16_t bits;
  std::memcpy(&bits, static_cast<const std::byte*>(data) + i * 2, sizeof(bits));
  return dtype == Dtype::kF16 ? FloatOfHalf(bits) : FloatOfBfloat16(bits);
}

}  // namespace stoker::reference
