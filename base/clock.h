// Time as a thing passed in, so that tests can own it.
#pragma once

#include <algorithm>
#include <cstdint>

namespace stoker {

class Clock {
 public:
  virtual ~Clock() = default;
  // Nanoseconds since some fixed moment; never goes back.
  virtual int64_t NowNs() const = 0;
  // Returns when NowNs() is `when_ns` or later; at once when it is already.
  virtual void SleepUntilNs(int64_t when_ns) = 0;
};

// CLOCK_MONOTONIC.
class RealClock final : public Clock {
 public:
  int64_t NowNs() const override;
  // Spins over the last stretch, because the kernel wakes a sleeper late.
  void SleepUntilNs(int64_t when_ns) override;
};

// Stands still until told to move, or slept on. Not thread-safe.
class VirtualClock final : public Clock {
 public:
  int64_t NowNs() const override { return now_ns_; }
  void SleepUntilNs(int64_t when_ns) override { now_ns_ = std::max(now_ns_, when_ns); }
  void AdvanceNs(int64_t ns) { now_ns_ += ns; }

 private:
  int64_t now_ns_ = 0;
};

}  // namespace stoker
