// What a batch's texts depend on beside its prompts, kept beside the output: only a run of the same
// may add to it.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/batch/batch_request.h"

namespace stoker {

struct BatchRecord {
  std::string model_name;      // for people: a model may be moved
  std::string model_identity;  // header and weights, as hexadecimal digits
  std::vector<std::pair<std::string, std::string>> options;  // flag and value
};

// `context` and `kv` as the engine runs with.
BatchRecord MakeBatchRecord(std::string model_name, std::string model_identity, int context,
                            const std::string& kv, const BatchDefaults& defaults);

// OUTPUT.batch: a JSON object of texts.
std::string BatchRecordPath(const std::string& output_path);
std::string EncodeBatchRecord(const BatchRecord& record);
// DataLoss: this is no such record.
absl::StatusOr<BatchRecord> DecodeBatchRecord(std::string_view text);

// InvalidArgument saying what differs between the record of an output and the run that is to add to
// it, and what to try.
absl::Status CheckSameRun(const BatchRecord& before, const BatchRecord& now,
                          const std::string& output_path);

}  // namespace stoker
