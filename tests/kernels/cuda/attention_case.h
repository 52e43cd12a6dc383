// Sequences whose keys and values lie in scattered pages, for tests of a device's attention.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/device_args.h"
#include "kernels/formats/half.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/kernel_cases.h"

namespace stoker {

// Pages of one layer of some sequences, in no order, and pages that belong to nobody. Whatever no
// test writes is NaN.
class PagedCache {
 public:
  struct Shape {
    int sequences = 1;
    int positions = 1;  // of each sequence, at most
    int64_t key_width = 0;
    int64_t value_width = 0;  // 0: the values are the keys
    Dtype dtype = Dtype::kF16;
  };
  static constexpr int64_t kGap = 16;  // elements between rows

  PagedCache(const Shape& shape, Random& random)
      : shape_(shape), pages_((shape.positions + kPagePositions - 1) / kPagePositions) {
    std::vector<int32_t> ids(static_cast<size_t>(shape.sequences * pages_ + 2));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    std::shuffle(ids.begin(), ids.end(), random);
    table_.assign(ids.begin(), ids.end() - 2);
    keys_ = Nans(static_cast<int64_t>(ids.size()) * kPagePositions * key_stride());
    values_ = Nans(static_cast<int64_t>(ids.size()) * kPagePositions * value_stride());
  }

  int64_t key_stride() const { return shape_.key_width + kGap; }
  int64_t value_stride() const { return shape_.value_width == 0 ? 0 : shape_.value_width + kGap; }
  const std::vector<int32_t>& table() const { return table_; }
  int32_t pages_per_sequence() const { return pages_; }
  const std::vector<std::byte>& keys() const { return keys_; }
  const std::vector<std::byte>& values() const { return values_; }

  // Bytes into keys() or values() of a position's row.
  size_t KeyAt(const RowPlace& place) const { return RowOf(place) * Bytes(key_stride()); }
  size_t ValueAt(const RowPlace& place) const { return RowOf(place) * Bytes(value_stride()); }
  size_t Bytes(int64_t elements) const {
    return static_cast<size_t>(elements) * (shape_.dtype == Dtype::kF16 ? 2 : 4);
  }

  // Random keys and values for positions [0, positions) of a sequence.
  void Fill(int32_t sequence, int positions, float scale, Random& random) {
    std::normal_distribution<float> normal(0, scale);
    for (int32_t p = 0; p < positions; ++p) {
      const RowPlace place = {.sequence = sequence, .position = p};
      for (int64_t i = 0; i < shape_.key_width; ++i) {
        Set(keys_.data() + KeyAt(place) + Bytes(i), normal(random));
      }
      for (int64_t i = 0; i < shape_.value_width; ++i) {
        Set(values_.data() + ValueAt(place) + Bytes(i), normal(random));
      }
    }
  }
  void Set(std::byte* at, float value) const {
    const uint16_t half = HalfOfFloat(value);
    if (shape_.dtype == Dtype::kF16) {
      std::memcpy(at, &half, sizeof(half));
    } else {
      std::memcpy(at, &value, sizeof(value));
    }
  }

  // The rows of positions [0, positions) of a sequence, back to back: what ops.h wants.
  std::vector<std::byte> Gathered(const std::byte* rows, int64_t stride, int32_t sequence,
                                  int positions) const {
    std::vector<std::byte> gathered;
    for (int32_t p = 0; p < positions; ++p) {
      const std::byte* row = rows + RowOf({.sequence = sequence, .position = p}) * Bytes(stride);
      gathered.insert(gathered.end(), row, row + Bytes(stride));
    }
    return gathered;
  }

 private:
  size_t RowOf(const RowPlace& place) const {
    const int32_t page =
        table_[static_cast<size_t>(place.sequence * pages_ + place.position / kPagePositions)];
    return static_cast<size_t>(page * kPagePositions + place.position % kPagePositions);
  }
  std::vector<std::byte> Nans(int64_t elements) const {
    std::vector<std::byte> bytes(Bytes(elements));
    for (int64_t i = 0; i < elements; ++i) {
      Set(bytes.data() + Bytes(i), std::numeric_limits<float>::quiet_NaN());
    }
    return bytes;
  }

  Shape shape_;
  int32_t pages_;
  std::vector<int32_t> table_;
  std::vector<std::byte> keys_, values_;
};

}  // namespace stoker
