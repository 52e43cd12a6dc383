// Attention: every backend gives the reference's bits whatever the shape; the reference agrees with
// a softmax in double precision; how rows are cut into calls cannot be seen.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "kernels/formats/half.h"
#include "kernels/reference/load_float.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/float_bits.h"
#include "tests/kernels/kernel_cases.h"

namespace stoker {

void PrintTo(const BackendRow& row, std::ostream* os) { *os << row.name; }

namespace {

enum class Magnitude {
  kNormal,
  kSteep,  // scores so far apart that most probabilities vanish or are subnormal
  kTiny,   // values whose products underflow, to zeros of either sign
};

struct Shape {
  int rows = 1;
  int heads = 1;
  int key_dim = 64;
  int value_dim = 64;
  int64_t first_key = 0;
  int64_t visible = 1;
  Dtype dtype = Dtype::kF16;
  Magnitude magnitude = Magnitude::kNormal;
  bool values_are_keys = false;  // as in MLA: the values are the first part of the key rows
};

std::string NameOf(const Shape& s) {
  return fmt::format("rows {} heads {} dims {}/{} keys {}:{} {} magnitude {}", s.rows, s.heads,
                     s.key_dim, s.value_dim, s.first_key, s.visible, NameOf(s.dtype),
                     static_cast<int>(s.magnitude));
}

constexpr int64_t kGap = 3;  // floats or elements between rows, which nobody may write
constexpr float kSentinel = -12345.75f;

// Rows of random values of `dtype` that end at an unreadable page. The rows before `first` are NaN.
class CacheRows {
 public:
  CacheRows(const Shape& shape, int dim, float scale, Random& random)
      : stride_(dim + kGap),
        bytes_(static_cast<size_t>(count(shape) * stride_ - kGap) * element_bytes(shape)) {
    std::normal_distribution<float> normal;
    const int64_t n = count(shape) * stride_ - kGap;
    for (int64_t i = 0; i < n; ++i) {
      const bool readable = i / stride_ >= shape.first_key && i % stride_ < dim;
      const float value =
          readable ? normal(random) * scale : std::numeric_limits<float>::quiet_NaN();
      if (shape.dtype == Dtype::kF32) {
        std::memcpy(bytes_.data() + i * 4, &value, 4);
      } else {
        const uint16_t half = HalfOfFloat(value);
        std::memcpy(bytes_.data() + i * 2, &half, 2);
      }
    }
  }
  int64_t stride() const { return stride_; }
  const void* data() const { return bytes_.data(); }

 private:
  static int64_t count(const Shape& shape) { return shape.visible + shape.rows - 1; }
  static size_t element_bytes(const Shape& shape) { return shape.dtype == Dtype::kF32 ? 4 : 2; }
  int64_t stride_;
  GuardedBytes bytes_;
};

float KeyScale(const Shape& shape) { return shape.magnitude == Magnitude::kSteep ? 16.0f : 1.0f; }

float ValueScale(const Shape& shape) {
  if (shape.magnitude != Magnitude::kTiny) return 1.0f;
  return shape.dtype == Dtype::kF32 ? 0x1p-140f : 0x1p-22f;
}

class AttentionCase {
 public:
  explicit AttentionCase(const Shape& shape, uint64_t seed = 1)
      : shape_(shape),
        random_(seed),
        keys_(shape, shape.key_dim, KeyScale(shape), random_),
        values_(shape, shape.value_dim, ValueScale(shape), random_),
        q_(static_cast<size_t>(shape.rows) * shape.heads * (shape.key_dim + kGap)) {
    std::normal_distribution<float> normal;
    const float scale = shape.magnitude == Magnitude::kTiny ? 60.0f : 1.0f;
    std::generate(q_.begin(), q_.end(), [&] { return normal(random_) * scale; });
  }

  AttentionArgs Args() const {
    const int64_t q_stride = shape_.key_dim + kGap;
    return {.q = q_.data(),
            .q_row_stride = q_stride * shape_.heads,
            .q_head_stride = q_stride,
            .out_row_stride = out_stride() * shape_.heads,
            .out_head_stride = out_stride(),
            .rows = shape_.rows,
            .heads = shape_.heads,
            .key_dim = shape_.key_dim,
            .value_dim = shape_.value_dim,
            .keys = keys_.data(),
            .values = shape_.values_are_keys ? keys_.data() : values_.data(),
            .key_stride = keys_.stride(),
            .value_stride = shape_.values_are_keys ? keys_.stride() : values_.stride(),
            .kv_dtype = shape_.dtype,
            .first_key = shape_.first_key,
            .visible = shape_.visible,
            .scale = 1.0f / std::sqrt(static_cast<float>(shape_.key_dim))};
  }

  // All results with the gaps between them.
  std::vector<float> Run(const Ops& ops) const { return RunInCalls(ops, {shape_.rows}); }

  // The same rows, cut into calls of so many rows each.
  std::vector<float> RunInCalls(const Ops& ops, const std::vector<int>& rows_of_calls) const {
    std::vector<float> out(static_cast<size_t>(shape_.rows) * shape_.heads * out_stride(),
                           kSentinel);
    AttentionArgs args = Args();
    args.out = out.data();
    for (const int rows : rows_of_calls) {
      args.rows = rows;
      const auto floats = static_cast<size_t>(
          AttentionScratchFloats(rows, shape_.heads, shape_.key_dim, shape_.value_dim));
      const GuardedBytes scratch(floats * sizeof(float));
      args.scratch = reinterpret_cast<float*>(scratch.data());
      std::fill_n(args.scratch, floats, std::numeric_limits<float>::quiet_NaN());
      ops.attention(args);
      args.q += rows * args.q_row_stride;
      args.out += rows * args.out_row_stride;
      args.visible += rows;
    }
    return out;
  }

  int64_t out_stride() const { return shape_.value_dim + kGap; }

 private:
  Shape shape_;
  Random random_;
  CacheRows keys_;
  CacheRows values_;
  std::vector<float> q_;
};

class AttentionOnBackend : public testing::TestWithParam<BackendRow> {
 protected:
  void SetUp() override { SKIP_UNLESS_RUNNABLE(GetParam()); }
  const Ops& ops() const { return *GetParam().ops; }

  void ExpectReferenceBits(const Shape& shape) const {
    const AttentionCase test(shape);
    EXPECT_TRUE(SameBits(test.Run(ops()), test.Run(reference::kOps))) << NameOf(shape);
  }
};

TEST_P(AttentionOnBackend, EveryKeyCountGivesReferenceBits) {
  for (int64_t visible = 1; visible <= 200; visible += visible < 70 ? 1 : 13) {
    for (const Dtype dtype : {Dtype::kF16, Dtype::kF32}) {
      ExpectReferenceBits(
          {.heads = 3, .key_dim = 40, .value_dim = 24, .visible = visible, .dtype = dtype});
    }
  }
}

TEST_P(AttentionOnBackend, EveryHeadCountGivesReferenceBits) {
  for (int heads = 1; heads <= 20; ++heads) {
    ExpectReferenceBits({.heads = heads, .visible = 130});
  }
  ExpectReferenceBits({.heads = 128, .key_dim = 32, .value_dim = 16, .visible = 70});
}

TEST_P(AttentionOnBackend, OddDimensionsGiveReferenceBits) {
  for (const int key_dim : {1, 7, 8, 31, 33, 48, 80, 96, 192}) {
    for (const int value_dim : {1, 8, 15, 17, 32, 63, 65, 80, 130}) {
      ExpectReferenceBits(
          {.rows = 2, .heads = 5, .key_dim = key_dim, .value_dim = value_dim, .visible = 67});
    }
  }
}

TEST_P(AttentionOnBackend, PromptRowsGiveReferenceBits) {
  for (const int heads : {1, 2, 4, 7}) {
    for (const int rows : {2, 13, 64, 100}) {
      ExpectReferenceBits(
          {.rows = rows, .heads = heads, .key_dim = 16, .value_dim = 16, .visible = 1});
      ExpectReferenceBits(
          {.rows = rows, .heads = heads, .key_dim = 16, .value_dim = 16, .visible = 121});
    }
  }
}

TEST_P(AttentionOnBackend, AWindowOfKeysGivesReferenceBits) {
  for (const int64_t first_key : {1, 5, 63, 64, 65, 100, 127, 128}) {
    for (const int rows : {1, 3, 70}) {
      ExpectReferenceBits({.rows = rows,
                           .heads = 3,
                           .key_dim = 32,
                           .value_dim = 32,
                           .first_key = first_key,
                           .visible = first_key + 1});
      ExpectReferenceBits({.rows = rows,
                           .heads = 3,
                           .key_dim = 32,
                           .value_dim = 32,
                           .first_key = first_key,
                           .visible = first_key + 90});
    }
  }
}

TEST_P(AttentionOnBackend, SteepAndVanishingValuesGiveReferenceBits) {
  for (const Magnitude magnitude : {Magnitude::kSteep, Magnitude::kTiny}) {
    for (const Dtype dtype : {Dtype::kF16, Dtype::kF32}) {
      for (const int rows : {1, 30}) {
        ExpectReferenceBits(
            {.rows = rows, .heads = 3, .visible = 150, .dtype = dtype, .magnitude = magnitude});
      }
    }
  }
}

TEST_P(AttentionOnBackend, CompressedLatentGivesReferenceBits) {
  for (const int rows : {1, 3}) {
    ExpectReferenceBits({.rows = rows,
                         .heads = 16,
                         .key_dim = 576,
                         .value_dim = 512,
                         .visible = 100,
                         .values_are_keys = true});
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, AttentionOnBackend, testing::ValuesIn(FastBackends()),
                         [](const auto& row) { return BackendTestName(row.param); });

class AttentionOnAnyBackend : public AttentionOnBackend {};

TEST_P(AttentionOnAnyBackend, HowRowsAreCutIntoCallsCannotBeSeen) {
  for (const Magnitude magnitude : {Magnitude::kNormal, Magnitude::kTiny}) {
    const AttentionCase test({.rows = 75,
                              .heads = 3,
                              .key_dim = 24,
                              .value_dim = 24,
                              .first_key = 9,
                              .visible = 60,
                              .magnitude = magnitude});
    const std::vector<float> whole = test.Run(ops());
    EXPECT_TRUE(SameBits(test.RunInCalls(ops(), std::vector<int>(75, 1)), whole));
    EXPECT_TRUE(SameBits(test.RunInCalls(ops(), {7, 1, 33, 17, 17}), whole));
  }
}

// The first row sees two keys, the second row a third one, whose value is infinite in dimension 0.
// In dimension 1 the first row's result is -0 (the product of the first key underflows); a third
// key of weight 0 would turn it into +0, and make dimension 0 a NaN.
TEST_P(AttentionOnAnyBackend, AKeyThatARowDoesNotSeeCannotTouchIt) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float keys[] = {-60.0f, 0.0f, 0.0f};
  const float values[][2] = {{1.0f, -0x1p-100f}, {1.0f, -0.0f}, {kInfinity, 1.0f}};
  for (int heads = 1; heads <= 9; ++heads) {
    const std::vector<float> q(static_cast<size_t>(2 * heads), 1.0f);
    std::vector<float> out(static_cast<size_t>(4 * heads));
    const auto floats = static_cast<size_t>(AttentionScratchFloats(2, heads, 1, 2));
    const GuardedBytes scratch(floats * sizeof(float));
    ops().attention({.q = q.data(),
                     .q_row_stride = heads,
                     .q_head_stride = 1,
                     .out = out.data(),
                     .out_row_stride = 2 * heads,
                     .out_head_stride = 2,
                     .rows = 2,
                     .heads = heads,
                     .key_dim = 1,
                     .value_dim = 2,
                     .keys = keys,
                     .values = values,
                     .key_stride = 1,
                     .value_stride = 2,
                     .kv_dtype = Dtype::kF32,
                     .visible = 2,
                     .scratch = reinterpret_cast<float*>(scratch.data())});
    for (size_t h = 0; h < static_cast<size_t>(heads); ++h) {
      EXPECT_TRUE(SameBits(std::span(out).subspan(2 * h, 2), std::vector<float>{1.0f, -0.0f}))
          << "head " << h << " of " << heads;
      EXPECT_EQ(out[static_cast<size_t>(2 * heads) + 2 * h], kInfinity);
    }
  }
}

TEST_P(AttentionOnAnyBackend, OneKeyGivesItsValue) {
  const Shape shape = {.key_dim = 8, .value_dim = 8, .first_key = 5, .visible = 6};
  const AttentionCase test(shape);
  const AttentionArgs args = test.Args();
  const std::vector<float> out = test.Run(ops());
  for (int64_t d = 0; d < 8; ++d) {
    EXPECT_EQ(out[static_cast<size_t>(d)],
              reference::LoadFloat(Dtype::kF16, args.values, 5 * args.value_stride + d));
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, AttentionOnAnyBackend,
                         testing::ValuesIn(Backends().begin(), Backends().end()),
                         [](const auto& row) { return BackendTestName(row.param); });

struct Exact {
  double value;      // sum of p v
  double magnitude;  // sum of p |v|
  double score_max;  // the largest sum of |q k| * scale
};

// Dimension d of query row r, head h.
Exact ExactAttention(const AttentionArgs& args, int r, int h, int64_t d) {
  const float* q = args.q + r * args.q_row_stride + h * args.q_head_stride;
  Exact exact = {};
  std::vector<double> scores;
  for (int64_t j = args.first_key; j < args.visible + r; ++j) {
    double score = 0;
    double magnitude = 0;
    for (int64_t i = 0; i < args.key_dim; ++i) {
      const double term = static_cast<double>(q[i]) * args.scale *
                          reference::LoadFloat(args.kv_dtype, args.keys, j * args.key_stride + i);
      score += term;
      magnitude += std::abs(term);
    }
    scores.push_back(score);
    exact.score_max = std::max(exact.score_max, magnitude);
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (size_t n = 0; n < scores.size(); ++n) {
    const double p = std::exp(scores[n] - max);
    const int64_t j = args.first_key + static_cast<int64_t>(n);
    const double v = reference::LoadFloat(args.kv_dtype, args.values, j * args.value_stride + d);
    sum += p;
    exact.value += p * v;
    exact.magnitude += p * std::abs(v);
  }
  exact.value /= sum;
  exact.magnitude /= sum;
  return exact;
}

// With u = 2^-24, T tiles, N keys and S the largest sum of |q k| * scale:
// - a score is off by at most (key_dim / 32 + 5 + 1) u S (lanes, tree, scale);
// - an exponent also by the roundings of s - m and of each m - m', together 4 S u, since each of s
//   and m lies in [-S, S];
// - a probability by that, relatively, plus 2 u for its exp, plus 3 u for each tile's correction
//   (exp, product); call it D. It enters numerator and denominator: 2 D;
// - summing adds N u for the values' fma, 8 + T u for the denominator and u for the quotient.
TEST(AttentionReference, IsWithinItsRoundingsOfTheExactSoftmax) {
  constexpr double kUnit = 0x1p-24;
  double worst = 0;
  for (const Shape& shape : {Shape{.rows = 3, .heads = 2, .visible = 300},
                             Shape{.rows = 2,
                             .heads = 1,
                             .key_dim = 128,
                             .value_dim = 128,
                             .first_key = 70,
                             .visible = 500,
                             .dtype = Dtype::kF32},
                             Shape{.heads = 2, .key_dim = 576, .value_dim = 32, .visible = 200},
                             Shape{.heads = 2, .visible = 300, .magnitude = Magnitude::kSteep}}) {
    const AttentionCase test(shape);
    const AttentionArgs args = test.Args();
    const std::vector<float> out = test.Run(reference::kOps);
    for (int r = 0; r < shape.rows; ++r) {
      for (int h = 0; h < shape.heads; ++h) {
        for (int64_t d = 0; d < shape.value_dim; d += 5) {
          const Exact exact = ExactAttention(args, r, h, d);
          const double keys = static_cast<double>(shape.visible + r - shape.first_key);
          const double tiles = keys / 64 + 2;
          const double probability = (shape.key_dim / 32 + 6 + 4) * exact.score_max + 2 + 3 * tiles;
          const double bound =
              (2 * probability + keys + tiles + 9) * kUnit * exact.magnitude * 1.01;
          const auto at = static_cast<size_t>((r * shape.heads + h) * test.out_stride() + d);
          EXPECT_LE(std::abs(out[at] - exact.value), bound) << NameOf(shape) << " d " << d;
          worst = std::max(worst, std::abs(out[at] - exact.value) / bound);
        }
      }
    }
  }
  RecordProperty("worst_share_of_bound", fmt::format("{:.3f}", worst));
}

}  // namespace
}  // namespace stoker
