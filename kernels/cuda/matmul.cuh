// The two ways of multiplying rows: for few rows and for many.
#pragma once

#include "kernels/cuda/port.cuh"
#include "kernels/device_args.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {

// Products of one format that one launch computes, with the activations that the format wants.
struct ProductGroup {
  struct Item {
    const std::byte* data = nullptr;
    int64_t rows = 0;
    float* out = nullptr;
    int64_t out_stride = 0;
  };
  Item items[MatmulRowsArgs::kProductsMax];
  int count = 0;
  int64_t cols = 0;
  const std::byte* x = nullptr;
  int64_t x_row_bytes = 0;
  int64_t x_rows = 0;
};

// A warp walks each weight row once for up to 8 activation rows.
int WalkProducts(Dtype dtype, const ProductGroup& group, void* native_stream);
inline constexpr int kWalkRowsMax = 8;

// Blocks compute tiles of weight rows by activation rows, of quantized formats.
int TileProducts(Dtype dtype, const ProductGroup& group, void* native_stream);

// Whether all weights of a group start at 16-byte borders.
inline bool IsWide(const ProductGroup& group) {
  for (int i = 0; i < group.count; ++i) {
    if (reinterpret_cast<uintptr_t>(group.items[i].data) % 16 != 0) return false;
  }
  return true;
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
