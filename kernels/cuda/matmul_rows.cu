// Multiplies rows by several matrices at once: those of one format in one launch.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/matmul.cuh"
#include "kernels/cuda/port.cuh"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

void SetActivations(const MatmulRowsArgs& args, Dtype dtype, ProductGroup& group) {
  const ActivationKind kind = ActivationKindOf(dtype);
  switch (kind) {
    case ActivationKind::kF32:
      group.x = reinterpret_cast<const std::byte*>(args.x.x);
      group.x_row_bytes = args.x.stride * static_cast<int64_t>(sizeof(float));
      return;
    case ActivationKind::kQ8x32:
      group.x = args.x.q8x32;
      break;
    case ActivationKind::kQ8x256:
      group.x = args.x.q8x256;
      break;
  }
  group.x_row_bytes = static_cast<int64_t>(ActivationRowBytes(kind, args.cols));
}

ProductGroup GroupOfFormat(const MatmulRowsArgs& args, Dtype dtype) {
  ProductGroup group{.cols = args.cols, .x_rows = args.rows};
  for (int p = 0; p < args.product_count; ++p) {
    const MatmulRowsArgs::Product& product = args.products[p];
    if (product.w.dtype != dtype) continue;
    group.items[group.count++] = {product.w.data, product.w.rows, product.out, product.out_stride};
  }
  SetActivations(args, dtype, group);
  return group;
}

bool IsFirstOfItsFormat(const MatmulRowsArgs& args, int p) {
  for (int earlier = 0; earlier < p; ++earlier) {
    if (args.products[earlier].w.dtype == args.products[p].w.dtype) return false;
  }
  return true;
}

}  // namespace

int MatmulRows(const MatmulRowsArgs& args, void* native_stream) {
  for (int p = 0; p < args.product_count; ++p) {
    if (!IsFirstOfItsFormat(args, p)) continue;
    const Dtype dtype = args.products[p].w.dtype;
    const ProductGroup group = GroupOfFormat(args, dtype);
    const bool walks = args.rows <= kWalkRowsMax || ActivationKindOf(dtype) == ActivationKind::kF32;
    const int code = walks ? WalkProducts(dtype, group, native_stream)
                           : TileProducts(dtype, group, native_stream);
    if (code != 0) return code;
  }
  return 0;
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
