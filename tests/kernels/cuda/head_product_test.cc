// Holds the products of heads on a device to the reference, bit for bit: every format, heads with
// more rows than are wanted, any number of rows, and the rotated part behind.
#include "fmt/format.h"
#include "gtest/gtest.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/float_bits.h"
#include "tests/kernels/kernel_cases.h"

namespace stoker {
namespace {

struct Shape {
  Dtype dtype = Dtype::kQ8_0;
  int64_t cols = 128;
  int64_t head_rows = 40;
  int64_t first_row = 0;
  int64_t row_count = 40;
  int64_t rows = 1;
  int32_t heads = 3;
  int32_t pairs = 0;
  RopePairing pairing = RopePairing::kNeighbours;
  WeightStyle weights = WeightStyle::kRandom;
  ActivationStyle activations = ActivationStyle::kNormal;
  size_t offset = 0;      // of the weights from a 64-byte border
  int64_t x_gap = 0;      // floats between heads of x
  bool x_is_odd = false;  // x starts at no 16-byte border
};

std::string NameOf(const Shape& s) {
  return fmt::format("{} [{} of {} from {}, {}] rows {} heads {} pairs {} styles {} {} offset {}",
                     NameOf(s.dtype), s.row_count, s.head_rows, s.first_row, s.cols, s.rows,
                     s.heads, s.pairs, static_cast<int>(s.weights), static_cast<int>(s.activations),
                     s.offset);
}

constexpr int kPositions = 40;
constexpr float kSentinel = -12345.75f;

class HeadProductCase {
 public:
  explicit HeadProductCase(const Shape& shape)
      : shape_(shape),
        x_dim_(shape.cols + 2 * shape.pairs + shape.x_gap),
        out_dim_(shape.row_count + 2 * shape.pairs + 3),
        weights_(static_cast<size_t>(shape.heads * shape.head_rows) *
                 RowBytes(shape.dtype, shape.cols)) {
    FillWeights(shape.dtype, shape.weights, weights_.data(), weights_.size(), random_);
    std::normal_distribution<float> normal;
    const auto angles = static_cast<size_t>(kPositions * shape.pairs);
    for (size_t i = 0; i < angles; ++i) cosines_.push_back(normal(random_));
    for (size_t i = 0; i < angles; ++i) sines_.push_back(normal(random_));
    for (int64_t r = 0; r < shape.rows; ++r) {
      places_.push_back({.position = static_cast<int32_t>((7 * r + 5) % kPositions)});
      for (int h = 0; h < shape.heads; ++h) {
        const auto x = MakeActivations(shape.activations, x_dim_, random_);
        x_.insert(x_.end(), x.begin(), x.end());
      }
    }
  }

  void ExpectReferenceBits() {
    SCOPED_TRACE(NameOf(shape_));
    DeviceCase memory;
    const HeadProductArgs args = Args(memory);
    ASSERT_TRUE(memory.Run(TwinOps().head_product, args));
    const std::vector<float> expected = Expected();
    EXPECT_TRUE(SameBits({args.out, expected.size()}, expected));
  }

 private:
  HeadProductArgs Args(DeviceCase& memory) {
    HeadProductArgs args;
    args.places = memory.Input(places_);
    args.w = {memory.Weights(weights_, shape_.offset), shape_.dtype,
              shape_.heads * shape_.head_rows, shape_.cols};
    args.head_rows = shape_.head_rows;
    args.first_row = shape_.first_row;
    args.row_count = shape_.row_count;
    args.x = memory.Input(x_, shape_.x_is_odd ? 4 : 0);
    args.x_row_stride = shape_.heads * x_dim_;
    args.x_head_stride = x_dim_;
    args.out = memory.InOut(std::vector<float>(OutFloats(), kSentinel));
    args.out_row_stride = shape_.heads * out_dim_;
    args.out_head_stride = out_dim_;
    args.rows = shape_.rows;
    args.heads = shape_.heads;
    if (shape_.pairs > 0) {
      args.rope = {memory.Input(cosines_), memory.Input(sines_), shape_.pairs, shape_.pairing};
    }
    return args;
  }

  size_t OutFloats() const { return static_cast<size_t>(shape_.rows * shape_.heads * out_dim_); }

  std::vector<float> Expected() const {
    std::vector<float> out(OutFloats(), kSentinel);
    for (int64_t r = 0; r < shape_.rows; ++r) {
      for (int64_t h = 0; h < shape_.heads; ++h) {
        const float* x = x_.data() + (r * shape_.heads + h) * x_dim_;
        MultiplyHead(h, x, out.data() + (r * shape_.heads + h) * out_dim_);
        if (shape_.pairs == 0) continue;
        float* rotated = out.data() + (r * shape_.heads + h) * out_dim_ + shape_.row_count;
        std::copy_n(x + shape_.cols, 2 * shape_.pairs, rotated);
        const int64_t first_pair = places_[static_cast<size_t>(r)].position * shape_.pairs;
        reference::kOps.rope(rotated, cosines_.data() + first_pair, sines_.data() + first_pair,
                             shape_.pairs, shape_.pairing);
      }
    }
    return out;
  }

  void MultiplyHead(int64_t head, const float* x, float* out) const {
    const ActivationRows rows(reference::kOps, ActivationKindOf(shape_.dtype), shape_.cols,
                              {std::vector<float>(x, x + shape_.cols)});
    const MatrixView all = {weights_.data(), shape_.dtype, shape_.heads * shape_.head_rows,
                            shape_.cols};
    reference::kOps.matmul({.w = {all.row(head * shape_.head_rows + shape_.first_row), shape_.dtype,
                                  shape_.row_count, shape_.cols},
                            .row_begin = 0,
                            .row_end = shape_.row_count,
                            .count = 1,
                            .x = rows.rows(),
                            .out = &out});
  }

  Shape shape_;
  Random random_{11};
  int64_t x_dim_, out_dim_;
  std::vector<std::byte> weights_;
  std::vector<float> x_, cosines_, sines_;
  std::vector<RowPlace> places_;
};

void ExpectReferenceBits(const Shape& shape) { HeadProductCase(shape).ExpectReferenceBits(); }

int64_t ColumnsOf(Dtype dtype) {
  return ActivationKindOf(dtype) == ActivationKind::kQ8x256 ? 512 : 128;
}

TEST(DeviceHeadProduct, GivesTheReferenceBitsOfEveryFormatAndStyle) {
  for (const Dtype dtype : kComputableDtypes) {
    for (const WeightStyle weights : kWeightStyles) {
      for (const ActivationStyle activations : kActivationStyles) {
        ExpectReferenceBits({.dtype = dtype,
                             .cols = ColumnsOf(dtype),
                             .head_rows = 9,
                             .row_count = 9,
                             .rows = 2,
                             .heads = 2,
                             .weights = weights,
                             .activations = activations});
      }
    }
  }
}

TEST(DeviceHeadProduct, GivesTheReferenceBitsOfAnyCountOfRows) {
  for (const Dtype dtype : {Dtype::kF16, Dtype::kQ8_0, Dtype::kQ4_K}) {
    for (const int64_t rows : {1, 2, 7, 8, 9, 16, 17}) {
      ExpectReferenceBits({.dtype = dtype,
                           .cols = ColumnsOf(dtype),
                           .head_rows = 70,
                           .row_count = 70,
                           .rows = rows,
                           .heads = 2});
    }
  }
}

TEST(DeviceHeadProduct, TakesTheRowsOfAHeadThatAreWanted) {
  for (const Dtype dtype : kComputableDtypes) {
    ExpectReferenceBits({.dtype = dtype,
                         .cols = ColumnsOf(dtype),
                         .head_rows = 33,
                         .first_row = 20,
                         .row_count = 13,
                         .rows = 3});
  }
}

TEST(DeviceHeadProduct, GivesTheReferenceBitsOfAnyLength) {
  for (const int64_t cols : {32, 64, 160, 256, 288, 512, 1536}) {
    for (const Dtype dtype : {Dtype::kQ8_0, Dtype::kQ4_0}) {
      ExpectReferenceBits({.dtype = dtype, .cols = cols, .row_count = 5, .rows = 3});
    }
  }
  for (const int64_t cols : {1, 24, 33, 190, 3000}) {
    for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kBF16}) {
      ExpectReferenceBits({.dtype = dtype, .cols = cols, .row_count = 5, .rows = 9});
    }
  }
}

TEST(DeviceHeadProduct, RotatesWhatLiesBehind) {
  for (const RopePairing pairing : {RopePairing::kHalves, RopePairing::kNeighbours}) {
    for (const Dtype dtype : {Dtype::kF32, Dtype::kQ8_0}) {
      for (const int64_t rows : {1, 9}) {
        ExpectReferenceBits({.dtype = dtype,
                             .head_rows = 70,
                             .row_count = 70,
                             .rows = rows,
                             .pairs = 16,
                             .pairing = pairing});
      }
    }
  }
}

TEST(DeviceHeadProduct, TakesWeightsAndRowsAtAnyAddress) {
  for (const Dtype dtype : kComputableDtypes) {
    for (const size_t offset : {2, 4, 6, 16}) {
      ExpectReferenceBits({.dtype = dtype,
                           .cols = ColumnsOf(dtype),
                           .row_count = 10,
                           .rows = 2,
                           .offset = offset,
                           .x_gap = 5,
                           .x_is_odd = true});
    }
  }
}

}  // namespace
}  // namespace stoker
