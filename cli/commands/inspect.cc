// stoker inspect: what a model file holds and the memory that a run of it needs.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/dtype.h"
#include "base/status.h"
#include "base/units.h"
#include "cli/commands/commands.h"
#include "cli/exit_status.h"
#include "cli/flags.h"
#include "cli/plan_json.h"
#include "cli/summary.h"
#include "model/family.h"
#include "runtime/inspection.h"

namespace stoker {
namespace {

using nlohmann::ordered_json;

// Bytes and tensors under one name.
struct Tally {
  uint64_t bytes = 0;
  int64_t tensors = 0;
};

// Sums over tensors by a property, in the order of the property.
template <typename Key, typename KeyOf>
std::map<Key, Tally> TallyBy(const ModelSpec& spec, KeyOf key_of) {
  std::map<Key, Tally> tallies;
  for (const ModelSpec::Tensor& tensor : spec.tensors) {
    Tally& tally = tallies[key_of(tensor)];
    tally.bytes += tensor.bytes;
    ++tally.tensors;
  }
  return tallies;
}

auto ByPart(const ModelSpec& spec) {
  return TallyBy<ModelSpec::Part>(spec, [](const ModelSpec::Tensor& t) { return t.part; });
}

auto ByFormat(const ModelSpec& spec) {
  return TallyBy<Dtype>(spec, [](const ModelSpec::Tensor& t) { return t.dtype; });
}

template <typename Key>
ordered_json TalliesJson(const std::map<Key, Tally>& tallies) {
  ordered_json json = ordered_json::object();
  for (const auto& [key, tally] : tallies) {
    json[std::string(NameOf(key))] = {{"bytes", tally.bytes}, {"tensors", tally.tensors}};
  }
  return json;
}

template <typename Key>
std::string FormatTallies(const std::map<Key, Tally>& tallies, uint64_t total_bytes) {
  std::string text;
  for (const auto& [key, tally] : tallies) {
    text += fmt::format("  {:<24}{:>12}  {:5.1f} %  {} tensor{}\n", NameOf(key),
                        FormatBytes(tally.bytes),
                        100.0 * static_cast<double>(tally.bytes) /
                            static_cast<double>(std::max<uint64_t>(1, total_bytes)),
                        tally.tensors, tally.tensors == 1 ? "" : "s");
  }
  return text;
}

uint64_t TensorBytes(const ModelSpec& spec) {
  uint64_t sum = 0;
  for (const ModelSpec::Tensor& tensor : spec.tensors) sum += tensor.bytes;
  return sum;
}

ordered_json ArchitectureJson(const ModelConfig& c) {
  return {{"arch", c.arch},
          {"name", c.name},
          {"layers", c.layer_count},
          {"leading_dense_layers", c.leading_dense_layers},
          {"mtp_layers", c.mtp_layer_count},
          {"hidden", c.hidden},
          {"vocab", c.vocab_count},
          {"context_max", c.context_max},
          {"attention", c.attention == AttentionKind::kLatent ? "latent" : "grouped"},
          {"heads", c.head_count},
          {"kv_heads", c.kv_head_count},
          {"experts", c.expert_count},
          {"experts_used", c.experts_used},
          {"expert_ffn", c.expert_ffn},
          {"shared_ffn", c.shared_ffn},
          {"dense_ffn", c.dense_ffn}};
}

ordered_json ExpertsJson(const Inspection& inspection) {
  ordered_json classes = ordered_json::array();
  for (const SlotClass& c : inspection.plan.cache.classes) {
    classes.push_back({{"expert_bytes", c.expert_bytes},
                       {"slot_bytes", c.slot_bytes},
                       {"experts", c.expert_count}});
  }
  return {{"count", inspection.spec.experts.expert_count()},
          {"bytes", inspection.spec.experts.total_bytes()},
          {"size_classes", classes}};
}

ordered_json TensorsJson(const ModelSpec& spec) {
  ordered_json tensors = ordered_json::array();
  for (const ModelSpec::Tensor& t : spec.tensors) {
    tensors.push_back({{"name", t.name},
                       {"part", NameOf(t.part)},
                       {"format", NameOf(t.dtype)},
                       {"dims", t.dims},
                       {"bytes", t.bytes}});
  }
  return tensors;
}

std::string FormatArchitecture(const ModelConfig& c, std::string_view family) {
  std::string text = fmt::format("architecture  {} ({})\n", c.arch, family);
  if (!c.name.empty()) text += fmt::format("  name        {}\n", c.name);
  text += fmt::format(
      "  layers      {}{}{}\n", c.layer_count,
      c.leading_dense_layers > 0 ? fmt::format(", {} of them dense", c.leading_dense_layers)
                                 : std::string(),
      c.mtp_layer_count > 0
          ? fmt::format(", and {} for multi-token prediction, kept aside", c.mtp_layer_count)
          : std::string());
  text += fmt::format("  hidden      {}\n  vocabulary  {}\n  context     {}\n", c.hidden,
                      c.vocab_count, c.context_max);
  text +=
      c.attention == AttentionKind::kLatent
          ? fmt::format("  attention   latent, {} heads over {} values\n", c.head_count, c.kv_rank)
          : fmt::format("  attention   {} heads, {} of keys and values\n", c.head_count,
                        c.kv_head_count);
  if (c.expert_count > 0) {
    text += fmt::format(
        "  experts     {} a layer, {} used, width {}{}\n", c.expert_count, c.experts_used,
        c.expert_ffn,
        c.shared_ffn > 0 ? fmt::format(", shared width {}", c.shared_ffn) : std::string());
  }
  return text;
}

std::string FormatExperts(const Inspection& inspection) {
  const ExpertCatalog& experts = inspection.spec.experts;
  if (experts.layers.empty()) return "experts       none: a dense model\n";
  std::string text = fmt::format("experts       {}, {}\n", experts.expert_count(),
                                 FormatBytes(experts.total_bytes()));
  for (const SlotClass& c : inspection.plan.cache.classes) {
    text += fmt::format("  {:<24}{:>12}  in slots of {}\n", fmt::format("{} x", c.expert_count),
                        FormatBytes(c.expert_bytes), FormatBytes(c.slot_bytes));
  }
  return text;
}

std::string FormatTensors(const ModelSpec& spec) {
  std::string text = "\ntensors\n";
  for (const ModelSpec::Tensor& t : spec.tensors) {
    text += fmt::format("  {:<40} {:<10} {:<6} {:>12}  {}\n", t.name, NameOf(t.part),
                        NameOf(t.dtype), FormatBytes(t.bytes), fmt::join(t.dims, " x "));
  }
  return text;
}

std::string Text(const Inspection& inspection, bool with_tensors) {
  const ModelSpec& spec = inspection.spec;
  const uint64_t bytes = TensorBytes(spec);
  std::string text = FormatArchitecture(spec.config, spec.family->description);
  text += fmt::format("tokenizer     {}\n", inspection.tokenizer);
  text +=
      fmt::format("size          {} of tensors in {} file{}\n", FormatBytes(bytes),
                  inspection.gguf.paths().size(), inspection.gguf.paths().size() == 1 ? "" : "s");
  text += FormatTallies(ByPart(spec), bytes);
  text += "formats\n" + FormatTallies(ByFormat(spec), bytes);
  text += FormatExperts(inspection);
  text += fmt::format("memory        at least {}, at best {} (context {})\n",
                      FormatBytes(inspection.plan.minimum_bytes),
                      FormatBytes(inspection.plan.full_bytes), inspection.plan.context);
  if (with_tensors) text += FormatTensors(spec);
  return text;
}

std::string Json(const Inspection& inspection, bool with_tensors) {
  const ModelSpec& spec = inspection.spec;
  ordered_json json = {{"architecture", ArchitectureJson(spec.config)},
                       {"tokenizer", inspection.tokenizer},
                       {"files", inspection.gguf.paths()},
                       {"tensor_bytes", TensorBytes(spec)},
                       {"parts", TalliesJson(ByPart(spec))},
                       {"formats", TalliesJson(ByFormat(spec))},
                       {"experts", ExpertsJson(inspection)},
                       {"memory",
                        {{"minimum_bytes", inspection.plan.minimum_bytes},
                         {"full_bytes", inspection.plan.full_bytes},
                         {"trunk_bytes", inspection.plan.trunk_bytes},
                         {"kv_bytes", inspection.plan.kv_bytes},
                         {"workspace_bytes", inspection.plan.workspace_bytes},
                         {"context", inspection.plan.context}}}};
  if (with_tensors) json["tensors"] = TensorsJson(spec);
  return JsonLine(json);
}

class InspectCommand final : public Command {
 public:
  void Declare(CLI::App& app) override {
    model_.Declare(app);
    model_.DeclareDrafts(app);
    app.add_option("MODEL", positional_, "The model, without -m");
    app.add_flag("--plan", plan_,
                 "Instead, the memory that stoker run would take with these flags");
    app.add_flag("--tensors", tensors_, "Also every tensor");
    app.add_flag("--json", json_, "The same as JSON");
  }

  absl::Status Check() override {
    if (!positional_.empty()) model_.options.model_path = positional_;
    return model_.Check();
  }

  absl::Status Run(Console& console) override {
    RETURN_IF_ERROR(model_.RequireModel());
    if (plan_) return PrintPlan(console);
    const absl::StatusOr<Inspection> inspection = Inspect(model_.options);
    if (!inspection.ok()) return AsOpeningError(inspection.status());
    return console.Print(json_ ? Json(*inspection, tensors_) : Text(*inspection, tensors_));
  }

 private:
  absl::Status PrintPlan(Console& console) const {
    const absl::StatusOr<MemoryPlan> plan = PlanRun(model_.options);
    if (!plan.ok()) return AsOpeningError(plan.status());
    return console.Print(json_ ? JsonLine(PlanJson(*plan)) : FormatPlan(*plan));
  }

  ModelFlags model_;
  std::string positional_;
  bool plan_ = false;
  bool tensors_ = false;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeInspectCommand() { return std::make_unique<InspectCommand>(); }

}  // namespace stoker
