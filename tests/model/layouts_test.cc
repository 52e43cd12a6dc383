// The layouts in which files keep the same weights: each must give the same bits.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/status.h"
#include "device/modelled_device.h"
#include "kernels/backends.h"
#include "tests/model/gguf_contents.h"
#include "tests/model/loaded_model.h"
#include "tests/model/plain_device_ops.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

// Dimensions of the tiny DeepSeek-V3: heads, unrotated key, value and latent width.
constexpr int64_t kHeads = 4, kKey = 16, kValue = 16, kRank = 32;
constexpr int kLayers = 3;

class Layouts : public testing::Test {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_SHARED();
    contents_ = GgufContents::Read(SharedPath("oracles/families/deepseek-v3/model.bf16.gguf"));
    plain_ = Logits(contents_);
  }

  std::vector<float> Logits(const GgufContents& contents) {
    const std::string path = directory_.File("model.gguf");
    contents.WriteTo(path);
    const absl::StatusOr<std::unique_ptr<LoadedModel>> model = LoadedModel::Open(path, {});
    EXPECT_TRUE(model.ok()) << MessageOf(model.status());
    if (!model.ok()) return {};
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < 40; ++i) tokens.push_back(i * 37 % 384);
    const std::vector<float> logits = (*model)->Run(tokens, 16).logits;
    EXPECT_EQ(LogitsOnDevice(path, tokens), logits);
    return logits;
  }

  static std::vector<float> LogitsOnDevice(const std::string& path,
                                           const std::vector<int32_t>& tokens) {
    VirtualClock clock;
    const std::unique_ptr<ModelledDevice> device = *MakeModelledDevice({}, &clock);
    const absl::StatusOr<std::unique_ptr<LoadedModel>> model =
        LoadedModel::Open(path, {.device = {device.get(), &kPlainDeviceOps}});
    EXPECT_TRUE(model.ok()) << MessageOf(model.status());
    return model.ok() ? (*model)->Run(tokens, 16).logits : std::vector<float>();
  }

  TemporaryDirectory directory_;
  GgufContents contents_;
  std::vector<float> plain_;
};

// The latent's matrices of one layer by head, as BF16 bits: k[head][rank][key],
// v[head][value][rank].
struct LatentMatrices {
  std::vector<uint16_t> k, v;
};
LatentMatrices TakeLatent(GgufContents& contents, int layer) {
  const std::string prefix = "blk." + std::to_string(layer) + ".";
  LatentMatrices m;
  m.k.resize(kHeads * kRank * kKey);
  m.v.resize(kHeads * kValue * kRank);
  std::memcpy(m.k.data(), contents.Tensor(prefix + "attn_k_b.weight").data.data(), m.k.size() * 2);
  std::memcpy(m.v.data(), contents.Tensor(prefix + "attn_v_b.weight").data.data(), m.v.size() * 2);
  return m;
}

// kv_b as the checkpoint has it: per head the rows of the keys, then those of the values.
std::vector<uint16_t> Merge(const LatentMatrices& m) {
  std::vector<uint16_t> merged;
  for (int64_t head = 0; head < kHeads; ++head) {
    for (int64_t i = 0; i < kKey; ++i) {
      for (int64_t c = 0; c < kRank; ++c) {
        merged.push_back(m.k[static_cast<size_t>((head * kRank + c) * kKey + i)]);
      }
    }
    const auto first = m.v.begin() + head * kValue * kRank;
    merged.insert(merged.end(), first, first + kValue * kRank);
  }
  return merged;
}

template <typename T>
std::vector<uint8_t> Bytes(const std::vector<T>& values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

void ReplaceByMerged(GgufContents& contents, int layer, Dtype dtype, std::vector<uint8_t> data) {
  const std::string prefix = "blk." + std::to_string(layer) + ".";
  contents.Remove(prefix + "attn_k_b.weight");
  contents.Remove(prefix + "attn_v_b.weight");
  contents.tensors.push_back({.name = prefix + "attn_kv_b.weight",
                              .type = static_cast<int32_t>(dtype),
                              .dims = {kRank, kHeads * (kKey + kValue)},
                              .data = std::move(data)});
}

// Hyper-parameters as files of the old layout have them.
void DescribeOldLayout(GgufContents& contents) {
  contents.Unset("deepseek2.attention.key_length_mla");
  contents.Unset("deepseek2.attention.value_length_mla");
  contents.Set("deepseek2.attention.head_count_kv", uint64_t{kHeads});
  contents.Set("deepseek2.attention.key_length", uint64_t{kKey + 8});
  contents.Set("deepseek2.attention.value_length", uint64_t{kValue});
}

TEST_F(Layouts, MergedLatentMatricesGiveTheSameBits) {
  DescribeOldLayout(contents_);
  for (int layer = 0; layer < kLayers; ++layer) {
    const LatentMatrices m = TakeLatent(contents_, layer);
    ReplaceByMerged(contents_, layer, Dtype::kBF16, Bytes(Merge(m)));
  }
  EXPECT_EQ(Logits(contents_), plain_);
}

TEST_F(Layouts, FlattenedLatentMatricesGiveTheSameBits) {
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    contents_.Tensor(prefix + "attn_k_b.weight").dims = {kKey, kRank * kHeads};
    contents_.Tensor(prefix + "attn_v_b.weight").dims = {kRank, kValue * kHeads};
  }
  EXPECT_EQ(Logits(contents_), plain_);
}

TEST_F(Layouts, LatentMatricesInBothLayoutsAreReadOnce) {
  const LatentMatrices m = TakeLatent(contents_, 0);
  contents_.tensors.push_back({.name = "blk.0.attn_kv_b.weight",
                               .type = static_cast<int32_t>(Dtype::kBF16),
                               .dims = {kRank, kHeads * (kKey + kValue)},
                               .data = Bytes(Merge(m))});
  EXPECT_EQ(Logits(contents_), plain_);
}

float WidenBf16(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

// Q8_0 rows of one block of 32: F16 scale, 32 signed bytes.
std::vector<uint8_t> QuantizeRows(const Ops& ops, const std::vector<uint16_t>& bf16) {
  std::vector<uint8_t> out;
  for (size_t row = 0; row < bf16.size(); row += kRank) {
    float largest = 0;
    for (size_t c = 0; c < kRank; ++c)
      largest = std::max(largest, std::abs(WidenBf16(bf16[row + c])));
    const float scale = largest / 127;
    uint16_t half;
    ops.to_f16(&scale, 1, &half);
    out.push_back(static_cast<uint8_t>(half));
    out.push_back(static_cast<uint8_t>(half >> 8));
    for (size_t c = 0; c < kRank; ++c) {
      const float q = std::round(WidenBf16(bf16[row + c]) / scale);
      out.push_back(static_cast<uint8_t>(static_cast<int8_t>(q)));
    }
  }
  return out;
}

// Blocks cannot be transposed, so keys from a quantized kv_b are kept as F16: the same bits as a
// file of the new layout with F16 keys (of the decoded weights) and quantized values.
TEST_F(Layouts, QuantizedMergedLatentMatricesEqualHalfPrecisionKeys) {
  const Ops& ops = **SelectOps("reference");
  GgufContents split = contents_;
  DescribeOldLayout(contents_);
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::vector<uint8_t> blocks = QuantizeRows(ops, Merge(TakeLatent(contents_, layer)));
    const size_t row_bytes = RowBytes(Dtype::kQ8_0, kRank);
    std::vector<uint16_t> keys(kHeads * kRank * kKey);
    std::vector<uint8_t> values;
    for (int64_t head = 0; head < kHeads; ++head) {
      for (int64_t i = 0; i < kKey + kValue; ++i) {
        const uint8_t* row =
            blocks.data() + static_cast<size_t>(head * (kKey + kValue) + i) * row_bytes;
        if (i >= kKey) {
          values.insert(values.end(), row, row + row_bytes);
          continue;
        }
        float wide[kRank];
        uint16_t half[kRank];
        ops.decode(Dtype::kQ8_0, reinterpret_cast<const std::byte*>(row), kRank, wide);
        ops.to_f16(wide, kRank, half);
        for (int64_t c = 0; c < kRank; ++c) {
          keys[static_cast<size_t>((head * kRank + c) * kKey + i)] = half[c];
        }
      }
    }
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    split.Tensor(prefix + "attn_k_b.weight").type = static_cast<int32_t>(Dtype::kF16);
    split.Tensor(prefix + "attn_k_b.weight").data = Bytes(keys);
    split.Tensor(prefix + "attn_v_b.weight").type = static_cast<int32_t>(Dtype::kQ8_0);
    split.Tensor(prefix + "attn_v_b.weight").data = values;
    ReplaceByMerged(contents_, layer, Dtype::kQ8_0, blocks);
  }
  const std::vector<float> merged = Logits(contents_);
  EXPECT_EQ(merged, Logits(split));
  EXPECT_NE(merged, plain_);
}

TEST_F(Layouts, FusedGateAndUpGiveTheSameBits) {
  constexpr size_t kExperts = 16;
  for (int layer = 1; layer < kLayers; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    const GgufWriter::Tensor gate = contents_.Tensor(prefix + "ffn_gate_exps.weight");
    const GgufWriter::Tensor up = contents_.Tensor(prefix + "ffn_up_exps.weight");
    GgufWriter::Tensor fused = gate;
    fused.name = prefix + "ffn_gate_up_exps.weight";
    fused.dims[1] *= 2;
    fused.data.clear();
    const auto bytes = static_cast<std::ptrdiff_t>(gate.data.size() / kExperts);
    for (std::ptrdiff_t e = 0; e < static_cast<std::ptrdiff_t>(kExperts); ++e) {
      for (const GgufWriter::Tensor* half : {&gate, &up}) {
        const auto first = half->data.begin() + e * bytes;
        fused.data.insert(fused.data.end(), first, first + bytes);
      }
    }
    contents_.Remove(gate.name);
    contents_.Remove(up.name);
    contents_.tensors.push_back(std::move(fused));
  }
  EXPECT_EQ(Logits(contents_), plain_);
}

TEST_F(Layouts, SplitFilesGiveTheSameBits) {
  const std::vector<std::string> paths = contents_.Writer().WriteSplit(directory_.File("split"), 4);
  const absl::StatusOr<std::unique_ptr<LoadedModel>> model = LoadedModel::Open(paths[0], {});
  ASSERT_TRUE(model.ok()) << MessageOf(model.status());
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 40; ++i) tokens.push_back(i * 37 % 384);
  EXPECT_EQ((*model)->Run(tokens, 16).logits, plain_);
}

// Old V2 files name no gating function, and mean softmax.
TEST_F(Layouts, AMissingGatingFunctionIsSoftmax) {
  contents_.Unset("deepseek2.expert_gating_func");
  const std::string path = directory_.File("old.gguf");
  contents_.WriteTo(path);
  const absl::StatusOr<ModelSpec> spec = ModelSpec::Read(*GgufModel::Open(path));
  ASSERT_TRUE(spec.ok()) << MessageOf(spec.status());
  EXPECT_EQ(spec->config.router.score, RouterArgs::Score::kSoftmax);
  EXPECT_EQ(spec->config.router.group_score, RouterArgs::GroupScore::kMax);
}

}  // namespace
}  // namespace stoker
