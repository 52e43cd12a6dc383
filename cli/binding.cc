// A command with values assigned to its options, and what is wrong with those that could not be.
#include "cli/binding.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <cctype>
#include <optional>
#include <utility>

#include "base/status.h"

namespace stoker {
namespace {

using Kind = AssignedValue::Kind;

// What an option takes, as CLI11 knows it.
struct OptionShape {
  explicit OptionShape(const CLI::Option& option)
      : is_flag(option.get_items_expected_max() == 0),
        is_whole(option.get_type_name() == "INT" || option.get_type_name() == "UINT"),
        is_unsigned(option.get_type_name() == "UINT"),
        is_real(option.get_type_name() == "FLOAT"),
        is_repeatable(option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll) {}

  std::string_view words() const {
    if (is_flag) return "true or false";
    if (is_whole) return "a whole number";
    if (is_real) return "a number";
    return is_repeatable ? "text, or a list of texts" : "text or a whole number";
  }
  bool Takes(const AssignedValue& value) const {
    switch (value.kind) {
      case Kind::kUntyped:
        return !is_flag || value.text == "true" || value.text == "false";
      case Kind::kBoolean:
        return is_flag;
      case Kind::kInteger:
        return !is_flag;
      case Kind::kReal:
        return is_real;
      case Kind::kText:  // TOML's integers end at 2^63: beyond it a whole number is text
        return is_unsigned || (!is_flag && !is_whole && !is_real);
      case Kind::kOther:
        return false;
    }
    return false;
  }

  bool is_flag, is_whole, is_unsigned, is_real, is_repeatable;
};

CLI::Option* FindOption(CLI::App& app, const std::string& key) {
  CLI::Option* option = app.get_option_no_throw("--" + key);
  return option != nullptr ? option : app.get_option_no_throw(key);
}

std::string Refusal(const Assignment& assignment, const OptionShape& shape) {
  std::vector<std::string> texts;
  for (const AssignedValue& value : assignment.values) texts.push_back(value.text);
  return fmt::format("{} is \"{}\", which is not allowed: it must be {}", assignment.key,
                     fmt::join(texts, ", "), shape.words());
}

// What is wrong with the value by itself.
std::optional<std::string> Apply(const Assignment& assignment, CLI::App& app) {
  CLI::Option& option = *FindOption(app, assignment.key);
  const OptionShape shape(option);
  if (assignment.is_list && !shape.is_repeatable) return Refusal(assignment, shape);
  if (assignment.values.empty()) return std::nullopt;
  std::vector<std::string> texts;
  for (const AssignedValue& value : assignment.values) {
    if (!shape.Takes(value)) return Refusal(assignment, shape);
    texts.push_back(value.text);
  }
  try {
    option.add_result(std::move(texts));
    option.run_callback();
  } catch (const CLI::ConversionError&) {
    return Refusal(assignment, shape);
  } catch (const CLI::Error& error) {
    return error.what();
  }
  return std::nullopt;
}

// Without the assignment `left_out` (-1: with all); they could all be applied before.
DeclaredCommand Rebuild(const CommandRow& row, const std::vector<Assignment>& assignments,
                        int left_out) {
  DeclaredCommand declared = DeclaredCommand::Make(row);
  for (int i = 0; i < static_cast<int>(assignments.size()); ++i) {
    if (i != left_out) Apply(assignments[static_cast<size_t>(i)], *declared.app);
  }
  return declared;
}

bool IsPartOfName(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.';
}

// Where `word` stands by itself in the text; npos: nowhere.
size_t FindWord(std::string_view text, std::string_view word) {
  for (size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    const bool starts = at == 0 || !IsPartOfName(text[at - 1]);
    if (starts && (end == text.size() || !IsPartOfName(text[end]))) return at;
  }
  return std::string_view::npos;
}

// The assignment to blame for what Check says; -1: none.
int FindCulprit(const CommandRow& row, const std::vector<Assignment>& assignments,
                const absl::Status& complaint) {
  int culprit = -1;
  size_t culprit_at = 0;
  for (int i = 0; i < static_cast<int>(assignments.size()); ++i) {
    const DeclaredCommand without = Rebuild(row, assignments, i);
    if (without.command->Check() == complaint) continue;
    const size_t at = FindWord(MessageOf(complaint), assignments[static_cast<size_t>(i)].key);
    if (culprit >= 0 && at >= culprit_at) continue;
    culprit = i;
    culprit_at = at;
  }
  return culprit;
}

}  // namespace

std::string Format(const ConfigProblem& problem) {
  switch (problem.origin.kind) {
    case Origin::Kind::kFile:
      return problem.key.empty()
                 ? fmt::format("{}: {}", problem.origin.place, problem.message)
                 : fmt::format("{}: '{}': {}", problem.origin.place, problem.key, problem.message);
    case Origin::Kind::kEnvironment:
      return fmt::format("{}: {}", problem.origin.place, problem.message);
    default:
      return problem.message;
  }
}

absl::Status AsStatus(const ConfigProblem& problem) {
  return absl::InvalidArgumentError(Format(problem));
}

Binding Bind(const CommandRow& row, std::vector<Assignment> assignments) {
  Binding binding = {.declared = DeclaredCommand::Make(row)};
  for (Assignment& assignment : assignments) {
    const std::optional<std::string> wrong = Apply(assignment, *binding.declared.app);
    if (wrong.has_value()) {
      binding.problems.push_back({assignment.origin, assignment.key, *wrong});
    } else {
      binding.assignments.push_back(std::move(assignment));
    }
  }
  while (true) {
    // Rebuilt each time: a refused value may have been written in part.
    binding.declared = Rebuild(row, binding.assignments, -1);
    const absl::Status complaint = binding.declared.command->Check();
    if (complaint.ok()) return binding;
    const int culprit = FindCulprit(row, binding.assignments, complaint);
    if (culprit < 0) {
      binding.problems.push_back({.message = std::string(MessageOf(complaint))});
      return binding;
    }
    const auto blamed = binding.assignments.begin() + culprit;
    binding.problems.push_back({blamed->origin, blamed->key, std::string(MessageOf(complaint))});
    binding.assignments.erase(blamed);
  }
}

}  // namespace stoker
