// Attributes every nanosecond of a step to one cause.
//
// One thread (the engine's) switches the running cause; the time since the last switch is added to
// the cause that was running. So the causes sum to the wall time exactly, and recording costs one
// clock read a switch.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/clock.h"

namespace stoker {

enum class Cause : uint8_t {
  kOther,          // nothing below; a large share is a bug
  kEmbedding,      // reading embedding rows
  kAttention,      // norms, projections, attention proper
  kRouter,         // router product and choice of experts
  kDense,          // dense and shared-expert feed-forward
  kExpertCompute,  // routed experts
  kStore,          // asking the expert store: claiming slots, handing reads to the kernel
  kWaitDrive,      // nothing to compute until an expert arrives from a file
  kWaitCopy,       // nothing to compute until a copy to or from the device is done
  kWaitDevice,     // nothing to do until the device has computed
  kHead,           // final norm and output product
  kSampling,       // logits to token
  kDraft,          // guessing tokens
  kPrefetch,       // guessing experts and asking for them ahead
  kScheduling,     // forming steps, bookkeeping
  kCount,
};

std::string_view NameOf(Cause cause);  // "attention", "wait_drive", ...

using CauseTimes = std::array<int64_t, static_cast<size_t>(Cause::kCount)>;  // ns by cause

class TimeLedger {
 public:
  explicit TimeLedger(const Clock& clock) : clock_(clock), last_ns_(clock.NowNs()) {}

  // Charges the time since the last call to the running cause, then runs `cause`. Returns the
  // former cause.
  Cause Switch(Cause cause) {
    const int64_t now_ns = clock_.NowNs();
    times_[static_cast<size_t>(running_)] += now_ns - last_ns_;
    last_ns_ = now_ns;
    const Cause former = running_;
    running_ = cause;
    return former;
  }
  // Times since the last Take, which start again from zero.
  CauseTimes Take() {
    Switch(running_);
    CauseTimes taken = times_;
    times_ = {};
    return taken;
  }

 private:
  const Clock& clock_;
  int64_t last_ns_;
  Cause running_ = Cause::kOther;
  CauseTimes times_ = {};
};

// Runs a cause for a scope and returns to the former one. A null ledger records nothing.
class CauseScope {
 public:
  CauseScope(TimeLedger* ledger, Cause cause) : ledger_(ledger) {
    if (ledger_ != nullptr) former_ = ledger_->Switch(cause);
  }
  ~CauseScope() {
    if (ledger_ != nullptr) ledger_->Switch(former_);
  }
  CauseScope(const CauseScope&) = delete;
  CauseScope& operator=(const CauseScope&) = delete;

 private:
  TimeLedger* ledger_;
  Cause former_ = Cause::kOther;
};

}  // namespace stoker
