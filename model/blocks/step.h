// What every block of a layer works with during one step.
#pragma once

#include "absl/types/span.h"
#include "base/parallel.h"
#include "base/time_ledger.h"
#include "kernels/ops.h"
#include "model/config.h"
#include "model/kv_cache.h"
#include "model/model.h"
#include "model/trunk.h"
#include "model/workspace.h"

namespace stoker {

struct Step {
  const ModelConfig& config;
  const Ops& ops;
  ThreadTeam& team;
  Workspace& work;
  KvCache& kv;
  absl::Span<const StepRow> rows;
  absl::Span<const SequenceRun> runs;
  TimeLedger* ledger;  // may be null

  int64_t row_count() const { return static_cast<int64_t>(rows.size()); }
};

// Calls body(row) for every row, shared out over the team.
template <typename Body>
void ForEachRow(const Step& step, const Body& body) {
  step.team.ParallelFor(step.row_count(), 1, [&](int64_t row, int64_t, int) { body(row); });
}

}  // namespace stoker
