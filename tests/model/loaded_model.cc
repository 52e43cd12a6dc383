// Opening and running a model for the tests of this room.
#include "tests/model/loaded_model.h"

#include <algorithm>

#include "base/check.h"
#include "base/status.h"

namespace stoker {

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadedModel::Open(const std::string& path,
                                                               const Options& options) {
  ASSIGN_OR_RETURN(const GgufModel gguf, GgufModel::Open(path));
  ASSIGN_OR_RETURN(ModelSpec spec, ModelSpec::Read(gguf, {.with_mtp = options.with_mtp}));
  ASSIGN_OR_RETURN(const Ops* ops, SelectOps(options.ops));
  std::unique_ptr<LoadedModel> loaded(new LoadedModel(options));
  const std::unique_ptr<BlockReader> reader = MakePreadReader({});
  for (const std::string& file : gguf.paths()) RETURN_IF_ERROR(reader->AddFile(file).status());
  ASSIGN_OR_RETURN(loaded->experts_,
                   ResidentExperts::Create(spec.experts, {}, *reader, loaded->clock_));
  const std::unique_ptr<BlockReader> trunk_reader = MakePreadReader({});
  ASSIGN_OR_RETURN(loaded->model_,
                   Model::Load(gguf, std::move(spec), options.model, *ops, loaded->team_,
                               *trunk_reader, nullptr, options.device));
  KvCache::Options kv_options = {.sequence_count = options.sequence_count,
                                 .context = options.model.context_max,
                                 .dtype = options.kv_dtype,
                                 .device = options.device.device};
  ASSIGN_OR_RETURN(KvCache kv, KvCache::Create(loaded->config(), kv_options));
  loaded->kv_ = std::make_unique<KvCache>(std::move(kv));
  if (!options.with_mtp) return loaded;
  kv_options.layer_count = 1;
  ASSIGN_OR_RETURN(KvCache mtp_kv, KvCache::Create(loaded->config(), kv_options));
  loaded->mtp_kv_ = std::make_unique<KvCache>(std::move(mtp_kv));
  return loaded;
}

RunResult LoadedModel::Step(const std::vector<StepRow>& rows) {
  const auto count = rows.size();
  const auto hidden = static_cast<size_t>(config().hidden);
  RunResult result;
  result.logits.resize(count * static_cast<size_t>(config().vocab_count));
  result.normed.resize(count * hidden);
  result.exp_sums.resize(count);
  result.hidden.resize(static_cast<size_t>(config().layer_count + 1) * count * hidden);
  const absl::Status status =
      model_->Forward(rows, *kv_, provider_ == nullptr ? *experts_ : *provider_, observer_, nullptr,
                      {.logits = result.logits.data(),
                       .exp_sums = result.exp_sums.data(),
                       .normed = result.normed.data(),
                       .hidden = result.hidden.data(),
                       .hidden_block_stride = static_cast<int64_t>(count * hidden)});
  CHECK(status.ok());
  return result;
}

RunResult LoadedModel::Run(const std::vector<int32_t>& tokens, int chunk, int sequence) {
  RunResult all;
  for (size_t first = 0; first < tokens.size(); first += static_cast<size_t>(chunk)) {
    const size_t end = std::min(tokens.size(), first + static_cast<size_t>(chunk));
    std::vector<StepRow> rows;
    for (size_t i = first; i < end; ++i) {
      rows.push_back({.token = tokens[i],
                      .sequence = sequence,
                      .position = kv_->length(sequence) + static_cast<int32_t>(i - first),
                      .wants_logits = true});
    }
    RunResult step = Step(rows);
    all.logits.insert(all.logits.end(), step.logits.begin(), step.logits.end());
    all.normed.insert(all.normed.end(), step.normed.begin(), step.normed.end());
    all.exp_sums.insert(all.exp_sums.end(), step.exp_sums.begin(), step.exp_sums.end());
    all.hidden = std::move(step.hidden);
  }
  return all;
}

absl::StatusOr<MtpResult> LoadedModel::RunMtp(const std::vector<MtpRow>& rows) {
  const auto wanted = static_cast<size_t>(
      std::count_if(rows.begin(), rows.end(), [](const MtpRow& row) { return row.wants_logits; }));
  MtpResult result;
  result.logits.resize(wanted * static_cast<size_t>(config().vocab_count));
  result.normed.resize(rows.size() * static_cast<size_t>(config().hidden));
  RETURN_IF_ERROR(model_->ForwardMtp(
      rows, *mtp_kv_, provider_ == nullptr ? *experts_ : *provider_, observer_, nullptr,
      {.logits = result.logits.data(), .normed = result.normed.data()}));
  return result;
}

void LoadedModel::Reset() {
  for (int s = 0; s < options_.sequence_count; ++s) {
    kv_->Truncate(s, 0);
    if (mtp_kv_ != nullptr) mtp_kv_->Truncate(s, 0);
  }
}

int32_t BestToken(const float* logits, int vocab) {
  return static_cast<int32_t>(std::max_element(logits, logits + vocab) - logits);
}

}  // namespace stoker
