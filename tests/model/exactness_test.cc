// The house invariant: how a step is run never shows in its results.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/status.h"
#include "tests/model/loaded_model.h"
#include "tests/testing/shared_data.h"

namespace stoker {
namespace {

std::string ShippedModel() { return SourceDir() + "/models/moe-27m.q4_k.gguf"; }

std::vector<int32_t> SomeTokens(size_t count, int vocab) {
  std::mt19937 random(7);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens)
    token = static_cast<int32_t>(random() % static_cast<uint32_t>(vocab));
  return tokens;
}

std::unique_ptr<LoadedModel> Open(const LoadedModel::Options& options) {
  absl::StatusOr<std::unique_ptr<LoadedModel>> model = LoadedModel::Open(ShippedModel(), options);
  EXPECT_TRUE(model.ok()) << MessageOf(model.status());
  return model.ok() ? *std::move(model) : nullptr;
}

// Hands over experts in an order of its own, at most `batch` at a time, and lets no more be held.
class Shuffled final : public ExpertProvider {
 public:
  Shuffled(ExpertProvider& inner, int batch) : inner_(inner), batch_(batch) {}

  int pins_max(int) const override { return batch_; }
  absl::Status Request(int layer, absl::Span<const int32_t> experts,
                       absl::Span<const int32_t>) override {
    layer_ = layer;
    waiting_.assign(experts.begin(), experts.end());
    std::shuffle(waiting_.begin(), waiting_.end(), random_);
    return absl::OkStatus();
  }
  absl::StatusOr<int> Collect(absl::Span<ExpertRef> out, Wait wait) override {
    int count = 0;
    while (!waiting_.empty() && count < static_cast<int>(out.size())) {
      RETURN_IF_ERROR(inner_.Request(layer_, {&waiting_.back(), 1}));
      EXPECT_EQ(*inner_.Collect(out.subspan(static_cast<size_t>(count++), 1), wait), 1);
      waiting_.pop_back();
    }
    return count;
  }
  int outstanding() const override { return static_cast<int>(waiting_.size()); }

 protected:
  void Unpin(int32_t) override {}

 private:
  ExpertProvider& inner_;
  const int batch_;
  int layer_ = 0;
  std::vector<int32_t> waiting_;
  std::mt19937 random_{3};
};

// Logits of every token in steps of `chunk`, experts from `experts`.
std::vector<float> Logits(LoadedModel& model, ExpertProvider& experts,
                          const std::vector<int32_t>& tokens, size_t chunk) {
  const auto vocab = static_cast<size_t>(model.config().vocab_count);
  std::vector<float> logits(tokens.size() * vocab);
  model.Reset();
  for (size_t first = 0; first < tokens.size(); first += chunk) {
    std::vector<StepRow> rows;
    for (size_t i = first; i < std::min(tokens.size(), first + chunk); ++i) {
      rows.push_back({tokens[i], 0, static_cast<int32_t>(i), true});
    }
    const absl::Status status = model.model().Forward(rows, model.kv(), experts, nullptr, nullptr,
                                                      {.logits = &logits[first * vocab]});
    EXPECT_TRUE(status.ok()) << MessageOf(status);
  }
  return logits;
}

class Exactness : public testing::Test {
 protected:
  void SetUp() override {
    model_ = Open({.ops = "auto"});
    ASSERT_NE(model_, nullptr);
    tokens_ = SomeTokens(150, model_->config().vocab_count);
    plain_ = Logits(*model_, model_->experts(), tokens_, 150);
  }
  std::unique_ptr<LoadedModel> model_;
  std::vector<int32_t> tokens_;
  std::vector<float> plain_;
};

TEST_F(Exactness, ChunksDoNotShow) {
  for (const size_t chunk : {size_t{1}, size_t{5}, size_t{17}, size_t{64}}) {
    EXPECT_EQ(Logits(*model_, model_->experts(), tokens_, chunk), plain_) << chunk;
  }
}

TEST_F(Exactness, OrderOfArrivalDoesNotShow) {
  for (const int batch : {1, 3, 40}) {
    for (const size_t chunk : {size_t{1}, size_t{50}}) {
      Shuffled experts(model_->experts(), batch);
      EXPECT_EQ(Logits(*model_, experts, tokens_, chunk), plain_) << batch << ", " << chunk;
    }
  }
}

TEST_F(Exactness, ThreadsDoNotShow) {
  for (const int threads : {2, 3}) {
    const auto model = Open({.ops = "auto", .threads = threads});
    EXPECT_EQ(Logits(*model, model->experts(), tokens_, 40), plain_) << threads;
    EXPECT_EQ(Logits(*model, model->experts(), tokens_, 1), plain_) << threads;
  }
}

TEST_F(Exactness, InstructionSetsDoNotShow) {
  for (const BackendRow& backend : Backends()) {
    if (!backend.runs_here()) continue;
    const auto model = Open({.ops = std::string(backend.name)});
    EXPECT_EQ(Logits(*model, model->experts(), tokens_, 48), plain_) << backend.name;
  }
}

TEST_F(Exactness, TruncatedSequencesGoOnAsIfNeverLonger) {
  const std::vector<float> again = [&] {
    model_->Reset();
    model_->Run({5, 6, 7, 8, 9, 10}, 6);
    model_->kv().Truncate(0, 0);
    model_->Run({tokens_.begin(), tokens_.begin() + 20}, 7);
    model_->Run({1, 2, 3}, 3);
    model_->kv().Truncate(0, 20);
    return model_->Run({tokens_.begin() + 20, tokens_.end()}, 64).logits;
  }();
  const auto vocab = static_cast<size_t>(model_->config().vocab_count);
  EXPECT_TRUE(std::equal(again.begin(), again.end(), plain_.begin() + 20 * vocab));
}

// With an F16 cache the same must hold, at other bits.
TEST_F(Exactness, ChunksDoNotShowWithAHalfPrecisionCache) {
  const auto model = Open({.ops = "auto", .threads = 2, .kv_dtype = Dtype::kF16});
  const std::vector<float> whole = Logits(*model, model->experts(), tokens_, 150);
  EXPECT_EQ(Logits(*model, model->experts(), tokens_, 13), whole);
  EXPECT_NE(whole, plain_);
}

}  // namespace
}  // namespace stoker
