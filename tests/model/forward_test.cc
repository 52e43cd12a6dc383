// What a forward pass promises beside its numbers: errors, observers, memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <map>

#include "base/status.h"
#include "kernels/reference/reference.h"
#include "tests/cache/allocation_count.h"
#include "tests/model/loaded_model.h"
#include "tests/testing/fault_reader.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using ::testing::HasSubstr;

class Forward : public testing::Test {
 protected:
  void SetUp() override {
    path_ = directory_.File("model.gguf");
    std::filesystem::copy_file(SourceDir() + "/models/moe-27m.q4_k.gguf", path_);
    std::filesystem::permissions(path_, std::filesystem::perms::owner_all);
  }

  std::unique_ptr<LoadedModel> Open(const LoadedModel::Options& options = {}) {
    absl::StatusOr<std::unique_ptr<LoadedModel>> model = LoadedModel::Open(path_, options);
    EXPECT_TRUE(model.ok()) << MessageOf(model.status());
    return model.ok() ? *std::move(model) : nullptr;
  }

  // Loads only the trunk, through a reader with faults.
  absl::Status LoadThrough(FaultReader& reader, const Model::Progress& progress = nullptr) {
    const absl::StatusOr<GgufModel> gguf = GgufModel::Open(path_);
    const absl::StatusOr<ModelSpec> spec = ModelSpec::Read(*gguf);
    ThreadTeam team({.thread_count = 1, .cpus = {}});
    return Model::Load(*gguf, *spec, {.step_rows_max = 4, .context_max = 64}, **SelectOps("auto"),
                       team, reader, progress)
        .status();
  }

  TemporaryDirectory directory_;
  std::string path_;
};

absl::Status RunRows(LoadedModel& model, ExpertProvider& experts, const std::vector<StepRow>& rows,
                     StepObserver* observer = nullptr) {
  std::vector<float> logits(rows.size() * static_cast<size_t>(model.config().vocab_count));
  return model.model().Forward(rows, model.kv(), experts, observer, nullptr,
                               {.logits = logits.data()});
}

class Broken final : public ExpertProvider {
 public:
  int pins_max(int) const override { return 8; }
  absl::Status Request(int, absl::Span<const int32_t>, absl::Span<const int32_t>) override {
    return absl::OkStatus();
  }
  absl::StatusOr<int> Collect(absl::Span<ExpertRef>, Wait) override {
    return absl::DataLossError("blk.1 expert 3 cannot be read");
  }
  int outstanding() const override { return 0; }

 protected:
  void Unpin(int32_t) override {}
};

TEST_F(Forward, AnExpertThatCannotBeReadLeavesTheSequenceAsItWas) {
  const auto model = Open();
  model->Run({1, 2, 3}, 3);
  const std::vector<float> before = model->Run({4}, 1).logits;
  model->kv().Truncate(0, 3);
  Broken broken;
  const absl::Status status = RunRows(*model, broken, {{4, 0, 3, true}, {5, 0, 4, true}});
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(model->kv().length(0), 3);
  EXPECT_EQ(model->Run({4}, 1).logits, before);
}

TEST_F(Forward, AFileChangedUnderneathIsAnError) {
  const auto model = Open();
  model->Run({1}, 1);
  std::filesystem::resize_file(path_, 100000);
  const absl::Status status = RunRows(*model, model->experts(), {{2, 0, 1, true}});
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("was changed while it was in use"));
  EXPECT_EQ(model->kv().length(0), 1);
}

struct Seen final : StepObserver {
  std::map<int, std::vector<int32_t>> experts;
  std::map<int, float> weight_sums;
  void OnRouting(int layer, int top_k, absl::Span<const int32_t> chosen,
                 absl::Span<const float> weights) override {
    EXPECT_EQ(top_k, 6);
    EXPECT_EQ(chosen.size(), weights.size());
    experts[layer].assign(chosen.begin(), chosen.end());
    for (const float w : weights) weight_sums[layer] += w;
  }
};

TEST_F(Forward, ObserversSeeEveryLayersChoice) {
  const auto model = Open();
  Seen seen;
  ASSERT_TRUE(RunRows(*model, model->experts(), {{1, 0, 0, true}, {2, 0, 1, true}}, &seen).ok());
  EXPECT_EQ(seen.experts.size(), 6u);  // layers 1 to 6
  for (const auto& [layer, experts] : seen.experts) {
    EXPECT_EQ(experts.size(), 12u) << layer;
    // Weights of a row are normalized and scaled by 2.5; there are two rows.
    EXPECT_NEAR(seen.weight_sums[layer], 5.0f, 1e-5) << layer;
  }
}

TEST_F(Forward, OnlyRowsThatWantLogitsGetThem) {
  const auto model = Open();
  const std::vector<float> all = model->Run({3, 1, 4, 1, 5}, 5).logits;
  model->Reset();
  const auto vocab = static_cast<size_t>(model->config().vocab_count);
  std::vector<float> some(2 * vocab + 1, -1.0f);
  const std::vector<StepRow> rows = {
      {3, 0, 0, false}, {1, 0, 1, true}, {4, 0, 2, false}, {1, 0, 3, false}, {5, 0, 4, true}};
  ASSERT_TRUE(
      model->model()
          .Forward(rows, model->kv(), model->experts(), nullptr, nullptr, {.logits = some.data()})
          .ok());
  EXPECT_TRUE(std::equal(some.begin(), some.begin() + vocab, all.begin() + vocab));
  EXPECT_TRUE(std::equal(some.begin() + vocab, some.end() - 1, all.begin() + 4 * vocab));
  EXPECT_EQ(some.back(), -1.0f);
}

TEST_F(Forward, NormedStatesOfAllRowsAreTheLastHiddenOnes) {
  const auto model = Open();
  const RunResult run = model->Step({{3, 0, 0, true}, {1, 0, 1, true}, {4, 0, 2, true}});
  const size_t block = 3 * static_cast<size_t>(model->config().hidden);
  EXPECT_EQ(run.normed,
            std::vector<float>(run.hidden.end() - static_cast<ptrdiff_t>(block), run.hidden.end()));
  model->Reset();
  std::vector<float> normed(block);
  const std::vector<StepRow> rows = {{3, 0, 0, false}, {1, 0, 1, false}, {4, 0, 2, false}};
  ASSERT_TRUE(
      model->model()
          .Forward(rows, model->kv(), model->experts(), nullptr, nullptr, {.normed = normed.data()})
          .ok());
  EXPECT_EQ(normed, run.normed);
}

TEST_F(Forward, ExpSumsAreThoseOfTheLogits) {
  const auto model = Open();
  const RunResult all = model->Run({3, 1, 4, 1, 5}, 3);
  const auto vocab = static_cast<size_t>(model->config().vocab_count);
  for (size_t row = 0; row < 5; ++row) {
    const float* logits = all.logits.data() + row * vocab;
    const auto n = static_cast<int64_t>(vocab);
    EXPECT_TRUE(all.exp_sums[row] == reference::LogSumExp(logits, n)) << row;
  }
}

// One thread, so that the count, which is the calling thread's, misses nothing.
TEST_F(Forward, AStepAllocatesNothing) {
  const auto model = Open({.kv_dtype = Dtype::kF16});
  std::vector<float> logits(8 * static_cast<size_t>(model->config().vocab_count));
  int32_t position = 0;
  for (const int32_t count : {1, 1, 8, 1}) {
    std::vector<StepRow> rows;
    for (int32_t i = 0; i < count; ++i, ++position) rows.push_back({position, 0, position, true});
    const AllocationCount allocations;
    const absl::Status status = model->model().Forward(rows, model->kv(), model->experts(), nullptr,
                                                       nullptr, {.logits = logits.data()});
    EXPECT_EQ(allocations.Count(), 0) << count << " rows";
    EXPECT_TRUE(status.ok());
  }
}

TEST_F(Forward, LoadingRecoversFromPassingFaults) {
  const std::unique_ptr<BlockReader> inner = MakePreadReader({});
  FaultReader reader(
      *inner, {.seed = 5, .short_read = 0.3, .interrupted = 0.2, .try_again = 0.2, .stall = 0.2});
  uint64_t done = 0, total = 0;
  const absl::Status status = LoadThrough(reader, [&](uint64_t d, uint64_t t) {
    EXPECT_GE(d, done);
    done = d;
    total = t;
  });
  EXPECT_TRUE(status.ok()) << MessageOf(status);
  EXPECT_GT(reader.injected(), 0u);
  EXPECT_EQ(done, total);
  EXPECT_GT(total, 0u);
}

TEST_F(Forward, AFaultThatStaysNamesTheTensors) {
  const absl::StatusOr<GgufModel> gguf = GgufModel::Open(path_);
  const GgufTensor& tensor = *gguf->FindTensor("blk.3.attn_output.weight");
  const std::unique_ptr<BlockReader> inner = MakePreadReader({});
  FaultReader reader(*inner, {});
  reader.FailRange(0, tensor.offset, tensor.offset + tensor.bytes, EIO);
  const absl::Status status = LoadThrough(reader);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("blk."));
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr(path_));
}

TEST_F(Forward, AFileCutShortWhileLoadingIsAnError) {
  const absl::StatusOr<GgufModel> gguf = GgufModel::Open(path_);
  const absl::StatusOr<ModelSpec> spec = ModelSpec::Read(*gguf);
  std::filesystem::resize_file(path_, gguf->FindTensor("blk.3.attn_output.weight")->offset);
  const std::unique_ptr<BlockReader> reader = MakePreadReader({});
  ThreadTeam team({.thread_count = 1, .cpus = {}});
  const absl::Status status = Model::Load(*gguf, *spec, {.step_rows_max = 4, .context_max = 64},
                                          **SelectOps("auto"), team, *reader, nullptr)
                                  .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("truncated"));
}

// What a step takes is known before it is taken; more rows take more.
TEST_F(Forward, WorkspaceIsPlannedByRowsAndThreads) {
  const absl::StatusOr<ModelSpec> spec = ModelSpec::Read(*GgufModel::Open(path_));
  ASSERT_TRUE(spec.ok());
  const auto plan = [&](int rows, int threads) {
    return Model::WorkspaceBytes(*spec, {.step_rows_max = rows, .context_max = 512}, threads, false)
        .host_bytes;
  };
  EXPECT_LT(plan(1, 1), plan(64, 1));
  EXPECT_LT(plan(64, 1), plan(64, 4));
}

}  // namespace
}  // namespace stoker
