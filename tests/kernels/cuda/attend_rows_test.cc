// Holds the attention of a device to the reference, bit for bit: heads that share keys or not, any
// dimensions, pages anywhere, rows of several sequences, few rows and many.
#include <cmath>
#include <numeric>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/attention_case.h"
#include "tests/kernels/float_bits.h"

namespace stoker {
namespace {

constexpr float kSentinel = -12345.75f;

struct Shape {
  std::vector<RowPlace> places;
  int heads = 1;
  int kv_heads = 1;
  int key_dim = 64;
  int value_dim = 64;
  Dtype dtype = Dtype::kF16;
  bool values_are_keys = false;  // as in latent attention
  bool has_scratch = true;
  float scale = 1;        // of keys and values
  int positions_max = 0;  // 0: as many as the places need
};

std::string NameOf(const Shape& s) {
  std::string places;
  for (const RowPlace& p : s.places) places += fmt::format(" {}:{}", p.sequence, p.position);
  return fmt::format("heads {}/{} dims {}/{} {} scratch {} places{}", s.heads, s.kv_heads,
                     s.key_dim, s.value_dim, NameOf(s.dtype), s.has_scratch, places);
}

// Rows of one sequence, at consecutive positions.
std::vector<RowPlace> Consecutive(int32_t sequence, int32_t first, int32_t count) {
  std::vector<RowPlace> places;
  for (int32_t i = 0; i < count; ++i) {
    places.push_back({.sequence = sequence, .position = first + i});
  }
  return places;
}

std::vector<RowPlace> operator+(std::vector<RowPlace> a, const std::vector<RowPlace>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class AttendCase {
 public:
  explicit AttendCase(const Shape& shape)
      : shape_(shape), cache_(CacheShape(shape), random_), q_stride_(shape.key_dim + 3) {
    const int positions = Positions(shape);
    std::vector<int> lengths(static_cast<size_t>(Sequences(shape)));
    for (const RowPlace& place : shape.places) {
      int& length = lengths[static_cast<size_t>(place.sequence)];
      length = std::max(length, place.position + 1);
    }
    for (size_t s = 0; s < lengths.size(); ++s) {
      cache_.Fill(static_cast<int32_t>(s), std::min(lengths[s], positions), shape.scale, random_);
    }
    std::normal_distribution<float> normal;
    q_.resize(shape.places.size() * static_cast<size_t>(shape.heads * q_stride_));
    for (float& x : q_) x = normal(random_);
  }

  void ExpectReferenceBits() {
    const int64_t out_stride = shape_.value_dim + 5;
    DeviceCase memory;
    AttendRowsArgs args = Args(memory);
    args.out = memory.InOut(std::vector<float>(
        shape_.places.size() * static_cast<size_t>(shape_.heads * out_stride), kSentinel));
    args.out_row_stride = out_stride * shape_.heads;
    args.out_head_stride = out_stride;
    ASSERT_TRUE(memory.Run(TwinOps().attend_rows, args)) << NameOf(shape_);
    const std::vector<float> expected = Expected(out_stride);
    EXPECT_TRUE(SameBits({args.out, expected.size()}, expected)) << NameOf(shape_);
  }

 private:
  static int Positions(const Shape& shape) {
    int positions = 0;
    for (const RowPlace& place : shape.places) positions = std::max(positions, place.position + 1);
    return positions;
  }
  static int Sequences(const Shape& shape) {
    int sequences = 0;
    for (const RowPlace& place : shape.places) sequences = std::max(sequences, place.sequence + 1);
    return sequences;
  }
  static PagedCache::Shape CacheShape(const Shape& shape) {
    return {.sequences = Sequences(shape),
            .positions = Positions(shape),
            .key_width = int64_t{shape.kv_heads} * shape.key_dim,
            .value_width = shape.values_are_keys ? 0 : int64_t{shape.kv_heads} * shape.value_dim,
            .dtype = shape.dtype};
  }

  AttendRowsArgs Args(DeviceCase& memory) {
    AttendRowsArgs args;
    args.places = memory.Input(shape_.places);
    args.q = memory.Input(q_);
    args.q_row_stride = q_stride_ * shape_.heads;
    args.q_head_stride = q_stride_;
    args.rows = static_cast<int64_t>(shape_.places.size());
    args.heads = shape_.heads;
    args.kv_heads = shape_.kv_heads;
    args.key_dim = shape_.key_dim;
    args.value_dim = shape_.value_dim;
    args.kv.keys = const_cast<std::byte*>(memory.Input(cache_.keys()));
    args.kv.key_stride = cache_.key_stride();
    args.kv.values = args.kv.keys;
    args.kv.value_stride = args.kv.key_stride;
    if (!shape_.values_are_keys) {
      args.kv.values = const_cast<std::byte*>(memory.Input(cache_.values()));
      args.kv.value_stride = cache_.value_stride();
    }
    args.kv.dtype = shape_.dtype;
    args.kv.table = memory.Input(cache_.table());
    args.kv.pages_per_sequence = cache_.pages_per_sequence();
    args.scale = 1.0f / std::sqrt(static_cast<float>(shape_.key_dim));
    args.positions_max = std::max(Positions(shape_), shape_.positions_max);
    if (shape_.has_scratch) {
      args.scratch = memory.Scratch<float>(
          static_cast<size_t>(AttendScratchFloats(args.heads, args.positions_max)));
    }
    return args;
  }

  std::vector<float> Expected(int64_t out_stride) const {
    const int group = shape_.heads / shape_.kv_heads;
    std::vector<float> out(shape_.places.size() * static_cast<size_t>(shape_.heads * out_stride),
                           kSentinel);
    for (size_t r = 0; r < shape_.places.size(); ++r) {
      const RowPlace& place = shape_.places[r];
      const int visible = place.position + 1;
      const auto keys =
          cache_.Gathered(cache_.keys().data(), cache_.key_stride(), place.sequence, visible);
      const auto values = shape_.values_are_keys
                              ? keys
                              : cache_.Gathered(cache_.values().data(), cache_.value_stride(),
                                                place.sequence, visible);
      for (int h = 0; h < shape_.heads; ++h) {
        const int64_t kv_head = h / group;
        reference::kOps.attention(
            {.q = q_.data() + (static_cast<int64_t>(r) * shape_.heads + h) * q_stride_,
             .out = out.data() + (static_cast<int64_t>(r) * shape_.heads + h) * out_stride,
             .rows = 1,
             .heads = 1,
             .key_dim = shape_.key_dim,
             .value_dim = shape_.value_dim,
             .keys = keys.data() + cache_.Bytes(kv_head * shape_.key_dim),
             .values = values.data() + cache_.Bytes(kv_head * shape_.value_dim),
             .key_stride = cache_.key_stride(),
             .value_stride = shape_.values_are_keys ? cache_.key_stride() : cache_.value_stride(),
             .kv_dtype = shape_.dtype,
             .visible = visible,
             .scale = 1.0f / std::sqrt(static_cast<float>(shape_.key_dim))});
      }
    }
    return out;
  }

  Shape shape_;
  Random random_{7};
  PagedCache cache_;
  int64_t q_stride_;
  std::vector<float> q_;
};

// Both ways of doing it: few rows split by tile, and walked.
void ExpectReferenceBits(Shape shape) {
  for (const bool has_scratch : {true, false}) {
    shape.has_scratch = has_scratch;
    AttendCase(shape).ExpectReferenceBits();
  }
}

TEST(DeviceAttendRows, GivesTheReferenceBitsAtEveryKindOfPosition) {
  for (const int32_t position : {0, 1, 31, 32, 62, 63, 64, 65, 127, 128, 200, 330}) {
    for (const Dtype dtype : {Dtype::kF16, Dtype::kF32}) {
      ExpectReferenceBits({.places = Consecutive(0, position, 1),
                           .heads = 4,
                           .kv_heads = 2,
                           .key_dim = 32,
                           .value_dim = 32,
                           .dtype = dtype});
    }
  }
}

TEST(DeviceAttendRows, GivesTheReferenceBitsHoweverManyHeadsShareKeys) {
  for (const int group : {1, 2, 3, 4, 7, 8, 9, 16, 17, 20}) {
    ExpectReferenceBits({.places = Consecutive(0, 70, 2),
                         .heads = 2 * group,
                         .kv_heads = 2,
                         .key_dim = 32,
                         .value_dim = 16});
  }
}

TEST(DeviceAttendRows, GivesTheReferenceBitsOfAnyDimensions) {
  for (const int key_dim : {1, 7, 33, 48, 80, 96, 192}) {
    for (const int value_dim : {1, 17, 48, 130}) {
      for (const Dtype dtype : {Dtype::kF16, Dtype::kF32}) {
        ExpectReferenceBits({.places = Consecutive(0, 66, 1),
                             .heads = 6,
                             .kv_heads = 3,
                             .key_dim = key_dim,
                             .value_dim = value_dim,
                             .dtype = dtype});
      }
    }
  }
}

TEST(DeviceAttendRows, GivesTheReferenceBitsOfLongHeads) {
  for (const auto& [key_dim, value_dim] : {std::pair(256, 256), {256, 300}, {600, 520}}) {
    ExpectReferenceBits({.places = Consecutive(0, 63, 3),
                         .heads = 10,
                         .kv_heads = 1,
                         .key_dim = key_dim,
                         .value_dim = value_dim});
  }
}

TEST(DeviceAttendRows, GivesTheReferenceBitsOfSequencesSideBySide) {
  const std::vector<RowPlace> places = Consecutive(2, 130, 1) + Consecutive(0, 5, 3) +
                                       Consecutive(0, 64, 1) + Consecutive(1, 0, 1) +
                                       Consecutive(2, 17, 2);
  for (const int group : {1, 2, 8}) {
    ExpectReferenceBits(
        {.places = places, .heads = 2 * group, .kv_heads = 2, .key_dim = 32, .value_dim = 32});
  }
}

TEST(DeviceAttendRows, GivesTheReferenceBitsOfPrompts) {
  for (const int32_t first : {0, 50, 128}) {
    for (const int group : {1, 3, 8}) {
      ExpectReferenceBits({.places = Consecutive(0, first, 40) + Consecutive(1, 0, 5),
                           .heads = 2 * group,
                           .kv_heads = 2,
                           .key_dim = 16,
                           .value_dim = 16});
    }
  }
}

TEST(DeviceAttendRows, GivesTheReferenceBitsOfLatents) {
  for (const Dtype dtype : {Dtype::kF16, Dtype::kF32}) {
    ExpectReferenceBits({.places = Consecutive(0, 70, 1) + Consecutive(1, 3, 1),
                         .heads = 16,
                         .kv_heads = 1,
                         .key_dim = 576,
                         .value_dim = 512,
                         .dtype = dtype,
                         .values_are_keys = true});
    ExpectReferenceBits({.places = Consecutive(0, 130, 2),
                         .heads = 5,
                         .kv_heads = 1,
                         .key_dim = 40,
                         .value_dim = 32,
                         .dtype = dtype,
                         .values_are_keys = true});
  }
}

// So many heads times values that the walk's wide blocks fill a GPU.
TEST(DeviceAttendRows, GivesTheReferenceBitsOfManyHeads) {
  for (const Dtype dtype : {Dtype::kF16, Dtype::kF32}) {
    ExpectReferenceBits({.places = Consecutive(0, 63, 16),
                         .heads = 64,
                         .kv_heads = 8,
                         .key_dim = 8,
                         .value_dim = 24,
                         .dtype = dtype});
  }
}

// Scores far apart, lanes of scores that underflow to zeros of either sign, and ones that overflow.
TEST(DeviceAttendRows, GivesTheReferenceBitsOfAnyMagnitude) {
  for (const auto& [dtype, scale] : {std::pair(Dtype::kF16, 30.0f),
                                     {Dtype::kF16, 0x1p-23f},
                                     {Dtype::kF32, 30.0f},
                                     {Dtype::kF32, 0x1p-146f},
                                     {Dtype::kF32, 0x1p127f}}) {
    for (const int key_dim : {33, 64}) {
      ExpectReferenceBits({.places = Consecutive(0, 190, 2),
                           .heads = 4,
                           .kv_heads = 2,
                           .key_dim = key_dim,
                           .dtype = dtype,
                           .scale = scale});
    }
  }
}

// 2^23 floats of scratch hold the scores of three groups of eight heads at 350,000 positions.
TEST(DeviceAttendRows, GivesTheReferenceBitsInPasses) {
  AttendCase({.places = Consecutive(0, 64, 1) + Consecutive(1, 100, 1),
              .heads = 32,
              .kv_heads = 2,
              .key_dim = 8,
              .value_dim = 8,
              .positions_max = 349'000})
      .ExpectReferenceBits();
}

TEST(DeviceAttendRows, WalksWhenScratchHoldsNoGroupOfHeads) {
  AttendCase({.places = Consecutive(0, 64, 1),
              .heads = 8,
              .kv_heads = 1,
              .key_dim = 8,
              .value_dim = 8,
              .positions_max = 2'000'000})
      .ExpectReferenceBits();
}

TEST(DeviceAttendRows, NeedsNoMoreScratchThanItsBound) {
  EXPECT_EQ(AttendScratchFloats(4, 65), 16 * 4 * 128);
  EXPECT_EQ(AttendScratchFloats(128, 1 << 20), 8 << 20);
  EXPECT_EQ(AttendScratchFloats(4, 0), 0);
}

TEST(DeviceAttendRows, RefusesKeysThatDoNotFitSharedMemory) {
  AttendRowsArgs args;
  args.rows = args.heads = args.kv_heads = args.value_dim = 1;
  args.key_dim = 1025;
  EXPECT_EQ(TwinOps().attend_rows.run(&args, nullptr), 1);  // cudaErrorInvalidValue
}

TEST(DeviceAttendRows, DoesNothingForNoRows) {
  const AttendRowsArgs args;
  EXPECT_EQ(TwinOps().attend_rows.run(&args, nullptr), 0);
}

}  // namespace
}  // namespace stoker
