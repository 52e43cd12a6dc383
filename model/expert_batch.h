// The host's computation of routed experts: several at a time, each with all the rows that chose
// it, as few regions of the thread team.
#pragma once

#include <cstdint>

#include "base/parallel.h"
#include "cache/expert_provider.h"
#include "kernels/ops.h"
#include "model/blocks/products.h"
#include "model/carver.h"
#include "model/config.h"
#include "model/expert_plan.h"
#include "model/weights.h"

namespace stoker {

// Experts held at once, of those that the provider lets us hold.
inline constexpr int kHeldExpertsMax = 64;

// The memory that batches work in.
struct ExpertArrays {
  int64_t pairs_max = 0;   // (row, expert) pairs computed together; any one expert's fit
  int64_t panels_max = 0;  // panels of these
  float* gate = nullptr;   // [pairs, expert feed-forward]
  float* up = nullptr;
  float** outs = nullptr;                 // [2 * pairs_max]
  const std::byte** pair_rows = nullptr;  // [2, pairs_max] activation rows, for gate and up
  std::byte* panels[kKindCount] = {};     // [panels_max] of input rows, by expert
  Activations gated;                      // of pairs: the experts' gated values
};

// Sets the sizes for steps of up to `rows` rows, and carves all but gate, up and outs, which can
// be shared with what does not run at the same time.
void CarveExpertArrays(const ModelConfig& config, int64_t rows, KindSet kinds, Carver& carver,
                       ExpertArrays& arrays);

// One layer's experts and their rows.
struct ExpertWork {
  const ModelConfig& config;
  const Ops& ops;
  ThreadTeam& team;
  const ExpertShape& shape;
  const ExpertPlan& plan;
  const Activations& input;  // [rows, hidden], in the forms that gate and up want
  ExpertArrays& arrays;
  float* partial;  // [rows * top_k, hidden], RowStride(hidden) apart: plan.PartialRow of each pair
};

// Experts computed together: their pairs side by side in arrays.gate and arrays.up.
class ExpertBatch {
 public:
  explicit ExpertBatch(const ExpertWork& work) : work_(work), top_k_(work.config.experts_used) {}

  // Takes an expert in host memory with its pairs; false when there is no room left, which cannot
  // be while the batch is empty. It must be held until Run returns.
  bool Add(const ExpertRef& expert);
  // Computes the parts of all pairs, tells the provider how long it took, and forgets the experts.
  void Run(ExpertProvider& provider);

 private:
  struct Member {
    const std::byte* gate;
    const std::byte* up;
    const std::byte* down;
    const int32_t* pairs;
    int32_t pair_count;
    int32_t first_pair;   // in the batch
    int32_t first_panel;  // in the batch; -1: too few rows for panels
  };

  MatmulArgs FirstProduct(const Member& m, const MatrixView& shape, const std::byte* data,
                          const std::byte** rows, float** out) const;
  void PackInputs();
  void GateAndUp();
  void Activate();
  void Down();
  const Member& MemberOfPanel(int64_t panel) const;

  const ExpertWork& work_;
  const int32_t top_k_;
  Member members_[kHeldExpertsMax];
  int count_ = 0;
  int32_t pairs_ = 0;
  int32_t panels_ = 0;
};

}  // namespace stoker
