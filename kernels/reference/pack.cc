// Defines what a panel holds.
#include <cstring>

#include "kernels/panel.h"
#include "kernels/reference/reference.h"

namespace stoker::reference {
namespace {

void PackGroup32(const Q8x32Group& from, int64_t row, Q8x32PanelGroup& to) {
  for (int i = 0; i < 256; ++i) to.q[i / 4][row][i % 4] = from.q[i];
  for (int b = 0; b < 8; ++b) {
    to.d[b][row] = from.d[b];
    to.sums[b][row] = from.sums[b];
  }
}

void PackGroup256(const Q8x256Group& from, int64_t row, Q8x256PanelGroup& to) {
  for (int i = 0; i < 256; ++i) to.q[i / 4][row][i % 4] = from.q[i];
  to.d[row] = from.d;
  for (int j = 0; j < 16; ++j) {
    int16_t& sum32 = to.sums32[j / 4][row][j / 2 % 2];
    sum32 = static_cast<int16_t>(sum32 + from.sums[j]);
    to.sums16[j / 2][row][j % 2] = from.sums[j];
  }
}

}  // namespace

void Pack(ActivationKind kind, const std::byte* const* rows, int64_t count, int64_t cols,
          std::byte* panel) {
  std::memset(panel, 0, PanelBytes(kind, cols));
  if (kind == ActivationKind::kF32) return;
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t g = 0; 256 * g < cols; ++g) {
      if (kind == ActivationKind::kQ8x32) {
        PackGroup32(reinterpret_cast<const Q8x32Group*>(rows[row])[g], row,
                    reinterpret_cast<Q8x32PanelGroup*>(panel)[g]);
      } else {
        PackGroup256(reinterpret_cast<const Q8x256Group*>(rows[row])[g], row,
                     reinterpret_cast<Q8x256PanelGroup*>(panel)[g]);
      }
    }
  }
}

}  // namespace stoker::reference
