// Holds what follows the first products of latent attention on a device to the reference, bit for
// bit: norms, rotation, the quantized forms of the compressed query, and the rows of the cache.
#include "fmt/format.h"
#include "gtest/gtest.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/attention_case.h"
#include "tests/kernels/float_bits.h"

namespace stoker {
namespace {

struct Shape {
  int kv_rank = 64;
  int q_rank = 256;  // 0: none
  int pairs = 16;
  RopePairing pairing = RopePairing::kNeighbours;
  Dtype dtype = Dtype::kF16;
};

std::string NameOf(const Shape& s) {
  return fmt::format("ranks {}/{} pairs {} {} {}", s.kv_rank, s.q_rank, s.pairs,
                     s.pairing == RopePairing::kHalves ? "halves" : "neighbours", NameOf(s.dtype));
}

constexpr float kEpsilon = 1e-6f;
const std::vector<RowPlace> kPlaces = {{.sequence = 0, .position = 65},
                                       {.sequence = 1, .position = 0},
                                       {.sequence = 1, .position = 63},
                                       {.sequence = 0, .position = 64}};
constexpr int kPositions = 66;

class FinishLatentCase {
 public:
  explicit FinishLatentCase(const Shape& shape)
      : shape_(shape),
        width_(shape.kv_rank + 2 * shape.pairs),
        latent_(Normal(kPlaces.size() * static_cast<size_t>(Stride(width_)))),
        latent_norm_(Normal(static_cast<size_t>(shape.kv_rank))),
        low_(Normal(kPlaces.size() * static_cast<size_t>(Stride(shape.q_rank)))),
        low_norm_(Normal(static_cast<size_t>(shape.q_rank))),
        cosines_(Normal(static_cast<size_t>(kPositions * shape.pairs))),
        sines_(Normal(cosines_.size())),
        cache_({.sequences = 2, .positions = kPositions, .key_width = width_, .dtype = shape.dtype},
               random_) {}

  void ExpectReferenceBits() {
    SCOPED_TRACE(NameOf(shape_));
    DeviceCase memory;
    const FinishLatentArgs args = Args(memory);
    ASSERT_TRUE(memory.Run(TwinOps().finish_latent, args));
    std::vector<float> latent = latent_;
    std::vector<float> low = low_;
    std::vector<std::byte> keys = cache_.keys();
    for (size_t r = 0; r < kPlaces.size(); ++r) FinishByReference(r, latent, low, keys);
    EXPECT_TRUE(SameBits({args.latent, latent.size()}, latent)) << "latents";
    EXPECT_TRUE(std::equal(keys.begin(), keys.end(), args.kv.keys)) << "cache";
    if (shape_.q_rank == 0) return;
    EXPECT_TRUE(SameBits({args.query_low, low.size()}, low)) << "compressed queries";
    ExpectForm(ActivationKind::kQ8x32, low, args.q8x32);
    if (args.q8x256 != nullptr) ExpectForm(ActivationKind::kQ8x256, low, args.q8x256);
  }

 private:
  static int64_t Stride(int64_t width) { return (width + 15) / 16 * 16; }

  std::vector<float> Normal(size_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> x(count);
    for (float& value : x) value = normal(random_);
    return x;
  }

  FinishLatentArgs Args(DeviceCase& memory) {
    FinishLatentArgs args;
    args.places = memory.Input(kPlaces);
    args.latent = memory.InOut(latent_);
    args.latent_stride = Stride(width_);
    args.latent_norm = memory.Input(latent_norm_);
    args.kv_rank = shape_.kv_rank;
    args.q_rank = shape_.q_rank;
    args.epsilon = kEpsilon;
    args.rows = static_cast<int64_t>(kPlaces.size());
    args.rope = {memory.Input(cosines_), memory.Input(sines_), shape_.pairs, shape_.pairing};
    args.kv.keys = args.kv.values = memory.InOut(cache_.keys());
    args.kv.key_stride = args.kv.value_stride = cache_.key_stride();
    args.kv.dtype = shape_.dtype;
    args.kv.table = memory.Input(cache_.table());
    args.kv.pages_per_sequence = cache_.pages_per_sequence();
    if (shape_.q_rank == 0) return args;
    args.query_low = memory.InOut(low_);
    args.query_low_stride = Stride(shape_.q_rank);
    args.query_low_norm = memory.Input(low_norm_);
    args.q8x32 = memory.Output<std::byte>(
        kPlaces.size() * ActivationRowBytes(ActivationKind::kQ8x32, shape_.q_rank));
    if (shape_.q_rank % 256 == 0) {
      args.q8x256 = memory.Output<std::byte>(
          kPlaces.size() * ActivationRowBytes(ActivationKind::kQ8x256, shape_.q_rank));
    }
    return args;
  }

  void FinishByReference(size_t row, std::vector<float>& latents, std::vector<float>& lows,
                         std::vector<std::byte>& keys) const {
    float* latent = latents.data() + row * static_cast<size_t>(Stride(width_));
    const auto first_pair = static_cast<size_t>(kPlaces[row].position * shape_.pairs);
    reference::kOps.rms_norm(latent, latent_norm_.data(), shape_.kv_rank, kEpsilon, latent);
    reference::kOps.rope(latent + shape_.kv_rank, cosines_.data() + first_pair,
                         sines_.data() + first_pair, shape_.pairs, shape_.pairing);
    std::byte* cached = keys.data() + cache_.KeyAt(kPlaces[row]);
    for (int64_t i = 0; i < width_; ++i) cache_.Set(cached + cache_.Bytes(i), latent[i]);
    float* low = lows.data() + row * static_cast<size_t>(Stride(shape_.q_rank));
    reference::kOps.rms_norm(low, low_norm_.data(), shape_.q_rank, kEpsilon, low);
  }

  void ExpectForm(ActivationKind kind, const std::vector<float>& low, const std::byte* actual) {
    const size_t bytes = ActivationRowBytes(kind, shape_.q_rank);
    std::vector<Q8x32Group> expected(bytes / sizeof(Q8x32Group));
    auto* row = reinterpret_cast<std::byte*>(expected.data());
    for (size_t r = 0; r < kPlaces.size(); ++r) {
      reference::kOps.quantize(kind, low.data() + r * static_cast<size_t>(Stride(shape_.q_rank)),
                               shape_.q_rank, row);
      EXPECT_TRUE(std::equal(row, row + bytes, actual + r * bytes))
          << "row " << r << " of kind " << static_cast<int>(kind);
    }
  }

  Shape shape_;
  Random random_{5};
  int64_t width_;
  std::vector<float> latent_, latent_norm_, low_, low_norm_, cosines_, sines_;
  PagedCache cache_;
};

TEST(DeviceFinishLatent, GivesTheReferenceBitsOfEveryPairingAndCache) {
  for (const RopePairing pairing : {RopePairing::kHalves, RopePairing::kNeighbours}) {
    for (const Dtype dtype : {Dtype::kF16, Dtype::kF32}) {
      FinishLatentCase({.pairing = pairing, .dtype = dtype}).ExpectReferenceBits();
    }
  }
}

TEST(DeviceFinishLatent, GivesTheReferenceBitsOfAnyRank) {
  for (const int rank : {1, 31, 33, 320, 512}) {
    for (const int pairs : {1, 32}) {
      FinishLatentCase({.kv_rank = rank, .pairs = pairs}).ExpectReferenceBits();
    }
  }
  for (const int q_rank : {32, 96, 1536, 2560}) {
    FinishLatentCase({.q_rank = q_rank}).ExpectReferenceBits();
  }
}

TEST(DeviceFinishLatent, LeavesAQueryThatIsNotCompressedAlone) {
  FinishLatentCase({.q_rank = 0}).ExpectReferenceBits();
}

}  // namespace
}  // namespace stoker
