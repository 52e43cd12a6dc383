// How the store tells what became of an expert, without knowing who listens.
#pragma once

#include <cstdint>

#include "base/expert_id.h"

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

// Called by the store's thread, between and within steps; must not call back.
class ResidencyObserver {
 public:
  virtual ~ResidencyObserver() = default;
  // `bytes`: read or copied for it.
  virtual void OnResidency(ResidencyChange change, ExpertId id, uint64_t bytes) = 0;
};

}  // namespace stoker
