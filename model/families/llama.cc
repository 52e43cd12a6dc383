// Llama and models of its shape, dense; with experts, Mixtral. Heads of q and k are stored permuted
// for rotation of neighbours.
#include "base/status.h"
#include "model/families/common.h"
#include "model/families/families.h"

namespace stoker {

absl::StatusOr<ModelConfig> ReadLlamaConfig(const GgufModel& gguf) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadTrunkConfig(gguf));
  config.rope.pairing = RopePairing::kNeighbours;
  RETURN_IF_ERROR(ReadExpertCounts(gguf, config));
  if (config.expert_count == 0) return config;
  config.expert_ffn = config.dense_ffn;  // feed_forward_length is the experts' width
  // Mixtral takes the softmax over the chosen logits, which is the softmax over all, renormalized.
  config.router.normalize = true;
  return config;
}

}  // namespace stoker
