// What a trace says of the run that wrote it.
#pragma once

#include "absl/types/span.h"
#include "io/gguf.h"
#include "model/model.h"
#include "runtime/budget.h"
#include "runtime/options.h"
#include "runtime/trace/trace.h"

namespace stoker {

// `alignments`: of reads, by file of the model.
TraceHeader DescribeRun(const GgufModel& gguf, const ModelSpec& spec, const EngineOptions& options,
                        const MemoryPlan& plan, absl::Span<const size_t> alignments);

}  // namespace stoker
