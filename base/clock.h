// Time as a thing passed in, so that tests can own it.
#pragma once

#include <cstdint>

namespace stoker {

class Clock {
 public:
  virtual ~Clock() = default;
  // Nanoseconds since some fixed moment; never goes back.
  virtual int64_t NowNs() const = 0;
};

// CLOCK_MONOTONIC.
class RealClock final : public Clock {
 public:
  int64_t NowNs() const override;
};

// Stands still until told to move. Not thread-safe.
class VirtualClock final : public Clock {
 public:
  int64_t NowNs() const override { return now_ns_; }
  void AdvanceNs(int64_t ns) { now_ns_ += ns; }

 private:
  int64_t now_ns_ = 0;
};

}  // namespace stoker
