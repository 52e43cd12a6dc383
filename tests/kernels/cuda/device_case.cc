// Guards, resets and compares the memory of a device's operations.
#include "tests/kernels/cuda/device_case.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "base/check.h"
#include "fmt/format.h"
#include "kernels/cuda/tables.h"
#include "kernels/cuda/twin/machine.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/gpu_run.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, bytes) ((void)(data), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(data, bytes) ((void)(data), (void)(bytes))
#endif

namespace stoker {
namespace {

constexpr size_t kGuardBytes = 128;
constexpr std::byte kGuard{0xa5};
constexpr std::byte kJunk{0x3c};

bool AreAll(const std::byte* begin, const std::byte* end, std::byte value) {
  return std::all_of(begin, end, [value](std::byte b) { return b == value; });
}

}  // namespace

DeviceCase::Region::Region(size_t wanted, size_t offset) : bytes(wanted) {
  total_bytes = (2 * kGuardBytes + offset + bytes + 63) / 64 * 64;
  memory = HasGpu() ? TakeShared(total_bytes)
                    : static_cast<std::byte*>(std::aligned_alloc(64, total_bytes));
  CHECK(memory != nullptr);
  std::fill_n(memory, total_bytes, kGuard);
  data = memory + kGuardBytes + offset;
  ASAN_POISON_MEMORY_REGION(memory, total_bytes);
  ASAN_UNPOISON_MEMORY_REGION(data, bytes);
}

DeviceCase::Region::~Region() {
  ASAN_UNPOISON_MEMORY_REGION(memory, total_bytes);
  if (HasGpu()) {
    GiveShared(memory);
  } else {
    std::free(memory);
  }
}

const std::byte* DeviceCase::Weights(std::span<const std::byte> bytes, size_t offset) {
  const size_t before = offset % 4;
  std::vector<std::byte> words((before + bytes.size() + 3) / 4 * 4, kJunk);
  std::copy(bytes.begin(), bytes.end(), words.begin() + static_cast<ptrdiff_t>(before));
  return Input(words, offset - before) + before;
}

void* DeviceCase::Add(const void* values, size_t bytes, size_t offset, bool read_only) {
  regions_.push_back(std::make_unique<Region>(bytes, offset));
  Region& region = *regions_.back();
  region.read_only = read_only;
  region.start.assign(bytes, kJunk);
  if (values != nullptr && bytes > 0) std::memcpy(region.start.data(), values, bytes);
  std::copy(region.start.begin(), region.start.end(), region.data);
  return region.data;
}

testing::AssertionResult DeviceCase::RunOnce(absl::FunctionRef<int()> run) {
  for (const auto& region : regions_) {
    std::copy(region->start.begin(), region->start.end(), region->data);
  }
  const int code = run();
  if (code != 0) return testing::AssertionFailure() << "the launch returned " << code;
  for (size_t i = 0; i < regions_.size(); ++i) {
    Region& region = *regions_[i];
    std::byte* end = region.data + region.bytes;
    ASAN_UNPOISON_MEMORY_REGION(region.memory, region.total_bytes);
    const bool intact = AreAll(region.memory, region.data, kGuard) &&
                        AreAll(end, region.memory + region.total_bytes, kGuard);
    ASAN_POISON_MEMORY_REGION(region.memory, region.total_bytes);
    ASAN_UNPOISON_MEMORY_REGION(region.data, region.bytes);
    if (!intact) return testing::AssertionFailure() << "wrote outside of region " << i;
    if (region.read_only && !std::equal(region.data, end, region.start.begin())) {
      return testing::AssertionFailure() << "wrote to its input, region " << i;
    }
  }
  return testing::AssertionSuccess();
}

void DeviceCase::Keep() {
  first_.clear();
  for (const auto& region : regions_) {
    first_.emplace_back(region->data, region->data + region->bytes);
  }
}

testing::AssertionResult DeviceCase::ExpectKept(const std::string& how) const {
  for (size_t i = 0; i < regions_.size(); ++i) {
    if (!regions_[i]->compared) continue;
    const auto at = std::mismatch(first_[i].begin(), first_[i].end(), regions_[i]->data).first;
    if (at == first_[i].end()) continue;
    return testing::AssertionFailure()
           << fmt::format("region {} differs at byte {} {}", i, at - first_[i].begin(), how);
  }
  return testing::AssertionSuccess();
}

testing::AssertionResult DeviceCase::RunAll(std::string_view name, int (*run)(const void*, void*),
                                            const void* args) {
  constexpr twin::MachineOptions kOptions[] = {
      {.pattern = 0xff, .threads_backward = false, .blocks_backward = false},
      {.pattern = 0x5a, .threads_backward = true, .blocks_backward = false},
      {.pattern = 0xff, .threads_backward = true, .blocks_backward = true},
      {.pattern = 0x5a, .threads_backward = false, .blocks_backward = true}};
  for (const twin::MachineOptions& options : kOptions) {
    const twin::ScopedMachineOptions scope(options);
    if (auto result = RunOnce([&] { return run(args, nullptr); }); !result) return result;
    if (&options == kOptions) Keep();
    const auto result =
        ExpectKept(fmt::format("with pattern {:02x}, threads {}, blocks {}", options.pattern,
                               options.threads_backward ? "backward" : "forward",
                               options.blocks_backward ? "backward" : "forward"));
    if (!result) return result;
  }
  if (!HasGpu()) return testing::AssertionSuccess();
  if (auto result = RunOnce([&] { return RunOnGpu(name, args); }); !result) return result;
  return ExpectKept("on the GPU");
}

const DeviceOps& TwinOps() { return twin::kOps; }

std::vector<float> MakeRows(ActivationStyle style, const RowsShape& shape) {
  Random random(static_cast<uint64_t>(shape.rows * 1000 + shape.cols));
  std::vector<float> x(static_cast<size_t>(shape.rows * shape.stride),
                       std::numeric_limits<float>::quiet_NaN());
  for (int64_t r = 0; r < shape.rows; ++r) {
    const std::vector<float> row = MakeActivations(style, shape.cols, random);
    std::copy(row.begin(), row.end(), x.begin() + r * shape.stride);
  }
  return x;
}

std::vector<std::byte> QuantizedRows(ActivationKind kind, const std::vector<float>& x,
                                     const RowsShape& shape) {
  std::vector<std::vector<float>> rows;
  for (int64_t r = 0; r < shape.rows; ++r) {
    const auto first = x.begin() + r * shape.stride;
    rows.emplace_back(first, first + shape.cols);
  }
  const ActivationRows quantized(reference::kOps, kind, shape.cols, rows);
  const size_t row_bytes = ActivationRowBytes(kind, shape.cols);
  std::vector<std::byte> bytes;
  for (int64_t r = 0; r < shape.rows; ++r) {
    bytes.insert(bytes.end(), quantized.rows()[r], quantized.rows()[r] + row_bytes);
  }
  return bytes;
}

}  // namespace stoker
