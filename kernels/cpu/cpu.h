// The processor's backends: the sources of this folder, compiled once for each instruction set.
//
// STOKER_ISA (scalar, avx2 or avx512) names the namespace and comes from the build with the flags
// of that instruction set; the code asks __AVX2__ and __AVX512VNNI__ what it may use. See
// kernels/portable.h for what these sources may include, and why.
#pragma once

#include "kernels/ops.h"

namespace stoker::cpu {
namespace scalar {
extern const Ops kOps;
}
namespace avx2 {
extern const Ops kOps;
}
namespace avx512 {
extern const Ops kOps;
}
}  // namespace stoker::cpu

#ifdef STOKER_ISA
namespace stoker::cpu::STOKER_ISA {

// Block formats and storage.
void Quantize(ActivationKind kind, const float* x, int64_t cols, std::byte* row);
void Pack(ActivationKind kind, const std::byte* const* rows, int64_t count, int64_t cols,
          std::byte* panel);
void Matmul(const MatmulArgs& args);
void Decode(Dtype dtype, const std::byte* row, int64_t cols, float* y);

// Float weights (F32, F16, BF16) on kF32 activations. Reached through Matmul.
void MatmulFloat(const MatmulArgs& args);

// The rest of Ops.
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

}  // namespace stoker::cpu::STOKER_ISA
#endif
