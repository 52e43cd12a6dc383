// Takes and pins the memory of slots.
#include "cache/slot_arena.h"

#include "base/status.h"

namespace stoker {
namespace {

// What is pinned is whole pages; the mapping has them.
absl::Span<std::byte> Pages(const HostBuffer& buffer) {
  constexpr size_t kPageBytes = 4096;
  return {buffer.data(), (buffer.bytes() + kPageBytes - 1) / kPageBytes * kPageBytes};
}

}  // namespace

absl::StatusOr<SlotArena> SlotArena::Create(uint64_t bytes, const Options& options) {
  SlotArena arena;
  arena.kind_ = options.kind;
  if (bytes == 0) return arena;
  if (options.kind == Kind::kDevice) {
    absl::StatusOr<DeviceBuffer> taken = options.device->Take(bytes);
    if (!taken.ok()) return WithContext(taken.status(), "taking VRAM for experts");
    arena.device_ = *std::move(taken);
    return arena;
  }
  absl::StatusOr<HostBuffer> taken =
      HostBuffer::Create(bytes, options.kind == Kind::kAddresses ? HostBuffer::Touch::kLazily
                                                                 : HostBuffer::Touch::kNow);
  if (!taken.ok()) return WithContext(taken.status(), "taking the arena for experts");
  arena.host_ = *std::move(taken);
  if (options.kind == Kind::kPinned) {
    const absl::Status pinned = options.device->Pin(Pages(arena.host_));
    if (!pinned.ok()) return WithContext(pinned, "pinning the arena for experts");
    arena.pinned_by_ = options.device;
  }
  return arena;
}

SlotArena::~SlotArena() {
  if (pinned_by_ != nullptr) pinned_by_->Unpin(Pages(host_));
}

SlotArena& SlotArena::operator=(SlotArena&& other) noexcept {
  std::swap(kind_, other.kind_);
  std::swap(host_, other.host_);
  std::swap(device_, other.device_);
  std::swap(pinned_by_, other.pinned_by_);
  return *this;
}

}  // namespace stoker
