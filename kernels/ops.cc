// The sizes of activations.
#include "kernels/ops.h"

#include "base/check.h"
#include "kernels/formats/formats.h"
#include "kernels/panel.h"

namespace stoker {
namespace {

int64_t GroupsOf(int64_t cols) { return (cols + 255) / 256; }

}  // namespace

ActivationKind ActivationKindOf(Dtype weight) {
  ActivationKind kind = ActivationKind::kF32;
  CHECK(VisitFormat(Formats{}, weight, [&](auto format) { kind = format.kActivation; }));
  return kind;
}

size_t ActivationRowBytes(ActivationKind kind, int64_t cols) {
  CHECK(cols >= 0);
  const auto values = static_cast<size_t>(cols);
  if (kind == ActivationKind::kF32) return (values * sizeof(float) + 63) / 64 * 64;
  static_assert(sizeof(Q8x32Group) == sizeof(Q8x256Group));
  return static_cast<size_t>(GroupsOf(cols)) * sizeof(Q8x256Group);
}

size_t PanelBytes(ActivationKind kind, int64_t cols) {
  CHECK(cols >= 0);
  const auto groups = static_cast<size_t>(GroupsOf(cols));
  switch (kind) {
    case ActivationKind::kF32:
      return 0;
    case ActivationKind::kQ8x32:
      return groups * sizeof(Q8x32PanelGroup);
    case ActivationKind::kQ8x256:
      return groups * sizeof(Q8x256PanelGroup);
  }
  return 0;
}

}  // namespace stoker
