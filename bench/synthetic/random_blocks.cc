// Block makers of the synthetic models.
#include "bench/synthetic/random_blocks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace stoker {
namespace {

uint16_t ToHalf(double value) {
  const _Float16 half = static_cast<_Float16>(value);
  return std::bit_cast<uint16_t>(half);
}

void PutHalf(uint8_t* at, double value) {
  const uint16_t bits = ToHalf(value);
  std::memcpy(at, &bits, sizeof(bits));
}

// Standard deviation of a quant uniform over n consecutive integers.
double UniformDeviation(int n) { return std::sqrt((static_cast<double>(n) * n - 1) / 12.0); }

// Q4_K and Q5_K: w = d * scale * q - dmin * min with min = scale and dmin = d * (top / 2), so that
// the mean is 0. Scales are 6-bit in [32, 63]; both halves of the packed 12 bytes come from the
// same eight numbers.
void SetKScales(uint8_t* block, int quant_count, double deviation, FastRandom& random) {
  const double mean_scale = 47.5;
  const double d = deviation / (UniformDeviation(quant_count) * mean_scale);
  PutHalf(block, d);
  PutHalf(block + 2, d * (quant_count - 1) / 2.0);
  uint8_t scale[8];
  const uint64_t bits = random.Next();
  for (int j = 0; j < 8; ++j) scale[j] = static_cast<uint8_t>(32 + ((bits >> (5 * j)) & 31));
  uint8_t* packed = block + 4;
  for (int j = 0; j < 4; ++j) {
    packed[j] = static_cast<uint8_t>(scale[j] | ((scale[j + 4] >> 4) << 6));
    packed[j + 4] = packed[j];
    packed[j + 8] = static_cast<uint8_t>((scale[j + 4] & 15) | ((scale[j + 4] & 15) << 4));
  }
}

// Q6_K: w = d * scale * (q - 32), sixteen signed scales of magnitude [64, 127].
void SetQ6Scales(uint8_t* block, double deviation, FastRandom& random) {
  uint64_t bits = random.Next() ^ (random.Next() << 1);
  for (int j = 0; j < 16; ++j) {
    const int magnitude = 64 + static_cast<int>(bits & 63);
    block[192 + j] = static_cast<uint8_t>((j & 1) != 0 ? -magnitude : magnitude);
    bits = (bits >> 6) | (bits << 58);
  }
  PutHalf(block + 208, deviation / (UniformDeviation(64) * 95.5));
}

void SetScales(Dtype dtype, uint8_t* block, double deviation, FastRandom& random) {
  switch (dtype) {
    case Dtype::kQ4_0:
      return PutHalf(block, deviation / UniformDeviation(16));
    case Dtype::kQ8_0:
      return PutHalf(block, deviation / UniformDeviation(256));
    case Dtype::kQ4_K:
      return SetKScales(block, 16, deviation, random);
    case Dtype::kQ5_K:
      return SetKScales(block, 32, deviation, random);
    case Dtype::kQ6_K:
      return SetQ6Scales(block, deviation, random);
    default:
      CHECK(false);
  }
}

bool IsFloat(Dtype dtype) {
  return dtype == Dtype::kF32 || dtype == Dtype::kF16 || dtype == Dtype::kBF16;
}

}  // namespace

FastRandom::FastRandom(uint64_t seed) {
  for (uint64_t& word : state_) {
    seed += 0x9e3779b97f4a7c15u;
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    word = z ^ (z >> 31);
  }
}

uint64_t FastRandom::Next() {
  const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

double FastRandom::Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

void FastRandom::Fill(absl::Span<uint8_t> bytes) {
  size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    const uint64_t word = Next();
    std::memcpy(bytes.data() + at, &word, 8);
  }
  const uint64_t word = Next();
  std::memcpy(bytes.data() + at, &word, bytes.size() - at);
}

bool CanMakeBlocks(Dtype dtype) {
  return IsFloat(dtype) || dtype == Dtype::kQ4_0 || dtype == Dtype::kQ8_0 ||
         dtype == Dtype::kQ4_K || dtype == Dtype::kQ5_K || dtype == Dtype::kQ6_K;
}

std::vector<uint8_t> RandomBlocks(Dtype dtype, int64_t values, double deviation,
                                  FastRandom& random) {
  const DtypeInfo& info = InfoOf(dtype);
  CHECK(CanMakeBlocks(dtype) && values % info.block_values == 0);
  if (IsFloat(dtype)) {
    std::vector<float> plain(static_cast<size_t>(values));
    for (float& value : plain) {
      value = static_cast<float>((random.Uniform() - 0.5) * std::sqrt(12.0) * deviation);
    }
    return EncodeValues(dtype, plain);
  }
  std::vector<uint8_t> bytes(RowBytes(dtype, values));
  random.Fill(absl::MakeSpan(bytes));
  for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(info.block_bytes)) {
    SetScales(dtype, bytes.data() + at, deviation, random);
  }
  return bytes;
}

std::vector<uint8_t> EncodeValues(Dtype dtype, absl::Span<const float> values) {
  std::vector<uint8_t> bytes(RowBytes(dtype, static_cast<int64_t>(values.size())));
  if (dtype == Dtype::kF32) {
    std::memcpy(bytes.data(), values.data(), bytes.size());
  } else if (dtype == Dtype::kF16 || dtype == Dtype::kBF16) {
    for (size_t i = 0; i < values.size(); ++i) {
      const uint32_t word = std::bit_cast<uint32_t>(values[i]);
      const uint16_t half =
          dtype == Dtype::kF16 ? ToHalf(values[i]) : static_cast<uint16_t>(word >> 16);
      std::memcpy(bytes.data() + 2 * i, &half, 2);
    }
  } else {
    CHECK(dtype == Dtype::kQ8_0);
    for (size_t block = 0; block < values.size() / 32; ++block) {
      const float* x = values.data() + block * 32;
      float largest = 0;
      for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
      uint8_t* at = bytes.data() + block * 34;
      PutHalf(at, largest / 127);
      for (int i = 0; i < 32; ++i) {
        const double q = largest > 0 ? std::nearbyint(x[i] / largest * 127) : 0;
        at[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(q));
      }
    }
  }
  return bytes;
}

}  // namespace stoker
