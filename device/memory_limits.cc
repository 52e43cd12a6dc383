// Reads meminfo and the memory controllers of cgroups, versions 1 and 2.
#include "device/memory_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>

#include "base/units.h"

namespace stoker {
namespace {

// A version's names for the same things.
struct Controller {
  std::string_view file_system;
  std::vector<std::string_view> limits;
  std::string_view usage;
  std::vector<std::string_view> cache;  // keys in memory.stat, their sum is the page cache
};

const Controller& VersionOne() {
  static const Controller controller = {"cgroup",
                                        {"memory.limit_in_bytes"},
                                        "memory.usage_in_bytes",
                                        {"total_inactive_file", "total_active_file"}};
  return controller;
}

// Above memory.high the kernel throttles and reclaims, which is as bad as a limit.
const Controller& VersionTwo() {
  static const Controller controller = {
      "cgroup2", {"memory.max", "memory.high"}, "memory.current", {"inactive_file", "active_file"}};
  return controller;
}

std::vector<std::string> WordsOf(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

bool HasItem(std::string_view list, std::string_view item) {
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    if (list.substr(begin, end - begin) == item) return true;
    begin = end + 1;
  }
  return false;
}

// A file that holds one number; nothing when it is absent or says "max".
std::optional<uint64_t> NumberIn(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  uint64_t number = 0;
  if (!(file >> word)) return {};
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (error != std::errc() || end != word.data() + word.size()) return {};
  return number;
}

// "key value" or "key: value kB" lines; 0 when the key is absent.
uint64_t ValueOf(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  for (std::string name, line; file >> name && std::getline(file, line);) {
    if (name == key) return std::strtoull(line.c_str(), nullptr, 10);
  }
  return 0;
}

// The process's cgroup within a hierarchy, as proc/self/cgroup gives it ("id:controllers:path"; no
// controllers means version 2).
std::optional<std::string> CgroupPath(const std::string& root, bool is_version_two) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (is_version_two ? controllers.empty() : HasItem(controllers, "memory")) {
      return line.substr(second + 1);
    }
  }
  return {};
}

struct Mount {
  std::string subtree;  // the part of the hierarchy that is mounted
  std::string directory;
};

// Where the hierarchy is mounted. mountinfo: id parent device subtree directory options [optional
// ...] - type source super_options.
std::optional<Mount> FindMount(const std::string& root, const Controller& controller) {
  std::ifstream file(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> words = WordsOf(line);
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (dash - words.begin() < 6 || words.end() - dash < 4) continue;
    if (dash[1] != controller.file_system) continue;
    if (controller.file_system == "cgroup" && !HasItem(dash[3], "memory")) continue;
    return Mount{.subtree = words[3], .directory = root + words[4]};
  }
  return {};
}

std::optional<CgroupMemory> ReadOne(const std::string& directory, const Controller& controller) {
  uint64_t limit = std::numeric_limits<uint64_t>::max();
  for (const std::string_view name : controller.limits) {
    limit = std::min(limit, NumberIn(fmt::format("{}/{}", directory, name)).value_or(limit));
  }
  // Version 1 writes "no limit" as the largest multiple of a page.
  if (limit >= (uint64_t{1} << 62)) return {};
  const uint64_t usage = NumberIn(fmt::format("{}/{}", directory, controller.usage)).value_or(0);
  uint64_t cache = 0;
  for (const std::string_view key : controller.cache) {
    cache += ValueOf(directory + "/memory.stat", key);
  }
  return CgroupMemory{
      .directory = directory, .limit_bytes = limit, .used_bytes = usage - std::min(usage, cache)};
}

void Collect(const std::string& root, const Controller& controller,
             std::vector<CgroupMemory>& found) {
  const auto path = CgroupPath(root, controller.file_system == "cgroup2");
  const auto mount = FindMount(root, controller);
  if (!path || !mount) return;
  // In a container the mount often shows the container's own cgroup as its root, while the path is
  // still that of the host.
  std::string below = *path;
  if (mount->subtree != "/") {
    const bool is_inside = below == mount->subtree || below.starts_with(mount->subtree + "/");
    below = is_inside ? below.substr(mount->subtree.size()) : "";
  }
  for (;;) {
    while (below.ends_with('/')) below.pop_back();
    if (auto one = ReadOne(mount->directory + below, controller)) found.push_back(*one);
    if (below.empty()) return;
    below.resize(below.rfind('/') == std::string::npos ? 0 : below.rfind('/'));
  }
}

}  // namespace

std::vector<CgroupMemory> ReadCgroupMemory(const std::string& root) {
  std::vector<CgroupMemory> found;
  Collect(root, VersionTwo(), found);
  Collect(root, VersionOne(), found);
  return found;
}

MemoryLimits ReadMemoryLimitsUnder(const std::string& root) {
  const std::string meminfo = root + "/proc/meminfo";
  MemoryLimits limits;
  limits.available_bytes = ValueOf(meminfo, "MemAvailable:") << 10;
  limits.total_bytes = ValueOf(meminfo, "MemTotal:") << 10;
  limits.source = "system";
  for (const CgroupMemory& cgroup : ReadCgroupMemory(root)) {
    const uint64_t available = cgroup.limit_bytes - std::min(cgroup.limit_bytes, cgroup.used_bytes);
    if (available >= limits.available_bytes) continue;
    limits.available_bytes = available;
    limits.total_bytes = cgroup.limit_bytes;
    limits.source = fmt::format("cgroup memory limit of {}", FormatBytes(cgroup.limit_bytes));
  }
  return limits;
}

MemoryLimits ReadMemoryLimits() { return ReadMemoryLimitsUnder(""); }

uint64_t ResidentBytes() { return ValueOf("/proc/self/status", "VmRSS:") << 10; }

}  // namespace stoker
