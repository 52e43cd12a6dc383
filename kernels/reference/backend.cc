// The table of the reference operations.
#include "kernels/reference/reference.h"

namespace stoker::reference {

constexpr Ops kOps = {
    .name = "reference",
    .quantize = Quantize,
    .pack = Pack,
    .matmul = Matmul,
    .rms_norm = RmsNorm,
    .rope = Rope,
    .silu_multiply = SiluMultiply,
    .add = Add,
    .multiply_add = MultiplyAdd,
    .attention = Attention,
    .route = Route,
    .log_sum_exp = LogSumExp,
    .sigmoid = Sigmoid,
    .to_f16 = ToF16,
    .decode = Decode,
};

}  // namespace stoker::reference
