// What ModelSpec::Read says of sound files, and how it refuses unsound ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"
#include "model/model.h"
#include "tests/model/gguf_contents.h"
#include "tests/testing/shared_data.h"

namespace stoker {
namespace {

using ::testing::HasSubstr;

void Add(GgufContents& contents, const std::string& name, std::vector<int64_t> dims) {
  size_t bytes = sizeof(float);
  for (const int64_t dim : dims) bytes *= static_cast<size_t>(dim);
  contents.tensors.push_back({.name = name, .type = 0, .dims = std::move(dims)});
  contents.tensors.back().data.resize(bytes);
}

void AddLayer(GgufContents& contents, const std::string& layer) {
  Add(contents, layer + "attn_norm.weight", {32});
  Add(contents, layer + "attn_q.weight", {32, 32});
  Add(contents, layer + "attn_k.weight", {32, 16});
  Add(contents, layer + "attn_v.weight", {32, 16});
  Add(contents, layer + "attn_q_norm.weight", {8});
  Add(contents, layer + "attn_k_norm.weight", {8});
  Add(contents, layer + "attn_output.weight", {32, 32});
  Add(contents, layer + "ffn_norm.weight", {32});
  Add(contents, layer + "ffn_gate_inp.weight", {32, 8});
  Add(contents, layer + "ffn_gate_exps.weight", {32, 16, 8});
  Add(contents, layer + "ffn_up_exps.weight", {32, 16, 8});
  Add(contents, layer + "ffn_down_exps.weight", {16, 32, 8});
}

// A qwen3moe file of two layers: hidden 32, 4 heads of 8 over 2, 8 experts of width 16, top 2.
GgufContents SmallMixture() {
  GgufContents c;
  c.Set("general.architecture", std::string("qwen3moe"));
  const auto set = [&](const std::string& key, uint64_t value) {
    c.Set("qwen3moe." + key, GgufValue(value));
  };
  set("block_count", 2);
  set("context_length", 128);
  set("embedding_length", 32);
  set("feed_forward_length", 64);
  set("attention.head_count", 4);
  set("attention.head_count_kv", 2);
  set("attention.key_length", 8);
  set("attention.value_length", 8);
  set("expert_count", 8);
  set("expert_used_count", 2);
  set("expert_feed_forward_length", 16);
  c.Set("qwen3moe.attention.layer_norm_rms_epsilon", 1e-6);
  Add(c, "token_embd.weight", {32, 100});
  Add(c, "output.weight", {32, 100});
  Add(c, "output_norm.weight", {32});
  AddLayer(c, "blk.0.");
  AddLayer(c, "blk.1.");
  return c;
}

// The same with a layer for multi-token prediction, which shares the table and the head.
GgufContents WithMtpLayer() {
  GgufContents c = SmallMixture();
  c.Set("qwen3moe.block_count", uint64_t{3});
  c.Set("qwen3moe.nextn_predict_layers", uint64_t{1});
  AddLayer(c, "blk.2.");
  Add(c, "blk.2.nextn.enorm.weight", {32});
  Add(c, "blk.2.nextn.hnorm.weight", {32});
  Add(c, "blk.2.nextn.eh_proj.weight", {64, 32});
  return c;
}

absl::StatusOr<ModelSpec> Read(const GgufContents& contents,
                               const ModelSpec::ReadOptions& options = {}) {
  const std::vector<uint8_t> bytes = contents.Writer().Build();
  const absl::StatusOr<GgufModel> gguf = GgufModel::Parse(bytes, "test.gguf");
  if (!gguf.ok()) return gguf.status();
  return ModelSpec::Read(*gguf, options);
}

void ExpectRefused(const GgufContents& contents, absl::StatusCode code, const std::string& text,
                   const ModelSpec::ReadOptions& options = {}) {
  const absl::StatusOr<ModelSpec> spec = Read(contents, options);
  EXPECT_EQ(spec.status().code(), code) << MessageOf(spec.status());
  EXPECT_THAT(std::string(MessageOf(spec.status())), HasSubstr(text));
}

TEST(ModelSpec, ListsEveryTensorWithItsPart) {
  const absl::StatusOr<ModelSpec> spec = Read(SmallMixture());
  ASSERT_TRUE(spec.ok()) << MessageOf(spec.status());
  EXPECT_EQ(spec->tensors.size(), 3u + 2 * 12);
  EXPECT_EQ(spec->tensors[0].part, ModelSpec::Part::kEmbedding);
  EXPECT_EQ(spec->tensors[1].part, ModelSpec::Part::kHead);
  for (const ModelSpec::Tensor& tensor : spec->tensors) {
    if (tensor.name.find("_exps") == std::string::npos) continue;
    EXPECT_EQ(tensor.part, ModelSpec::Part::kExperts) << tensor.name;
  }
}

TEST(ModelSpec, CatalogSaysWhereEachExpertLies) {
  const GgufContents contents = SmallMixture();
  const std::vector<uint8_t> bytes = contents.Writer().Build();
  const absl::StatusOr<GgufModel> gguf = GgufModel::Parse(bytes, "test.gguf");
  const absl::StatusOr<ModelSpec> spec = ModelSpec::Read(*gguf);
  ASSERT_TRUE(spec.ok());
  ASSERT_EQ(spec->experts.layers.size(), 2u);
  const LayerExperts& experts = spec->experts.layers[1];
  EXPECT_EQ(experts.layer, 1);
  EXPECT_EQ(experts.expert_count, 8);
  EXPECT_EQ(experts.part_count, 3);
  EXPECT_EQ(experts.parts[2].offset, gguf->FindTensor("blk.1.ffn_down_exps.weight")->offset);
  EXPECT_EQ(experts.parts[2].bytes, 16u * 32 * 4);
  EXPECT_EQ(experts.stride_bytes[2], 16u * 32 * 4);
}

// Resident: everything but routed experts and, as it is not tied, the embedding; with room for
// whole blocks at both ends of each run of tensors.
TEST(ModelSpec, TrunkBytesCoverWhatStaysInMemory) {
  const absl::StatusOr<ModelSpec> spec = Read(SmallMixture());
  ASSERT_TRUE(spec.ok());
  uint64_t resident = 0;
  for (const ModelSpec::Tensor& tensor : spec->tensors) {
    const bool stays =
        tensor.part != ModelSpec::Part::kExperts && tensor.part != ModelSpec::Part::kEmbedding;
    if (stays) resident += tensor.bytes;
  }
  EXPECT_GE(spec->trunk_bytes, resident);
  EXPECT_EQ(spec->trunk_bytes % 4096, 0u);
  EXPECT_EQ(spec->embedding_cache_bytes, 100u * (32 * 4 + 4));
}

TEST(ModelSpec, TiedModelsKeepTheEmbeddingInMemory) {
  GgufContents contents = SmallMixture();
  contents.Remove("output.weight");
  const absl::StatusOr<ModelSpec> spec = Read(contents);
  ASSERT_TRUE(spec.ok()) << MessageOf(spec.status());
  EXPECT_EQ(spec->embedding_cache_bytes, 0u);
}

TEST(ModelSpec, PredictionLayersAreKnownAndKeptAside) {
  const absl::StatusOr<ModelSpec> spec = Read(WithMtpLayer());
  const absl::StatusOr<ModelSpec> plain = Read(SmallMixture());
  ASSERT_TRUE(spec.ok()) << MessageOf(spec.status());
  EXPECT_EQ(spec->config.layer_count, 2);
  EXPECT_EQ(spec->config.mtp_layer_count, 1);
  EXPECT_FALSE(spec->with_mtp);
  EXPECT_EQ(spec->tensors.back().part, ModelSpec::Part::kMtp);
  EXPECT_EQ(spec->experts.layers.size(), 2u);
  EXPECT_EQ(spec->trunk_bytes, plain->trunk_bytes);
  EXPECT_EQ(spec->embedding_cache_bytes, plain->embedding_cache_bytes);
}

TEST(ModelSpec, APredictionLayerAskedForIsOneFurtherLayer) {
  const absl::StatusOr<ModelSpec> spec = Read(WithMtpLayer(), {.with_mtp = true});
  ASSERT_TRUE(spec.ok()) << MessageOf(spec.status());
  EXPECT_TRUE(spec->with_mtp);
  EXPECT_EQ(spec->config.layer_count, 2);
  ASSERT_EQ(spec->experts.layers.size(), 3u);
  EXPECT_EQ(spec->experts.layers[2].layer, 2);
  EXPECT_EQ(spec->experts.layers[2].expert_count, 8);
  for (const ModelSpec::Tensor& tensor : spec->tensors) {
    const bool is_expert = tensor.name.find("_exps") != std::string::npos;
    EXPECT_EQ(tensor.part == ModelSpec::Part::kExperts, is_expert) << tensor.name;
  }
}

TEST(ModelSpec, AMissingTensorOfAPredictionLayerIsNamed) {
  for (const std::string name :
       {"blk.2.nextn.eh_proj.weight", "blk.2.nextn.enorm.weight", "blk.2.nextn.hnorm.weight",
        "blk.2.attn_norm.weight", "blk.2.ffn_down_exps.weight"}) {
    GgufContents contents = WithMtpLayer();
    contents.Remove(name);
    ExpectRefused(contents, absl::StatusCode::kInvalidArgument, name, {.with_mtp = true});
    EXPECT_TRUE(Read(contents).ok()) << name;
  }
}

TEST(ModelSpec, AFileWithoutAPredictionLayerIsToldApartAndAlternativesNamed) {
  ExpectRefused(SmallMixture(), absl::StatusCode::kInvalidArgument,
                "no layer for multi-token prediction (qwen3moe.nextn_predict_layers is 0 or "
                "missing)",
                {.with_mtp = true});
  ExpectRefused(SmallMixture(), absl::StatusCode::kInvalidArgument, "try --draft ngram",
                {.with_mtp = true});
}

TEST(ModelSpec, AMissingTensorIsNamed) {
  for (const std::string name :
       {"blk.1.attn_k.weight", "output_norm.weight", "blk.0.ffn_gate_inp.weight",
        "blk.1.ffn_down_exps.weight", "blk.0.attn_q_norm.weight"}) {
    GgufContents contents = SmallMixture();
    contents.Remove(name);
    ExpectRefused(contents, absl::StatusCode::kInvalidArgument, name);
  }
}

TEST(ModelSpec, AMisshapenTensorIsNamedWithBothShapes) {
  GgufContents contents = SmallMixture();
  contents.Tensor("blk.1.attn_k.weight").dims = {16, 32};
  ExpectRefused(contents, absl::StatusCode::kInvalidArgument,
                "tensor blk.1.attn_k.weight has shape [16, 32], but the hyper-parameters ask for "
                "[32, 16]");
}

TEST(ModelSpec, ExpertsOfAnotherCountAreRefused) {
  GgufContents contents = SmallMixture();
  contents.Set("qwen3moe.expert_count", uint64_t{4});
  ExpectRefused(contents, absl::StatusCode::kInvalidArgument, "blk.0.ffn_gate_inp.weight");
}

TEST(ModelSpec, AFormatThatCannotBeComputedIsNamedWithItsTensor) {
  GgufContents contents = SmallMixture();
  GgufWriter::Tensor& tensor = contents.Tensor("blk.1.attn_q.weight");
  tensor.type = static_cast<int32_t>(Dtype::kQ5_1);
  tensor.data.resize(RowBytes(Dtype::kQ5_1, 32) * 32);
  ExpectRefused(contents, absl::StatusCode::kUnimplemented,
                "tensor blk.1.attn_q.weight is stored as Q5_1");
}

TEST(ModelSpec, ATensorThatIsNotKnownIsRefused) {
  GgufContents contents = SmallMixture();
  contents.tensors.push_back({.name = "blk.0.attn_sinks.weight",
                              .type = 0,
                              .dims = {4},
                              .data = std::vector<uint8_t>(16)});
  ExpectRefused(contents, absl::StatusCode::kUnimplemented, "blk.0.attn_sinks.weight");
}

TEST(ModelSpec, TensorsOfSingleExpertsAreRefusedWithAdvice) {
  GgufContents contents = SmallMixture();
  contents.Remove("blk.0.ffn_gate_exps.weight");
  contents.tensors.push_back({.name = "blk.0.ffn_gate.0.weight",
                              .type = 0,
                              .dims = {32, 16},
                              .data = std::vector<uint8_t>(32 * 16 * 4)});
  ExpectRefused(contents, absl::StatusCode::kUnimplemented, "convert the model again");
}

TEST(ModelSpec, AnUnknownArchitectureIsNamed) {
  GgufContents contents = SmallMixture();
  contents.Set("general.architecture", std::string("deepseek32"));
  ExpectRefused(contents, absl::StatusCode::kUnimplemented, "\"deepseek32\" is not supported");
}

TEST(ModelSpec, AVocabularyOnlyFileIsSaidToBeOne) {
  GgufContents contents = SmallMixture();
  contents.tensors.clear();
  ExpectRefused(contents, absl::StatusCode::kInvalidArgument, "vocabulary only");
}

struct BadKey {
  std::string key;  // behind the architecture; also what the message must say
  GgufValue value;
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
};

class HyperParameters : public testing::TestWithParam<BadKey> {};

TEST_P(HyperParameters, OutOfRangeIsRefusedByName) {
  GgufContents contents = SmallMixture();
  contents.Set("qwen3moe." + GetParam().key, GetParam().value);
  ExpectRefused(contents, GetParam().code, GetParam().key);
}

constexpr absl::StatusCode kUnsupported = absl::StatusCode::kUnimplemented;
INSTANTIATE_TEST_SUITE_P(
    Bad, HyperParameters,
    testing::Values(
        BadKey{"block_count", uint64_t{0}}, BadKey{"block_count", uint64_t{1} << 40},
        BadKey{"block_count", std::string("two")}, BadKey{"nextn_predict_layers", uint64_t{2}},
        BadKey{"embedding_length", uint64_t{0}}, BadKey{"embedding_length", int64_t{-32}},
        BadKey{"embedding_length", uint64_t{1} << 62}, BadKey{"context_length", uint64_t{0}},
        BadKey{"attention.layer_norm_rms_epsilon", 0.0},
        BadKey{"attention.layer_norm_rms_epsilon", -1e-6},
        BadKey{"attention.head_count", uint64_t{0}},
        BadKey{"attention.head_count", uint64_t{1} << 33},
        BadKey{"attention.head_count_kv", uint64_t{3}},
        BadKey{"attention.head_count_kv", std::vector<uint64_t>{2, 1}, kUnsupported},
        BadKey{"attention.key_length", uint64_t{0}}, BadKey{"rope.dimension_count", uint64_t{7}},
        BadKey{"rope.dimension_count", uint64_t{16}}, BadKey{"rope.freq_base", 0.0},
        BadKey{"rope.scaling.factor", -1.0},
        BadKey{"rope.scaling.type", std::string("longrope"), kUnsupported},
        BadKey{"expert_used_count", uint64_t{9}}, BadKey{"expert_used_count", uint64_t{0}},
        BadKey{"expert_count", uint64_t{5000}}, BadKey{"expert_group_count", uint64_t{3}},
        BadKey{"expert_group_used_count", uint64_t{2}},
        BadKey{"expert_feed_forward_length", uint64_t{0}}, BadKey{"vocab_size", uint64_t{99}}));

// Groups that together hold fewer experts than a token uses.
TEST(ModelSpec, GroupsTooSmallForTheExpertsUsedAreRefused) {
  GgufContents contents = SmallMixture();
  contents.Set("qwen3moe.expert_group_count", uint64_t{8});
  contents.Set("qwen3moe.expert_group_used_count", uint64_t{1});
  ExpectRefused(contents, absl::StatusCode::kInvalidArgument, "expert_used_count");
}

// The quantized oracles hold formats that are not computed; each must be refused, not misread.
TEST(ModelSpec, FilesInOtherFormatsAreRefused) {
  SKIP_WITHOUT_SHARED();
  for (const std::string mix : {"classic", "k", "iq", "ternary"}) {
    const absl::StatusOr<GgufModel> gguf =
        GgufModel::Open(SharedPath("oracles/quants/" + mix + "/model.gguf"));
    ASSERT_TRUE(gguf.ok());
    const absl::StatusOr<ModelSpec> spec = ModelSpec::Read(*gguf);
    EXPECT_EQ(spec.status().code(), absl::StatusCode::kUnimplemented) << mix;
    EXPECT_THAT(std::string(MessageOf(spec.status())), HasSubstr("is stored as")) << mix;
  }
}

}  // namespace
}  // namespace stoker
