// Runs an operation of a device's twin, and of the GPU where there is one, on guarded memory, under
// every order and pattern that must not show.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "gtest/gtest.h"
#include "kernels/device_ops.h"
#include "tests/kernels/kernel_cases.h"

namespace stoker {

// The memory of one case. Every region is as long as asked for and at a 64-byte border (or `offset`
// bytes past one), between guards: a write to them fails the run, and any access ends the program
// under the address sanitizer.
class DeviceCase {
 public:
  DeviceCase() = default;
  DeviceCase(const DeviceCase&) = delete;
  DeviceCase& operator=(const DeviceCase&) = delete;

  // What the operation reads and must leave as it is.
  template <typename T>
  const T* Input(std::span<const T> values, size_t offset = 0) {
    return static_cast<const T*>(Add(values.data(), values.size_bytes(), offset, true));
  }
  template <typename T>
  const T* Input(const std::vector<T>& values, size_t offset = 0) {
    return Input(std::span<const T>(values), offset);
  }
  // Weights: as Input, in whole aligned words, which kernels may read (kernels/device_args.h).
  const std::byte* Weights(std::span<const std::byte> bytes, size_t offset = 0);
  // What it writes; holds junk before.
  template <typename T>
  T* Output(size_t count) {
    return static_cast<T*>(Add(nullptr, count * sizeof(T), 0, false));
  }
  // What it changes, or scratch with a wanted start.
  template <typename T>
  T* InOut(std::span<const T> values) {
    return static_cast<T*>(Add(values.data(), values.size_bytes(), 0, false));
  }
  template <typename T>
  T* InOut(const std::vector<T>& values) {
    return InOut(std::span<const T>(values));
  }
  // As Output, but what is left there is nobody's business.
  template <typename T>
  T* Scratch(size_t count) {
    T* data = Output<T>(count);
    regions_.back()->compared = false;
    return data;
  }

  // Runs the operation once for each order of threads and blocks and each pattern of unwritten
  // memory, then on the GPU where there is one, from the same start. It must succeed each time,
  // leave guards and inputs alone, and leave the same bytes, which stay in place.
  template <typename Args>
  testing::AssertionResult Run(const DeviceOp<Args>& op, const Args& args) {
    if (op.run == nullptr)
      return testing::AssertionFailure() << "the operation is not in the table";
    return RunAll(op.name, op.run, &args);
  }

 private:
  struct Region {
    Region(size_t wanted, size_t offset);
    ~Region();
    std::byte* memory;  // guard, data, guard
    std::byte* data;
    size_t bytes;
    size_t total_bytes;
    bool read_only = false;
    bool compared = true;
    std::vector<std::byte> start;
  };

  void* Add(const void* values, size_t bytes, size_t offset, bool read_only);
  testing::AssertionResult RunAll(std::string_view name, int (*run)(const void*, void*),
                                  const void* args);
  testing::AssertionResult RunOnce(absl::FunctionRef<int()> run);
  void Keep();
  testing::AssertionResult ExpectKept(const std::string& how) const;

  std::vector<std::unique_ptr<Region>> regions_;
  std::vector<std::vector<std::byte>> first_;  // what the first run left, by region
};

// The operations under test.
const DeviceOps& TwinOps();

// Rows of floats, `stride` apart.
struct RowsShape {
  int64_t rows;
  int64_t cols;
  int64_t stride;
};
// Activations of a style; between the rows lie NaNs.
std::vector<float> MakeRows(ActivationStyle style, const RowsShape& shape);
// What the reference quantizes rows to, back to back.
std::vector<std::byte> QuantizedRows(ActivationKind kind, const std::vector<float>& x,
                                     const RowsShape& shape);

}  // namespace stoker
