// The list of predictors: adding one is a row here and a pair of files beside it.
#include <fmt/format.h>

#include <utility>

#include "base/status.h"
#include "prefetch/predictor.h"
#include "prefetch/predictors/co_occurrence.h"
#include "prefetch/predictors/lookahead.h"
#include "prefetch/predictors/popularity.h"
#include "prefetch/predictors/previous_token.h"
#include "prefetch/predictors/token.h"

namespace stoker {
namespace {

constexpr PredictorRow kPredictors[] = {
    {.name = "none", .description = "guesses nothing, and costs nothing"},
    {.name = "lookahead",
     .description = "the next layers' routers on this layer's state",
     .parameters = LookaheadPredictor::kParameters,
     .needs_lookahead = true,
     .make = &LookaheadPredictor::Make,
     .plan_bytes = &LookaheadPredictor::PlanBytes},
    {.name = "co-occurrence",
     .description = "what followed the experts of this layer before; counts fade",
     .parameters = CoOccurrencePredictor::kParameters,
     .make = &CoOccurrencePredictor::Make,
     .plan_bytes = &CoOccurrencePredictor::PlanBytes},
    {.name = "previous-token",
     .description = "the experts that the sequence's last token used",
     .parameters = PreviousTokenPredictor::kParameters,
     .make = &PreviousTokenPredictor::Make,
     .plan_bytes = &PreviousTokenPredictor::PlanBytes},
    {.name = "popularity",
     .description = "the experts that a layer uses most; counts fade",
     .parameters = PopularityPredictor::kParameters,
     .make = &PopularityPredictor::Make,
     .plan_bytes = &PopularityPredictor::PlanBytes},
    {.name = "token",
     .description = "the experts that the same token used last, and an expected draft",
     .parameters = TokenPredictor::kParameters,
     .needs_tokens = true,
     .make = &TokenPredictor::Make,
     .plan_bytes = &TokenPredictor::PlanBytes},
};

}  // namespace

absl::Span<const PredictorRow> Predictors() { return kPredictors; }

absl::StatusOr<PredictorChoice> ChoosePredictor(std::string_view name,
                                                absl::Span<const Setting> settings) {
  std::string known;
  for (const PredictorRow& row : kPredictors) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
    if (row.name != name) continue;
    ASSIGN_OR_RETURN(std::vector<double> values,
                     ChooseParameters(row.name, row.parameters, settings));
    return PredictorChoice{.row = &row, .values = std::move(values)};
  }
  return absl::InvalidArgumentError(
      fmt::format("unknown predictor \"{}\"; the known ones are: {}", name, known));
}

}  // namespace stoker
