// How any part reports itself: it hands named numbers to a visitor, and knows nothing of who reads
// them.
#pragma once

#include <cstdint>
#include <string_view>

namespace stoker {

// Names are lower_snake with the unit last: "read_bytes", "wait_ns".
class CounterVisitor {
 public:
  virtual ~CounterVisitor() = default;
  virtual void Counter(std::string_view name, uint64_t value) = 0;  // only grows
  virtual void Gauge(std::string_view name, double value) = 0;      // goes up and down
};

}  // namespace stoker
