// Holds what follows the query, key and value products on a device to the reference, bit for bit:
// biases, norms, rotation, and the rows of the cache.
#include "fmt/format.h"
#include "gtest/gtest.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/attention_case.h"
#include "tests/kernels/float_bits.h"

namespace stoker {
namespace {

using Norm = FinishHeadsArgs::Norm;

struct Shape {
  int heads = 4;
  int kv_heads = 2;
  int key_dim = 64;
  int value_dim = 64;
  Norm norm = Norm::kNone;
  bool has_bias = false;
  int pairs = 32;
  RopePairing pairing = RopePairing::kHalves;
  Dtype dtype = Dtype::kF16;
};

std::string NameOf(const Shape& s) {
  return fmt::format("heads {}/{} dims {}/{} norm {} bias {} pairs {} {} {}", s.heads, s.kv_heads,
                     s.key_dim, s.value_dim, static_cast<int>(s.norm), s.has_bias, s.pairs,
                     s.pairing == RopePairing::kHalves ? "halves" : "neighbours", NameOf(s.dtype));
}

constexpr float kEpsilon = 1e-5f;
const std::vector<RowPlace> kPlaces = {{.sequence = 1, .position = 63},
                                       {.sequence = 0, .position = 0},
                                       {.sequence = 1, .position = 64},
                                       {.sequence = 0, .position = 1},
                                       {.sequence = 2, .position = 200}};
constexpr int kPositions = 201;

// One of the three products' rows: before, and after by the reference.
struct Part {
  int64_t width;
  int64_t stride;
  std::vector<float> x, bias, norm;
  std::vector<float> expected;
};

class FinishHeadsCase {
 public:
  explicit FinishHeadsCase(const Shape& shape)
      : shape_(shape),
        cosines_(Normal(size_t{kPositions} * static_cast<size_t>(shape.pairs))),
        sines_(Normal(cosines_.size())),
        q_(MakePart(shape.heads, shape.key_dim, true)),
        k_(MakePart(shape.kv_heads, shape.key_dim, true)),
        v_(MakePart(shape.kv_heads, shape.value_dim, false)),
        cache_({.sequences = 3,
                .positions = kPositions,
                .key_width = k_.width,
                .value_width = v_.width,
                .dtype = shape.dtype},
               random_) {}

  void ExpectReferenceBits() {
    SCOPED_TRACE(NameOf(shape_));
    DeviceCase memory;
    const FinishHeadsArgs args = Args(memory);
    ASSERT_TRUE(memory.Run(TwinOps().finish_heads, args));
    EXPECT_TRUE(SameBits({args.q, q_.expected.size()}, q_.expected)) << "queries";
    EXPECT_TRUE(SameBits({args.k, k_.expected.size()}, k_.expected)) << "keys";
    EXPECT_TRUE(SameBits({args.v, v_.expected.size()}, v_.expected)) << "values";
    std::vector<std::byte> keys = cache_.keys();
    std::vector<std::byte> values = cache_.values();
    for (size_t r = 0; r < kPlaces.size(); ++r) {
      Store(k_, r, keys.data() + cache_.KeyAt(kPlaces[r]));
      Store(v_, r, values.data() + cache_.ValueAt(kPlaces[r]));
    }
    EXPECT_TRUE(std::equal(keys.begin(), keys.end(), args.kv.keys)) << "cached keys";
    EXPECT_TRUE(std::equal(values.begin(), values.end(), args.kv.values)) << "cached values";
  }

 private:
  std::vector<float> Normal(size_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> x(count);
    for (float& value : x) value = normal(random_);
    return x;
  }

  Part MakePart(int heads, int dim, bool is_normed) {
    Part part;
    part.width = int64_t{heads} * dim;
    part.stride = (part.width + 15) / 16 * 16;
    part.x = Normal(kPlaces.size() * static_cast<size_t>(part.stride));
    if (shape_.has_bias) part.bias = Normal(static_cast<size_t>(part.width));
    const bool is_whole = shape_.norm == Norm::kWhole;
    if (is_normed && shape_.norm != Norm::kNone) {
      part.norm = Normal(static_cast<size_t>(is_whole ? part.width : dim));
    }
    part.expected = part.x;
    for (size_t r = 0; r < kPlaces.size(); ++r) {
      float* x = part.expected.data() + r * static_cast<size_t>(part.stride);
      if (!part.bias.empty()) reference::kOps.add(part.bias.data(), part.width, x);
      if (!is_normed) continue;
      if (is_whole) reference::kOps.rms_norm(x, part.norm.data(), part.width, kEpsilon, x);
      const auto first_pair = static_cast<size_t>(kPlaces[r].position * shape_.pairs);
      for (int h = 0; h < heads; ++h) {
        float* head = x + h * dim;
        if (shape_.norm == Norm::kPerHead) {
          reference::kOps.rms_norm(head, part.norm.data(), dim, kEpsilon, head);
        }
        reference::kOps.rope(head, cosines_.data() + first_pair, sines_.data() + first_pair,
                             shape_.pairs, shape_.pairing);
      }
    }
    return part;
  }

  FinishHeadsArgs Args(DeviceCase& memory) {
    const auto optional = [&](const std::vector<float>& x) {
      return x.empty() ? nullptr : memory.Input(x);
    };
    FinishHeadsArgs args;
    args.places = memory.Input(kPlaces);
    args.q = memory.InOut(q_.x);
    args.k = memory.InOut(k_.x);
    args.v = memory.InOut(v_.x);
    args.q_stride = q_.stride;
    args.k_stride = k_.stride;
    args.v_stride = v_.stride;
    args.q_bias = optional(q_.bias);
    args.k_bias = optional(k_.bias);
    args.v_bias = optional(v_.bias);
    args.q_norm = optional(q_.norm);
    args.k_norm = optional(k_.norm);
    args.norm = shape_.norm;
    args.epsilon = kEpsilon;
    args.heads = shape_.heads;
    args.kv_heads = shape_.kv_heads;
    args.key_dim = shape_.key_dim;
    args.value_dim = shape_.value_dim;
    args.rows = static_cast<int64_t>(kPlaces.size());
    args.rope = {memory.Input(cosines_), memory.Input(sines_), shape_.pairs, shape_.pairing};
    args.kv = {.keys = memory.InOut(cache_.keys()),
               .values = memory.InOut(cache_.values()),
               .key_stride = cache_.key_stride(),
               .value_stride = cache_.value_stride(),
               .dtype = shape_.dtype,
               .table = memory.Input(cache_.table()),
               .pages_per_sequence = cache_.pages_per_sequence()};
    return args;
  }

  void Store(const Part& part, size_t row, std::byte* at) const {
    for (int64_t i = 0; i < part.width; ++i) {
      cache_.Set(at + cache_.Bytes(i),
                 part.expected[row * static_cast<size_t>(part.stride) + static_cast<size_t>(i)]);
    }
  }

  Shape shape_;
  Random random_{3};
  std::vector<float> cosines_, sines_;
  Part q_, k_, v_;
  PagedCache cache_;
};

TEST(DeviceFinishHeads, GivesTheReferenceBitsOfEveryNormBiasAndPairing) {
  for (const Norm norm : {Norm::kNone, Norm::kPerHead, Norm::kWhole}) {
    for (const bool has_bias : {false, true}) {
      for (const RopePairing pairing : {RopePairing::kHalves, RopePairing::kNeighbours}) {
        for (const Dtype dtype : {Dtype::kF16, Dtype::kF32}) {
          FinishHeadsCase({.norm = norm, .has_bias = has_bias, .pairing = pairing, .dtype = dtype})
              .ExpectReferenceBits();
        }
      }
    }
  }
}

TEST(DeviceFinishHeads, GivesTheReferenceBitsOfAnyCountOfHeads) {
  for (const auto& [heads, kv_heads] :
       {std::pair(1, 1), {5, 1}, {6, 3}, {7, 7}, {32, 4}, {40, 8}}) {
    for (const Norm norm : {Norm::kNone, Norm::kPerHead, Norm::kWhole}) {
      FinishHeadsCase({.heads = heads, .kv_heads = kv_heads, .norm = norm, .has_bias = true})
          .ExpectReferenceBits();
    }
  }
}

TEST(DeviceFinishHeads, GivesTheReferenceBitsOfAnyDimensions) {
  for (const auto& [key_dim, value_dim] :
       {std::pair(2, 1), {48, 80}, {80, 48}, {96, 96}, {128, 128}, {33, 65}, {256, 128}}) {
    for (const Norm norm : {Norm::kPerHead, Norm::kWhole}) {
      FinishHeadsCase(
          {.key_dim = key_dim, .value_dim = value_dim, .norm = norm, .pairs = key_dim / 2})
          .ExpectReferenceBits();
    }
  }
}

TEST(DeviceFinishHeads, LeavesWhatIsNotRotatedAsItIs) {
  for (const RopePairing pairing : {RopePairing::kHalves, RopePairing::kNeighbours}) {
    FinishHeadsCase({.norm = Norm::kPerHead, .pairs = 8, .pairing = pairing}).ExpectReferenceBits();
  }
}

}  // namespace
}  // namespace stoker
