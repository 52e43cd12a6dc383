// A queue that takes its memory once.
#pragma once

#include <cstddef>
#include <vector>

#include "base/check.h"

namespace stoker {

template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : ring_(capacity) {}

  size_t count() const { return count_; }
  bool empty() const { return count_ == 0; }
  const T& front() const {
    CHECK(count_ > 0);
    return ring_[head_];
  }
  void Push(const T& value) {
    CHECK(count_ < ring_.size());
    ring_[(head_ + count_++) % ring_.size()] = value;
  }
  T Pop() {
    const T value = front();
    head_ = (head_ + 1) % ring_.size();
    --count_;
    return value;
  }
  void Clear() { head_ = count_ = 0; }

 private:
  std::vector<T> ring_;
  size_t head_ = 0;
  size_t count_ = 0;
};

}  // namespace stoker
