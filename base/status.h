// Return-if-error helpers that let each layer add its context once to an absl::Status.
//
// Text in this project is std::string_view and made with fmt: Debian's Abseil has a string_view of
// its own, which does not convert. These helpers are the bridge.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace stoker {

inline std::string_view MessageOf(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

// The same code with "context: " before the message; OK stays OK.
inline absl::Status WithContext(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  return absl::Status(status.code(), fmt::format("{}: {}", context, MessageOf(status)));
}

}  // namespace stoker

#define STOKER_CONCAT_INNER(a, b) a##b
#define STOKER_CONCAT(a, b) STOKER_CONCAT_INNER(a, b)

#define RETURN_IF_ERROR(expr)                                \
  do {                                                       \
    absl::Status status_macro_value = (expr);                \
    if (!status_macro_value.ok()) return status_macro_value; \
  } while (0)

// ASSIGN_OR_RETURN(auto x, Expr()): x = *Expr(), or returns its error.
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_INNER(STOKER_CONCAT(statusor_macro_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_INNER(statusor, lhs, expr)        \
  auto statusor = (expr);                                  \
  if (!statusor.ok()) return std::move(statusor).status(); \
  lhs = *std::move(statusor)
