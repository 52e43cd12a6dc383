// Reading rope scaling from a file, and filling the rotation tables.
#include "model/rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "base/status.h"

namespace stoker {
namespace {

constexpr int64_t kRopeDimsMax = 4096;

struct Yarn {
  double factor = 1;
  double original_context = 0;
  double beta_fast = 32;
  double beta_slow = 1;
};

// The pair index at which a rotation makes `turns` turns over the original context.
double CorrectionIndex(const Yarn& yarn, int dims, double base, double turns) {
  return dims * std::log(yarn.original_context / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(base));
}

// Slow rotations are stretched by the factor, fast ones kept, those between blended linearly.
void ApplyYarn(const Yarn& yarn, RopeConfig& rope) {
  const double low =
      std::max(0.0, std::floor(CorrectionIndex(yarn, rope.dims, rope.base, yarn.beta_fast)));
  const double high = std::min(
      rope.dims - 1.0, std::ceil(CorrectionIndex(yarn, rope.dims, rope.base, yarn.beta_slow)));
  for (size_t i = 0; i < rope.frequencies.size(); ++i) {
    const double plain = std::pow(rope.base, -2.0 * static_cast<double>(i) / rope.dims);
    const double stretched =
        std::clamp((static_cast<double>(i) - low) / std::max(1e-3, high - low), 0.0, 1.0);
    rope.frequencies[i] = static_cast<float>(plain * (stretched / yarn.factor + (1.0 - stretched)));
  }
}

absl::Status ReadYarn(const GgufModel& gguf, std::string_view arch, double factor,
                      RopeConfig& rope) {
  const auto key = [&](std::string_view suffix) {
    return fmt::format("{}.rope.scaling.{}", arch, suffix);
  };
  ASSIGN_OR_RETURN(const int64_t context,
                   gguf.Int(fmt::format("{}.context_length", arch), 1, int64_t{1} << 24));
  ASSIGN_OR_RETURN(const int64_t original,
                   gguf.Int(key("original_context_length"), context, 1, int64_t{1} << 24));
  Yarn yarn;
  yarn.factor = factor;
  yarn.original_context = static_cast<double>(original);
  ASSIGN_OR_RETURN(yarn.beta_fast, gguf.Float(key("yarn_beta_fast"), 32.0));
  ASSIGN_OR_RETURN(yarn.beta_slow, gguf.Float(key("yarn_beta_slow"), 1.0));
  if (!(yarn.beta_fast > 0 && yarn.beta_slow > 0)) {
    return absl::InvalidArgumentError(
        fmt::format("{} and {} must be above 0", key("yarn_beta_fast"), key("yarn_beta_slow")));
  }
  ASSIGN_OR_RETURN(const double magnitude,
                   gguf.Float(key("attn_factor"), YarnMagnitude(factor, 1.0)));
  rope.magnitude = static_cast<float>(magnitude);
  ApplyYarn(yarn, rope);
  return absl::OkStatus();
}

}  // namespace

double YarnMagnitude(double factor, double multiplier) {
  return factor <= 1 ? 1.0 : 0.1 * multiplier * std::log(factor) + 1.0;
}

absl::StatusOr<RopeConfig> ReadRope(const GgufModel& gguf, std::string_view arch,
                                    int default_dims) {
  const auto key = [&](std::string_view suffix) { return fmt::format("{}.rope.{}", arch, suffix); };
  RopeConfig rope;
  ASSIGN_OR_RETURN(const int64_t dims,
                   gguf.Int(key("dimension_count"), default_dims, 1, kRopeDimsMax));
  ASSIGN_OR_RETURN(rope.base, gguf.Float(key("freq_base"), 10000.0));
  if (!(rope.base > 1)) {
    return absl::InvalidArgumentError(fmt::format("{} must be above 1", key("freq_base")));
  }
  rope.dims = static_cast<int>(dims);
  ASSIGN_OR_RETURN(const double old_factor, gguf.Float(key("scale_linear"), 1.0));
  ASSIGN_OR_RETURN(double factor, gguf.Float(key("scaling.factor"), old_factor));
  if (factor == 0) factor = 1;  // as some converters write "no scaling"
  ASSIGN_OR_RETURN(const std::string type,
                   gguf.String(key("scaling.type"), factor == 1.0 ? "none" : "linear"));
  if (type != "none" && type != "linear" && type != "yarn") {
    return absl::UnimplementedError(
        fmt::format("{} is \"{}\"; supported are none, linear, yarn", key("scaling.type"), type));
  }
  if (!(factor > 0)) {
    return absl::InvalidArgumentError(
        fmt::format("{} must not be negative", key("scaling.factor")));
  }
  const double divisor = type == "linear" ? factor : 1.0;
  rope.frequencies.resize(static_cast<size_t>(dims / 2));
  for (size_t i = 0; i < rope.frequencies.size(); ++i) {
    const double plain = std::pow(rope.base, -2.0 * static_cast<double>(i) / rope.dims);
    rope.frequencies[i] = static_cast<float>(plain / divisor);
  }
  if (type == "yarn") RETURN_IF_ERROR(ReadYarn(gguf, arch, factor, rope));
  return rope;
}

void FillRopeTable(const RopeConfig& rope, const float* divisors, int64_t begin, int64_t end,
                   const RopeArrays& table) {
  const size_t pairs = rope.frequencies.size();
  for (int64_t position = begin; position < end; ++position) {
    for (size_t i = 0; i < pairs; ++i) {
      const double divisor = divisors == nullptr ? 1.0 : divisors[i];
      const double angle = static_cast<double>(position) * (rope.frequencies[i] / divisor);
      const size_t at = static_cast<size_t>(position) * pairs + i;
      table.cosines[at] = static_cast<float>(rope.magnitude * std::cos(angle));
      table.sines[at] = static_cast<float>(rope.magnitude * std::sin(angle));
    }
  }
}

}  // namespace stoker
