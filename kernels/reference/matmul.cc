// Defines the block dot: quantized weights times quantized activations, in the order of the
// exactness contract (kernels/ops.h).
#include <cmath>

#include "base/check.h"
#include "kernels/formats/formats.h"
#include "kernels/reference/reference.h"

namespace stoker::reference {
namespace {

// What one block contributes: s = fma(scale, isum, s), then s = fma(-min_scale, msum, s).
struct BlockDot {
  float scale;
  int32_t isum = 0;
  float min_scale;
  int32_t msum = 0;
};

BlockDot DotBlock(const Integers32& w, const std::byte* x, int64_t b) {
  const Q8x32Group& group = reinterpret_cast<const Q8x32Group*>(x)[b / 8];
  BlockDot dot{.scale = w.d * group.d[b % 8], .min_scale = 0};
  for (int i = 0; i < 32; ++i) dot.isum += w.q[i] * group.q[32 * (b % 8) + i];
  return dot;
}

BlockDot DotBlock(const Integers256& w, const std::byte* x, int64_t b) {
  const Q8x256Group& group = reinterpret_cast<const Q8x256Group*>(x)[b];
  BlockDot dot{.scale = w.d * group.d, .min_scale = w.dmin * group.d};
  for (int i = 0; i < 256; ++i) {
    dot.isum += w.scale[i / 16] * (w.q[i] * group.q[i]);
    dot.msum += w.minimum[i / 16] * group.q[i];
  }
  return dot;
}

template <typename Format>
constexpr bool HasMinima() {
  if constexpr (Format::kActivation == ActivationKind::kQ8x256) return Format::kHasMinima;
  return false;
}

template <typename Format>
float DotRow(const typename Format::Block* blocks, int64_t block_count, const std::byte* x) {
  float s[8] = {};
  for (int64_t b = 0; b < block_count; ++b) {
    const BlockDot dot = DotBlock(Format::Unpack(blocks[b]), x, b);
    float& strand = s[b % 8];
    strand = std::fma(dot.scale, static_cast<float>(dot.isum), strand);
    if (HasMinima<Format>()) {
      strand = std::fma(-dot.min_scale, static_cast<float>(dot.msum), strand);
    }
  }
  for (int width = 4; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) s[i] += s[i + width];
  }
  return s[0];
}

}  // namespace

void Matmul(const MatmulArgs& args) {
  CHECK(VisitFormat(Formats{}, args.w.dtype, [&](auto format) {
    using Format = decltype(format);
    if constexpr (Format::kActivation == ActivationKind::kF32) {
      MatmulFloat(args);
    } else {
      const int64_t block_count = args.w.cols / Format::kBlockValues;
      for (int64_t r = args.row_begin; r < args.row_end; ++r) {
        const auto* row = reinterpret_cast<const typename Format::Block*>(args.w.row(r));
        for (int64_t j = 0; j < args.count; ++j) {
          args.out[j][r] = DotRow<Format>(row, block_count, args.x[j]);
        }
      }
    }
  }));
}

}  // namespace stoker::reference
