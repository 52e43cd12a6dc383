// Guessing what the next layers' routers will choose, on the device: model/blocks/lookahead.h, with
// the guesses on the way back that the layer's own routing takes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "cache/expert_provider.h"
#include "model/device_blocks/step.h"
#include "model/step_observer.h"
#include "model/weights.h"

namespace stoker {

// The layers that are guessed at one layer, in their order.
struct GuessedLayers {
  std::array<int32_t, kLookaheadLayersMax> layers;
  int count = 0;
};

// As many of the mixture layers after `layer` as the observer asks for, but those whose experts the
// device holds for good: whoever guesses them has nothing to read. None in a step of more rows than
// the workspace has room for.
GuessedLayers LayersToGuess(const DeviceStep& step, int layer, ExpertProvider& provider,
                            StepObserver& observer);

// Queues the guesses, from work.residual as it is, to `out` on the device, one RouterChoices a
// layer; work.router is overwritten. How many bytes they are; nothing is queued for none.
size_t QueueGuesses(const DeviceStep& step, absl::Span<const LayerWeights> layers,
                    const GuessedLayers& guessed, std::byte* out);

// Tells what was queued, once the copy of it has come to `memory`.
void TellGuesses(const DeviceStep& step, int layer, const GuessedLayers& guessed, std::byte* memory,
                 StepObserver& observer);

}  // namespace stoker
