// Reading, fading and naming usage profiles.
#include "runtime/usage_profile.h"

#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <numeric>

#include "base/status.h"
#include "io/file.h"
#include "runtime/model_identity.h"

namespace stoker {
namespace {

constexpr std::string_view kMagic = "STOKERUP";
constexpr uint32_t kVersion = 1;
constexpr size_t kVersionAt = 8, kCountAt = 12, kIdentityAt = 16, kUsesAt = 24;
constexpr size_t kHashBytes = sizeof(uint64_t);

template <typename Number>
void Put(std::string& out, Number number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

template <typename Number>
Number At(std::string_view bytes, size_t place) {
  Number number;
  std::memcpy(&number, bytes.data() + place, sizeof number);
  return number;
}

// What a file of `bytes` that cannot be used is, and whether a new one may take its place.
struct Flaw {
  std::string what;
  bool may_replace = true;
};

Flaw FindFlaw(std::string_view bytes, uint64_t identity, uint64_t expert_count) {
  if (bytes.empty()) return {.what = "it is empty"};
  const std::string_view start = bytes.substr(0, kMagic.size());
  if (start != kMagic.substr(0, start.size())) {
    return {.what = "it is no usage profile", .may_replace = false};
  }
  if (bytes.size() < kUsesAt + kHashBytes) return {.what = "it is torn"};
  if (At<uint32_t>(bytes, kVersionAt) != kVersion) {
    return {.what = fmt::format("it is of version {}, and this program knows version {}",
                                At<uint32_t>(bytes, kVersionAt), kVersion),
            .may_replace = false};
  }
  const std::string_view hashed = bytes.substr(0, bytes.size() - kHashBytes);
  if (XXH3_64bits(hashed.data(), hashed.size()) != At<uint64_t>(bytes, hashed.size())) {
    return {.what = "it is torn or damaged: its checksum does not fit"};
  }
  const auto of = At<uint64_t>(bytes, kIdentityAt);
  if (of != identity) {
    return {.what = fmt::format("it is of another model ({}, this one is {})", FormatIdentity(of),
                                FormatIdentity(identity)),
            .may_replace = false};
  }
  const bool fits = At<uint32_t>(bytes, kCountAt) == expert_count &&
                    hashed.size() == kUsesAt + expert_count * sizeof(uint32_t);
  if (!fits) return {.what = "it does not have as many experts as the model"};
  return {};
}

// Far more than any model's; whatever is longer fails its checksum.
constexpr uint64_t kFileBytesMax = uint64_t{16} << 20;

absl::StatusOr<std::string> ReadWhole(const std::string& path) {
  ASSIGN_OR_RETURN(const FileDescriptor file, OpenForReading(path));
  ASSIGN_OR_RETURN(const FileIdentity identity, IdentityOf(file, path));
  std::string bytes(std::min(identity.bytes, kFileBytesMax), '\0');
  ASSIGN_OR_RETURN(const size_t count, ReadAt(file, 0, bytes.data(), bytes.size(), path));
  bytes.resize(count);
  return bytes;
}

absl::Status NoFolder(std::string_view what) {
  return absl::FailedPreconditionError(
      fmt::format("no place for the usage profile: {}\n  try: --profile FILE in a folder that can "
                  "be written to, or --profile none",
                  what));
}

absl::StatusOr<std::filesystem::path> CacheFolder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return std::filesystem::path(cache) / "stoker/profiles";
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home == '/') {
    return std::filesystem::path(home) / ".cache/stoker/profiles";
  }
  return NoFolder("neither XDG_CACHE_HOME nor HOME names a folder");
}

}  // namespace

UsageProfile ReadProfile(const std::string& path, uint64_t identity, int64_t expert_count) {
  UsageProfile profile;
  if (access(path.c_str(), F_OK) != 0 && errno == ENOENT) return profile;
  const auto count = static_cast<uint64_t>(expert_count);
  const absl::StatusOr<std::string> bytes = ReadWhole(path);
  const Flaw flaw =
      bytes.ok() ? FindFlaw(*bytes, identity, count)
                 : Flaw{.what = std::string(MessageOf(bytes.status())), .may_replace = false};
  if (flaw.what.empty()) {
    profile.uses.resize(count);
    std::memcpy(profile.uses.data(), bytes->data() + kUsesAt, count * sizeof(uint32_t));
    return profile;
  }
  profile.may_replace = flaw.may_replace;
  profile.notice = fmt::format(
      "the usage profile {} is ignored: {}; this run starts cold{}", path, flaw.what,
      flaw.may_replace ? " and replaces it" : " and leaves it alone; try: another --profile");
  return profile;
}

std::string EncodeProfile(uint64_t identity, absl::Span<const uint32_t> uses) {
  std::string bytes(kMagic);
  Put(bytes, kVersion);
  Put(bytes, static_cast<uint32_t>(uses.size()));
  Put(bytes, identity);
  bytes.append(reinterpret_cast<const char*>(uses.data()), uses.size() * sizeof(uint32_t));
  Put(bytes, static_cast<uint64_t>(XXH3_64bits(bytes.data(), bytes.size())));
  return bytes;
}

std::vector<uint32_t> FadeAndAdd(absl::Span<const uint32_t> before,
                                 absl::Span<const uint64_t> counts) {
  constexpr double kMax = std::numeric_limits<uint32_t>::max();
  const double uses = std::accumulate(counts.begin(), counts.end(), 0.0);
  const double halvings =
      uses / (kUsesPerHalving * std::max(1.0, static_cast<double>(counts.size())));
  const double kept = std::exp2(-halvings);
  std::vector<uint32_t> after(counts.size());
  for (size_t i = 0; i < counts.size(); ++i) {
    const double old = before.empty() ? 0 : kept * before[i];
    after[i] = static_cast<uint32_t>(
        std::min(kMax, std::round(old + kUsageUnit * static_cast<double>(counts[i]))));
  }
  return after;
}

std::vector<int32_t> HotnessOrder(absl::Span<const uint32_t> uses) {
  std::vector<int32_t> order;
  for (size_t key = 0; key < uses.size(); ++key) {
    if (uses[key] > 0) order.push_back(static_cast<int32_t>(key));
  }
  std::stable_sort(order.begin(), order.end(), [uses](int32_t a, int32_t b) {
    return uses[static_cast<size_t>(a)] > uses[static_cast<size_t>(b)];
  });
  return order;
}

absl::StatusOr<std::string> ProfilePath(std::string_view option, uint64_t identity) {
  std::filesystem::path path(option);
  if (option == "auto") {
    ASSIGN_OR_RETURN(const std::filesystem::path folder, CacheFolder());
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return NoFolder(fmt::format("making {}: {}", folder.string(), error.message()));
    path = folder / (FormatIdentity(identity) + ".profile");
  }
  const std::string folder = path.has_parent_path() ? path.parent_path().string() : ".";
  if (access(folder.c_str(), W_OK | X_OK) != 0) {
    return NoFolder(fmt::format("writing to the folder {}: {}", folder, std::strerror(errno)));
  }
  return path.string();
}

}  // namespace stoker
