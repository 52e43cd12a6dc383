// A model of a file with all its experts in memory, and ways to run it, for the tests of this room.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/parallel.h"
#include "cache/resident_experts.h"
#include "io/block_reader.h"
#include "io/gguf.h"
#include "kernels/backends.h"
#include "model/kv_cache.h"
#include "model/model.h"

namespace stoker {

inline bool operator==(const ExpSum& a, const ExpSum& b) {
  return a.max == b.max && a.sum == b.sum;
}

// Logits and normed states of every row run, and the hidden states of the last step.
struct RunResult {
  std::vector<float> logits;     // [rows, vocab]
  std::vector<float> hidden;     // [layers + 1, rows, hidden], of single-step runs
  std::vector<float> normed;     // [rows, hidden]
  std::vector<ExpSum> exp_sums;  // [rows]
};

// Of the rows of a pass of multi-token prediction.
struct MtpResult {
  std::vector<float> logits;  // [rows that want them, vocab]
  std::vector<float> normed;  // [rows, hidden]
};

class LoadedModel {
 public:
  struct Options {
    std::string ops = "auto";
    int threads = 1;
    int sequence_count = 1;
    Dtype kv_dtype = Dtype::kF32;
    ModelDevice device = {};  // outlives the model; OnDevice has one of its own
    bool with_mtp = false;
    Model::Options model = {.step_rows_max = 512, .logits_rows_max = 512, .context_max = 512};
  };

  static absl::StatusOr<std::unique_ptr<LoadedModel>> Open(const std::string& path,
                                                           const Options& options);

  const ModelSpec& spec() const { return model_->spec(); }
  const ModelConfig& config() const { return model_->spec().config; }
  Model& model() { return *model_; }
  KvCache& kv() { return *kv_; }
  KvCache& mtp_kv() { return *mtp_kv_; }  // with_mtp
  ExpertProvider& experts() { return *experts_; }

  // Appends tokens to a sequence in steps of at most `chunk`, logits for every row.
  RunResult Run(const std::vector<int32_t>& tokens, int chunk, int sequence = 0);
  // One step of given rows, logits for all of them.
  RunResult Step(const std::vector<StepRow>& rows);
  // Of all rows of one pass of multi-token prediction, with experts from where steps get them.
  absl::StatusOr<MtpResult> RunMtp(const std::vector<MtpRow>& rows);
  // Where steps get their experts from; null: all of them in host memory.
  void Use(ExpertProvider* provider) { provider_ = provider; }
  // Who is told of steps from here on; null: nobody.
  void Observe(StepObserver* observer) { observer_ = observer; }
  void Reset();

 private:
  LoadedModel(const Options& options)
      : options_(options), team_({.thread_count = options.threads, .cpus = {}}) {}

  const Options options_;
  RealClock clock_;
  ThreadTeam team_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ExpertProvider> experts_;
  std::unique_ptr<KvCache> kv_;
  std::unique_ptr<KvCache> mtp_kv_;
  ExpertProvider* provider_ = nullptr;
  StepObserver* observer_ = nullptr;
};

// The index of the largest, the first of equals.
int32_t BestToken(const float* logits, int vocab);

}  // namespace stoker
