// Two recorded runs side by side: whether they chose the same experts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/trace/trace.h"

namespace stoker {

// Rows of both runs with the same sequence and position, of one layer. Prompt rows hold the same
// token in both if the prompts were the same; decode rows only until the texts part, which a trace
// does not say, so they are counted apart.
struct LayerAgreement {
  int layer = 0;
  struct Rows {
    int64_t count = 0;
    int64_t chosen = 0;     // experts that the first run chose
    int64_t shared = 0;     // of these, chosen by the other too
    int64_t same_best = 0;  // rows whose first choice is the same
    double share() const { return chosen == 0 ? 0 : double(shared) / double(chosen); }
    double best_share() const { return count == 0 ? 0 : double(same_best) / double(count); }
  };
  Rows prompt;
  Rows decode;
};

struct Agreement {
  std::string problem;      // why the runs cannot be held against each other, or empty
  bool best_known = false;  // ids are in router rank order in both
  std::vector<LayerAgreement> layers;
};

Agreement CompareChoices(const Trace& first, const Trace& other);

}  // namespace stoker
