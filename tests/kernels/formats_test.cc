// Storage formats: decoded values have the bits of an independent decoder, and the integer form
// that kernels multiply says the same as the decoder.
#include "kernels/formats/formats.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/testing/shared_data.h"

namespace stoker {
namespace {

TEST(Formats, EveryListedFormatAgreesWithTheTableOfDtypes) {
  int listed = 0;
  for (const Dtype dtype : kComputableDtypes) {
    EXPECT_TRUE(VisitFormat(Formats{}, dtype, [&](auto format) {
      using Format = decltype(format);
      EXPECT_EQ(Format::kBlockValues, InfoOf(dtype).block_values);
      EXPECT_EQ(sizeof(typename Format::Block), static_cast<size_t>(InfoOf(dtype).block_bytes));
      ++listed;
    }));
  }
  EXPECT_EQ(listed, 8);
}

TEST(Formats, OneValueHasTheBitsThatItsDecodedBlockHas) {
  Random random(7);
  for (const Dtype dtype : kComputableDtypes) {
    VisitFormat(Formats{}, dtype, [&](auto format) {
      using Format = decltype(format);
      for (const WeightStyle style : kWeightStyles) {
        typename Format::Block blocks[16];
        FillWeights(dtype, style, reinterpret_cast<std::byte*>(blocks), sizeof(blocks), random);
        for (const auto& block : blocks) {
          float values[Format::kBlockValues];
          Format::Decode(block, values);
          for (int i = 0; i < Format::kBlockValues; ++i) {
            ASSERT_EQ(std::bit_cast<uint32_t>(Format::Value(block, i)),
                      std::bit_cast<uint32_t>(values[i]))
                << NameOf(dtype) << " value " << i;
          }
        }
      }
    });
  }
}

TEST(Formats, UnlistedDtypesAreNotComputable) {
  EXPECT_TRUE(IsComputable(Dtype::kQ4_K));
  EXPECT_FALSE(IsComputable(Dtype::kI32));
  EXPECT_FALSE(IsComputable(Dtype::kQ8_K));
}

TEST(Formats, DecodedBlocksHaveTheBitsOfTheOracle) {
  SKIP_WITHOUT_SHARED();
  const absl::StatusOr<Safetensors> file =
      Safetensors::Open(SharedPath("oracles/quants/blocks.safetensors"));
  ASSERT_TRUE(file.ok()) << file.status();
  int checked = 0;
  for (const Dtype dtype : kComputableDtypes) {
    const std::string name(NameOf(dtype));
    const SafetensorsEntry* raw = file->Find(name + ".raw");
    if (raw == nullptr) continue;  // the oracle holds block formats only
    const std::vector<float> expected = file->Floats(name + ".values").value();
    const auto* bytes = reinterpret_cast<const std::byte*>(file->Data(*raw).data());
    for (const BackendRow& backend : Backends()) {
      if (!backend.runs_here()) continue;
      std::vector<float> actual(expected.size());
      backend.ops->decode(dtype, bytes, static_cast<int64_t>(actual.size()), actual.data());
      for (size_t i = 0; i < actual.size(); ++i) {
        ASSERT_EQ(std::bit_cast<uint32_t>(actual[i]), std::bit_cast<uint32_t>(expected[i]))
            << backend.name << " " << name << " value " << i;
      }
    }
    ++checked;
  }
  EXPECT_EQ(checked, 5);
}

TEST(Formats, IntegersTimesScalesAreTheDecodedWeights) {
  Random random(5);
  for (const Dtype dtype : kComputableDtypes) {
    std::vector<std::byte> bytes(static_cast<size_t>(InfoOf(dtype).block_bytes));
    for (int trial = 0; trial < 50; ++trial) {
      FillWeights(dtype, WeightStyle::kRandom, bytes.data(), bytes.size(), random);
      VisitFormat(Formats{}, dtype, [&](auto format) {
        using Format = decltype(format);
        if constexpr (Format::kActivation == ActivationKind::kQ8x256) {
          const auto& block = *reinterpret_cast<const typename Format::Block*>(bytes.data());
          const Integers256 integers = Format::Unpack(block);
          float y[256];
          Format::Decode(block, y);
          for (int i = 0; i < 256; ++i) {
            const double scaled = double{integers.d} * integers.scale[i / 16] * integers.q[i];
            const double minimum = double{integers.dmin} * integers.minimum[i / 16];
            // Three roundings of parts no larger than these.
            EXPECT_NEAR(y[i], scaled - minimum, 0x1p-22 * (std::fabs(scaled) + std::fabs(minimum)));
          }
        }
      });
    }
  }
}

TEST(Half, EveryHalfWidensToItsValueAndNarrowsBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const int exponent = (half >> 10) & 31;
    const int mantissa = half & 1023;
    const float value = FloatOfHalf(half);
    const float sign = (half & 0x8000) != 0 ? -1.0f : 1.0f;
    if (exponent == 31 && mantissa != 0) {
      EXPECT_TRUE(std::isnan(value));
      EXPECT_EQ(HalfOfFloat(value), (half & 0x8000) | 0x7e00);
      continue;
    }
    const float expected =
        exponent == 31  ? sign * std::numeric_limits<float>::infinity()
        : exponent == 0 ? sign * std::ldexp(static_cast<float>(mantissa), -24)
                        : sign * std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
    ASSERT_EQ(std::bit_cast<uint32_t>(value), std::bit_cast<uint32_t>(expected)) << bits;
    ASSERT_EQ(HalfOfFloat(value), half);
  }
}

TEST(Half, NarrowingRoundsToNearestEven) {
  // Between each half and the next: just below, at, and just above the middle.
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = FloatOfHalf(static_cast<uint16_t>(bits));
    const float high = FloatOfHalf(static_cast<uint16_t>(bits + 1));
    const float middle = low + (high - low) / 2;
    ASSERT_EQ(HalfOfFloat(std::nextafter(middle, 0.0f)), bits);
    ASSERT_EQ(HalfOfFloat(middle), bits + bits % 2);
    ASSERT_EQ(HalfOfFloat(std::nextafter(middle, 1e9f)), bits + 1);
  }
  EXPECT_EQ(HalfOfFloat(65519.996f), 0x7bff);
  EXPECT_EQ(HalfOfFloat(65520.0f), 0x7c00);
  EXPECT_EQ(HalfOfFloat(-1e30f), 0xfc00);
  EXPECT_EQ(HalfOfFloat(0x1p-25f), 0x0000);
  EXPECT_EQ(HalfOfFloat(-0x1p-140f), 0x8000);
}

}  // namespace
}  // namespace stoker
