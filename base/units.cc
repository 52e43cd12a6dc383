// Parsing and printing of quantities.
#include "base/units.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <optional>

namespace stoker {
namespace {

std::string_view Strip(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

struct Quantity {
  double number = 0;
  std::string_view unit;
};

// "1.5 GB" as 1.5 and "GB"; nothing when it does not begin with a number.
std::optional<Quantity> Split(std::string_view text) {
  const std::string_view rest = Strip(text);
  Quantity quantity;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), quantity.number,
                                            std::chars_format::fixed);
  if (error != std::errc()) return {};
  quantity.unit = Strip(rest.substr(static_cast<size_t>(end - rest.data())));
  return quantity;
}

// The power of 1024 that a unit names, or -1.
int PowerOfUnit(std::string_view unit) {
  if (unit.empty() || unit == "B" || unit == "b") return 0;
  static constexpr std::string_view kPrefixes = "KMGTkmgt";
  const size_t prefix = kPrefixes.find(unit[0]);
  const std::string_view tail = unit.substr(1);
  if (prefix == std::string_view::npos ||
      !(tail.empty() || tail == "B" || tail == "iB" || tail == "b"))
    return -1;
  return static_cast<int>(prefix % 4) + 1;
}

}  // namespace

absl::StatusOr<uint64_t> ParseBytes(std::string_view text) {
  const std::optional<Quantity> quantity = Split(text);
  const int power = quantity.has_value() ? PowerOfUnit(quantity->unit) : -1;
  const double bytes = power < 0 ? -1 : std::ldexp(quantity->number, 10 * power);
  if (!(bytes >= 0) || bytes > 9.0e18) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' is not a number of bytes; write for example 8G, 512MiB or 4096", text));
  }
  return static_cast<uint64_t>(std::llround(bytes));
}

absl::StatusOr<double> ParseRate(std::string_view text) {
  std::optional<Quantity> quantity = Split(text);
  if (quantity.has_value() && quantity->unit.ends_with("/s")) quantity->unit.remove_suffix(2);
  const int power = quantity.has_value() && quantity->unit.find('i') == std::string_view::npos
                        ? PowerOfUnit(quantity->unit)
                        : -1;
  const double rate = power < 0 ? -1 : quantity->number * std::pow(1000.0, power);
  if (!(rate > 0) || rate > 9.0e18) {
    return absl::InvalidArgumentError(fmt::format(
        "'{}' is not a rate in bytes per second; write for example 24GB/s or 900M", text));
  }
  return rate;
}

std::string FormatBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.2f} {}", value, kUnits[unit]);
}

std::string FormatRate(double bytes_per_second) {
  static constexpr const char* kUnits[] = {"B/s", "kB/s", "MB/s", "GB/s", "TB/s"};
  int unit = 0;
  while (bytes_per_second >= 1000 && unit < 4) {
    bytes_per_second /= 1000;
    ++unit;
  }
  return fmt::format("{:.2f} {}", bytes_per_second, kUnits[unit]);
}

std::string FormatDuration(int64_t ns) {
  const double value = static_cast<double>(ns);
  if (ns < 10'000) return fmt::format("{} ns", ns);
  if (ns < 10'000'000) return fmt::format("{:.0f} us", value / 1e3);
  if (ns < 10'000'000'000) return fmt::format("{:.1f} ms", value / 1e6);
  return fmt::format("{:.2f} s", value / 1e9);
}

}  // namespace stoker
