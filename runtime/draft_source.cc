// Reads a draft model's file, holds it against the target's, and adds up what drafting takes.
#include "runtime/draft_source.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/status.h"
#include "model/kv_cache.h"
#include "runtime/sampler.h"
#include "runtime/speculation.h"

namespace stoker {
namespace {

// Rows of a step of a draft model: it has the prompts to read as well, and little else to do.
constexpr int kDraftRows = 128;

constexpr std::string_view kTokensKey = "tokenizer.ggml.tokens";

absl::Status OtherVocabulary(const std::string& path, std::string_view difference) {
  return absl::InvalidArgumentError(fmt::format(
      "{} cannot draft for this model: {}\n  try: a draft model of the same family, or --draft "
      "ngram, which needs none",
      path, difference));
}

// Drafts are token ids, so these must mean the same.
absl::Status CheckVocabulary(const std::string& path, const GgufModel& draft,
                             const ModelSpec& draft_spec, const GgufModel& target,
                             const ModelSpec& target_spec) {
  if (draft_spec.config.vocab_count != target_spec.config.vocab_count) {
    return OtherVocabulary(
        path, fmt::format("it has {} tokens, the model {}", draft_spec.config.vocab_count,
                          target_spec.config.vocab_count));
  }
  const std::vector<std::string>* mine = draft.Strings(kTokensKey);
  const std::vector<std::string>* theirs = target.Strings(kTokensKey);
  if (mine == nullptr || theirs == nullptr) {
    return OtherVocabulary(path, "one of the two files does not list its tokens");
  }
  const auto [a, b] = std::mismatch(mine->begin(), mine->end(), theirs->begin(), theirs->end());
  if (a == mine->end() && b == theirs->end()) return absl::OkStatus();
  if (a == mine->end() || b == theirs->end()) {
    return OtherVocabulary(
        path, fmt::format("it lists {} tokens, the model {}", mine->size(), theirs->size()));
  }
  return OtherVocabulary(path, fmt::format("token {} is \"{}\" there and \"{}\" in the model",
                                           a - mine->begin(), *a, *b));
}

}  // namespace

ModelSpec::ReadOptions SpecOptions(const EngineOptions& options) {
  const absl::StatusOr<DrafterChoice> choice = ChooseDrafter(options.draft, options.settings);
  CHECK(choice.ok());
  return {.with_mtp = choice->row->needs == DrafterRow::Needs::kMtp};
}

KvCache::Options MtpKvOptions(const StepLimits& limits, const EngineOptions& options) {
  KvCache::Options kv = KvOptions(limits, options);
  kv.layer_count = 1;
  return kv;
}

absl::StatusOr<DraftSource> OpenDraftSource(const EngineOptions& options, const GgufModel& target,
                                            const ModelSpec& target_spec) {
  DraftSource source;
  ASSIGN_OR_RETURN(source.choice, ChooseDrafter(options.draft, options.settings));
  if (source.choice.model_path.empty()) return source;
  const std::string& path = source.choice.model_path;
  const std::string context = fmt::format("the draft model {}", path);
  absl::StatusOr<GgufModel> gguf = GgufModel::Open(path);
  if (!gguf.ok()) return WithContext(gguf.status(), context);
  source.gguf = *std::move(gguf);
  absl::StatusOr<ModelSpec> spec = ModelSpec::Read(*source.gguf);
  if (!spec.ok()) return WithContext(spec.status(), context);
  source.spec = *std::move(spec);
  if (source.spec->experts.expert_count() > 0) {
    return absl::InvalidArgumentError(fmt::format(
        "{} has experts of its own; a draft model must be dense, so that it is resident "
        "as a whole\n  try: a small dense model, or --draft ngram",
        path));
  }
  RETURN_IF_ERROR(CheckVocabulary(path, *source.gguf, *source.spec, target, target_spec));
  return source;
}

DrafterParts DraftShape(const ModelSpec& target, const StepLimits& limits) {
  return {
      .sequence_count = limits.sequence_count,
      .context = limits.context,
      .length_max = limits.draft_length_max,
      .rows_max = limits.mtp_rows > 0 ? limits.mtp_rows : DraftModelOptions(limits).step_rows_max,
      .vocab_count = target.config.vocab_count};
}

Model::Options DraftModelOptions(const StepLimits& limits) {
  return {.step_rows_max = std::max(kDraftRows, limits.sequence_count),
          .logits_rows_max = limits.sequence_count,
          .context_max = limits.context};
}

Governor::Options GovernorOptions(const DraftSource& source, const ModelSpec& target,
                                  const StepLimits& limits, const EngineOptions& options) {
  absl::StatusOr<std::vector<double>> values =
      ChooseParameters("drafts", Governor::kParameters, options.settings);
  CHECK(values.ok());
  const ModelConfig& config = target.config;
  const int mixtures = static_cast<int>(target.experts.layers.size());
  return {.sequence_count = limits.sequence_count,
          .length_max = limits.draft_length_max,
          .fixed_length = options.draft_length,
          .is_drafting_free = source.choice.row->needs == DrafterRow::Needs::kNothing,
          .missing_max = static_cast<double>(config.experts_used) * mixtures,
          .values = *std::move(values)};
}

ShadowCache::Options ShadowOptions(const ModelSpec& target, const StepLimits& limits) {
  return {.rows_max = limits.sequence_count * (1 + limits.draft_length_max),
          .top_k = target.config.experts_used};
}

DraftNeeds PlanDraft(const DraftSource& source, const ModelSpec& target, const StepLimits& limits,
                     const EngineOptions& options, int thread_count, bool on_device) {
  DraftNeeds needs;
  if (source.is_none()) return needs;
  const DrafterChoice& choice = source.choice;
  needs.host_bytes =
      choice.row->plan_bytes(DraftShape(target, limits), target.config, choice.values) +
      Governor::PlanBytes(GovernorOptions(source, target, limits, options)) +
      Speculation::PlanBytes(limits.sequence_count) +
      ShadowCache::PlanBytes(target.experts, ShadowOptions(target, limits)) +
      Sampler::PlanBytes(target.config.vocab_count, limits.context + 1);
  if (target.with_mtp) {
    (on_device ? needs.device_bytes : needs.host_bytes) +=
        KvCache::PlanBytes(target.config, MtpKvOptions(limits, options), on_device);
  }
  if (!source.spec.has_value()) return needs;
  const ModelSpec& spec = *source.spec;
  const WorkspaceNeeds workspace =
      Model::WorkspaceBytes(spec, DraftModelOptions(limits), thread_count, on_device);
  const uint64_t kv_bytes = KvCache::PlanBytes(spec.config, KvOptions(limits, options), on_device);
  needs.host_bytes += spec.embedding_cache_bytes + workspace.host_bytes;
  (on_device ? needs.device_bytes : needs.host_bytes) += spec.trunk_bytes + kv_bytes;
  needs.device_bytes += workspace.device_bytes;
  if (on_device) needs.loading_bytes = spec.trunk_bytes;
  return needs;
}

}  // namespace stoker
