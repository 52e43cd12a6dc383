// The backends, fastest first, and the choice among them.
#include "kernels/backends.h"

#include <string>

#include "fmt/format.h"
#include "kernels/cpu/cpu.h"
#include "kernels/reference/reference.h"

namespace stoker {
namespace {

bool Always() { return true; }

// The compiler's check includes that the operating system keeps the wide registers.
bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
}

bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

constexpr BackendRow kBackends[] = {
    {"avx512", "x86-64 with AVX-512 (F, BW, DQ, VL, VNNI)", &cpu::avx512::kOps, HasAvx512},
    {"avx2", "x86-64 with AVX2, FMA, F16C and BMI2", &cpu::avx2::kOps, HasAvx2},
    {"scalar", "any x86-64, plain code", &cpu::scalar::kOps, Always},
    {"reference", "the definition of every operation; slow, for tests", &reference::kOps, Always},
};

std::string KnownNames() {
  std::string names = "auto";
  for (const BackendRow& row : kBackends) names += fmt::format(", {}", row.name);
  return names;
}

}  // namespace

absl::Span<const BackendRow> Backends() { return kBackends; }

absl::StatusOr<const Ops*> SelectOps(std::string_view name) {
  for (const BackendRow& row : kBackends) {
    if (name == "auto" && row.runs_here()) return row.ops;
    if (name != row.name) continue;
    if (row.runs_here()) return row.ops;
    return absl::FailedPreconditionError(
        fmt::format("this processor cannot run the instruction set '{}': it needs {}. "
                    "Use 'auto' for the fastest that it can run",
                    name, row.description));
  }
  return absl::InvalidArgumentError(
      fmt::format("unknown instruction set '{}'; known are {}", name, KnownNames()));
}

}  // namespace stoker
