// exp and log after fdlibm (s_exp, e_log: Sun Microsystems, 1993, freely granted), without their
// tables of special cases.
#include "runtime/sampling_math.h"

#include <cmath>
#include <cstring>

#include "base/check.h"

namespace stoker {
namespace {

// ln 2 in two parts: the first has 32 zero bits at its end, so that k * high is exact.
constexpr double kLn2High = 6.93147180369123816490e-01;
constexpr double kLn2Low = 1.90821492927058770002e-10;
constexpr double kLog2E = 1.44269504088896338700;

}  // namespace

// x = k ln 2 + r with |r| <= ln 2 / 2; exp(r) = 1 + 2r / (R(r^2) - r) by a minimax R of degree 5.
double PortableExp(double x) {
  DCHECK(x <= 0);
  if (x < -700) return 0;
  const double k = std::nearbyint(x * kLog2E);
  const double high = x - k * kLn2High;
  const double low = k * kLn2Low;
  const double r = high - low;
  const double t = r * r;
  const double c =
      r - t * (1.66666666666666019037e-01 +
               t * (-2.77777777770155933842e-03 +
                    t * (6.61375632143793436117e-05 +
                         t * (-1.65339022054652515390e-06 + t * 4.13813679705723846039e-08))));
  const double y = 1.0 - ((low - (r * c) / (2.0 - c)) - high);
  return std::ldexp(y, static_cast<int>(k));
}

// x = 2^k (1 + f) with sqrt(1/2) < 1 + f < sqrt(2); log(1 + f) = 2s + s R(s^2), s = f / (2 + f).
double PortableLog(double x) {
  int k = 0;
  double mantissa = std::frexp(x, &k);  // [1/2, 1)
  if (mantissa < 0.70710678118654752440) {
    mantissa *= 2;
    --k;
  }
  const double f = mantissa - 1;
  const double s = f / (2 + f);
  const double z = s * s;
  const double remainder =
      z * (6.666666666666735130e-01 +
           z * (3.999999999940941908e-01 +
                z * (2.857142874366239149e-01 +
                     z * (2.222219843214978396e-01 +
                          z * (1.818357216161805012e-01 +
                               z * (1.531383769920937332e-01 + z * 1.479819860511658591e-01))))));
  const double half_square = 0.5 * f * f;
  return k * kLn2High - ((half_square - (s * (half_square + remainder) + k * kLn2Low)) - f);
}

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key = {key[0] + kWeyl0, key[1] + kWeyl1};
  }
  return counter;
}

double GumbelNoise(uint64_t seed, int64_t position, int32_t token) {
  const auto place = static_cast<uint64_t>(position);
  const std::array<uint32_t, 4> bits =
      Philox4x32({static_cast<uint32_t>(token), 0, static_cast<uint32_t>(place),
                  static_cast<uint32_t>(place >> 32)},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t mantissa = ((uint64_t{bits[1]} << 32) | bits[0]) >> 11;
  // 2^53 values in (0, 1), none of them an end. The half needs a 54th bit, which doubles lack above
  // 1/2: there it rounds to even, and the last value would become 1, so it is kept below.
  const double u = std::fmin((static_cast<double>(mantissa) + 0.5) * 0x1p-53, 1 - 0x1p-53);
  return -PortableLog(-PortableLog(u));
}

}  // namespace stoker
