// The definition of right: every operation of Ops, slow and plain, in the order of the exactness
// contract (kernels/ops.h). Other backends give these bits.
#pragma once

#include "kernels/ops.h"

namespace stoker::reference {

extern const Ops kOps;

// Block formats and storage: quantize.cc, pack.cc, matmul.cc, decode.cc.
void Quantize(ActivationKind kind, const float* x, int64_t cols, std::byte* row);
void Pack(ActivationKind kind, const std::byte* const* rows, int64_t count, int64_t cols,
          std::byte* panel);
void Matmul(const MatmulArgs& args);
void Decode(Dtype dtype, const std::byte* row, int64_t cols, float* y);

// Float weights (F32, F16, BF16) on kF32 activations: float_matmul.cc. Reached through Matmul.
void MatmulFloat(const MatmulArgs& args);

// The rest of Ops: float_ops.cc and its neighbours.
void RmsNorm(const float* x, const float* weight, int64_t n, float epsilon, float* y);
void Rope(float* x, const float* cos, const float* sin, int64_t pairs, RopePairing pairing);
void SiluMultiply(const float* gate, const float* up, int64_t n, float* y);
void Add(const float* x, int64_t n, float* y);
void MultiplyAdd(float scale, const float* x, int64_t n, float* y);
void Attention(const AttentionArgs& args);
void Route(const RouterArgs& args);
ExpSum LogSumExp(const float* x, int64_t n);
float Sigmoid(float x);
void ToF16(const float* x, int64_t n, uint16_t* y);

}  // namespace stoker::reference
