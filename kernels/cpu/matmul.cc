// The product of a weight matrix and rows of activations: the choice of the kernel.
#include "kernels/cpu/any_dot.h"
#include "kernels/cpu/cpu.h"
#include "kernels/formats/formats.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

template <typename Format>
void MatmulOf(const MatmulArgs& args) {
  if constexpr (Format::kActivation == ActivationKind::kF32) {
    MatmulFloat(args);
  } else {
    AnyMatmul<Format>(args);
  }
}

}  // namespace

void Matmul(const MatmulArgs& args) {
  VisitFormat(Formats{}, args.w.dtype, [&](auto format) { MatmulOf<decltype(format)>(args); });
}

}  // namespace stoker::cpu::STOKER_ISA
