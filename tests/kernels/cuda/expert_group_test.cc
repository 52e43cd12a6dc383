// Groups of experts in one launch: the bits of the reference's products, activation and
// quantization, for every format and any counts of pairs.
#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "fmt/ranges.h"
#include "gtest/gtest.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/float_bits.h"
#include "tests/kernels/kernel_cases.h"

namespace stoker {
namespace {

constexpr float kUntouched = -77.0f;

struct Shape {
  Dtype gate = Dtype::kQ4_K;
  Dtype up = Dtype::kQ4_K;
  Dtype down = Dtype::kQ4_K;
  int64_t hidden = 256;
  int64_t width = 256;
  std::vector<int32_t> pair_counts = {1};  // of each expert
  WeightStyle weights = WeightStyle::kRandom;
  ActivationStyle activations = ActivationStyle::kNormal;
  bool has_places = false;
  int absent = 0;          // tasks that the launch allows for and that are not there
  bool is_chosen = false;  // by one row, a pair each: without lists
};

void PrintTo(const Shape& s, std::ostream* os) {
  *os << fmt::format("{} {} {}, width {}, hidden {}, pairs {}, styles {} {}", NameOf(s.gate),
                     NameOf(s.up), NameOf(s.down), s.width, s.hidden, fmt::join(s.pair_counts, ","),
                     static_cast<int>(s.weights), static_cast<int>(s.activations));
}

int64_t StrideOf(int64_t cols) { return (cols + 15) / 16 * 16 + 16; }

size_t QuantizedBytes(int64_t rows, int64_t cols) {
  return static_cast<size_t>(rows) * ActivationRowBytes(ActivationKind::kQ8x256, cols);
}

// An activation row as `dtype` wants it.
std::vector<Q8x256Group> InputFor(Dtype dtype, const float* x, int64_t cols) {
  const ActivationKind kind = ActivationKindOf(dtype);
  const size_t bytes = ActivationRowBytes(kind, cols);
  std::vector<Q8x256Group> row((bytes + sizeof(Q8x256Group) - 1) / sizeof(Q8x256Group));
  reference::Quantize(kind, x, cols, reinterpret_cast<std::byte*>(row.data()));
  return row;
}

std::vector<float> Multiply(const MatrixView& w, const float* x) {
  const std::vector<Q8x256Group> row = InputFor(w.dtype, x, w.cols);
  std::vector<float> y(static_cast<size_t>(w.rows));
  const std::byte* rows[] = {reinterpret_cast<const std::byte*>(row.data())};
  float* const outs[] = {y.data()};
  reference::Matmul({.w = w, .row_end = w.rows, .count = 1, .x = rows, .out = outs});
  return y;
}

// A group of experts with all it needs, and what the reference makes of it. Expert e is the choice
// of rank e of some rows, or of none.
class ExpertGroupCase {
 public:
  explicit ExpertGroupCase(const Shape& shape);
  // Launches, and holds what is found against the reference.
  void Check();

 private:
  MatrixView AddWeights(Dtype dtype, int64_t rows, int64_t cols, size_t offset);
  void AddInputs();
  void AddExpert(int32_t rank);
  void Choose();
  std::vector<float> Expected(const MatrixView& gate, const MatrixView& up, const MatrixView& down,
                              int32_t row) const;

  Shape shape_;
  Random random_{11};
  DeviceCase memory_;
  int32_t rows_;
  std::vector<float> x_;
  std::vector<ExpertTask> tasks_;
  std::vector<int32_t> pairs_;
  std::vector<std::vector<float>> expected_;  // by row * top_k + rank; empty where nobody chose
  std::vector<int32_t> places_;               // where each of these goes
  ExpertGroupArgs args_;
};

ExpertGroupCase::ExpertGroupCase(const Shape& shape)
    : shape_(shape),
      rows_(std::max(1, *std::max_element(shape.pair_counts.begin(), shape.pair_counts.end()))) {
  const auto experts = static_cast<int32_t>(shape.pair_counts.size());
  AddInputs();
  args_.task_count = args_.top_k = experts;
  expected_.resize(static_cast<size_t>(rows_) * shape.pair_counts.size());
  for (int32_t e = 0; e < experts; ++e) AddExpert(e);
  places_.resize(expected_.size());
  std::iota(places_.begin(), places_.end(), 0);
  if (shape.has_places) {
    std::shuffle(places_.begin(), places_.end(), random_);
    args_.places = memory_.Input(places_);
  }
  const auto pairs = static_cast<int32_t>(pairs_.size());
  if (shape.absent > 0) {
    args_.tasks_there = memory_.Input(std::vector<int32_t>{args_.task_count});
    args_.task_count += shape.absent;
    tasks_.resize(tasks_.size() + static_cast<size_t>(shape.absent),
                  {.first_pair = 1 << 30, .pair_count = 1 << 30});
  }
  if (shape.is_chosen) {
    Choose();
  } else {
    args_.tasks = memory_.Input(tasks_);
    args_.pairs = memory_.Input(pairs_);
  }
  args_.pair_total = pairs;
  args_.gate = {.dtype = shape.gate, .rows = shape.width, .cols = shape.hidden};
  args_.up = {.dtype = shape.up, .rows = shape.width, .cols = shape.hidden};
  args_.down = {.dtype = shape.down, .rows = shape.hidden, .cols = shape.width};
  args_.gated_stride = StrideOf(shape.width);
  args_.gated = memory_.Scratch<float>(static_cast<size_t>(pairs * args_.gated_stride));
  args_.gated_q8x32 = memory_.Scratch<std::byte>(QuantizedBytes(pairs, shape.width));
  args_.gated_q8x256 = memory_.Scratch<std::byte>(QuantizedBytes(pairs, shape.width));
  args_.counters = memory_.InOut(
      std::vector<int32_t>(static_cast<size_t>(ExpertCounters(args_.task_count, shape.width)), 0));
  args_.partial_stride = StrideOf(shape.hidden);
  args_.partial = memory_.InOut(
      std::vector<float>(expected_.size() * static_cast<size_t>(args_.partial_stride), kUntouched));
}

MatrixView ExpertGroupCase::AddWeights(Dtype dtype, int64_t rows, int64_t cols, size_t offset) {
  MatrixView view = {.dtype = dtype, .rows = rows, .cols = cols};
  std::vector<std::byte> bytes(view.bytes());
  FillWeights(dtype, shape_.weights, bytes.data(), bytes.size(), random_);
  view.data = memory_.Weights(bytes, offset);
  return view;
}

void ExpertGroupCase::AddInputs() {
  const int64_t stride = StrideOf(shape_.hidden);
  x_.assign(static_cast<size_t>(rows_ * stride), kUntouched);
  std::vector<std::byte> q8x32(QuantizedBytes(rows_, shape_.hidden));
  std::vector<std::byte> q8x256(q8x32.size());
  for (int32_t r = 0; r < rows_; ++r) {
    const std::vector<float> x = MakeActivations(shape_.activations, shape_.hidden, random_);
    std::copy(x.begin(), x.end(), x_.begin() + r * stride);
    for (const Dtype dtype : {shape_.gate, shape_.up}) {
      const ActivationKind kind = ActivationKindOf(dtype);
      if (kind == ActivationKind::kF32) continue;
      const std::vector<Q8x256Group> row = InputFor(dtype, x.data(), shape_.hidden);
      auto& to = kind == ActivationKind::kQ8x32 ? q8x32 : q8x256;
      std::copy_n(reinterpret_cast<const std::byte*>(row.data()), QuantizedBytes(1, shape_.hidden),
                  to.data() + QuantizedBytes(r, shape_.hidden));
    }
  }
  args_.x = {.x = memory_.Input(x_),
             .stride = stride,
             .q8x32 = const_cast<std::byte*>(memory_.Input(q8x32)),
             .q8x256 = const_cast<std::byte*>(memory_.Input(q8x256))};
}

void ExpertGroupCase::AddExpert(int32_t rank) {
  // Starts of every even alignment within 16 bytes.
  const size_t offset = 2 * static_cast<size_t>(rank) + 2;
  const MatrixView gate = AddWeights(shape_.gate, shape_.width, shape_.hidden, offset);
  const MatrixView up = AddWeights(shape_.up, shape_.width, shape_.hidden, offset + 2);
  const MatrixView down = AddWeights(shape_.down, shape_.hidden, shape_.width, offset);
  std::vector<int32_t> rows(static_cast<size_t>(rows_));
  std::iota(rows.begin(), rows.end(), 0);
  std::shuffle(rows.begin(), rows.end(), random_);
  rows.resize(static_cast<size_t>(shape_.pair_counts[static_cast<size_t>(rank)]));
  tasks_.push_back({.gate = gate.data,
                    .up = up.data,
                    .down = down.data,
                    .first_pair = static_cast<int32_t>(pairs_.size()),
                    .pair_count = static_cast<int32_t>(rows.size())});
  for (const int32_t row : rows) {
    const int32_t pair = row * args_.top_k + rank;
    pairs_.push_back(pair);
    expected_[static_cast<size_t>(pair)] = Expected(gate, up, down, row);
  }
}

// Gives the experts numbers, in no order, of more experts than were chosen; the others are nowhere.
void ExpertGroupCase::Choose() {
  constexpr int kStride = 4;
  constexpr int64_t kUpOffset = 6;
  std::vector<int32_t> chosen(tasks_.size() + 5);
  std::iota(chosen.begin(), chosen.end(), 0);
  std::shuffle(chosen.begin(), chosen.end(), random_);
  std::vector<const std::byte*> parts(chosen.size() * kStride);
  chosen.resize(tasks_.size());
  for (size_t t = 0; t < tasks_.size(); ++t) {
    const std::byte** of = parts.data() + chosen[t] * kStride;
    of[3] = tasks_[t].gate;
    of[0] = tasks_[t].up - kUpOffset;
    of[2] = tasks_[t].down;
  }
  args_.chosen = memory_.Input(chosen);
  args_.addresses = {.parts = memory_.Input(parts),
                     .part_stride = kStride,
                     .gate_part = 3,
                     .up_part = 0,
                     .down_part = 2,
                     .up_offset_bytes = kUpOffset};
}

std::vector<float> ExpertGroupCase::Expected(const MatrixView& gate, const MatrixView& up,
                                             const MatrixView& down, int32_t row) const {
  const float* x = x_.data() + row * StrideOf(shape_.hidden);
  std::vector<float> gated = Multiply(gate, x);
  reference::SiluMultiply(gated.data(), Multiply(up, x).data(), shape_.width, gated.data());
  return Multiply(down, gated.data());
}

void ExpertGroupCase::Check() {
  ASSERT_TRUE(memory_.Run(TwinOps().expert_group, args_));
  const auto stride = static_cast<size_t>(args_.partial_stride);
  for (size_t pair = 0; pair < expected_.size(); ++pair) {
    std::vector<float> row = expected_[pair];
    row.resize(stride, kUntouched);
    const float* found = args_.partial + static_cast<size_t>(places_[pair]) * stride;
    ASSERT_TRUE(SameBits(std::span(found, stride), row)) << "pair " << pair;
  }
  const int counters = ExpertCounters(args_.task_count, shape_.width);
  EXPECT_EQ(std::count(args_.counters, args_.counters + counters, 0), counters);
}

void ExpectReferenceBits(const Shape& shape) {
  SCOPED_TRACE(testing::PrintToString(shape));
  ExpertGroupCase(shape).Check();
}

// What a row of `dtype` is at least, and not a multiple of the 256 values that are quantized at a
// time where the format allows it.
int64_t OddCols(Dtype dtype) {
  switch (ActivationKindOf(dtype)) {
    case ActivationKind::kF32:
      return 37;
    case ActivationKind::kQ8x32:
      return 288;
    case ActivationKind::kQ8x256:
      return 768;
  }
  return 0;
}

TEST(DeviceExpertGroup, GivesReferenceBitsInEveryFormat) {
  for (const Dtype dtype : kComputableDtypes) {
    for (const int64_t cols : {int64_t{256}, OddCols(dtype)}) {
      ExpectReferenceBits({.gate = dtype,
                           .up = dtype,
                           .down = dtype,
                           .hidden = cols,
                           .width = cols,
                           .pair_counts = {1, 3}});
    }
  }
}

TEST(DeviceExpertGroup, MixesFormats) {
  const Dtype mixed[][3] = {
      {Dtype::kQ4_K, Dtype::kQ4_K, Dtype::kQ6_K}, {Dtype::kQ4_K, Dtype::kQ6_K, Dtype::kQ5_K},
      {Dtype::kQ5_K, Dtype::kQ5_K, Dtype::kQ8_0}, {Dtype::kQ8_0, Dtype::kQ4_K, Dtype::kQ4_0},
      {Dtype::kBF16, Dtype::kQ8_0, Dtype::kQ4_K}, {Dtype::kQ4_0, Dtype::kF32, Dtype::kF16}};
  for (const auto& [gate, up, down] : mixed) {
    ExpectReferenceBits({.gate = gate, .up = up, .down = down, .pair_counts = {2, 1}});
  }
}

TEST(DeviceExpertGroup, TakesAnyCountOfPairs) {
  for (const int32_t count : {1, 2, 3, 4, 5, 7, 8, 9, 20}) {
    ExpectReferenceBits({.down = Dtype::kQ6_K, .pair_counts = {count}});
    ExpectReferenceBits({.gate = Dtype::kQ8_0,
                         .up = Dtype::kQ8_0,
                         .down = Dtype::kQ8_0,
                         .hidden = 96,
                         .width = 32,
                         .pair_counts = {count, 1}});
  }
}

TEST(DeviceExpertGroup, KeepsManyExpertsApart) {
  ExpectReferenceBits({.hidden = 512, .width = 512, .pair_counts = {2, 9, 1, 3, 0, 1}});
  // A pair each, which is a kernel of its own; and one that has none.
  ExpectReferenceBits({.hidden = 256, .width = 768, .pair_counts = {1, 1, 1, 1, 1}});
  ExpectReferenceBits({.hidden = 256, .width = 256, .pair_counts = {0, 1}});
  // No more pairs than experts, but two for one of them.
  ExpectReferenceBits({.hidden = 256, .width = 256, .pair_counts = {2, 0}});
}

TEST(DeviceExpertGroup, PutsPartsInTheirPlaces) {
  ExpectReferenceBits({.pair_counts = {3, 1, 0, 9}, .has_places = true});
}

TEST(DeviceExpertGroup, FindsOnTheDeviceHowManyExpertsThereAre) {
  for (const int absent : {1, 2, 5}) {
    ExpectReferenceBits({.pair_counts = {1}, .absent = absent});
    ExpectReferenceBits({.hidden = 512, .width = 512, .pair_counts = {2, 9, 1}, .absent = absent});
  }
}

TEST(DeviceExpertGroup, TakesTheChoiceOfOneRowAsItIs) {
  for (const Dtype dtype : kComputableDtypes) {
    const int64_t cols = OddCols(dtype);
    ExpectReferenceBits({.gate = dtype,
                         .up = dtype,
                         .down = dtype,
                         .hidden = cols,
                         .width = cols,
                         .pair_counts = {1, 1, 1},
                         .is_chosen = true});
  }
  for (const size_t count : {1, 8, 33}) {
    ExpectReferenceBits({.gate = Dtype::kQ4_K,
                         .up = Dtype::kQ6_K,
                         .down = Dtype::kQ8_0,
                         .pair_counts = std::vector<int32_t>(count, 1),
                         .has_places = true,
                         .is_chosen = true});
  }
}

TEST(DeviceExpertGroup, RefusesAChoiceOfSeveralRows) {
  const int32_t chosen[] = {0, 1};
  const auto args = std::make_unique<ExpertGroupArgs>(
      ExpertGroupArgs{.chosen = chosen, .task_count = 2, .pair_total = 4});
  EXPECT_NE(TwinOps().expert_group.run(args.get(), nullptr), 0);
}

TEST(DeviceExpertGroup, GivesReferenceBitsAtTheEndsOfTheRange) {
  const std::pair<WeightStyle, ActivationStyle> styles[] = {
      {WeightStyle::kRandom, ActivationStyle::kSpikes},
      {WeightStyle::kLargest, ActivationStyle::kLargest},
      {WeightStyle::kLargest, ActivationStyle::kSame},
      {WeightStyle::kTiny, ActivationStyle::kTiny},
      {WeightStyle::kTiny, ActivationStyle::kNormal},
      {WeightStyle::kZero, ActivationStyle::kNormal},
      {WeightStyle::kRandom, ActivationStyle::kZero}};
  for (const Dtype dtype : kComputableDtypes) {
    for (const auto& [weights, activations] : styles) {
      const int64_t cols = ActivationKindOf(dtype) == ActivationKind::kQ8x256 ? 256 : 96;
      ExpectReferenceBits({.gate = dtype,
                           .up = dtype,
                           .down = dtype,
                           .hidden = cols,
                           .width = cols,
                           .pair_counts = {1},
                           .weights = weights,
                           .activations = activations});
    }
  }
}

// A group is quantized once, when all of it is there, however many items it takes.
TEST(DeviceExpertGroup, QuantizesGroupsOfAWideExpert) {
  ExpectReferenceBits({.gate = Dtype::kQ4_0,
                       .up = Dtype::kQ4_0,
                       .down = Dtype::kQ4_0,
                       .hidden = 64,
                       .width = 1440,
                       .pair_counts = {1, 2}});
  ExpectReferenceBits({.hidden = 256, .width = 1536, .pair_counts = {3}});
}

// With more pairs than eight an expert, in the mean, experts are computed in tiles of 64 rows of
// weights by 32 or 64 pairs.
TEST(DeviceExpertGroup, GivesReferenceBitsInEveryFormatForManyPairs) {
  for (const Dtype dtype : kComputableDtypes) {
    for (const int64_t cols : {int64_t{256}, OddCols(dtype)}) {
      ExpectReferenceBits({.gate = dtype,
                           .up = dtype,
                           .down = dtype,
                           .hidden = cols,
                           .width = cols,
                           .pair_counts = {17, 3}});
    }
  }
}

TEST(DeviceExpertGroup, MixesFormatsForManyPairs) {
  const Dtype mixed[][3] = {
      {Dtype::kQ4_K, Dtype::kQ4_K, Dtype::kQ6_K}, {Dtype::kQ4_K, Dtype::kQ6_K, Dtype::kQ5_K},
      {Dtype::kQ5_K, Dtype::kQ4_0, Dtype::kQ8_0}, {Dtype::kQ8_0, Dtype::kQ4_K, Dtype::kQ4_0},
      {Dtype::kBF16, Dtype::kQ8_0, Dtype::kQ4_K}, {Dtype::kQ4_K, Dtype::kQ4_K, Dtype::kF16}};
  for (const auto& [gate, up, down] : mixed) {
    ExpectReferenceBits({.gate = gate, .up = up, .down = down, .pair_counts = {18, 1}});
  }
}

TEST(DeviceExpertGroup, SpreadsManyPairsInAnyWay) {
  const Shape q4_k = {.down = Dtype::kQ6_K};
  const Shape q8_0 = {
      .gate = Dtype::kQ8_0, .up = Dtype::kQ8_0, .down = Dtype::kQ8_0, .hidden = 96, .width = 64};
  for (const auto& counts : std::vector<std::vector<int32_t>>{
           {9}, {64}, {65, 0}, {0, 33, 0}, {1, 70, 1, 32}, {16, 17, 15, 9}}) {
    for (Shape shape : {q4_k, q8_0}) {
      shape.pair_counts = counts;
      ExpectReferenceBits(shape);
    }
  }
  // More experts than a warp counts at once, most of them without a pair.
  Shape many = q8_0;
  many.pair_counts.assign(70, 0);
  many.pair_counts[0] = 300;
  many.pair_counts[33] = 1;
  many.pair_counts[69] = 290;
  ExpectReferenceBits(many);
}

TEST(DeviceExpertGroup, PutsPartsOfManyPairsInTheirPlaces) {
  ExpectReferenceBits({.pair_counts = {3, 1, 0, 40}, .has_places = true});
}

}  // namespace
}  // namespace stoker
