// Interleaves quantized activation rows into panels.
#include "kernels/cpu/cpu.h"
#include "kernels/panel.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

void PackRow(const Q8x32Group& from, int64_t r, Q8x32PanelGroup& to) {
  for (int i = 0; i < 64; ++i) __builtin_memcpy(to.q[i][r], from.q + 4 * i, 4);
  for (int b = 0; b < 8; ++b) {
    to.d[b][r] = from.d[b];
    to.sums[b][r] = from.sums[b];
  }
}

void PackRow(const Q8x256Group& from, int64_t r, Q8x256PanelGroup& to) {
  for (int i = 0; i < 64; ++i) __builtin_memcpy(to.q[i][r], from.q + 4 * i, 4);
  to.d[r] = from.d;
  for (int j = 0; j < 8; ++j) {
    to.sums16[j][r][0] = from.sums[2 * j];
    to.sums16[j][r][1] = from.sums[2 * j + 1];
    to.sums32[j / 2][r][j % 2] = static_cast<int16_t>(from.sums[2 * j] + from.sums[2 * j + 1]);
  }
}

template <typename Group, typename PanelGroup>
void PackRows(const std::byte* const* rows, int64_t count, int64_t cols, std::byte* panel) {
  auto* groups = reinterpret_cast<PanelGroup*>(panel);
  for (int64_t g = 0; 256 * g < cols; ++g) {
    if (count < kPanelRows) __builtin_memset(&groups[g], 0, sizeof groups[g]);
    for (int64_t r = 0; r < count; ++r) {
      PackRow(reinterpret_cast<const Group*>(rows[r])[g], r, groups[g]);
    }
  }
}

}  // namespace

void Pack(ActivationKind kind, const std::byte* const* rows, int64_t count, int64_t cols,
          std::byte* panel) {
  switch (kind) {
    case ActivationKind::kF32:
      return;
    case ActivationKind::kQ8x32:
      return PackRows<Q8x32Group, Q8x32PanelGroup>(rows, count, cols, panel);
    case ActivationKind::kQ8x256:
      return PackRows<Q8x256Group, Q8x256PanelGroup>(rows, count, cols, panel);
  }
}

}  // namespace stoker::cpu::STOKER_ISA
