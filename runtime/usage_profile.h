// How often each expert of a model was used, kept from run to run.
//
// The file, little endian: "STOKERUP", u32 version, u32 number of experts, u64 identity of the
// model, u32 uses of each expert, u64 XXH3 of all that. It is replaced whole
// (runtime/atomic_file.h) and guides what is read first and who gives way; nothing that a run
// computes depends on it. So whatever is wrong with it is a word to the operator and never an
// error.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace stoker {

// Uses are kept in fractions, so that what fades does not vanish at once.
inline constexpr uint32_t kUsageUnit = 256;
// A run that uses each expert so often on average (8,192 tokens where a token uses one in 32)
// halves the weight of all runs before it.
inline constexpr double kUsesPerHalving = 256;

// What a run begins with.
struct UsageProfile {
  std::vector<uint32_t> uses;  // by expert, in units of 1 / kUsageUnit; empty: none known
  std::string notice;          // why the file was ignored; empty: it was not
  bool may_replace = true;     // false: the file is somebody else's, and stays as it is
};

// Of `expert_count` experts of the model of this identity; none known when there is no file.
UsageProfile ReadProfile(const std::string& path, uint64_t identity, int64_t expert_count);

// What the file holds.
std::string EncodeProfile(uint64_t identity, absl::Span<const uint32_t> uses);

// `before`, faded by what `counts` were used since, and these. `before` may be empty.
std::vector<uint32_t> FadeAndAdd(absl::Span<const uint32_t> before,
                                 absl::Span<const uint64_t> counts);

// Experts that were used, most used first, equal ones in order.
std::vector<int32_t> HotnessOrder(absl::Span<const uint32_t> uses);

// The file that an option names: "auto" is IDENTITY.profile in this user's cache
// ($XDG_CACHE_HOME/stoker/profiles, or ~/.cache/stoker/profiles), which is made; another name is
// itself. FailedPrecondition naming the cause and what to try when its folder cannot be had or
// written to.
absl::StatusOr<std::string> ProfilePath(std::string_view option, uint64_t identity);

}  // namespace stoker
