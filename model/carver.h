// Cuts one region of memory into arrays: the same code plans its bytes and hands them out.
#pragma once

#include <cstddef>
#include <cstdint>

namespace stoker {

// Without memory it only counts.
class Carver {
 public:
  explicit Carver(std::byte* memory = nullptr) : memory_(memory) {}

  // `count` values at a 64-byte border; null while counting.
  template <typename T>
  T* Take(int64_t count) {
    const size_t at = bytes_;
    bytes_ += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + at);
  }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* memory_;
  size_t bytes_ = 0;
};

}  // namespace stoker
