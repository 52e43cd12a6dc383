// Options from a TOML file: every key is a flag without its dashes.
#include "cli/config_file.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/status.h"
#include "cli/flags.h"
#include "cli/nearest.h"

namespace stoker {
namespace {

std::string At(const std::string& path, const toml::source_region& source) {
  return fmt::format("{}:{}", path, source.begin.line);
}

// The value as the flag would be given it.
absl::StatusOr<std::string> ScalarText(const toml::node& node, const CLI::Option& option) {
  const bool is_flag = option.get_items_expected_max() == 0;
  const std::string type = option.get_type_name();
  const bool is_number = type == "INT" || type == "UINT" || type == "FLOAT";
  if (node.is_boolean() == is_flag) {
    if (const auto* flag = node.as_boolean()) return std::string(**flag ? "true" : "false");
    if (const auto* integer = node.as_integer()) return fmt::format("{}", **integer);
    if (const auto* real = node.as_floating_point(); real != nullptr && type != "TEXT") {
      return fmt::format("{}", **real);
    }
    if (const auto* text = node.as_string(); text != nullptr && !is_number) return **text;
  }
  return absl::InvalidArgumentError(fmt::format("must be {}", is_flag ? "true or false"
                                                              : is_number
                                                                  ? "a number"
                                                                  : "text or a whole number"));
}

absl::StatusOr<std::vector<std::string>> Texts(const toml::node& node, const CLI::Option& option) {
  std::vector<std::string> texts;
  const bool repeatable = option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
  if (const toml::array* array = node.as_array(); array != nullptr && repeatable) {
    for (const toml::node& element : *array) {
      ASSIGN_OR_RETURN(std::string text, ScalarText(element, option));
      texts.push_back(std::move(text));
    }
    return texts;
  }
  ASSIGN_OR_RETURN(std::string text, ScalarText(node, option));
  texts.push_back(std::move(text));
  return texts;
}

absl::Status ApplyKey(std::string_view key, const toml::node& node, const ConfigTarget& target) {
  CLI::Option* option = target.app.get_option_no_throw("--" + std::string(key));
  const bool known = option != nullptr && key != "help" && key != "config";
  if (!known) {
    const auto& others = target.other_keys;
    if (std::find(others.begin(), others.end(), key) != others.end()) {
      target.on_note(fmt::format("'{}' is not used by this command", key));
      return absl::OkStatus();
    }
    const std::string nearest = Nearest(key, OptionKeys(target.app));
    return absl::InvalidArgumentError(
        fmt::format("unknown key '{}'{}", key,
                    nearest.empty() ? std::string() : fmt::format("\n  try: {}", nearest)));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> texts, Texts(node, *option));
  if (option->count() > 0) return absl::OkStatus();  // the flag was given
  try {
    option->add_result(texts);
    option->run_callback();
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(error.what());
  }
  return target.check();
}

}  // namespace

absl::Status ApplyConfigFile(const std::string& path, const ConfigTarget& target) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  toml::table table;
  try {
    table = toml::parse(text, path);
  } catch (const toml::parse_error& error) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {}", At(path, error.source()), error.description()));
  }
  for (const auto& [key, node] : table) {
    const std::string place = At(path, key.source());
    ConfigTarget placed = target;
    placed.on_note = [&](std::string_view note) {
      target.on_note(fmt::format("{}: {}", place, note));
    };
    const absl::Status status = ApplyKey(key.str(), node, placed);
    if (!status.ok()) {
      const bool unknown = target.app.get_option_no_throw("--" + std::string(key.str())) == nullptr;
      return WithContext(status, unknown ? place : fmt::format("{}: '{}'", place, key.str()));
    }
  }
  return absl::OkStatus();
}

std::vector<std::string> OptionKeys(const CLI::App& app) {
  std::vector<std::string> keys;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      if (name != "help" && name != "config") keys.push_back(name);
    }
  }
  return keys;
}

}  // namespace stoker
