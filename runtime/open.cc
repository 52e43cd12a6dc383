// Opening an engine: every part made in an order in which nothing large is taken before the plan
// that it fits.
#include <algorithm>
#include <vector>

#include "base/status.h"
#include "base/units.h"
#include "device/topology.h"
#include "io/gguf.h"
#include "kernels/backends.h"
#include "runtime/budget.h"
#include "runtime/engine.h"
#include "runtime/local_engine.h"
#include "runtime/options.h"
#include "runtime/system_time.h"

namespace stoker {
namespace {

// A dense model asks for no experts.
class NoExperts final : public ExpertProvider {
 public:
  int pins_max(int) const override { return 1; }
  absl::Status Request(int layer, absl::Span<const int32_t>, absl::Span<const int32_t>) override {
    return absl::InternalError(fmt::format("layer {} of a dense model asked for experts", layer));
  }
  absl::StatusOr<int> Collect(absl::Span<ExpertRef>, Wait) override { return 0; }
  int outstanding() const override { return 0; }

 protected:
  void Unpin(int32_t) override {}
};

void AddNotice(EngineInfo& info, std::string notice) {
  if (notice.empty()) return;
  if (std::find(info.notices.begin(), info.notices.end(), notice) != info.notices.end()) return;
  info.notices.push_back(std::move(notice));
}

// Reading weights from 4 KiB pages ran at about two thirds of the rate of huge pages (Zen 4, plain
// reads); nothing but speed depends on them.
void AddPagesNotice(EngineInfo& info, const HostBuffer& arena) {
  if (arena.pages().find("off") == std::string::npos) return;
  AddNotice(info,
            fmt::format("the expert slots are on {}: memory reads are slower; try: echo madvise > "
                        "/sys/kernel/mm/transparent_hugepage/enabled",
                        arena.pages()));
}

std::string ContextNotice(const StepLimits& limits, const ModelConfig& config) {
  if (limits.context <= config.context_max) return {};
  return fmt::format(
      "the context of {} is above the {} positions that the file names for this model: beyond "
      "them its text may get worse",
      limits.context, config.context_max);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> OpenTokenizer(const GgufModel& gguf,
                                                         const ModelConfig& config) {
  ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, Tokenizer::FromGguf(gguf));
  if (tokenizer->vocab_count() < config.vocab_count) {
    return absl::DataLossError(
        fmt::format("the vocabulary lists {} tokens, but the model computes {}: the file is "
                    "damaged or was put together from parts that do not belong together",
                    tokenizer->vocab_count(), config.vocab_count));
  }
  return tokenizer;
}

// A worker that shares a physical core with another is the one thing that placing must prevent, so
// threads are pinned when cores have siblings and there are threads for cores only. Otherwise the
// kernel places them as well, and can move them away from a processor that another program keeps
// busy.
ThreadTeam::Options TeamOptions(const Topology& topology, int threads_asked) {
  ThreadTeam::Options options;
  options.thread_count = threads_asked > 0 ? threads_asked : topology.physical_core_count;
  const auto cpu_count = static_cast<int>(topology.cpus.size());
  if (cpu_count > topology.physical_core_count &&
      options.thread_count <= topology.physical_core_count) {
    options.cpus.assign(topology.cpus.begin(), topology.cpus.begin() + options.thread_count);
  }
  return options;
}

absl::StatusOr<std::unique_ptr<BlockReader>> OpenReader(const EngineOptions& options,
                                                        EngineInfo& info) {
  ASSIGN_OR_RETURN(BlockReaderChoice choice,
                   MakeBlockReader(options.io, {.direct = options.direct_io}));
  AddNotice(info, std::move(choice.notice));
  info.io = choice.reader->name();
  return std::move(choice.reader);
}

absl::StatusOr<std::unique_ptr<BlockReader>> OpenExpertReader(const EngineOptions& options,
                                                              const GgufModel& gguf,
                                                              const Engine::Parts& parts,
                                                              EngineInfo& info) {
  ASSIGN_OR_RETURN(std::unique_ptr<BlockReader> reader, OpenReader(options, info));
  if (parts.wrap_reader) reader = parts.wrap_reader(std::move(reader));
  for (const std::string& path : gguf.paths()) RETURN_IF_ERROR(reader->AddFile(path).status());
  return reader;
}

absl::StatusOr<MemoryPlan> Plan(const GgufModel& gguf, const ModelSpec& spec,
                                const EngineOptions& options, const EngineParts& parts) {
  std::vector<size_t> alignments;
  for (size_t file = 0; file < gguf.paths().size(); ++file) {
    alignments.push_back(parts.expert_reader->alignment(static_cast<int>(file)));
  }
  return PlanMemory(spec, options, ReadMemoryLimits(), parts.team->thread_count(), alignments,
                    TokenizerBytes(gguf));
}

// Takes what the plan says.
absl::Status TakeMemory(const GgufModel& gguf, ModelSpec spec, const EngineOptions& options,
                        const Ops& ops, const Model::Progress& progress, EngineParts& parts) {
  const ModelConfig config = spec.config;
  const ExpertCatalog experts = spec.experts;
  ASSIGN_OR_RETURN(parts.outputs, HostBuffer::Create(OutputBytes(config, parts.limits)));
  ASSIGN_OR_RETURN(KvCache kv, KvCache::Create(config, KvOptions(parts.limits, options)));
  parts.kv = std::make_unique<KvCache>(std::move(kv));
  ASSIGN_OR_RETURN(parts.model, Model::Load(gguf, std::move(spec), parts.limits.model_options(),
                                            ops, *parts.team, *parts.trunk_reader, progress));
  if (experts.expert_count() == 0) {
    parts.no_experts = std::make_unique<NoExperts>();
    return absl::OkStatus();
  }
  CacheOptions cache_options;
  cache_options.tiers.push_back(
      {.budget_bytes = parts.info.plan.cache.arena_bytes, .policy = options.policy});
  cache_options.file_names.assign(gguf.paths().begin(), gguf.paths().end());
  ASSIGN_OR_RETURN(parts.cache,
                   ExpertCache::Create(experts, parts.info.plan.cache, cache_options,
                                       *parts.expert_reader, *parts.clock, parts.ledger.get()));
  AddPagesNotice(parts.info, parts.cache->arena());
  return absl::OkStatus();
}

absl::StatusOr<EngineParts> OpenParts(const EngineOptions& options, const Model::Progress& progress,
                                      const Engine::Parts& given) {
  EngineParts parts;
  if (given.clock == nullptr) parts.own_clock = std::make_unique<RealClock>();
  parts.clock = given.clock != nullptr ? given.clock : parts.own_clock.get();
  if (given.system_clock == nullptr) parts.own_system_clock = std::make_unique<SystemTimeClock>();
  parts.system_clock =
      given.system_clock != nullptr ? given.system_clock : parts.own_system_clock.get();
  parts.see_logits = given.see_logits;
  const int64_t start_ns = parts.clock->NowNs();
  parts.ledger = std::make_unique<TimeLedger>(*parts.clock);

  RETURN_IF_ERROR(Validate(options));
  ASSIGN_OR_RETURN(const Ops* ops, SelectOps(options.isa));
  parts.info.isa = ops->name;
  ASSIGN_OR_RETURN(const GgufModel gguf, GgufModel::Open(options.model_path));
  ASSIGN_OR_RETURN(ModelSpec spec, ModelSpec::Read(gguf));
  parts.limits = ResolveLimits(spec.config, options);
  AddNotice(parts.info, ContextNotice(parts.limits, spec.config));
  ASSIGN_OR_RETURN(parts.tokenizer, OpenTokenizer(gguf, spec.config));
  // Readers before the team: it may pin this thread, and threads made later would inherit that.
  ASSIGN_OR_RETURN(parts.trunk_reader, OpenReader(options, parts.info));
  ASSIGN_OR_RETURN(parts.expert_reader, OpenExpertReader(options, gguf, given, parts.info));
  parts.team = std::make_unique<ThreadTeam>(TeamOptions(ReadTopology(), options.threads));
  parts.info.threads = parts.team->thread_count();

  ASSIGN_OR_RETURN(parts.info.plan, Plan(gguf, spec, options, parts));
  RETURN_IF_ERROR(TakeMemory(gguf, std::move(spec), options, *ops, progress, parts));
  AddNotice(parts.info, parts.trunk_reader->notice());
  AddNotice(parts.info, parts.expert_reader->notice());
  parts.info.load_ns = parts.clock->NowNs() - start_ns;
  return parts;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Open(const EngineOptions& options,
                                                     const Model::Progress& progress) {
  return Open(options, progress, Parts());
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Open(const EngineOptions& options,
                                                     const Model::Progress& progress,
                                                     const Parts& parts) {
  absl::StatusOr<EngineParts> opened = OpenParts(options, progress, parts);
  if (!opened.ok()) {
    return WithContext(opened.status(), fmt::format("opening {}", options.model_path));
  }
  return std::make_unique<LocalEngine>(*std::move(opened));
}

}  // namespace stoker
