// Brings the resident weights from the files into memory.
#pragma once

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/parallel.h"
#include "device/buffer.h"
#include "io/block_reader.h"
#include "io/gguf.h"
#include "kernels/ops.h"
#include "model/model.h"
#include "model/trunk_layout.h"
#include "model/weights.h"

namespace stoker {

// Reads every run, many pieces in flight, resuming short reads and repeating transient errors a
// bounded number of times; then widens vectors, transposes keys, and points the tensors' views into
// the arena that is returned. DataLoss or the reader's error, naming the tensor, the file and the
// offset.
absl::StatusOr<HostBuffer> ReadTrunk(const GgufModel& gguf, absl::Span<const TrunkTensor> tensors,
                                     const ModelConfig& config, const Ops& ops, ThreadTeam& team,
                                     BlockReader& reader, const Model::Progress& progress);

}  // namespace stoker
