// The header of our trace files: JSON, so that it can grow and be read by eye.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/time_ledger.h"
#include "runtime/trace/trace.h"

namespace stoker {

std::string HeaderJson(const TraceHeader& header);

// What a file's header says, and what its records are read by.
struct ParsedTraceHeader {
  TraceHeader header;
  size_t id_bytes = 1;  // of an expert's number: 1 up to 256 experts a layer, else 2
  // By number in the records. A later version may know more: causes are kOther then.
  std::vector<Cause> causes;
  std::vector<std::optional<ResidencyChange>> changes;
  std::vector<std::optional<MissReason>> reasons;
};
// InvalidArgument naming what is missing or out of range.
absl::StatusOr<ParsedTraceHeader> ParseHeader(std::string_view json);

size_t IdBytesOf(const TraceHeader& header);

}  // namespace stoker
