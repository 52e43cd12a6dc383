// The list of drafters: adding one is a row here and a pair of files beside it.
#include <fmt/format.h>

#include <utility>

#include "base/status.h"
#include "speculative/drafter.h"
#include "speculative/drafters/dense_model.h"
#include "speculative/drafters/mtp.h"
#include "speculative/drafters/ngram.h"

namespace stoker {
namespace {

constexpr DrafterRow kDrafters[] = {
    {.name = "none", .description = "drafts nothing, and costs nothing"},
    {.name = "ngram",
     .description = "what followed the last tokens when they occurred before in the sequence",
     .parameters = NgramDrafter::kParameters,
     .make = &NgramDrafter::Make,
     .plan_bytes = &NgramDrafter::PlanBytes},
    {.name = "draft_model",
     .description = "a smaller dense model of the same vocabulary, named by its file",
     .needs = DrafterRow::Needs::kModel,
     .parameters = DenseModelDrafter::kParameters,
     .make = &DenseModelDrafter::Make,
     .plan_bytes = &DenseModelDrafter::PlanBytes},
    {.name = "mtp",
     .description = "the model's own layer for multi-token prediction, where its file has one",
     .needs = DrafterRow::Needs::kMtp,
     .make = &MtpDrafter::Make,
     .plan_bytes = &MtpDrafter::PlanBytes},
};

bool NamesAFile(std::string_view name) {
  return name.ends_with(".gguf") || name.find('/') != std::string_view::npos;
}

}  // namespace

absl::Span<const DrafterRow> Drafters() { return kDrafters; }

absl::StatusOr<DrafterChoice> ChooseDrafter(std::string_view name,
                                            absl::Span<const Setting> settings) {
  std::string known;
  for (const DrafterRow& row : kDrafters) {
    const bool is_file = row.needs == DrafterRow::Needs::kModel;
    known += fmt::format("{}, ", is_file ? "FILE.gguf" : row.name);
    if (is_file ? !NamesAFile(name) : row.name != name) continue;
    ASSIGN_OR_RETURN(std::vector<double> values,
                     ChooseParameters(row.name, row.parameters, settings));
    return DrafterChoice{.row = &row,
                         .model_path = is_file ? std::string(name) : std::string(),
                         .values = std::move(values)};
  }
  known.resize(known.size() - 2);
  return absl::InvalidArgumentError(
      fmt::format("draft is \"{}\", which is not allowed: it must be one of {}", name, known));
}

}  // namespace stoker
