// What the parts of a run can be chosen among by name, and the numbers that they are tuned by.
#include "runtime/choices.h"

#include "cache/policy.h"
#include "prefetch/prefetcher.h"
#include "speculative/drafter.h"
#include "speculative/governor.h"

namespace stoker {
namespace {

template <typename Row>
void AddTunable(absl::Span<const Row> registry, std::vector<TunableRow>& rows) {
  for (const Row& row : registry) {
    if (!row.parameters.empty()) rows.push_back({row.name, row.description, row.parameters});
  }
}

}  // namespace

std::vector<std::string> PolicyChoices() { return PolicyNames(); }

std::vector<std::string> AdmissionChoices() {
  std::vector<std::string> names;
  for (const AdmissionRow& row : Admissions()) names.emplace_back(row.name);
  return names;
}

std::vector<std::string> PredictorChoices() {
  std::vector<std::string> names;
  for (const PredictorRow& row : Predictors()) names.emplace_back(row.name);
  return names;
}

std::vector<std::string> DrafterChoices() {
  std::vector<std::string> names;
  for (const DrafterRow& row : Drafters()) {
    if (row.needs != DrafterRow::Needs::kModel) names.emplace_back(row.name);
  }
  return names;
}

std::vector<TunableRow> TunableRows() {
  std::vector<TunableRow> rows;
  AddTunable(Policies(), rows);
  AddTunable(Admissions(), rows);
  AddTunable(Predictors(), rows);
  AddTunable(Drafters(), rows);
  rows.push_back({"hints", "guessing experts, whoever predicts them", PrefetchParameters()});
  rows.push_back({"drafts", "how many drafts are checked, whoever makes them",
                  absl::MakeConstSpan(Governor::kParameters)});
  return rows;
}

}  // namespace stoker
