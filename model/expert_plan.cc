// Turning choices round by counting.
#include "model/expert_plan.h"

#include <algorithm>

namespace stoker {

ExpertPlan CarvePlan(const ModelConfig& config, int64_t rows, Carver& carver) {
  ExpertPlan plan;
  plan.wanted = carver.Take<int32_t>(config.expert_count);
  plan.rows = carver.Take<int32_t>(config.expert_count);
  plan.pair_begin = carver.Take<int32_t>(config.expert_count + 1);
  plan.pairs = carver.Take<int32_t>(rows * config.experts_used);
  return plan;
}

void PlanExperts(const ModelConfig& config, const int32_t* chosen, int64_t rows, ExpertPlan& plan) {
  const int32_t experts = config.expert_count;
  const auto pairs = static_cast<int32_t>(rows * config.experts_used);
  int32_t* begin = plan.pair_begin;
  std::fill(begin, begin + experts + 1, 0);
  plan.wanted_count = 0;
  for (int32_t pair = 0; pair < pairs; ++pair) {
    if (begin[chosen[pair] + 1]++ == 0) plan.wanted[plan.wanted_count++] = chosen[pair];
  }
  for (int32_t i = 0; i < plan.wanted_count; ++i) plan.rows[i] = begin[plan.wanted[i] + 1];
  for (int32_t e = 0; e < experts; ++e) begin[e + 1] += begin[e];
  // Filling moves each begin to its end, which is the next one's begin: shift back afterwards.
  for (int32_t pair = 0; pair < pairs; ++pair) {
    const int32_t place = begin[chosen[pair]]++;
    plan.pairs[place] = pair;
    if (plan.places != nullptr) plan.places[pair] = place;
  }
  for (int32_t e = experts; e > 0; --e) begin[e] = begin[e - 1];
  begin[0] = 0;
}

absl::Status RequestExperts(ExpertProvider& provider, int layer, const ExpertPlan& plan) {
  const auto count = static_cast<size_t>(plan.wanted_count);
  return provider.Request(layer, {plan.wanted, count}, {plan.rows, count});
}

}  // namespace stoker
