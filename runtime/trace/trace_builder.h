// Puts the records of our trace files together to a trace in memory.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/trace/trace.h"
#include "runtime/trace/trace_file.h"
#include "runtime/trace/trace_header.h"

namespace stoker {

// Checks every number against the header, so that a trace can be walked without further checks.
// What comes after the last whole step is left out by Finish.
class TraceBuilder {
 public:
  explicit TraceBuilder(ParsedTraceHeader parsed);

  // The payload of a block of records; false when they make no sense.
  bool Add(const uint8_t* data, size_t bytes);
  size_t step_count() const { return trace_.steps.size(); }
  Trace Finish();

 private:
  size_t End(TraceRange TraceStep::*range) const;
  template <typename Entry>
  TraceRange Since(TraceRange TraceStep::*range, const std::vector<Entry>& entries) const;
  const TraceHeader::Layer* LayerOf(uint64_t index) const;

  bool AddRecord(TraceRecord kind, TraceBytes record);
  bool AddRows(TraceBytes& record);
  bool AddLinks(TraceBytes& record);
  bool AddRates(TraceBytes& record);
  bool AddPlacement(TraceBytes& record);
  bool AddRouting(TraceBytes& record);
  bool AddLookahead(TraceBytes& record);
  bool AddResidency(TraceBytes& record);
  bool AddMiss(TraceBytes& record);
  bool EndStep(TraceBytes& record);
  bool TakeIds(TraceBytes& record, uint64_t width, uint64_t rows, const TraceHeader::Layer& layer,
               std::vector<uint16_t>& ids) const;
  bool ReadTimes(TraceBytes& record, TraceStep& step);
  bool HasRowsOfItsEntries(const TraceStep& step) const;

  const ParsedTraceHeader parsed_;
  Trace trace_;
  int64_t last_step_ = 0;
  int64_t last_end_ns_ = 0;
};

}  // namespace stoker
