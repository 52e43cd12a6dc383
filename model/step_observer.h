// How a model tells what its routers decided, and what they would decide next, without knowing who
// listens.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace stoker {

struct StepRow;  // model/model.h

inline constexpr int kLookaheadLayersMax = 4;

// Called by the thread that runs the step, in the order of the layers. The spans are valid during
// the call.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  // A step begins with these rows.
  virtual void OnStep(absl::Span<const StepRow> /*rows*/) {}
  // One layer's decisions for all rows of a step: experts and weights are [rows, top_k], best
  // first. Before the layer's experts are asked for; of layers whose experts need not be asked for,
  // because a device holds them all, some time later in the step, and nothing is guessed at them or
  // of them.
  virtual void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts,
                         absl::Span<const float> weights) = 0;
  // How many of the mixture layers after this one should be guessed, by their norms and routers on
  // this layer's state, at most kLookaheadLayersMax; 0: none, which costs nothing. Asked some
  // time before OnLookahead.
  virtual int lookahead_layers(int /*layer*/) { return 0; }
  // Whether a certain one of these should be; else it is passed over, which costs nothing.
  virtual bool wants_lookahead(int layer, int /*target_layer*/) {
    return lookahead_layers(layer) > 0;
  }
  // A guess, made at `layer`, of what the router of `target_layer` will choose: [rows, count], best
  // first, with their scores; `count` may exceed the experts that a token uses. Only of steps of at
  // most Model::Options::lookahead_rows_max rows. After the layer's experts were asked for, before
  // they are waited for.
  virtual void OnLookahead(int /*layer*/, int /*target_layer*/, int /*count*/,
                           absl::Span<const int32_t> /*experts*/,
                           absl::Span<const float> /*scores*/) {}
};

}  // namespace stoker
