// Writes a synthetic model: true dimensions and formats, made-up weights, so that speed can be
// measured without downloads.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "bench/synthetic/shape.h"

int main(int argc, char** argv) {
  CLI::App app("Writes a GGUF model of a real shape with random weights.");
  std::string shape_name, path, base, high;
  int layers = 0, experts = 0, vocab = 0;
  double skew = -1;
  uint64_t seed = 1;
  std::string shapes = "one of:";
  for (const stoker::SyntheticShape& shape : stoker::SyntheticShapes()) {
    shapes += fmt::format("\n  {:16} {}", shape.name, shape.description);
  }
  app.add_option("shape", shape_name, shapes)->required();
  app.add_option("-o,--out", path, "file to write")->required();
  app.add_option("--layers", layers, "layers instead of the shape's");
  app.add_option("--experts", experts, "experts per layer instead of the shape's");
  app.add_option("--vocab", vocab, "vocabulary instead of the shape's");
  app.add_option("--format", base, "format of most weights, for example Q8_0");
  app.add_option("--format-high", high, "format of the weights that get more bits");
  app.add_option("--skew", skew, "popularity of experts falls as rank^-skew; 0 is uniform");
  app.add_option("--seed", seed, "of the weights");
  CLI11_PARSE(app, argc, argv);

  const auto fail = [](const absl::Status& status) {
    std::fprintf(stderr, "make_model: %s\n", std::string(status.message()).c_str());
    return 1;
  };
  auto shape = stoker::FindSyntheticShape(shape_name);
  if (!shape.ok()) return fail(shape.status());
  if (layers > 0) shape->layers = layers;
  if (experts > 0) shape->experts = experts;
  if (vocab > 0) shape->vocab = vocab;
  if (skew >= 0) shape->skew = skew;
  shape->seed = seed;
  for (const auto& [text, dtype] :
       {std::pair{&base, &shape->base}, std::pair{&high, &shape->high}}) {
    if (text->empty()) continue;
    const stoker::DtypeInfo* info = stoker::FindDtype(*text);
    if (info == nullptr)
      return fail(absl::InvalidArgumentError(fmt::format("no format {}", *text)));
    *dtype = info->dtype;
  }
  stoker::GgufStream stream;
  absl::Status status = stoker::DeclareSynthetic(*shape, stream);
  if (status.ok()) status = stream.Write(path);
  return status.ok() ? 0 : fail(status);
}
