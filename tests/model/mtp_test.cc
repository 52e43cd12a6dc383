// Multi-token prediction: its guesses, and that nothing about how they are run shows in them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "base/status.h"
#include "cache/expert_cache.h"
#include "io/safetensors.h"
#include "model/workspace.h"
#include "tests/cache/allocation_count.h"
#include "tests/model/gguf_contents.h"
#include "tests/model/mtp_passes.h"
#include "tests/model/on_device.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using ::testing::HasSubstr;

class MultiTokenPrediction : public testing::Test {
 protected:
  void SetUp() override {
    model_ = OnHost(ShippedModel(), WithMtp());
    states_ = model_->Run(tokens_, 512).normed;
    plain_ = Guesses(*model_, tokens_, states_, 512);
    ASSERT_EQ(plain_.logits.size(), 119u * 4096);
  }
  void ExpectPlain(const MtpResult& got, const std::string& what) {
    EXPECT_EQ(got.logits, plain_.logits) << what;
    EXPECT_EQ(got.normed, plain_.normed) << what;
  }
  // One row of the plain results.
  std::vector<float> PlainLogits(size_t row) const {
    return {plain_.logits.begin() + row * 4096, plain_.logits.begin() + (row + 1) * 4096};
  }

  const std::vector<int32_t> tokens_ = SomeTokens(120, 4096);
  std::unique_ptr<LoadedModel> model_;
  std::vector<float> states_;
  MtpResult plain_;
};

TEST_F(MultiTokenPrediction, ChunksDoNotShow) {
  for (const size_t chunk : {1, 5, 17, 64}) {
    ExpectPlain(Guesses(*model_, tokens_, states_, chunk), std::to_string(chunk));
  }
}

TEST_F(MultiTokenPrediction, ThreadsDoNotShow) {
  LoadedModel::Options options = WithMtp();
  options.threads = 3;
  const auto model = OnHost(ShippedModel(), options);
  ExpectPlain(Guesses(*model, tokens_, states_, 40), "40 rows");
  ExpectPlain(Guesses(*model, tokens_, states_, 1), "1 row");
}

TEST_F(MultiTokenPrediction, InstructionSetsDoNotShow) {
  for (const BackendRow& backend : Backends()) {
    if (!backend.runs_here()) continue;
    LoadedModel::Options options = WithMtp();
    options.ops = std::string(backend.name);
    const auto model = OnHost(ShippedModel(), options);
    ExpectPlain(Guesses(*model, tokens_, states_, 48), options.ops);
  }
}

TEST_F(MultiTokenPrediction, NeighboursInTheBatchDoNotShow) {
  LoadedModel::Options options = WithMtp();
  options.sequence_count = 3;
  const auto model = OnHost(ShippedModel(), options);
  const std::vector<int32_t> others = SomeTokens(7, 4096);
  const std::vector<float> other_states = model->Run(others, 7, 1).normed;
  std::vector<MtpRow> rows;
  for (size_t i = 0; i < 3; ++i) rows.push_back(RowAt(others, other_states, i, 2));
  for (size_t i = 0; i + 1 < tokens_.size(); ++i) rows.push_back(RowAt(tokens_, states_, i, 1));
  for (size_t i = 0; i < 6; ++i) rows.push_back(RowAt(others, other_states, i, 0));
  const absl::StatusOr<MtpResult> together = model->RunMtp(rows);
  ASSERT_TRUE(together.ok());
  const std::vector<float> ours(together->logits.begin() + 3 * 4096,
                                together->logits.end() - 6 * 4096);
  EXPECT_EQ(ours, plain_.logits);
}

// The store's least plan: one token's experts, for all layers, that of the guesses among them.
TEST_F(MultiTokenPrediction, TheFewestSlotsDoNotShow) {
  const ExpertCatalog& catalog = model_->spec().experts;
  const std::unique_ptr<BlockReader> reader = MakePreadReader({});
  ASSERT_TRUE(reader->AddFile(ShippedModel()).ok());
  const std::vector<size_t> alignments = FileAlignments(catalog, *reader);
  constexpr int kUsed = 6;
  const CachePlan roomy = *PlanCache(catalog, {.ram_bytes = UINT64_MAX}, kUsed, alignments);
  const CachePlan plan =
      *PlanCache(catalog, {.ram_bytes = roomy.minimum_budget_bytes}, kUsed, alignments);
  for (const SlotClass& size_class : plan.classes) EXPECT_EQ(size_class.slot_count, kUsed);
  CacheOptions options;
  options.tiers = {{.budget_bytes = roomy.minimum_budget_bytes}};
  RealClock clock;
  const auto store = ExpertCache::Create(catalog, plan, options, *reader, clock, nullptr);
  ASSERT_TRUE(store.ok()) << MessageOf(store.status());
  model_->Use(store->get());
  ExpectPlain(Guesses(*model_, tokens_, states_, 512), "one pass");
  ExpectPlain(Guesses(*model_, tokens_, states_, 3), "3 rows");
  model_->Use(nullptr);
  EXPECT_GT((*store)->counts().evictions, 0u);
}

TEST_F(MultiTokenPrediction, ForgottenPositionsGoOnAsIfNeverThere) {
  std::vector<MtpRow> wrong;
  for (size_t i = 0; i < 9; ++i) wrong.push_back(RowAt(tokens_, states_, i));
  for (MtpRow& row : wrong) row.token = (row.token + 1) % 4096;
  model_->mtp_kv().Truncate(0, 0);
  std::vector<MtpRow> rows = {RowAt(tokens_, states_, 0), RowAt(tokens_, states_, 1)};
  ASSERT_TRUE(model_->RunMtp(rows).ok());
  ASSERT_TRUE(model_->RunMtp({wrong.begin() + 2, wrong.end()}).ok());
  EXPECT_EQ(model_->mtp_kv().length(0), 9);
  model_->mtp_kv().Truncate(0, 2);
  const absl::StatusOr<MtpResult> next = model_->RunMtp({RowAt(tokens_, states_, 2)});
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(next->logits, PlainLogits(2));
}

TEST_F(MultiTokenPrediction, OnlyRowsThatWantLogitsGetThem) {
  model_->mtp_kv().Truncate(0, 0);
  std::vector<MtpRow> rows;
  for (size_t i = 0; i < 5; ++i) rows.push_back(RowAt(tokens_, states_, i));
  for (const size_t i : {0, 2, 3}) rows[i].wants_logits = false;
  const absl::StatusOr<MtpResult> some = model_->RunMtp(rows);
  ASSERT_TRUE(some.ok());
  ASSERT_EQ(some->logits.size(), 2u * 4096);
  EXPECT_TRUE(
      std::equal(some->logits.begin(), some->logits.begin() + 4096, PlainLogits(1).begin()));
  EXPECT_TRUE(std::equal(some->logits.begin() + 4096, some->logits.end(), PlainLogits(4).begin()));
  EXPECT_TRUE(std::equal(some->normed.begin(), some->normed.end(), plain_.normed.begin()));
}

// With it loaded the model itself is what it is without.
TEST_F(MultiTokenPrediction, TheModelsOwnLogitsAreUntouched) {
  const auto without = OnHost(ShippedModel(), {});
  model_->Reset();
  EXPECT_EQ(model_->Run(tokens_, 50).logits, without->Run(tokens_, 50).logits);
}

// Takes a pass's own states for those of the next position, as a drafter does.
TEST_F(MultiTokenPrediction, OwnStatesAreTakenAsThoseOfTheNextPosition) {
  model_->mtp_kv().Truncate(0, 0);
  const size_t hidden = states_.size() / tokens_.size();
  const absl::StatusOr<MtpResult> first = model_->RunMtp({RowAt(tokens_, states_, 0)});
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->normed,
            std::vector<float>(plain_.normed.begin(), plain_.normed.begin() + hidden));
  MtpRow further = RowAt(tokens_, states_, 1);
  further.hidden = first->normed.data();
  const absl::StatusOr<MtpResult> second = model_->RunMtp({further});
  ASSERT_TRUE(second.ok());
  EXPECT_NE(second->logits, PlainLogits(1));
  // Of the state alone: the same with the state somewhere else.
  const std::vector<float> copy = first->normed;
  further.hidden = copy.data();
  model_->mtp_kv().Truncate(0, 1);
  const absl::StatusOr<MtpResult> again = model_->RunMtp({further});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->logits, second->logits);
}

// One thread, so that the count, which is the calling thread's, misses nothing.
TEST_F(MultiTokenPrediction, APassAllocatesNothing) {
  std::vector<float> logits(8 * 4096);
  std::vector<float> normed(8 * 256);
  model_->mtp_kv().Truncate(0, 0);
  size_t position = 0;
  for (const size_t count : {1, 1, 8, 1}) {
    std::vector<MtpRow> rows;
    for (size_t i = 0; i < count; ++i) rows.push_back(RowAt(tokens_, states_, position++));
    const AllocationCount allocations;
    const absl::Status status =
        model_->model().ForwardMtp(rows, model_->mtp_kv(), model_->experts(), nullptr, nullptr,
                                   {.logits = logits.data(), .normed = normed.data()});
    EXPECT_EQ(allocations.Count(), 0) << count << " rows";
    EXPECT_TRUE(status.ok());
  }
}

struct Seen final : StepObserver {
  int steps = 0;
  std::vector<int32_t> positions;
  std::vector<int> layers;
  size_t choices = 0;
  void OnStep(absl::Span<const StepRow> rows) override {
    ++steps;
    for (const StepRow& row : rows) positions.push_back(row.position);
  }
  void OnRouting(int layer, int, absl::Span<const int32_t> experts,
                 absl::Span<const float>) override {
    layers.push_back(layer);
    choices += experts.size();
  }
  int lookahead_layers(int) override { return kLookaheadLayersMax; }
  void OnLookahead(int, int target, int, absl::Span<const int32_t>,
                   absl::Span<const float>) override {
    guessed.push_back(target);
  }
  std::vector<int> guessed;
};

TEST_F(MultiTokenPrediction, ObserversSeeOneFurtherLayerThatNobodyLooksAheadTo) {
  LoadedModel::Options options = WithMtp();
  options.model.lookahead_rows_max = 4;
  const auto model = OnHost(ShippedModel(), options);
  Seen main, guesses;
  model->Observe(&main);
  const std::vector<float> states = model->Run({1, 2}, 2).normed;
  EXPECT_THAT(main.layers, testing::ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_FALSE(main.guessed.empty());
  EXPECT_THAT(main.guessed, testing::Each(testing::Lt(7)));
  model->Observe(&guesses);
  ASSERT_TRUE(model->RunMtp({RowAt({1, 2}, states, 0)}).ok());
  EXPECT_EQ(guesses.steps, 1);
  EXPECT_THAT(guesses.positions, testing::ElementsAre(0));
  EXPECT_THAT(guesses.layers, testing::ElementsAre(7));
  EXPECT_EQ(guesses.choices, 6u);
  EXPECT_TRUE(guesses.guessed.empty());
}

class Broken final : public ExpertProvider {
 public:
  int pins_max(int) const override { return 8; }
  absl::Status Request(int, absl::Span<const int32_t>, absl::Span<const int32_t>) override {
    return absl::DataLossError("blk.7 expert 3 cannot be read");
  }
  absl::StatusOr<int> Collect(absl::Span<ExpertRef>, Wait) override { return 0; }
  int outstanding() const override { return 0; }

 protected:
  void Unpin(int32_t) override {}
};

TEST_F(MultiTokenPrediction, AnExpertThatCannotBeReadLeavesTheSequenceAsItWas) {
  model_->mtp_kv().Truncate(0, 0);
  ASSERT_TRUE(model_->RunMtp({RowAt(tokens_, states_, 0)}).ok());
  Broken broken;
  model_->Use(&broken);
  const std::vector<MtpRow> rows = {RowAt(tokens_, states_, 1), RowAt(tokens_, states_, 2)};
  EXPECT_EQ(model_->RunMtp(rows).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(model_->mtp_kv().length(0), 1);
  model_->Use(nullptr);
  const absl::StatusOr<MtpResult> after = model_->RunMtp({rows[0]});
  ASSERT_TRUE(after.ok());
  EXPECT_EQ(after->logits, PlainLogits(1));
}

TEST_F(MultiTokenPrediction, AnEmbeddingThatCannotBeReadIsAnErrorThatNamesItsTable) {
  TemporaryDirectory directory;
  const std::string path = directory.File("model.gguf");
  std::filesystem::copy_file(ShippedModel(), path);
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  const auto model = OnHost(path, WithMtp());
  std::filesystem::resize_file(path, 100000);
  const absl::Status status = model->RunMtp({RowAt(tokens_, states_, 0)}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("was changed while it was in use"));
  EXPECT_EQ(model->mtp_kv().length(0), 0);
}

// What is planned with it, beyond what is planned without it.
TEST(MtpPlan, GrowsByTheLayerAlone) {
  const GgufModel gguf = *GgufModel::Open(ShippedModel());
  const ModelSpec without = *ModelSpec::Read(gguf);
  const ModelSpec with = *ModelSpec::Read(gguf, {.with_mtp = true});
  uint64_t experts = 0, trunk = 0, widened = 0;
  for (const GgufTensor& tensor : gguf.tensors()) {
    if (!tensor.name.starts_with("blk.7.") || tensor.name.ends_with("embed_tokens.weight"))
      continue;
    const bool is_expert = tensor.name.find("_exps") != std::string::npos;
    (is_expert ? experts : trunk) += tensor.bytes;
    if (tensor.dim_count == 1) widened += tensor.dims[0] * sizeof(float);
  }
  EXPECT_EQ(with.experts.total_bytes() - without.experts.total_bytes(), experts);
  EXPECT_EQ(with.experts.expert_count() - without.experts.expert_count(), 64);
  EXPECT_EQ(with.embedding_cache_bytes, 2 * without.embedding_cache_bytes);
  // Runs of tensors begin and end at blocks, and small gaps between them are read.
  const uint64_t grown = with.trunk_bytes - without.trunk_bytes;
  EXPECT_GE(grown, trunk + widened);
  EXPECT_LE(grown, trunk + widened + (uint64_t{64} << 10));
  const KvCache::Options kv = {.sequence_count = 2, .context = 100};
  KvCache::Options mtp_kv = kv;
  mtp_kv.layer_count = 1;
  EXPECT_EQ(7 * KvCache::PlanBytes(with.config, mtp_kv, false),
            KvCache::PlanBytes(without.config, kv, false));
}

TEST(MtpPlan, WorkspaceGrowsByItsRowsAlone) {
  const GgufModel gguf = *GgufModel::Open(ShippedModel());
  const ModelSpec spec = *ModelSpec::Read(gguf, {.with_mtp = true});
  const auto plan = [](const ModelSpec& of, int mtp_rows) {
    return Model::WorkspaceBytes(of, {.step_rows_max = 64, .mtp_rows_max = mtp_rows}, 2, false)
        .host_bytes;
  };
  EXPECT_EQ(plan(spec, 0), plan(*ModelSpec::Read(gguf), 0));
  constexpr int kRows = 40;
  constexpr int64_t kWidth = 2 * 256;
  Carver carver;
  carver.Take<float>(kRows * kWidth);
  Activations().Carve(
      carver, {.rows = kRows, .cols = kWidth, .panels = PanelCount(kRows), .kinds = KindsOf(spec)});
  EXPECT_EQ(plan(spec, kRows) - plan(spec, 0), carver.bytes() + kRows * sizeof(StepRow));
}

// Checkpoints may share table and head with the model; the file then has them once.
TEST(MtpLayouts, WhatALayerDoesNotHaveIsTheModels) {
  TemporaryDirectory directory;
  const std::string path = directory.File("model.gguf");
  GgufContents contents = GgufContents::Read(ShippedModel());
  const std::pair<std::string, std::string> kShared[] = {
      {"blk.7.nextn.embed_tokens.weight", "token_embd.weight"},
      {"blk.7.nextn.shared_head_head.weight", "output.weight"},
      {"blk.7.nextn.shared_head_norm.weight", "output_norm.weight"}};
  const std::vector<int32_t> tokens = SomeTokens(20, 4096);
  const auto guesses = [&] {
    contents.WriteTo(path);
    const auto model = OnHost(path, WithMtp());
    return Guesses(*model, tokens, model->Run(tokens, 20).normed, 20).logits;
  };
  for (const auto& [own, shared] : kShared) {
    contents.Tensor(own).data = contents.Tensor(shared).data;
  }
  const std::vector<float> with_copies = guesses();
  for (const auto& [own, shared] : kShared) contents.Remove(own);
  EXPECT_EQ(guesses(), with_copies);
}

struct Oracle {
  std::vector<int32_t> tokens;
  std::vector<float> logits;   // [tokens, vocab]
  std::vector<float> guesses;  // [tokens - 1, vocab]
};
Oracle ReadOracle() {
  const absl::StatusOr<Safetensors> file =
      Safetensors::Open(SharedPath("models/moe-27m.q8_0.expected.safetensors"));
  const std::vector<int64_t> ids = *file->Ints("token_ids");
  return {.tokens = {ids.begin(), ids.end()},
          .logits = *file->Floats("logits"),
          .guesses = *file->Floats("mtp_logits")};
}

// How logits agree with those expected.
struct Agreement {
  int rows = 0;
  int same = 0;            // rows of the same best token
  double error = 0;        // root mean square
  double lead_missed = 0;  // the most by which an expected best token led one taken for it
};
Agreement Compare(const std::vector<float>& got, const std::vector<float>& expected) {
  EXPECT_EQ(got.size(), expected.size());
  Agreement agreement;
  double squares = 0;
  for (size_t at = 0; at < expected.size(); at += 4096) {
    const float* theirs = &expected[at];
    const int32_t best = BestToken(theirs, 4096);
    const int32_t ours = BestToken(&got[at], 4096);
    ++agreement.rows;
    agreement.same += ours == best;
    agreement.lead_missed =
        std::max(agreement.lead_missed, double{theirs[best]} - double{theirs[ours]});
    for (size_t i = 0; i < 4096; ++i) squares += std::pow(double{got[at + i]} - theirs[i], 2);
  }
  agreement.error = std::sqrt(squares / static_cast<double>(expected.size()));
  std::cout << agreement.same << " of " << agreement.rows << " best tokens, root mean square error "
            << agreement.error << ", a lead of " << agreement.lead_missed << " missed\n";
  return agreement;
}

// Quantized activations differ a little from double precision: the reference data asks for the same
// best token in 97 % of its rows, the model's and those of the guesses. A guess may differ only
// where the two tokens are as good as equal: a lead within 3 standard deviations of the difference
// of two logits.
TEST(TrainedMtp, BestTokensAreTheExpectedOnes) {
  SKIP_WITHOUT_SHARED();
  const Oracle oracle = ReadOracle();
  const auto model = OnHost(SharedPath("models/moe-27m.q8_0.gguf"), WithMtp());
  const RunResult run = model->Run(oracle.tokens, 512);
  const Agreement own = Compare(run.logits, oracle.logits);
  const Agreement guesses =
      Compare(Guesses(*model, oracle.tokens, run.normed, 512).logits, oracle.guesses);
  EXPECT_GE(own.same + guesses.same, 0.97 * (own.rows + guesses.rows));
  EXPECT_LE(guesses.lead_missed, 3 * std::sqrt(2.0) * guesses.error);
}

// With decoded weights nothing is quantized: what is left is the rounding of F32, under the bound
// that every family is held to.
TEST(TrainedMtp, DecodedWeightsGiveTheExpectedLogits) {
  SKIP_WITHOUT_SHARED();
  const Oracle oracle = ReadOracle();
  GgufContents contents = GgufContents::Read(SharedPath("models/moe-27m.q8_0.gguf"));
  const Ops& ops = **SelectOps("reference");
  for (GgufWriter::Tensor& tensor : contents.tensors) {
    const auto dtype = static_cast<Dtype>(tensor.type);
    if (dtype != Dtype::kQ8_0) continue;
    int64_t count = 1;
    for (const int64_t dim : tensor.dims) count *= dim;
    std::vector<float> decoded(static_cast<size_t>(count));
    ops.decode(dtype, reinterpret_cast<const std::byte*>(tensor.data.data()), count,
               decoded.data());
    tensor.type = static_cast<int32_t>(Dtype::kF32);
    tensor.data.resize(decoded.size() * sizeof(float));
    std::memcpy(tensor.data.data(), decoded.data(), tensor.data.size());
  }
  TemporaryDirectory directory;
  const std::string path = directory.File("model.gguf");
  contents.WriteTo(path);
  const auto model = OnHost(path, WithMtp());
  const std::vector<float> states = model->Run(oracle.tokens, 512).normed;
  const std::vector<float> got = Guesses(*model, oracle.tokens, states, 512).logits;
  const Agreement agreement = Compare(got, oracle.guesses);
  EXPECT_EQ(agreement.same, agreement.rows);
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(double{got[i]} - oracle.guesses[i]);
    ASSERT_LE(error, 2e-4 + 1e-3 * std::abs(oracle.guesses[i])) << i;
  }
}

}  // namespace
}  // namespace stoker
