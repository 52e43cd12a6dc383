// Carves shared variables and keeps watch over the zones between them.
#include "kernels/cuda/twin/shared_memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "kernels/cuda/twin/machine.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, bytes) ((void)(data), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(data, bytes) ((void)(data), (void)(bytes))
#endif

namespace stoker::twin {
namespace {

constexpr size_t kZoneBytes = 128;
constexpr int kZoneByte = 0xc5;
constexpr size_t kArenaBytes = kSharedBytesMax + 34 * 2 * kZoneBytes;

size_t RoundUp(size_t bytes, size_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

bool IsZone(const std::byte* begin, const std::byte* end) {
  return std::all_of(begin, end, [](std::byte b) { return b == std::byte{kZoneByte}; });
}

}  // namespace

SharedMemory::SharedMemory()
    : arena_(static_cast<std::byte*>(std::aligned_alloc(kZoneBytes, kArenaBytes))) {
  CHECK(arena_ != nullptr);
  std::memset(arena_, kZoneByte, kArenaBytes);
  ASAN_POISON_MEMORY_REGION(arena_, kArenaBytes);
}

SharedMemory::~SharedMemory() {
  ASAN_UNPOISON_MEMORY_REGION(arena_, kArenaBytes);
  std::free(arena_);
}

void SharedMemory::Start(size_t dynamic_bytes, uint8_t pattern) {
  used_ = 0;
  variable_bytes_ = 0;
  variable_count_ = 0;
  pattern_ = pattern;
  Carve({nullptr, "dynamic shared memory", dynamic_bytes, 16});
}

void* SharedMemory::Variable(const Request& request) {
  for (int v = 1; v < variable_count_; ++v) {
    if (variables_[v].key == request.key) return variables_[v].data;
  }
  return Carve(request);
}

// Between two variables lie at least kZoneBytes that stay zone.
void* SharedMemory::Carve(const Request& request) {
  CHECK(variable_count_ < kVariablesMax && request.alignment <= kZoneBytes);
  variable_bytes_ += RoundUp(request.bytes, 16);
  CHECK(variable_bytes_ <= kSharedBytesMax);  // else the kernel would not start on some GPUs
  std::byte* data = arena_ + used_ + kZoneBytes;
  used_ += kZoneBytes + RoundUp(request.bytes, kZoneBytes);
  ASAN_UNPOISON_MEMORY_REGION(data, request.bytes);
  std::memset(data, pattern_, request.bytes);
  variables_[variable_count_++] = {request.key, request.name, data, request.bytes};
  return data;
}

const char* SharedMemory::End() {
  const size_t end = used_ + kZoneBytes;
  const char* overrun = nullptr;
  ASAN_UNPOISON_MEMORY_REGION(arena_, end);
  if (!IsZone(arena_, variables_[0].data)) overrun = variables_[0].name;
  for (int v = 0; v < variable_count_; ++v) {
    const Carved& variable = variables_[v];
    const std::byte* next = v + 1 < variable_count_ ? variables_[v + 1].data : arena_ + end;
    if (!IsZone(variable.data + variable.bytes, next)) overrun = variable.name;
  }
  for (int v = 0; v < variable_count_; ++v) {
    std::memset(variables_[v].data, kZoneByte, variables_[v].bytes);
  }
  ASAN_POISON_MEMORY_REGION(arena_, end);
  return overrun;
}

}  // namespace stoker::twin
