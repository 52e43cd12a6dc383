// Bytes, rates and durations as people write and read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace stoker {

// "8G", "512MiB", "1.5 GB", "4096": K/M/G/T (with or without "iB" or "B") are powers of 1024, as
// users of memory flags expect. InvalidArgument for anything else, negatives and overflow included.
absl::StatusOr<uint64_t> ParseBytes(std::string_view text);

// "24G", "1.47 GB/s", "900MB": bytes per second; K/M/G/T (with or without "B" or "B/s") are powers
// of 1000, as FormatRate prints them. InvalidArgument for anything else, zero included.
absl::StatusOr<double> ParseRate(std::string_view text);

std::string FormatBytes(uint64_t bytes);  // "2.53 MiB"
std::string FormatRate(
    double bytes_per_second);            // "1.47 GB/s", powers of 1000, as drives are quoted
std::string FormatDuration(int64_t ns);  // "183 us", "1.27 s"

}  // namespace stoker
