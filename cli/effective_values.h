// Every option of a configured command with its value and where that came from, for config show.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cli/configuration.h"

namespace stoker {

struct EffectiveValue {
  enum class Kind : uint8_t { kBoolean, kWhole, kReal, kText } kind = Kind::kText;
  std::string key;
  std::string group;  // as in the help; empty: none
  bool is_list = false;
  bool is_set = false;             // false: not given, and there is no default
  std::vector<std::string> texts;  // one, unless it is a list
  Origin origin;
};
// In the order of the help.
std::vector<EffectiveValue> EffectiveValues(const Configuration& configuration);

// "default", "flag --ram", "environment STOKER_RAM", "stoker.toml:12".
std::string DescribeOrigin(const Origin& origin);

// A file that --config reads back to the same values; what is not set is a comment.
std::string FormatToml(std::string_view command, const std::vector<EffectiveValue>& values,
                       bool with_origin);
// {"command": ..., "values": {KEY: {"value": ..., "origin": ..., "place": ...}, ...}}
std::string FormatJson(std::string_view command, const std::vector<EffectiveValue>& values);

}  // namespace stoker
