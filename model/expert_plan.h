// Who chose which expert: the routers' choices turned round, from rows to experts.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "cache/expert_provider.h"
#include "model/carver.h"
#include "model/config.h"

namespace stoker {

// The experts that a layer's rows chose, and who chose each. A pair is row * top_k + rank.
struct ExpertPlan {
  int32_t* wanted = nullptr;  // [experts] the union, in the order of the request
  int32_t* rows = nullptr;    // [experts] how many rows chose each of `wanted`
  int32_t wanted_count = 0;
  int32_t* pair_begin = nullptr;  // [experts + 1] where an expert's pairs start in `pairs`
  int32_t* pairs = nullptr;       // [rows * top_k] by expert, rows ascending
  // [rows * top_k] where in `pairs` a pair is, if that is wanted: then its part goes to that row
  // of the partial results, so that an expert's parts are neighbours.
  int32_t* places = nullptr;

  int64_t PartialRow(int32_t pair) const { return places == nullptr ? pair : places[pair]; }
};

ExpertPlan CarvePlan(const ModelConfig& config, int64_t rows, Carver& carver);

// The union of the choices, row by row and in rank order within a row, each expert at its first
// use; and for each expert its pairs. chosen: [rows, top_k].
void PlanExperts(const ModelConfig& config, const int32_t* chosen, int64_t rows, ExpertPlan& plan);

absl::Status RequestExperts(ExpertProvider& provider, int layer, const ExpertPlan& plan);

}  // namespace stoker
