// The product of a weight matrix and rows of activations: the choice of the kernel.
#include "kernels/cpu/any_dot.h"
#include "kernels/cpu/cpu.h"
#include "kernels/formats/formats.h"
#if defined(__AVX2__)
#include "kernels/cpu/panel_pass.h"
#include "kernels/cpu/walk_pass.h"
#endif

namespace stoker::cpu::STOKER_ISA {
namespace {

template <typename Format>
void MatmulOf(const MatmulArgs& args) {
  if constexpr (Format::kActivation == ActivationKind::kF32) {
    MatmulFloat(args);
  } else {
#if defined(__AVX2__)
    if (args.panels != nullptr && args.count >= kPanelRowsMin) {
      PanelMatmul<Format>(args);
    } else {
      WalkMatmul<Format>(args);
    }
#else
    AnyMatmul<Format>(args);
#endif
  }
}

}  // namespace

void Matmul(const MatmulArgs& args) {
  VisitFormat(Formats{}, args.w.dtype, [&](auto format) { MatmulOf<decltype(format)>(args); });
}

}  // namespace stoker::cpu::STOKER_ISA
