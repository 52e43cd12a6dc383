// The split of experts in RAM between the host and the device, and the rates it goes by.
#include "cache/placement.h"

#include <algorithm>
#include <cmath>

namespace stoker {
namespace {

constexpr uint64_t kRowsPerPass = 8;  // columns that a matrix-vector kernel takes at once

double HostSeconds(const LinkRates& rates, const PlaceCandidate& expert) {
  const double bytes = static_cast<double>(expert.bytes);
  const double memory_s = bytes / rates.host;
  if (rates.host_row <= 0) return memory_s;
  return std::max(memory_s, bytes * expert.rows / rates.host_row);
}

double DeviceSeconds(const LinkRates& rates, uint64_t pass_bytes) {
  return rates.device > 0 ? static_cast<double>(pass_bytes) / rates.device : 0;
}

// What is left of a rate while the other link is busy too.
double Slowdown(double plain, double beside) {
  return beside > 0 && beside < plain ? beside / plain : 1;
}

struct Ends {
  double host_s = 0;
  double copy_s = 0;
};

// Both begin at once; the one that ends later has the memory to itself from when the other ended.
Ends RunTogether(const LinkRates& rates, double host_alone_s, double copy_alone_s) {
  const double host_share = Slowdown(rates.host, rates.host_beside_copy);
  const double copy_share = Slowdown(rates.copy_in, rates.copy_beside_host);
  const double host_s = host_alone_s / host_share;
  const double copy_s = copy_alone_s / copy_share;
  if (host_s <= copy_s) return {host_s, host_s + (copy_alone_s - host_s * copy_share)};
  return {copy_s + (host_alone_s - copy_s * host_share), copy_s};
}

// The split by its sums, so that the search is linear.
struct Sums {
  double host_s = 0;          // of those that stay
  uint64_t copy_bytes = 0;    // of those that are copied
  uint64_t device_bytes = 0;  // passes over all that the device computes
  uint64_t last_bytes = 0;    // passes over the expert copied last
};

double EndOf(const LinkRates& rates, const Sums& sums) {
  const Ends ends =
      RunTogether(rates, sums.host_s, static_cast<double>(sums.copy_bytes) / rates.copy_in);
  // The device is done when all is computed, and not before what came last is.
  const double device_s = std::max(ends.copy_s + DeviceSeconds(rates, sums.last_bytes),
                                   DeviceSeconds(rates, sums.device_bytes));
  return std::max(ends.host_s, device_s);
}

void MoveToDevice(const LinkRates& rates, const PlaceCandidate& expert, Sums& sums) {
  sums.host_s = std::max(0.0, sums.host_s - HostSeconds(rates, expert));
  sums.copy_bytes += expert.bytes;
  sums.last_bytes = DevicePassBytes(expert.bytes, expert.rows);
  sums.device_bytes += sums.last_bytes;
}

Sums NothingCopied(const PlaceQuestion& question, absl::Span<const PlaceCandidate> experts) {
  Sums sums = {.device_bytes = question.device_backlog_bytes};
  for (const PlaceCandidate& expert : experts) sums.host_s += HostSeconds(question.rates, expert);
  return sums;
}

int CountForSoonestEnd(const PlaceQuestion& question, absl::Span<const PlaceCandidate> experts) {
  Sums sums = NothingCopied(question, experts);
  double soonest_s = EndOf(question.rates, sums);
  int best = 0;
  for (size_t i = 0; i < experts.size(); ++i) {
    MoveToDevice(question.rates, experts[i], sums);
    const double end_s = EndOf(question.rates, sums);
    // Rounding must not decide between equal ends.
    if (end_s < soonest_s * (1 - 1e-9)) {
      soonest_s = end_s;
      best = static_cast<int>(i) + 1;
    }
  }
  return best;
}

void Learn(double sample, double& rate) {
  rate = rate > 0 ? rate + (sample - rate) / LinkEstimates::kSampleShare : sample;
}

double BytesPerSecond(uint64_t bytes, int64_t ns) {
  return static_cast<double>(bytes) * 1e9 / static_cast<double>(ns);
}

}  // namespace

LinkRates WholeRates(const LinkRates& rates) {
  constexpr double kRateMax = 1e18;
  LinkRates whole;
  for (double LinkRates::*const rate : kLinkRateFields) {
    whole.*rate = std::floor(std::clamp(rates.*rate, 0.0, kRateMax));
  }
  return whole;
}

uint64_t DevicePassBytes(uint64_t bytes, int32_t rows) {
  return bytes * ((static_cast<uint64_t>(std::max(rows, 1)) + kRowsPerPass - 1) / kRowsPerPass);
}

double PlacedSeconds(const PlaceQuestion& question, absl::Span<const PlaceCandidate> experts,
                     int copy_count) {
  Sums sums = NothingCopied(question, experts);
  for (int i = 0; i < copy_count; ++i) MoveToDevice(question.rates, experts[i], sums);
  return EndOf(question.rates, sums);
}

int ChoosePlaces(const PlaceQuestion& question, absl::Span<PlaceCandidate> experts) {
  // The host's cost of a byte copied is what a copy saves; it grows with the rows.
  std::sort(experts.begin(), experts.end(), [](const PlaceCandidate& a, const PlaceCandidate& b) {
    if (a.rows != b.rows) return a.rows > b.rows;
    if (a.is_worth_keeping != b.is_worth_keeping) return a.is_worth_keeping;
    return a.key < b.key;
  });
  switch (question.rule) {
    case PlaceRule::kGpu:
      return static_cast<int>(experts.size());
    case PlaceRule::kCopy:
      return question.is_from_file ? 0 : static_cast<int>(experts.size());
    case PlaceRule::kCpu:
      return 0;
    case PlaceRule::kAuto:
      break;
  }
  if (question.rates.host <= 0 || question.rates.copy_in <= 0) return 0;
  return CountForSoonestEnd(question, experts);
}

void LinkEstimates::NoteHost(uint64_t bytes, uint64_t row_bytes, int64_t ns, bool is_beside_copy) {
  if (bytes < kSampleBytesMin || ns <= 0) return;
  const bool is_known = rates_.host > 0 && rates_.host_row > 0;
  const double rows = static_cast<double>(row_bytes) / static_cast<double>(bytes);
  // Not knowing better, a second row already tells of arithmetic.
  const double rows_even = is_known ? rates_.host_row / rates_.host : 2;
  if (rows >= rows_even) {
    Learn(BytesPerSecond(row_bytes, ns), rates_.host_row);
  } else {
    Learn(BytesPerSecond(bytes, ns), is_beside_copy ? rates_.host_beside_copy : rates_.host);
  }
}

void LinkEstimates::NoteCopyIn(uint64_t bytes, int64_t ns, bool is_beside_host) {
  if (bytes < kSampleBytesMin || ns <= 0) return;
  Learn(BytesPerSecond(bytes, ns), is_beside_host ? rates_.copy_beside_host : rates_.copy_in);
}

void LinkEstimates::NoteCopyOut(uint64_t bytes, int64_t ns) {
  if (bytes < kSampleBytesMin || ns <= 0) return;
  Learn(BytesPerSecond(bytes, ns), rates_.copy_out);
}

}  // namespace stoker
