// Defines the value of every stored weight: one row of any listed format to floats.
#include "base/check.h"
#include "kernels/formats/formats.h"
#include "kernels/reference/reference.h"

namespace stoker::reference {

void Decode(Dtype dtype, const std::byte* row, int64_t cols, float* y) {
  CHECK(VisitFormat(Formats{}, dtype, [&](auto format) {
    using Format = decltype(format);
    const auto* blocks = reinterpret_cast<const typename Format::Block*>(row);
    for (int64_t b = 0; b < cols / Format::kBlockValues; ++b) {
      Format::Decode(blocks[b], y + b * Format::kBlockValues);
    }
  }));
}

}  // namespace stoker::reference
