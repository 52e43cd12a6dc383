// Products of float weights, one dot at a time.
#include <cstddef>
#include <cstdint>

#include "kernels/reference/lane_sums.h"
#include "kernels/reference/load_float.h"
#include "kernels/reference/reference.h"

namespace stoker::reference {

void MatmulFloat(const MatmulArgs& args) {
  for (int64_t j = 0; j < args.count; ++j) {
    for (int64_t r = args.row_begin; r < args.row_end; ++r) {
      const std::byte* row = args.w.row(r);
      LaneSums sums;
      for (int64_t i = 0; i < args.w.cols; ++i) {
        sums.MultiplyAdd(i, LoadFloat(args.w.dtype, row, i), LoadFloat(Dtype::kF32, args.x[j], i));
      }
      args.out[j][r] = sums.Total();
    }
  }
}

}  // namespace stoker::reference
