// The policy seams: which resident expert gives way, and who is worth a place at all.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/counters.h"
#include "base/parameter.h"

namespace stoker {

// An expert's index in the catalog, [0, expert_count): layers in order, experts within.
using ExpertKey = int32_t;

// What a policy is made for: one size class of one tier. The spans need not outlive the making.
struct PolicyShape {
  struct Layer {
    ExpertKey first_key = 0;
    int32_t expert_count = 0;
  };
  ExpertKey key_count = 0;             // of the catalog: keys of other classes are never seen
  int64_t slot_count = 0;              // residents at most
  absl::Span<const Layer> layers;      // of this class, ascending; in this order a step uses them
  absl::Span<const uint32_t> profile;  // uses by key, of earlier runs; empty: none known
  int layer_floor = 0;                 // residents of a layer that others may not evict
  // Whether an expert of a running request gives way to another of it for a quota's sake; else the
  // quota is exceeded until the request has ended.
  bool quotas_bind_requests = true;
};

// How an expert came to be resident.
enum class Arrival : uint8_t {
  kDemand,  // a step uses it now
  kHint,    // a guess; Touched follows if it was right
};

using Evictable = absl::FunctionRef<bool(ExpertKey)>;

// Sees every residency event of one size class of one tier, in order, on one thread; needs no locks
// and no clock, so a run can be replayed. It neither pins nor reads: it ranks. All memory is taken
// at construction.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  // The uses that follow, until the next call, are what one layer of one step asks for at once. A
  // store that does not tell is understood too, a layer later.
  virtual void BeginRequest() {}
  virtual void Inserted(ExpertKey key, Arrival arrival) = 0;  // was not resident; is, or is loading
  virtual void Touched(ExpertKey key) = 0;                    // a step uses a resident expert
  virtual void Removed(ExpertKey key) = 0;  // left, as victim or because its load failed
  // The resident key to evict for `incoming`, which is not resident: the first in the policy's
  // order for which `evictable` holds, or -1 when none is. Changes nothing that could change the
  // answer; Removed follows if it is taken.
  virtual ExpertKey PickVictim(ExpertKey incoming, Evictable evictable) = 0;
  // The resident key that has to go for `incoming` although there is room (a quota is full), or -1.
  // Asked before every insertion; otherwise as PickVictim.
  virtual ExpertKey PickCrowded(ExpertKey /*incoming*/, Evictable /*evictable*/) { return -1; }
  virtual void Report(CounterVisitor& visitor) const = 0;
};

struct PolicyRow {
  std::string_view name;
  std::string_view description;
  absl::Span<const ParameterRow> parameters;
  bool needs_profile = false;
  // `values`: one a parameter, in range.
  std::unique_ptr<EvictionPolicy> (*make)(const PolicyShape& shape,
                                          absl::Span<const double> values);
};
// In policies/registry.cc, in order.
absl::Span<const PolicyRow> Policies();

// A policy as the user named it: a row, or with "-per-layer" behind its name one object a layer,
// each with its share of the slots; and its parameters.
struct PolicyChoice {
  const PolicyRow* row = nullptr;
  bool is_per_layer = false;
  std::vector<double> values;  // one a parameter; empty: the defaults

  std::string name() const;
  // Without layers `shape` is of one layer, without slots it has one for every key. Requires a
  // profile where the row needs one.
  std::unique_ptr<EvictionPolicy> Make(const PolicyShape& shape) const;
};
// `settings` of other rows are passed over. InvalidArgument: an unknown name (listing the known
// ones), an unknown parameter of the row, a value out of range (with the range and the reason).
absl::StatusOr<PolicyChoice> ChoosePolicy(std::string_view name,
                                          absl::Span<const Setting> settings = {});
// Every name that ChoosePolicy takes.
std::vector<std::string> PolicyNames();

// Whether an expert that had to be loaded stays once the step has used it. One that is not admitted
// leaves its slot empty as soon as nobody needs it. One thread; no clock; takes its memory once.
class AdmissionPolicy {
 public:
  virtual ~AdmissionPolicy() = default;
  // Each use by a step, hit or miss, before Admits is asked about that use.
  virtual void Used(ExpertKey key) = 0;
  // `victim` would have to go for it; -1: there is room. Changes nothing.
  virtual bool Admits(ExpertKey incoming, ExpertKey victim) = 0;
  virtual void Report(CounterVisitor& visitor) const = 0;
};

struct AdmissionRow {
  std::string_view name;
  std::string_view description;
  absl::Span<const ParameterRow> parameters;
  std::unique_ptr<AdmissionPolicy> (*make)(const PolicyShape& shape,
                                           absl::Span<const double> values);
};
// In policies/admission_registry.cc, in order; the first admits everything.
absl::Span<const AdmissionRow> Admissions();

struct AdmissionChoice {
  const AdmissionRow* row = nullptr;
  std::vector<double> values;  // as PolicyChoice

  std::unique_ptr<AdmissionPolicy> Make(const PolicyShape& shape) const;
};
// As ChoosePolicy.
absl::StatusOr<AdmissionChoice> ChooseAdmission(std::string_view name,
                                                absl::Span<const Setting> settings = {});

}  // namespace stoker
