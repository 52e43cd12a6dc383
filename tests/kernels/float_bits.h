// Floats compared by their bits, so that -0 differs from +0.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "fmt/format.h"
#include "gtest/gtest.h"

namespace stoker {

// Whether both hold the same bits; a NaN equals any other. Names the first place that differs.
inline testing::AssertionResult SameBits(std::span<const float> actual,
                                         std::span<const float> expected) {
  if (actual.size() != expected.size()) {
    return testing::AssertionFailure() << actual.size() << " values, not " << expected.size();
  }
  for (size_t i = 0; i < actual.size(); ++i) {
    const auto a = std::bit_cast<uint32_t>(actual[i]);
    const auto e = std::bit_cast<uint32_t>(expected[i]);
    const bool both_nan = actual[i] != actual[i] && expected[i] != expected[i];
    if (a != e && !both_nan) {
      return testing::AssertionFailure() << fmt::format("[{}] is {} ({:08x}), not {} ({:08x})", i,
                                                        actual[i], a, expected[i], e);
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace stoker
