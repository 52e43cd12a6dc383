// Every option of a configured command with its value and where that came from.
#include "cli/effective_values.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>

#include "cli/summary.h"

namespace stoker {
namespace {

using Kind = EffectiveValue::Kind;
using nlohmann::ordered_json;

Kind KindOf(const CLI::Option& option) {
  if (option.get_items_expected_max() == 0) return Kind::kBoolean;
  const std::string type = option.get_type_name();
  if (type == "INT" || type == "UINT") return Kind::kWhole;
  return type == "FLOAT" ? Kind::kReal : Kind::kText;
}

// A default may be words for what happens without a value ("recorded"), which is no value.
bool IsValue(Kind kind, const std::string& text) {
  if (kind != Kind::kWhole && kind != Kind::kReal) return !text.empty();
  char* end = nullptr;
  std::strtod(text.c_str(), &end);
  return !text.empty() && *end == '\0';
}

EffectiveValue ValueOf(const CLI::Option& option, const std::vector<Assignment>& assignments) {
  EffectiveValue value = {
      .kind = KindOf(option),
      .key = option.get_lnames().front(),
      .group = option.get_group(),
      .is_list = option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll};
  for (const Assignment& assignment : assignments) {
    if (assignment.key == value.key) value.origin = assignment.origin;
  }
  if (option.count() > 0) {
    value.texts = option.reduced_results();
  } else if (IsValue(value.kind, option.get_default_str())) {
    value.texts = {option.get_default_str()};
  } else if (value.kind == Kind::kBoolean) {
    value.texts = {"false"};
  }
  value.is_set = !value.texts.empty();
  return value;
}

// A whole number as TOML has it, where it fits: to 2^63.
bool IsTomlInteger(const std::string& text) {
  return text.front() == '-' ||
         std::strtoull(text.c_str(), nullptr, 0) <= uint64_t{std::numeric_limits<int64_t>::max()};
}

ordered_json JsonValue(Kind kind, const std::string& text) {
  switch (kind) {
    case Kind::kBoolean:
      return text == "true";
    case Kind::kWhole:
      if (text.front() == '-') return std::strtoll(text.c_str(), nullptr, 0);
      return std::strtoull(text.c_str(), nullptr, 0);
    case Kind::kReal:
      return std::strtod(text.c_str(), nullptr);
    case Kind::kText:
      return text;
  }
  return nullptr;
}

// JSON's numbers and texts are TOML's, but for two things: integers above 2^63, and DEL.
std::string TomlValue(Kind kind, const std::string& text) {
  const bool is_text = kind == Kind::kText || (kind == Kind::kWhole && !IsTomlInteger(text));
  std::string json = JsonValue(is_text ? Kind::kText : kind, text)
                         .dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  for (size_t at = json.find('\x7f'); at != std::string::npos; at = json.find('\x7f', at)) {
    json.replace(at, 1, "\\u007f");
  }
  return json;
}

std::string TomlValue(const EffectiveValue& value) {
  std::vector<std::string> items;
  for (const std::string& text : value.texts) items.push_back(TomlValue(value.kind, text));
  return value.is_list ? fmt::format("[{}]", fmt::join(items, ", ")) : items.front();
}

// `name`: the key as it stands below its table's heading.
std::string TomlLine(const EffectiveValue& value, std::string_view name, bool with_origin) {
  if (!value.is_set) return fmt::format("# {} is not set\n", name);
  const std::string line = fmt::format("{} = {}", name, TomlValue(value));
  if (!with_origin) return line + "\n";
  return fmt::format("{:<40}  # {}\n", line, DescribeOrigin(value.origin));
}

std::string_view NameOf(Origin::Kind kind) {
  switch (kind) {
    case Origin::Kind::kDefault:
      return "default";
    case Origin::Kind::kFile:
      return "file";
    case Origin::Kind::kEnvironment:
      return "environment";
    case Origin::Kind::kFlag:
      return "flag";
  }
  return "";
}

}  // namespace

std::vector<EffectiveValue> EffectiveValues(const Configuration& configuration) {
  const CLI::App& app = *configuration.declared.app;
  std::vector<EffectiveValue> values;
  for (const CLI::Option* option : app.get_options()) {
    if (option == app.get_help_ptr() || option->get_lnames().empty()) continue;
    values.push_back(ValueOf(*option, configuration.assignments));
  }
  return values;
}

std::string DescribeOrigin(const Origin& origin) {
  switch (origin.kind) {
    case Origin::Kind::kDefault:
    case Origin::Kind::kFile:
      return origin.place.empty() ? std::string(NameOf(origin.kind)) : origin.place;
    default:
      return fmt::format("{} {}", NameOf(origin.kind), origin.place);
  }
}

std::string FormatToml(std::string_view command, const std::vector<EffectiveValue>& values,
                       bool with_origin) {
  std::string text = fmt::format("# What stoker {} is told.\n", command);
  std::string heading;
  for (const EffectiveValue& value : values) {
    if (value.key.find('.') != std::string::npos) continue;
    if (value.group != heading)
      text += value.group.empty() ? "\n" : fmt::format("\n# {}\n", value.group);
    heading = value.group;
    text += TomlLine(value, value.key, with_origin);
  }
  // Keys with a dot stand in tables, which TOML wants after everything else.
  std::string table;
  for (const EffectiveValue& value : values) {
    const size_t dot = value.key.find('.');
    if (dot == std::string::npos) continue;
    if (value.key.substr(0, dot) != table) {
      table = value.key.substr(0, dot);
      text += fmt::format("\n[{}]\n", table);
    }
    text += TomlLine(value, value.key.substr(dot + 1), with_origin);
  }
  return text;
}

std::string FormatJson(std::string_view command, const std::vector<EffectiveValue>& values) {
  ordered_json json = {{"command", command}, {"values", ordered_json::object()}};
  for (const EffectiveValue& value : values) {
    ordered_json held = nullptr;
    if (value.is_list) held = ordered_json::array();
    for (const std::string& text : value.texts) {
      if (value.is_list) {
        held.push_back(JsonValue(value.kind, text));
      } else {
        held = JsonValue(value.kind, text);
      }
    }
    json["values"][value.key] = {{"value", held}, {"origin", NameOf(value.origin.kind)}};
    if (!value.origin.place.empty()) json["values"][value.key]["place"] = value.origin.place;
  }
  return JsonLine(json);
}

}  // namespace stoker
