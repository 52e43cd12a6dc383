// How the store tells what became of an expert, without knowing who listens.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "base/expert_id.h"
#include "cache/placement.h"

namespace stoker {

enum class ResidencyChange : uint8_t {
  kRead,         // arrived from a file for a step that waits for it
  kReadOnHint,   // arrived from a file on a guess
  kEvicted,      // left the store
  kPromoted,     // RAM to VRAM
  kDemoted,      // VRAM to RAM
  kHintUsed,     // a step asked for an expert that a guess had brought, or was bringing
  kHintWasted,   // one that a guess had brought was evicted unused
  kHintDropped,  // a guess was given up before it was read
};

// A choice of places by rates, of experts of one layer.
struct Placement {
  int layer = 0;
  int32_t first_key = 0;  // of the layer: an expert is its key less this
  const PlaceQuestion& question;
  absl::Span<const PlaceCandidate> experts;  // in the order of ChoosePlaces
  int copy_count = 0;                        // of them, the first ones
};

// Called by the store's thread, between and within steps; must not call back.
class ResidencyObserver {
 public:
  virtual ~ResidencyObserver() = default;
  // `bytes`: read or copied for it.
  virtual void OnResidency(ResidencyChange change, ExpertId id, uint64_t bytes) = 0;
  // What `placement` refers to lives for the call.
  virtual void OnPlacement(const Placement& /*placement*/) {}
};

}  // namespace stoker
