// Decodes one row of any listed format to floats.
#include "kernels/cpu/cpu.h"
#include "kernels/formats/formats.h"

namespace stoker::cpu::STOKER_ISA {

void Decode(Dtype dtype, const std::byte* row, int64_t cols, float* y) {
  VisitFormat(Formats{}, dtype, [&](auto format) {
    using Format = decltype(format);
    const auto* blocks = reinterpret_cast<const typename Format::Block*>(row);
    for (int64_t i = 0; i < cols; i += Format::kBlockValues) Format::Decode(*blocks++, y + i);
  });
}

}  // namespace stoker::cpu::STOKER_ISA
