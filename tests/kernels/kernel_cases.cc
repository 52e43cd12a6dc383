// Builds the weights and activations that kernel tests share.
#include "tests/kernels/kernel_cases.h"

#include <sys/mman.h>

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/formats/formats.h"

namespace stoker {
namespace {

constexpr size_t kPage = 4096;

void StoreHalf(uint16_t half, uint8_t* p) { std::memcpy(p, &half, 2); }

uint16_t HalfScale(WeightStyle style, Random& random) {
  const auto sign = static_cast<uint16_t>((random() & 1) << 15);
  switch (style) {
    case WeightStyle::kRandom:  // 2^-7 to 2^-5
      return static_cast<uint16_t>(sign | (0x2000 + random() % 0x800));
    case WeightStyle::kLargest:
      return static_cast<uint16_t>(sign | 0x7bff);
    case WeightStyle::kTiny:
      return static_cast<uint16_t>(sign | (random() % 0x400));
    case WeightStyle::kZero:
      return 0x8000;
  }
  return 0;
}

// Puts finite scales into a block whose bytes are already filled.
void SetScales(Q8_0::Block& block, WeightStyle style, Random& random) {
  StoreHalf(HalfScale(style, random), block.d);
}
void SetScales(Q4_0::Block& block, WeightStyle style, Random& random) {
  StoreHalf(HalfScale(style, random), block.d);
}
void SetScales(Q6_K::Block& block, WeightStyle style, Random& random) {
  StoreHalf(HalfScale(style, random), block.d);
}
void SetScales(KHeader& header, WeightStyle style, Random& random) {
  StoreHalf(HalfScale(style, random), header.d);
  StoreHalf(HalfScale(style, random), header.dmin);
}
void SetScales(Q4_K::Block& block, WeightStyle style, Random& random) {
  SetScales(block.header, style, random);
}
void SetScales(Q5_K::Block& block, WeightStyle style, Random& random) {
  SetScales(block.header, style, random);
}
void SetScales(F32::Block& block, WeightStyle style, Random& random) {
  float value = FloatOfHalf(HalfScale(style, random));
  if (style == WeightStyle::kTiny) value *= 0x1p-110f;
  std::memcpy(block.bytes, &value, 4);
}
void SetScales(F16::Block& block, WeightStyle style, Random& random) {
  StoreHalf(HalfScale(style, random), block.bytes);
}
void SetScales(BF16::Block& block, WeightStyle style, Random& random) {
  const float value = FloatOfHalf(HalfScale(style, random));
  StoreHalf(static_cast<uint16_t>(BitsOfFloat(value) >> 16), block.bytes);
}

// The bytes of a block before its scales: at kLargest all ones, all zero or all 0x80 or 0x7f, which
// between them put every field of every format at its ends.
void FillBytes(WeightStyle style, uint8_t* bytes, size_t count, Random& random) {
  constexpr uint8_t kEnds[] = {0xff, 0x00, 0x80, 0x7f};
  const uint8_t end = kEnds[random() % 4];
  for (size_t i = 0; i < count; ++i) {
    bytes[i] = style == WeightStyle::kLargest ? end
               : style == WeightStyle::kZero  ? uint8_t{0}
                                              : static_cast<uint8_t>(random());
  }
}

}  // namespace

GuardedBytes::GuardedBytes(size_t bytes, size_t slack) {
  const size_t readable = (bytes + slack + kPage - 1) / kPage * kPage;
  mapping_bytes_ = readable + kPage;
  void* mapping =
      mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(mapping != MAP_FAILED);
  mapping_ = static_cast<std::byte*>(mapping);
  CHECK(mprotect(mapping_ + readable, kPage, PROT_NONE) == 0);
  data_ = mapping_ + readable - slack - bytes;
}

GuardedBytes::~GuardedBytes() { munmap(mapping_, mapping_bytes_); }

void FillWeights(Dtype dtype, WeightStyle style, std::byte* data, size_t bytes, Random& random) {
  CHECK(VisitFormat(Formats{}, dtype, [&](auto format) {
    using Block = typename decltype(format)::Block;
    auto* blocks = reinterpret_cast<Block*>(data);
    for (size_t b = 0; b < bytes / sizeof(Block); ++b) {
      FillBytes(style, reinterpret_cast<uint8_t*>(&blocks[b]), sizeof(Block), random);
      SetScales(blocks[b], style, random);
    }
  }));
}

std::vector<float> MakeActivations(ActivationStyle style, int64_t cols, Random& random) {
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(cols));
  for (float& value : x) {
    const bool heads = (random() & 1) != 0;
    switch (style) {
      case ActivationStyle::kNormal:
        value = normal(random);
        break;
      case ActivationStyle::kSpikes:
        value = normal(random) * (random() % 64 == 0 ? 1000.0f : 1.0f);
        break;
      case ActivationStyle::kLargest:
        value = heads ? 1.0f : -1.0f;
        break;
      case ActivationStyle::kSame:
        value = 1.0f;
        break;
      case ActivationStyle::kTiny:
        value = normal(random) * 0x1p-121f;
        break;
      case ActivationStyle::kZero:
        value = heads ? 0.0f : -0.0f;
        break;
    }
  }
  return x;
}

ActivationRows::ActivationRows(const Ops& ops, ActivationKind kind, int64_t cols,
                               const std::vector<std::vector<float>>& rows) {
  const size_t row_bytes = ActivationRowBytes(kind, cols);
  const size_t panel_bytes = PanelBytes(kind, cols);
  const auto count = static_cast<int64_t>(rows.size());
  const int64_t panel_count = (count + kPanelRows - 1) / kPanelRows;
  storage_.resize(row_bytes * rows.size() + panel_bytes * static_cast<size_t>(panel_count) + 64);
  std::byte* at = storage_.data() + (64 - reinterpret_cast<uintptr_t>(storage_.data()) % 64) % 64;
  for (const std::vector<float>& row : rows) {
    ops.quantize(kind, row.data(), cols, at);
    pointers_.push_back(at);
    at += row_bytes;
  }
  if (panel_bytes == 0) return;
  panels_ = at;
  for (int64_t p = 0; p < panel_count; ++p) {
    const int64_t left = count - p * kPanelRows;
    ops.pack(kind, pointers_.data() + p * kPanelRows, left < kPanelRows ? left : kPanelRows, cols,
             panels_ + static_cast<size_t>(p) * panel_bytes);
  }
}

std::vector<BackendRow> FastBackends() {
  std::vector<BackendRow> rows;
  for (const BackendRow& row : Backends()) {
    if (row.name != "reference") rows.push_back(row);
  }
  return rows;
}

std::string BackendTestName(const BackendRow& row) { return std::string(row.name); }

}  // namespace stoker
