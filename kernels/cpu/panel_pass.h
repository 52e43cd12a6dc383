// Multiplies weight rows with panels: the loops over tiles, blocks and passes around the kernels of
// an instruction set.
#pragma once

#include "kernels/cpu/panel_tile.h"
#include "kernels/cpu/prefetch.h"
#include "kernels/panel.h"
#if defined(__AVX512VNNI__)
#include "kernels/cpu/avx512_panel.h"
#else
#include "kernels/cpu/avx2_panel.h"
#endif

namespace stoker::cpu::STOKER_ISA {
namespace {

// A tile of weight rows and `panel_count` panels, the first of which holds activation row first_x.
template <typename Format, typename Unpacked, typename PanelGroup>
void MultiplyTile(const MatmulArgs& args, int64_t first_row, int64_t first_x, int panel_count) {
  const int64_t block_count = args.w.cols / Format::kBlockValues;
  const int64_t group_count = (args.w.cols + 255) / 256;
  const auto* blocks = reinterpret_cast<const typename Format::Block*>(args.w.data);
  const auto* panels = reinterpret_cast<const PanelGroup*>(args.panels);
  PassStrands strands;
  for (int64_t b = block_count; b < 8; ++b) {
    if (Format::kBlockValues == 256) __builtin_memset(strands.s[b], 0, sizeof strands.s[b]);
  }
  Unpacked unpacked;
  constexpr int64_t kGroupBytes = 256 / Format::kBlockValues * sizeof(typename Format::Block);
  const auto* tile = blocks + first_row * block_count;
  for (int64_t g = 0; g < group_count; ++g) {
    const char* ahead =
        Ahead(tile, group_count * kTileRows * kGroupBytes, g * kTileRows * kGroupBytes);
    for (int r = 0; r < kTileRows; ++r) {
      PrefetchShare(ahead + r * kGroupBytes, kGroupBytes);
      const int64_t row = first_row + r < args.row_end ? first_row + r : args.row_end - 1;
      UnpackGroup<Format>(blocks + row * block_count, g, block_count, r, unpacked);
    }
    const PanelGroup* x[kPassPanels];
    for (int p = 0; p < panel_count; ++p) {
      x[p] = panels + (first_x / kPanelRows + p) * group_count + g;
    }
    int p = 0;
    for (; p + 1 < panel_count; p += 2) MultiplyGroup<Format, 2>(unpacked, g, x + p, p, strands);
    if (p < panel_count) MultiplyGroup<Format, 1>(unpacked, g, x + p, p, strands);
  }
  StorePass(args, strands, first_row, first_x, panel_count);
}

template <typename Format>
void PanelMatmul(const MatmulArgs& args) {
  constexpr int64_t kPassRows = kPassPanels * kPanelRows;
  for (int64_t j = 0; j < args.count; j += kPassRows) {
    const int64_t left = (args.count - j + kPanelRows - 1) / kPanelRows;
    const int panel_count = static_cast<int>(left < kPassPanels ? left : kPassPanels);
    for (int64_t r = args.row_begin; r < args.row_end; r += kTileRows) {
      if constexpr (Format::kActivation == ActivationKind::kQ8x256) {
        MultiplyTile<Format, UnpackedSuperblocks, Q8x256PanelGroup>(args, r, j, panel_count);
      } else {
        MultiplyTile<Format, UnpackedBlocks, Q8x32PanelGroup>(args, r, j, panel_count);
      }
    }
  }
}

}  // namespace
}  // namespace stoker::cpu::STOKER_ISA
