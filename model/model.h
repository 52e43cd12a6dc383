// A loaded model: everything but its routed experts in memory, and the forward pass over them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/expert_catalog.h"
#include "base/parallel.h"
#include "base/time_ledger.h"
#include "cache/expert_provider.h"
#include "device/device.h"
#include "io/block_reader.h"
#include "io/gguf.h"
#include "kernels/device_ops.h"
#include "kernels/ops.h"
#include "model/config.h"
#include "model/kv_cache.h"
#include "model/step_observer.h"

namespace stoker {

struct Family;  // model/family.h

// What a file turns out to hold, found without reading tensor data: enough to inspect and to plan
// memory.
struct ModelSpec {
  enum class Part : uint8_t {
    kEmbedding,
    kAttention,
    kNorm,
    kRouter,
    kDense,
    kShared,
    kExperts,
    kHead,
    kMtp,
    kOther
  };
  struct Tensor {
    std::string name;
    Part part = Part::kOther;
    Dtype dtype = Dtype::kF32;
    std::vector<int64_t> dims;  // as in the file, contiguous first
    uint64_t bytes = 0;
  };
  const Family* family = nullptr;
  ModelConfig config;
  ExpertCatalog experts;               // file numbers are GgufModel::paths() indices
  std::vector<Tensor> tensors;         // every tensor of the file
  uint64_t trunk_bytes = 0;            // resident weights, converted forms included
  uint64_t embedding_cache_bytes = 0;  // rows kept of embedding tables, which are read by row
  // Whether the file's first multi-token-prediction layer is among trunk and experts: its experts
  // are those of layer config.layer_count. Otherwise its tensors are known, and kept aside.
  bool with_mtp = false;

  struct ReadOptions {
    bool with_mtp = false;
  };
  // Unimplemented: an architecture or a format that we do not compute, by name, with the known
  // ones. InvalidArgument or DataLoss: hyper-parameters out of range, tensors missing or misshapen
  // (each named); or the file has no layer for multi-token prediction and was asked for one.
  static absl::StatusOr<ModelSpec> Read(const GgufModel& gguf, const ReadOptions& options);
  static absl::StatusOr<ModelSpec> Read(const GgufModel& gguf) { return Read(gguf, {}); }
};

std::string_view NameOf(ModelSpec::Part part);

// One row of a step: one token of one sequence. Rows of a sequence are adjacent and at consecutive
// positions; the first of them is at KvCache::length(sequence).
struct StepRow {
  int32_t token = 0;
  int32_t sequence = 0;
  int32_t position = 0;
  bool wants_logits = false;
};

// One row of multi-token prediction: from the state at a position and the token behind it, a guess
// of the token after that one. Rows of a sequence are adjacent and at consecutive positions.
struct MtpRow {
  int32_t token = 0;  // at position + 1
  int32_t sequence = 0;
  int32_t position = 0;
  const float* hidden = nullptr;  // [hidden], at `position`: what StepOutput::normed gave for it
  bool wants_logits = false;
};

struct StepOutput {
  float* logits = nullptr;     // [rows that want logits, vocab], in row order
  ExpSum* exp_sums = nullptr;  // of each row's logits; null: not wanted
  float* normed = nullptr;     // [rows, hidden] after the final norm, of all rows; null: not wanted
  // The residual stream before each layer, and after the final norm as its last entry: [layer_count
  // + 1] blocks of [rows, hidden], blocks hidden_block_stride floats apart; null when not wanted.
  float* hidden = nullptr;
  int64_t hidden_block_stride = 0;

  float* HiddenBlock(int block) const {
    return hidden == nullptr ? nullptr : hidden + block * hidden_block_stride;
  }
};

// Where a model's trunk and its attention cache live and are computed; without a device: the host.
struct ModelDevice {
  Device* device = nullptr;
  const DeviceOps* ops = nullptr;    // those of the device's kind
  Stream stream = Stream::kCompute;  // where its steps are queued
};

struct WorkspaceNeeds {
  uint64_t host_bytes = 0;    // with a device: of which some are pinned
  uint64_t device_bytes = 0;  // 0 without a device
};

class Model {
 public:
  struct Options {
    int step_rows_max = 512;     // rows of the largest step
    int logits_rows_max = 8;     // rows of a step that may want logits
    int context_max = 4096;      // positions (rope tables, attention scratch)
    int lookahead_rows_max = 0;  // rows of a step that routers are guessed for; 0: never
    int mtp_rows_max = 0;        // rows of ForwardMtp, at most step_rows_max; 0: never called
  };
  // bytes read so far and in all
  using Progress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

  // Everything the forward pass takes beside weights (ModelSpec::trunk_bytes, on either side), KV
  // cache and experts.
  static WorkspaceNeeds WorkspaceBytes(const ModelSpec& spec, const Options& options,
                                       int thread_count, bool on_device);

  // Reads the trunk through `reader` (a reader of its own; files are added here) and takes the
  // workspace. DataLoss or the reader's error, naming the tensor, when a read fails. With a device
  // the trunk passes through host memory, which is given back before the workspace is taken; the
  // device's error when it cannot hold it. `ops`, `team` and the device must outlive the model.
  static absl::StatusOr<std::unique_ptr<Model>> Load(const GgufModel& gguf, ModelSpec spec,
                                                     const Options& options, const Ops& ops,
                                                     ThreadTeam& team, BlockReader& reader,
                                                     const Progress& progress,
                                                     const ModelDevice& device = {});
  virtual ~Model() = default;
  virtual const ModelSpec& spec() const = 0;

  // Runs one step: rows in, K and V appended, logits out. Rows' results do not depend on each
  // other's presence. On error (an expert or an embedding row could not be read) the KV cache's
  // lengths are as before the call. `observer` and `ledger` may be null. Allocates nothing.
  virtual absl::Status Forward(absl::Span<const StepRow> rows, KvCache& kv, ExpertProvider& experts,
                               StepObserver* observer, TimeLedger* ledger,
                               const StepOutput& output) = 0;

  // The multi-token-prediction layer, with the contract of Forward. `kv` is its own: of one layer
  // (KvCache::Options::layer_count), the first row of a sequence at its length there. Logits guess
  // the token at position + 2; output.normed, as the state of the next position, guesses one token
  // further. `observer` is told of a step of these rows and of their routing at layer
  // config.layer_count; nothing is looked ahead. Requires spec().with_mtp, at most
  // Options::mtp_rows_max rows, and no output.hidden.
  virtual absl::Status ForwardMtp(absl::Span<const MtpRow> rows, KvCache& kv,
                                  ExpertProvider& experts, StepObserver* observer,
                                  TimeLedger* ledger, const StepOutput& output) = 0;
};

}  // namespace stoker
