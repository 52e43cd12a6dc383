// Opening an engine: every part made in an order in which nothing large is taken before the plan
// that it fits.
#include <algorithm>
#include <vector>

#include "base/status.h"
#include "base/units.h"
#include "io/gguf.h"
#include "io/modelled_reader.h"
#include "kernels/backends.h"
#include "runtime/budget.h"
#include "runtime/device_choice.h"
#include "runtime/engine.h"
#include "runtime/link_probe.h"
#include "runtime/local_engine.h"
#include "runtime/options.h"
#include "runtime/system_time.h"
#include "runtime/team_options.h"
#include "runtime/trace/run_header.h"
#include "runtime/warm_start.h"

namespace stoker {
namespace {

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

absl::StatusOr<std::unique_ptr<BlockReader>> OpenReader(const EngineOptions& options,
                                                        EngineInfo& info) {
  ASSIGN_OR_RETURN(BlockReaderChoice choice,
                   MakeBlockReader(options.io, {.direct = options.direct_io}));
  AddNotice(info, std::move(choice.notice));
  info.io = choice.reader->name();
  return std::move(choice.reader);
}

std::unique_ptr<BlockReader> SlowedDown(const ModelledDriveOptions& drive, Clock& clock,
                                        std::unique_ptr<BlockReader> reader, EngineInfo& info) {
  if (drive.rate == 0) return reader;
  AddNotice(info, fmt::format("experts are read as from a drive of {} and {} us, which is modelled",
                              FormatRate(drive.rate), drive.latency_us));
  ModelledReader::ModelOptions model;
  model.rate = drive.rate;
  model.latency_ns = int64_t{drive.latency_us} * 1000;
  return std::make_unique<ModelledReader>(model, clock, std::move(reader));
}

absl::StatusOr<std::unique_ptr<BlockReader>> OpenExpertReader(const EngineOptions& options,
                                                              const GgufModel& gguf,
                                                              const Engine::Parts& parts,
                                                              Clock& drive_clock,
                                                              EngineInfo& info) {
  ASSIGN_OR_RETURN(std::unique_ptr<BlockReader> reader, OpenReader(options, info));
  if (parts.wrap_reader) reader = parts.wrap_reader(std::move(reader));
  reader = SlowedDown(options.modelled_drive, drive_clock, std::move(reader), info);
  for (const std::string& path : gguf.paths()) RETURN_IF_ERROR(reader->AddFile(path).status());
  return reader;
}

// Of reads of experts, by file of the model.
std::vector<size_t> Alignments(const GgufModel& gguf, const EngineParts& parts) {
  std::vector<size_t> alignments;
  for (size_t file = 0; file < gguf.paths().size(); ++file) {
    alignments.push_back(parts.expert_reader->alignment(static_cast<int>(file)));
  }
  return alignments;
}

absl::StatusOr<MemoryPlan> Plan(const GgufModel& gguf, const ModelSpec& spec,
                                const EngineOptions& options, const EngineParts& parts,
                                const DraftSource& draft) {
  const std::vector<size_t> alignments = Alignments(gguf, parts);
  const PlannedMachine machine =
      ThisMachine(parts.team->thread_count(), alignments, parts.device.get());
  return PlanMemory(spec, options, machine, TokenizerBytes(gguf), draft);
}

// The device that the run uses, if any.
absl::Status OpenDeviceOf(const EngineOptions& options, const Engine::Parts& given,
                          EngineParts& parts) {
  if (given.open_device) {
    ASSIGN_OR_RETURN(parts.device, given.open_device());
    ASSIGN_OR_RETURN(parts.device_ops, OpsFor(*parts.device));
  } else {
    ASSIGN_OR_RETURN(ChosenDevice chosen, ChooseDevice(options));
    parts.device = std::move(chosen.device);
    parts.device_ops = chosen.ops;
    parts.device_memory_rate = chosen.memory_rate;
  }
  if (parts.device == nullptr) return absl::OkStatus();
  parts.info.place = options.place.value_or(PlaceRule::kAuto);
  parts.info.device = parts.device->info().name;
  parts.info.device_description = DescribeDevice(parts.device.get());
  return absl::OkStatus();
}

// Measured when experts are placed by them, in memory that the store takes afterwards.
absl::Status FindLinks(const GgufModel& gguf, const ModelSpec& spec, const Engine::Parts& given,
                       EngineParts& parts) {
  const MemoryPlan& plan = parts.info.plan;
  parts.info.links = given.links;
  const bool is_needed = parts.info.place == PlaceRule::kAuto && plan.device.slot_bytes > 0;
  if (!is_needed || given.links.has_value()) return absl::OkStatus();
  // More than the last-level caches of one socket, so that what is measured is memory.
  constexpr uint64_t kProbeBytesMax = uint64_t{64} << 20;
  ASSIGN_OR_RETURN(const ExpertShape shape, ShapeOfExperts(gguf, spec));
  ASSIGN_OR_RETURN(const LinkRates rates,
                   ProbeLinks({.ops = parts.ops,
                               .team = parts.team.get(),
                               .clock = parts.clock,
                               .shape = shape,
                               .device = parts.device.get(),
                               .reader = parts.expert_reader.get(),
                               .experts = &spec.experts,
                               .host_bytes = std::min(kProbeBytesMax, plan.cache.arena_bytes +
                                                                          plan.cache.staging_bytes),
                               .device_bytes = plan.device.slot_bytes,
                               .device_rate = parts.device_memory_rate}));
  parts.info.links = rates;
  return absl::OkStatus();
}

// Who guesses what the store will be asked for.
void AddPrefetcher(const ModelSpec& spec, const Prefetcher::Options& options, EngineParts& parts) {
  parts.prefetcher = std::make_unique<Prefetcher>(spec.experts, options, *parts.cache);
  parts.prefetch_observer = std::make_unique<PrefetchObserver>(*parts.prefetcher, *parts.clock,
                                                               parts.limits.step_rows_max());
  parts.observers.Add(*parts.prefetch_observer);
}

// Begins the trace, if one is asked for.
absl::Status OpenTrace(const GgufModel& gguf, const ModelSpec& spec, const EngineOptions& options,
                       EngineParts& parts) {
  if (options.trace_path.empty()) return absl::OkStatus();
  const TraceHeader header =
      DescribeRun(gguf, spec, options, parts.info.plan, Alignments(gguf, parts));
  absl::StatusOr<std::unique_ptr<TraceRecorder>> recorder =
      TraceRecorder::Create(options.trace_path, header, *parts.clock);
  // Not the model's fault: the flag cannot be honoured.
  if (!recorder.ok()) {
    return absl::FailedPreconditionError(fmt::format("--trace: {}", MessageOf(recorder.status())));
  }
  parts.recorder = *std::move(recorder);
  parts.observers.Add(*parts.recorder);
  return absl::OkStatus();
}

absl::Status TakeStore(const GgufModel& gguf, const ModelSpec& spec, const EngineOptions& options,
                       EngineParts& parts) {
  const Prefetcher::Options prefetch = PrefetcherOptions(spec.config, options);
  if (spec.experts.expert_count() == 0) {
    if (!prefetch.choice.is_none()) {
      AddNotice(parts.info, fmt::format("prefetch is \"{}\", but the model is dense: it has no "
                                        "experts to guess",
                                        options.prefetch));
    }
    return absl::OkStatus();
  }
  const CachePlan& plan = parts.info.plan.cache;
  CacheOptions cache_options;
  if (parts.device != nullptr) {
    cache_options.tiers.push_back({.kind = TierKind::kVram,
                                   .budget_bytes = plan.vram_bytes,
                                   .policy = options.vram_policy_or_policy()});
    cache_options.device = parts.device.get();
    cache_options.place = parts.info.place;
    cache_options.rates = parts.info.links.value_or(LinkRates());
  }
  cache_options.tiers.push_back({.budget_bytes = plan.arena_bytes + plan.staging_bytes,
                                 .policy = options.policy,
                                 .admission = options.admission});
  cache_options.layer_floor = options.layer_floor;
  cache_options.hint_loads_max = prefetch.choice.loads_max;
  cache_options.settings = options.settings;
  cache_options.residency = parts.recorder.get();
  cache_options.file_names.assign(gguf.paths().begin(), gguf.paths().end());
  PrepareWarmStart(WarmStartOf(parts.usage.get()), plan, cache_options);
  ASSIGN_OR_RETURN(parts.cache,
                   ExpertCache::Create(spec.experts, plan, cache_options, *parts.expert_reader,
                                       *parts.clock, parts.ledger.get()));
  if (!prefetch.choice.is_none()) AddPrefetcher(spec, prefetch, parts);
  AddPagesNotice(parts.info, parts.cache->arena());
  BeginWarmStart(WarmStartOf(parts.usage.get()), *parts.cache);
  return absl::OkStatus();
}

absl::Status OpenUsageOf(const GgufModel& gguf, const ExpertCatalog& experts,
                         const EngineOptions& options, EngineParts& parts) {
  ASSIGN_OR_RETURN(OpenedUsage opened, OpenUsage(gguf, experts, options.profile, *parts.own_clock));
  AddNotice(parts.info, std::move(opened.notice));
  parts.usage = std::move(opened.recorder);
  if (parts.usage != nullptr) parts.observers.Add(*parts.usage);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<KvCache>> MakeKv(const ModelConfig& config, KvCache::Options options,
                                                const EngineParts& parts) {
  options.device = parts.device.get();
  ASSIGN_OR_RETURN(KvCache kv, KvCache::Create(config, options));
  return std::make_unique<KvCache>(std::move(kv));
}

// Takes what the plan says.
absl::Status TakeMemory(const GgufModel& gguf, ModelSpec spec, const EngineOptions& options,
                        const Engine::Parts& given, const Model::Progress& progress,
                        EngineParts& parts) {
  const ModelSpec planned = spec;
  const ModelConfig& config = planned.config;
  ASSIGN_OR_RETURN(parts.outputs, HostBuffer::Create(OutputBytes(config, parts.limits)));
  ASSIGN_OR_RETURN(parts.kv, MakeKv(config, KvOptions(parts.limits, options), parts));
  ASSIGN_OR_RETURN(parts.model,
                   Model::Load(gguf, std::move(spec), parts.limits.model_options(), *parts.ops,
                               *parts.team, *parts.trunk_reader, progress,
                               {.device = parts.device.get(), .ops = parts.device_ops}));
  RETURN_IF_ERROR(FindLinks(gguf, planned, given, parts));
  if (parts.recorder != nullptr && parts.info.links.has_value()) {
    parts.recorder->AddLinks(*parts.info.links);
  }
  RETURN_IF_ERROR(TakeStore(gguf, planned, options, parts));
  if (given.wrap_experts && parts.cache != nullptr) {
    parts.wrapped_cache = given.wrap_experts(*parts.cache);
  }
  return absl::OkStatus();
}

// The draft model, if there is one, beside the target.
absl::StatusOr<DraftModel> LoadDraftModel(DraftSource& source, const EngineOptions& options,
                                          EngineParts& parts) {
  DraftModel draft;
  const ModelSpec& target = parts.model->spec();
  if (target.with_mtp) {
    ASSIGN_OR_RETURN(draft.kv, MakeKv(target.config, MtpKvOptions(parts.limits, options), parts));
  }
  if (!source.spec.has_value()) return draft;
  ASSIGN_OR_RETURN(draft.kv, MakeKv(source.spec->config, KvOptions(parts.limits, options), parts));
  ASSIGN_OR_RETURN(parts.draft_reader, OpenReader(options, parts.info));
  absl::StatusOr<std::unique_ptr<Model>> model = Model::Load(
      *source.gguf, *std::move(source.spec), DraftModelOptions(parts.limits), *parts.ops,
      *parts.team, *parts.draft_reader, nullptr,
      {.device = parts.device.get(), .ops = parts.device_ops, .stream = Stream::kBackground});
  if (!model.ok()) return WithContext(model.status(), "the draft model");
  draft.model = *std::move(model);
  return draft;
}

// Where experts are missing at times, what drafts are weighed against is a cache without them.
void AddShadow(const ModelSpec& spec, const EngineOptions& options, EngineParts& parts) {
  int64_t slot_count = 0;
  const CachePlan& plan = parts.info.plan.cache;
  for (const auto* classes : {&plan.classes, &plan.vram_classes}) {
    for (const SlotClass& c : *classes) slot_count += c.slot_count - c.transit_count;
  }
  const bool is_governed = options.draft_length < 0;
  if (!is_governed || slot_count >= spec.experts.expert_count()) return;
  ShadowCache::Options shadow = ShadowOptions(spec, parts.limits);
  shadow.slot_count = slot_count;
  parts.shadow = std::make_unique<ShadowCache>(spec.experts, shadow);
  parts.observers.Add(*parts.shadow);
}

// Who drafts, and what decides how much.
absl::Status TakeDrafting(DraftSource source, const EngineOptions& options,
                          const Engine::Parts& given, EngineParts& parts) {
  if (source.is_none()) return absl::OkStatus();
  const ModelSpec& spec = parts.model->spec();
  AddShadow(spec, options, parts);
  Governor::Options governor = GovernorOptions(source, spec, parts.limits, options);
  governor.shadow = parts.shadow.get();
  parts.speculation =
      std::make_unique<Speculation>(Speculation::Parts{.name = options.draft,
                                                       .governor = std::move(governor),
                                                       .clock = parts.clock,
                                                       .ledger = parts.ledger.get(),
                                                       .vocab_count = spec.config.vocab_count,
                                                       .context = parts.limits.context,
                                                       .prefetcher = parts.prefetcher.get(),
                                                       .shadow = parts.shadow.get()});
  DrafterParts drafter = DraftShape(spec, parts.limits);
  ASSIGN_OR_RETURN(drafter.own, LoadDraftModel(source, options, parts));
  drafter.chooser = parts.speculation.get();
  drafter.ledger = parts.ledger.get();
  drafter.experts = &parts.no_experts;
  if (parts.cache != nullptr && spec.with_mtp) drafter.experts = parts.cache.get();
  drafter.target = parts.model.get();
  const auto make = source.choice.row->make;
  parts.speculation->Take(given.make_drafter ? given.make_drafter(drafter)
                                             : make(std::move(drafter), source.choice.values));
  if (parts.cache != nullptr) {
    ExpertProvider* store = parts.cache.get();
    if (parts.wrapped_cache != nullptr) store = parts.wrapped_cache.get();
    parts.drafting_store = std::make_unique<DraftingStore>(*store, *parts.speculation);
  }
  return absl::OkStatus();
}

absl::StatusOr<EngineParts> OpenParts(const EngineOptions& options, const Model::Progress& progress,
                                      const Engine::Parts& given) {
  EngineParts parts;
  parts.own_clock = std::make_unique<RealClock>();
  parts.clock = given.clock != nullptr ? given.clock : parts.own_clock.get();
  parts.system_time_ns = given.system_time_ns ? given.system_time_ns : SystemTimeNs;
  parts.see_logits = given.see_logits;
  if (given.observer != nullptr) parts.observers.Add(*given.observer);
  const int64_t start_ns = parts.clock->NowNs();
  parts.ledger = std::make_unique<TimeLedger>(*parts.clock);

  RETURN_IF_ERROR(Validate(options));
  ASSIGN_OR_RETURN(parts.ops, SelectOps(options.isa));
  parts.info.isa = parts.ops->name;
  ASSIGN_OR_RETURN(const GgufModel gguf, GgufModel::Open(options.model_path));
  ASSIGN_OR_RETURN(ModelSpec spec, ModelSpec::Read(gguf, SpecOptions(options)));
  parts.limits = ResolveLimits(spec.config, options);
  AddNotice(parts.info, ContextNotice(parts.limits, spec.config));
  ASSIGN_OR_RETURN(parts.tokenizer, OpenTokenizer(gguf, spec.config));
  // Readers, the profile's thread and the device before the team: it may pin this thread, and
  // threads made later would inherit that.
  ASSIGN_OR_RETURN(parts.trunk_reader, OpenReader(options, parts.info));
  ASSIGN_OR_RETURN(parts.expert_reader,
                   OpenExpertReader(options, gguf, given, *parts.own_clock, parts.info));
  RETURN_IF_ERROR(OpenUsageOf(gguf, spec.experts, options, parts));
  RETURN_IF_ERROR(OpenDeviceOf(options, given, parts));
  parts.team = std::make_unique<ThreadTeam>(TeamOptionsHere(options.threads, parts.device.get()));
  parts.info.threads = parts.team->thread_count();

  ASSIGN_OR_RETURN(DraftSource draft, OpenDraftSource(options, gguf, spec));
  ASSIGN_OR_RETURN(parts.info.plan, Plan(gguf, spec, options, parts, draft));
  RETURN_IF_ERROR(OpenTrace(gguf, spec, options, parts));
  RETURN_IF_ERROR(TakeMemory(gguf, std::move(spec), options, given, progress, parts));
  RETURN_IF_ERROR(TakeDrafting(std::move(draft), options, given, parts));
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
