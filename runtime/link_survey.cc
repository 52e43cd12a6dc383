// The parts of a run without the run.
#include "runtime/link_survey.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>

#include "base/dtype.h"
#include "base/status.h"
#include "base/units.h"
#include "device/topology.h"
#include "io/gguf.h"
#include "kernels/backends.h"
#include "runtime/device_choice.h"
#include "runtime/link_probe.h"
#include "runtime/team_options.h"

namespace stoker {
namespace {

// Several times the largest last-level caches in use.
constexpr uint64_t kHostBytes = uint64_t{512} << 20;
constexpr uint64_t kDeviceBytes = uint64_t{512} << 20;
constexpr int64_t kMs = 1'000'000;
constexpr TrafficTime kSurveyTime = {
    .warm_ns = 50 * kMs, .least_ns = 400 * kMs, .most_ns = 2'000 * kMs};

// An expert of a 30B model with 3B active, at 4.5 bits.
ExpertShape UsualShape() {
  constexpr int64_t kHidden = 2048, kWidth = 768;
  ExpertShape shape;
  shape.views.gate = {.dtype = Dtype::kQ4_K, .rows = kWidth, .cols = kHidden};
  shape.views.up = shape.views.gate;
  shape.views.down = {.dtype = Dtype::kQ4_K, .rows = kHidden, .cols = kWidth};
  return shape;
}

std::string Describe(const ExpertShape& shape) {
  return fmt::format("{} of {} x {} in {}, {} in {}", FormatBytes(ExpertBytes(shape)),
                     shape.views.gate.cols, shape.views.gate.rows, NameOf(shape.views.gate.dtype),
                     "down", NameOf(shape.views.down.dtype));
}

struct NamedTraffic {
  std::string_view name;
  Traffic* traffic = nullptr;
  std::string_view why_not;  // when there is none
};

// Appends a row for each of them, measured all at once; none when one of them is not there, unless
// it is alone.
absl::Status MeasureRows(absl::Span<const NamedTraffic> links, const Clock& clock,
                         LinkSurvey& survey) {
  std::vector<Traffic*> traffic;
  for (const NamedTraffic& link : links) {
    if (link.traffic != nullptr) {
      traffic.push_back(link.traffic);
      continue;
    }
    if (links.size() == 1) {
      survey.rows.push_back({.link = std::string(link.name), .why_not = std::string(link.why_not)});
    }
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::vector<double> rates, MeasureTraffic(traffic, kSurveyTime, clock));
  for (size_t i = 0; i < links.size(); ++i) {
    std::vector<std::string_view> others;
    for (const NamedTraffic& link : links) {
      if (link.name != links[i].name) others.push_back(link.name);
    }
    survey.rows.push_back({.link = std::string(links[i].name),
                           .beside = fmt::format("{}", fmt::join(others, "; ")),
                           .rate = rates[i]});
  }
  return absl::OkStatus();
}

absl::Status MeasureDeviceMemory(const LinkSet& links, double set_rate, const Clock& clock,
                                 LinkSurvey& survey) {
  const NamedTraffic within = {"memory of the device", links.copy_within(), "no device"};
  if (set_rate == 0) return MeasureRows({&within, 1}, clock, survey);
  survey.rows.push_back({.link = std::string(within.name), .rate = set_rate});
  return absl::OkStatus();
}

absl::Status MeasureAll(const LinkSet& links, double device_rate, const Clock& clock,
                        LinkSurvey& survey) {
  const NamedTraffic one = {"experts by the processor, 1 row", links.one_row(), ""};
  const NamedTraffic many = {"experts by the processor, 32 rows", links.many_rows(), ""};
  const NamedTraffic in = {"copies to the device", links.copy_in(), "no device"};
  const NamedTraffic out = {"copies from the device", links.copy_out(), "no device"};
  const NamedTraffic drive = {"drive", links.drive(), "no model was named whose files to read"};
  static_assert(kManyRows == 32);
  for (const NamedTraffic& link : {one, many, in, out, drive}) {
    RETURN_IF_ERROR(MeasureRows({&link, 1}, clock, survey));
  }
  RETURN_IF_ERROR(MeasureDeviceMemory(links, device_rate, clock, survey));
  RETURN_IF_ERROR(MeasureRows({in, one}, clock, survey));
  RETURN_IF_ERROR(MeasureRows({in, out}, clock, survey));
  RETURN_IF_ERROR(MeasureRows({drive, in}, clock, survey));
  RETURN_IF_ERROR(MeasureRows({drive, one}, clock, survey));
  return MeasureRows({drive, in, out, one}, clock, survey);
}

// A model's experts and the reader of its files.
struct ModelParts {
  ExpertCatalog experts;
  ExpertShape shape;
  std::unique_ptr<BlockReader> reader;
};

absl::StatusOr<ModelParts> OpenModel(const EngineOptions& options) {
  ModelParts model;
  model.shape = UsualShape();
  if (options.model_path.empty()) return model;
  ASSIGN_OR_RETURN(const GgufModel gguf, GgufModel::Open(options.model_path));
  ASSIGN_OR_RETURN(const ModelSpec spec, ModelSpec::Read(gguf));
  if (spec.experts.layers.empty()) {
    return absl::FailedPreconditionError(
        fmt::format("{} is a dense model: it has no experts to measure links with\n  try: a "
                    "mixture of experts, or no model",
                    options.model_path));
  }
  model.experts = spec.experts;
  ASSIGN_OR_RETURN(model.shape, ShapeOfExperts(gguf, spec));
  ASSIGN_OR_RETURN(BlockReaderChoice choice,
                   MakeBlockReader(options.io, {.direct = options.direct_io}));
  for (const std::string& path : gguf.paths()) {
    RETURN_IF_ERROR(choice.reader->AddFile(path).status());
  }
  model.reader = std::move(choice.reader);
  return model;
}

// All that links are measured with.
struct Machine {
  const Ops* ops = nullptr;
  ModelParts model;
  ChosenDevice chosen;
  std::unique_ptr<ThreadTeam> team;
  RealClock clock;

  LinkParts parts() const {
    return {.ops = ops,
            .team = team.get(),
            .clock = &clock,
            .shape = model.shape,
            .device = chosen.device.get(),
            .reader = model.reader.get(),
            .experts = &model.experts,
            .host_bytes = std::min(kHostBytes, ReadMemoryLimits().available_bytes / 4),
            .device_bytes = kDeviceBytes,
            .device_rate = chosen.memory_rate};
  }
};

absl::StatusOr<Machine> OpenMachine(const EngineOptions& options) {
  Machine machine;
  ASSIGN_OR_RETURN(machine.ops, SelectOps(options.isa));
  ASSIGN_OR_RETURN(machine.model, OpenModel(options));
  ASSIGN_OR_RETURN(machine.chosen, ChooseDevice(options));
  machine.team =
      std::make_unique<ThreadTeam>(TeamOptionsHere(options.threads, machine.chosen.device.get()));
  return machine;
}

}  // namespace

absl::StatusOr<LinkSurvey> SurveyLinks(const EngineOptions& options) {
  ASSIGN_OR_RETURN(const Machine machine, OpenMachine(options));
  const LinkParts parts = machine.parts();
  ASSIGN_OR_RETURN(const std::unique_ptr<LinkSet> links, LinkSet::Create(parts));
  const BlockReader* const reader = parts.reader;
  LinkSurvey survey = {.isa = std::string(machine.ops->name),
                       .threads = machine.team->thread_count(),
                       .io = reader != nullptr ? std::string(reader->name()) : "none",
                       .device = DescribeDevice(parts.device),
                       .experts = Describe(parts.shape)};
  RETURN_IF_ERROR(MeasureAll(*links, parts.device_rate, machine.clock, survey));
  if (reader != nullptr) survey.notice = reader->notice();
  return survey;
}

absl::StatusOr<LinkRates> RatesOfLinks(const EngineOptions& options) {
  ASSIGN_OR_RETURN(const Machine machine, OpenMachine(options));
  return ProbeLinks(machine.parts());
}

}  // namespace stoker
