// The flag tables that several commands share, and what they fill in.
#include "cli/flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/status.h"
#include "base/units.h"
#include "cli/parameter_flags.h"
#include "runtime/choices.h"
#include "runtime/engine.h"

namespace stoker {
namespace {

constexpr size_t kReadChunkBytes = 64 << 10;

absl::StatusOr<std::string> ReadAll(std::FILE* file, std::string_view name) {
  std::string text;
  char chunk[kReadChunkBytes];
  size_t count = 0;
  while ((count = std::fread(chunk, 1, sizeof chunk, file)) > 0) text.append(chunk, count);
  if (std::ferror(file) == 0) return text;
  return absl::InvalidArgumentError(fmt::format("cannot read {}: {}", name, std::strerror(errno)));
}

absl::StatusOr<int> ParseDraftLength(std::string_view text) {
  int length = -1;
  if (text == "auto") return length;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
  const bool is_number = error == std::errc() && end == text.data() + text.size();
  if (is_number && length >= 0 && length <= kDraftLengthMax) return length;
  return absl::InvalidArgumentError(
      fmt::format("draft-len is \"{}\", which is not allowed: it must be auto or from 0 to {}",
                  text, kDraftLengthMax));
}

}  // namespace

void ModelFlags::Declare(CLI::App& app) {
  const std::string group = "Model and machine";
  DeclareModelPath(app, options.model_path);
  app.add_option("--ram", ram, "Memory for everything: bytes (8G, 512M), auto, or min")
      ->capture_default_str()
      ->group(group);
  app.add_option("--threads", options.threads, "Threads; 0: one per physical core")
      ->capture_default_str()
      ->group(group);
  app.add_option("--chunk", options.chunk, "Prompt tokens a step; 0: all at once")
      ->capture_default_str()
      ->group(group);
  app.add_option("--isa", options.isa, "Instruction set: scalar, avx2, avx512, auto")
      ->capture_default_str()
      ->group(group);
  app.add_option("--io", options.io, "How experts are read: uring, pread, auto")
      ->capture_default_str()
      ->group(group);
  app.add_option("--kv", options.kv, "Format of the attention cache: f16, f32")
      ->capture_default_str()
      ->group(group);
  app.add_option("--ctx", options.context,
                 "Positions per sequence; 0: the model's own, 512 to 4096")
      ->capture_default_str()
      ->group(group);
  app.add_option("--trace", options.trace_path,
                 "A file in which every routing decision and step is recorded")
      ->group(group);
  app.add_flag("--trace-ids-only", options.trace_ids_only,
               "Without the routers' weights: less than half the bytes")
      ->group(group);
  app.add_flag("--quiet", quiet, "Nothing but results and errors")->group(group);
  DeclareDevice(app);
  DeclareExperts(app);
  DeclareParameterFlags(app, TunableRows(), options.settings);
}

void ModelFlags::DeclareExperts(CLI::App& app) {
  const std::string group = "Experts";
  app.add_option("--policy", options.policy,
                 fmt::format("Which expert gives way: {}", fmt::join(PolicyChoices(), ", ")))
      ->capture_default_str()
      ->group(group);
  app.add_option("--vram-policy", options.vram_policy,
                 "The same in the device's memory; default: as --policy")
      ->group(group);
  app.add_option("--admission", options.admission,
                 fmt::format("Which expert that had to be read may stay, for another that goes: {}",
                             fmt::join(AdmissionChoices(), ", ")))
      ->capture_default_str()
      ->group(group);
  app.add_option("--layer-floor", options.layer_floor,
                 "Experts of each layer that other layers cannot push out; -1: chosen from the "
                 "memory there is")
      ->capture_default_str()
      ->group(group);
  app.add_option("--prefetch", options.prefetch,
                 fmt::format("What guesses the experts that the next layers will need: {}",
                             fmt::join(PredictorChoices(), ", ")))
      ->capture_default_str()
      ->group(group);
  app.add_option("--profile", options.profile,
                 "How often each expert was used, kept between runs to start warm: a file, auto "
                 "(one a model, in this user's cache), none")
      ->capture_default_str()
      ->group(group);
}

void ModelFlags::DeclareDrafts(CLI::App& app) {
  const std::string group = "Speculation";
  app.add_option("--draft", options.draft,
                 fmt::format("What guesses tokens, so that one step can check several: {}, or a "
                             "dense model of the same vocabulary (FILE.gguf)",
                             fmt::join(DrafterChoices(), ", ")))
      ->capture_default_str()
      ->group(group);
  app.add_option("--draft-len", draft_length,
                 fmt::format("Drafts checked a step: 0 to {}, or auto: as many as pay, if any",
                             kDraftLengthMax))
      ->capture_default_str()
      ->group(group);
}

void ModelFlags::DeclareDevice(CLI::App& app) {
  const std::string group = "GPU";
  app.add_option("--device", options.device,
                 "What computes beside the processor: cuda, modelled (a GPU of set speed that is "
                 "not there), cpu: nothing, auto: cuda where there is one")
      ->capture_default_str()
      ->group(group);
  app.add_option("--vram", vram,
                 "Memory of the device: bytes (20G), auto, or min: no experts in it; default auto")
      ->group(group);
  app.add_option("--place", place,
                 "Who computes the experts in RAM: gpu or copy (the device, after a copy), cpu, "
                 "auto: both, so that they end together; default auto")
      ->group(group);
  app.add_option("--gpu", options.gpu, "Which GPU; -1: the one with the most free memory")
      ->capture_default_str()
      ->group(group);
  // For those who try the modelled GPU, and left out of the help.
  app.add_option("--modelled-memory", modelled_memory, "Bytes of memory of the modelled GPU")
      ->group("");
  app.add_option("--modelled-bandwidth", modelled_bandwidth, "Rate of its memory, as 900GB/s")
      ->group("");
  app.add_option("--modelled-link", modelled_link, "Rate of its copies each way, as 24GB/s")
      ->group("");
  app.add_option("--modelled-link-out", modelled_link_out, "And of those from it, if another")
      ->group("");
  app.add_option("--modelled-link-latency-us", options.modelled.link_latency_us,
                 "Microseconds before each of its copies")
      ->group("");
  app.add_option("--modelled-link-out-latency-us", options.modelled.link_out_latency_us,
                 "And before those from it, if others")
      ->group("");
  // For those who study slower drives.
  app.add_option("--modelled-drive", modelled_drive, "Read experts at this rate, as 200MB/s")
      ->group("");
  app.add_option("--modelled-drive-latency-us", options.modelled_drive.latency_us,
                 "And each read after so many microseconds")
      ->group("");
}

absl::Status ModelFlags::Check() {
  ASSIGN_OR_RETURN(options.ram, MemoryBudget::Parse("ram", ram));
  RETURN_IF_ERROR(CheckDevice());
  ASSIGN_OR_RETURN(options.draft_length, ParseDraftLength(draft_length));
  EngineOptions checked = options;
  if (checked.model_path.empty()) checked.model_path = "-";  // a --config file may still name it
  return Validate(checked);
}

absl::Status ModelFlags::CheckDevice() {
  const auto rate = [](std::string_view flag, const std::string& text,
                       double& target) -> absl::Status {
    if (text.empty()) return absl::OkStatus();
    const absl::StatusOr<double> parsed = ParseRate(text);
    if (!parsed.ok()) return WithContext(parsed.status(), flag);
    target = *parsed;
    return absl::OkStatus();
  };
  if (!vram.empty()) {
    ASSIGN_OR_RETURN(options.vram, MemoryBudget::Parse("vram", vram));
  }
  if (!place.empty()) {
    ASSIGN_OR_RETURN(options.place, ParsePlaceRule(place));
  }
  if (!modelled_memory.empty()) {
    const absl::StatusOr<uint64_t> bytes = ParseBytes(modelled_memory);
    if (!bytes.ok() || *bytes == 0) {
      return absl::InvalidArgumentError(
          fmt::format("modelled-memory is \"{}\", which is not allowed: it must be a number of "
                      "bytes such as 24G",
                      modelled_memory));
    }
    options.modelled.memory_bytes = *bytes;
  }
  RETURN_IF_ERROR(rate("modelled-bandwidth", modelled_bandwidth, options.modelled.memory_rate));
  RETURN_IF_ERROR(rate("modelled-link", modelled_link, options.modelled.link_rate));
  RETURN_IF_ERROR(rate("modelled-link-out", modelled_link_out, options.modelled.link_out_rate));
  return rate("modelled-drive", modelled_drive, options.modelled_drive.rate);
}

absl::Status ModelFlags::RequireModel() const { return RequireModelPath(options.model_path); }

void DeclareModelPath(CLI::App& app, std::string& path) {
  app.add_option("-m,--model", path, "The model: a GGUF file, or any part of a split set")
      ->group("Model and machine");
}

absl::Status RequireModelPath(std::string_view path) {
  if (!path.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("no model was named\n  try: -m FILE.gguf");
}

int EvaluatedRowsMax(const EngineOptions& options) {
  constexpr int kAllRows = 1 << 16;  // the engine takes the least of this, chunk and context
  return options.chunk > 0 ? options.chunk : kAllRows;
}

void DeclareSamplingFlags(CLI::App& app, SamplingOptions& sampling) {
  const std::string group = "Sampling";
  app.add_option("--temp", sampling.temperature, "Temperature; 0: always the likeliest token")
      ->capture_default_str()
      ->group(group);
  app.add_option("--top-k", sampling.top_k, "Choose among the k likeliest; 0: all")
      ->capture_default_str()
      ->group(group);
  app.add_option("--top-p", sampling.top_p, "Choose among the likeliest that add up to p; 1: all")
      ->capture_default_str()
      ->group(group);
  app.add_option("--min-p", sampling.min_p,
                 "Leave out what is less likely than this share of the likeliest; 0: none")
      ->capture_default_str()
      ->group(group);
  app.add_option("--repeat-penalty", sampling.repetition_penalty,
                 "Divides the logits of recent tokens; 1: none")
      ->capture_default_str()
      ->group(group);
  app.add_option("--frequency-penalty", sampling.frequency_penalty,
                 "Taken off a token's logit for each recent occurrence")
      ->capture_default_str()
      ->group(group);
  app.add_option("--presence-penalty", sampling.presence_penalty,
                 "Taken off a token's logit once, if it occurred")
      ->capture_default_str()
      ->group(group);
  app.add_option("--repeat-last-n", sampling.penalty_window,
                 "Tokens that count as recent; 0: none, -1: all")
      ->capture_default_str()
      ->group(group);
  app.add_option("--seed", sampling.seed, "Same seed, same text")
      ->capture_default_str()
      ->group(group);
}

void DeclareTexts(CLI::App& app, const std::string& names, std::vector<std::string>& values,
                  const std::string& description, const std::string& group) {
  // Through a callback, because CLI11 reads "{}" and "[...]" in a vector of strings as syntax.
  app.add_option(names, CLI::callback_t([&values](const CLI::results_t& results) {
                   values = results;
                   return true;
                 }),
                 description)
      ->type_name("TEXT")
      ->take_all()
      ->group(group);
}

void PromptFlags::Declare(CLI::App& app) {
  const std::string group = "Prompt (standard input when none is given; repeat for several)";
  DeclareTexts(app, "-p,--prompt", texts, "The prompt", group);
  DeclareTexts(app, "-f,--file", files, "A file that holds the prompt", group);
  DeclareTexts(app, "--ids", ids, "The prompt as token ids: \"1 2 3\"", group);
}

absl::StatusOr<std::vector<PromptSource>> PromptFlags::Read(Console& console) const {
  std::vector<PromptSource> sources;
  for (const std::string& text : texts) sources.push_back({.text = text});
  for (const std::string& path : files) {
    ASSIGN_OR_RETURN(std::string text, ReadTextFile(path));
    sources.push_back({.text = std::move(text)});
  }
  for (const std::string& list : ids) {
    ASSIGN_OR_RETURN(std::vector<TokenId> parsed, ParseIds(list));
    sources.push_back({.ids = std::move(parsed), .is_ids = true});
  }
  if (sources.empty()) {
    ASSIGN_OR_RETURN(std::string text, ReadStandardInput(console, "the prompt"));
    sources.push_back({.text = std::move(text)});
  }
  return sources;
}

absl::StatusOr<std::vector<TokenId>> ParseIds(std::string_view text) {
  constexpr std::string_view kSeparators = " ,\t\r\n";
  std::vector<TokenId> ids;
  while (true) {
    const size_t begin = text.find_first_not_of(kSeparators);
    if (begin == std::string_view::npos) return ids;
    text.remove_prefix(begin);
    const std::string_view word = text.substr(0, text.find_first_of(kSeparators));
    TokenId id = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size()) {
      return absl::InvalidArgumentError(fmt::format(
          "'{}' is not a token id\n  try: whole numbers with spaces between them: \"1 2 3\"",
          word));
    }
    ids.push_back(id);
    text.remove_prefix(word.size());
  }
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             &std::fclose);
  if (file == nullptr) {
    return absl::InvalidArgumentError(
        fmt::format("cannot open {}: {}", path, std::strerror(errno)));
  }
  return ReadAll(file.get(), path);
}

absl::StatusOr<std::string> ReadStandardInput(Console& console, std::string_view what) {
  if (console.stdin_is_terminal()) {
    console.Note(fmt::format("stoker: reading {} from the terminal; Ctrl-D ends it", what));
  }
  return ReadAll(stdin, "standard input");
}

std::vector<TokenId> EncodePrompt(const Tokenizer& tokenizer, const PromptSource& source) {
  return source.is_ids ? source.ids : tokenizer.Encode(source.text, EncodeOptions{});
}

absl::Status CheckIds(const Tokenizer& tokenizer, absl::Span<const TokenId> ids) {
  for (const TokenId id : ids) {
    if (id >= 0 && id < tokenizer.vocab_count()) continue;
    return absl::InvalidArgumentError(
        fmt::format("token id {} is outside the vocabulary\n  try: ids from 0 to {}", id,
                    tokenizer.vocab_count() - 1));
  }
  return absl::OkStatus();
}

}  // namespace stoker
