// The table of operations of one instruction set.
#include "kernels/cpu/cpu.h"

#define STOKER_STRING_OF(x) #x
#define STOKER_NAME_OF(x) STOKER_STRING_OF(x)

namespace stoker::cpu::STOKER_ISA {

constexpr Ops kOps = {
    .name = STOKER_NAME_OF(STOKER_ISA),
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

}  // namespace stoker::cpu::STOKER_ISA
