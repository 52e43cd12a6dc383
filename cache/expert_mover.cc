// Queues copies, polls their events, and measures the link by them.
#include "cache/expert_mover.h"

#include "base/check.h"
#include "base/status.h"

namespace stoker {

DeviceEvent ExpertMover::Start(const Move& move) {
  const bool is_out = move.kind == Kind::kDemote;
  const Stream stream = is_out ? Stream::kCopyOut : Stream::kCopyIn;
  if (is_out) {
    device_.CopyOut(stream, move.to, move.from, move.bytes);
  } else {
    device_.CopyIn(stream, move.to, move.from, move.bytes);
  }
  const DeviceEvent event = device_.Record(stream);
  Direction& direction = is_out ? out_ : in_;
  const int64_t now_ns = clock_.NowNs();
  if (direction.moves.empty()) {
    direction.busy_since_ns = direction.begin_ns = direction.looked_ns = now_ns;
    direction.is_begin_sure = true;
  }
  direction.moves.Push({.move = move, .event = event, .host_busy_ns = host_busy_ns_});
  direction.bytes += move.bytes;
  return event;
}

absl::Status ExpertMover::Poll(Ended ended) {
  RETURN_IF_ERROR(PollDirection(in_, ended));
  return PollDirection(out_, ended);
}

// `ended` may start moves.
absl::Status ExpertMover::PollDirection(Direction& direction, Ended ended) {
  while (!direction.moves.empty() && device_.IsDone(direction.moves.front().event)) {
    // A device that failed says done to everything.
    RETURN_IF_ERROR(device_.Await(direction.moves.front().event));
    const Started started = direction.moves.Pop();
    Learn(direction, started, clock_.NowNs());
    ended(started.move);
  }
  if (!direction.moves.empty()) direction.looked_ns = clock_.NowNs();
  return absl::OkStatus();
}

// The copy ended, and the next began, between the last look and now; that says how long it took
// only if the looks are close together.
void ExpertMover::Learn(Direction& direction, const Started& started, int64_t now_ns) {
  const int64_t took_ns = now_ns - direction.begin_ns;
  const bool is_end_sure = took_ns > 0 && (now_ns - direction.looked_ns) * 8 <= took_ns;
  const bool is_sure = is_end_sure && direction.is_begin_sure;
  direction.begin_ns = direction.looked_ns = now_ns;
  direction.is_begin_sure = is_end_sure;
  if (!is_sure) return;
  if (&direction == &out_) {
    estimates_.NoteCopyOut(started.move.bytes, took_ns);
    return;
  }
  const int64_t host_ns = host_busy_ns_ - started.host_busy_ns;
  estimates_.NoteCopyIn(started.move.bytes, took_ns, host_ns * 2 > took_ns);
}

absl::Status ExpertMover::AwaitOne(Ended ended) {
  CHECK(is_busy());
  Direction& direction = in_.moves.empty() ? out_ : in_;
  if (!device_.IsDone(direction.moves.front().event)) {
    RETURN_IF_ERROR(device_.Await(direction.moves.front().event));
    direction.looked_ns = clock_.NowNs();  // waiting for it noticed it at once
  }
  return Poll(ended);
}

void ExpertMover::Abandon() {
  for (Direction* direction : {&in_, &out_}) {
    while (!direction->moves.empty()) {
      device_.Await(direction->moves.Pop().event).IgnoreError();
    }
  }
}

bool ExpertMover::WasCopyingIn(int64_t ns) const {
  if (in_.moves.empty()) return false;
  return (clock_.NowNs() - in_.busy_since_ns) * 2 >= ns;
}

}  // namespace stoker
