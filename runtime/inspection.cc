// Plans a run as Engine::Open does, and stops there.
#include "runtime/inspection.h"

#include <memory>
#include <vector>

#include "base/status.h"
#include "io/block_reader.h"
#include "runtime/device_choice.h"
#include "runtime/draft_source.h"
#include "runtime/team_options.h"
#include "tokenizer/tokenizer.h"

namespace stoker {
namespace {

std::string DescribeTokenizer(const GgufModel& gguf) {
  const absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::FromGguf(gguf);
  if (tokenizer.ok()) return (*tokenizer)->description();
  return fmt::format("unusable: {}", MessageOf(tokenizer.status()));
}

absl::StatusOr<std::vector<size_t>> Alignments(const GgufModel& gguf,
                                               const EngineOptions& options) {
  ASSIGN_OR_RETURN(const BlockReaderChoice choice,
                   MakeBlockReader(options.io, {.direct = options.direct_io}));
  std::vector<size_t> alignments;
  for (const std::string& path : gguf.paths()) {
    ASSIGN_OR_RETURN(const int file, choice.reader->AddFile(path));
    alignments.push_back(choice.reader->alignment(file));
  }
  return alignments;
}

absl::StatusOr<MemoryPlan> PlanOf(const GgufModel& gguf, const ModelSpec& spec,
                                  const EngineOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<size_t> alignments, Alignments(gguf, options));
  const int threads = TeamOptionsHere(options.threads, nullptr).thread_count;
  ASSIGN_OR_RETURN(const ChosenDevice chosen, ChooseDevice(options));
  ASSIGN_OR_RETURN(const DraftSource draft, OpenDraftSource(options, gguf, spec));
  return PlanMemory(spec, options, ThisMachine(threads, alignments, chosen.device.get()),
                    TokenizerBytes(gguf), draft);
}

}  // namespace

absl::StatusOr<Inspection> Inspect(const EngineOptions& options) {
  RETURN_IF_ERROR(Validate(options));
  Inspection inspection;
  ASSIGN_OR_RETURN(inspection.gguf, GgufModel::Open(options.model_path));
  ASSIGN_OR_RETURN(inspection.spec, ModelSpec::Read(inspection.gguf, SpecOptions(options)));
  inspection.tokenizer = DescribeTokenizer(inspection.gguf);
  EngineOptions least = options;
  least.ram = {.kind = MemoryBudget::Kind::kMinimum};
  ASSIGN_OR_RETURN(inspection.plan, PlanOf(inspection.gguf, inspection.spec, least));
  return inspection;
}

absl::StatusOr<MemoryPlan> PlanRun(const EngineOptions& options) {
  RETURN_IF_ERROR(Validate(options));
  ASSIGN_OR_RETURN(const GgufModel gguf, GgufModel::Open(options.model_path));
  ASSIGN_OR_RETURN(const ModelSpec spec, ModelSpec::Read(gguf, SpecOptions(options)));
  return PlanOf(gguf, spec, options);
}

}  // namespace stoker
