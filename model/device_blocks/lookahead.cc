// The next norms and routers on this layer's state, as launches.
#include "model/device_blocks/lookahead.h"

#include <algorithm>

#include "model/device_blocks/mixture.h"

namespace stoker {
namespace {

// What the router of `w` would choose for the residual as it is.
void QueueGuess(const DeviceStep& step, const LayerWeights& w, const RouterChoices& choices) {
  const DeviceRows input = step.work.guess_input.Only(KindSet::Of({&w.router}));
  step.Queue(step.ops.norm_rows, {.residual = step.work.residual,
                                  .weight = w.ffn_norm,
                                  .out = input.x,
                                  .q8x32 = input.q8x32,
                                  .q8x256 = input.q8x256,
                                  .rows = step.rows,
                                  .cols = step.config.hidden,
                                  .stride = input.stride,
                                  .epsilon = step.config.norm_epsilon});
  QueueRouter(step, w, input, choices);
}

}  // namespace

GuessedLayers LayersToGuess(const DeviceStep& step, int layer, ExpertProvider& provider,
                            StepObserver& observer) {
  const ModelConfig& c = step.config;
  GuessedLayers guessed;
  if (step.rows > step.work.lookahead_rows_max) return guessed;
  int wanted = std::min(observer.lookahead_layers(layer), kLookaheadLayersMax);
  for (int target = layer + 1; target < c.layer_count && wanted > 0; ++target) {
    if (!c.layer_is_moe(target)) continue;
    --wanted;
    if (provider.Resident(target).parts != nullptr) continue;
    if (!observer.wants_lookahead(layer, target)) continue;
    guessed.layers[static_cast<size_t>(guessed.count++)] = target;
  }
  return guessed;
}

size_t QueueGuesses(const DeviceStep& step, absl::Span<const LayerWeights> layers,
                    const GuessedLayers& guessed, std::byte* out) {
  if (guessed.count == 0) return 0;
  const CauseScope cause(step.ledger, Cause::kPrefetch);
  Carver carver(out);
  for (int i = 0; i < guessed.count; ++i) {
    const auto target = static_cast<size_t>(guessed.layers[static_cast<size_t>(i)]);
    QueueGuess(step, layers[target], RouterChoices::CarveGuess(step.config, step.rows, carver));
  }
  return carver.bytes();
}

void TellGuesses(const DeviceStep& step, int layer, const GuessedLayers& guessed, std::byte* memory,
                 StepObserver& observer) {
  if (guessed.count == 0) return;
  const CauseScope cause(step.ledger, Cause::kPrefetch);
  Carver carver(memory);
  for (int i = 0; i < guessed.count; ++i) {
    const RouterChoices guess = RouterChoices::CarveGuess(step.config, step.rows, carver);
    const auto ids = static_cast<size_t>(step.rows * guess.top_k);
    observer.OnLookahead(layer, guessed.layers[static_cast<size_t>(i)], guess.top_k,
                         {guess.experts, ids}, {guess.weights, ids});
  }
}

}  // namespace stoker
