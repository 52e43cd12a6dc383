// Copies experts between the host and the device, and notices when they are there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "base/clock.h"
#include "cache/bounded_queue.h"
#include "cache/placement.h"
#include "cache/policy.h"
#include "device/device.h"

namespace stoker {

// A move is one copy of a slot's image. Into the device they run in order on Stream::kCopyIn, out
// of it on kCopyOut. Source and target must stay until `ended` was called for the move. Moves that
// ended teach the estimates, where it was noticed soon enough to say how long they took. One
// thread; allocates nothing after creation.
//
// After an error of the device no move ends any more: what they left is not to be relied on.
class ExpertMover {
 public:
  // Of each direction under way; far fewer than a device has events.
  static constexpr int kMovesMax = 64;

  enum class Kind : uint8_t {
    kStage,    // a staging buffer to a VRAM slot
    kPromote,  // a RAM slot to a VRAM slot, to stay
    kPass,     // a RAM slot to a VRAM slot, to be computed once
    kDemote,   // a VRAM slot to a RAM slot
  };
  struct Move {
    Kind kind = Kind::kStage;
    ExpertKey key = -1;
    int32_t source = -1;  // slot or staging buffer
    int32_t target = -1;
    int32_t victim = -1;  // kPromote: the VRAM slot whose expert goes to RAM in exchange; or -1
    uint64_t bytes = 0;
    std::byte* to = nullptr;
    const std::byte* from = nullptr;
  };
  using Ended = absl::FunctionRef<void(const Move&)>;

  // All must outlive the mover.
  ExpertMover(Device& device, const Clock& clock, LinkEstimates& estimates)
      : device_(device), clock_(clock), estimates_(estimates), in_(kMovesMax), out_(kMovesMax) {}

  int in_count() const { return static_cast<int>(in_.moves.count()); }
  // Requires fewer than kMovesMax under way in that direction. Returns when its bytes are
  // there.
  DeviceEvent Start(const Move& move);
  // Calls `ended` for each move that has ended, in order by direction; returns the device's error.
  absl::Status Poll(Ended ended);
  // Blocks until the oldest move has ended, into the device before out of it; then as Poll.
  // Requires is_busy.
  absl::Status AwaitOne(Ended ended);
  // Blocks until nothing is under way, whatever the device says, and forgets all of it.
  void Abandon();
  // The host computed for this long up to now.
  void NoteHostBusy(int64_t ns) { host_busy_ns_ += ns; }

  bool is_busy() const { return !in_.moves.empty() || !out_.moves.empty(); }
  // Copies in were under way for at least half of the last `ns`, as far as Poll could notice.
  bool WasCopyingIn(int64_t ns) const;
  uint64_t copied_in_bytes() const { return in_.bytes; }
  uint64_t copied_out_bytes() const { return out_.bytes; }

 private:
  struct Started {
    Move move;
    DeviceEvent event;
    int64_t host_busy_ns = 0;  // when it started
  };
  struct Direction {
    explicit Direction(size_t capacity) : moves(capacity) {}
    BoundedQueue<Started> moves;
    uint64_t bytes = 0;
    int64_t busy_since_ns = 0;
    int64_t begin_ns = 0;        // of the oldest
    bool is_begin_sure = false;  // else it began earlier than that
    int64_t looked_ns = 0;       // when the oldest was last found under way
  };
  absl::Status PollDirection(Direction& direction, Ended ended);
  void Learn(Direction& direction, const Started& started, int64_t now_ns);

  Device& device_;
  const Clock& clock_;
  LinkEstimates& estimates_;
  Direction in_;
  Direction out_;
  int64_t host_busy_ns_ = 0;
};

}  // namespace stoker
