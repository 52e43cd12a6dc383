// exp, log and random bits that are the same on every machine, so that a sampled text is too.
//
// The C library's exp and log are not correctly rounded and differ between versions and processors;
// these are fixed sequences of IEEE operations (the project is compiled without contraction).
#pragma once

#include <array>
#include <cstdint>

namespace stoker {

// e^x within 1 ulp, for finite x <= 0; +0 below -700 (where no probability matters any more).
double PortableExp(double x);
// Natural logarithm within 1 ulp, for normal x > 0.
double PortableLog(double x);

// Philox4x32-10: 128 random bits as a function of a counter and a key, no state.
// Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Standard Gumbel noise -log(-log(u)) of one (seed, position, token): u is (bits + 1/2) / 2^53 with
// 53 bits of Philox of counter (token, 0, position low, position high) and key seed.
double GumbelNoise(uint64_t seed, int64_t position, int32_t token);

}  // namespace stoker
