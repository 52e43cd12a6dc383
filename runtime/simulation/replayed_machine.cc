// Follows model/blocks/mixture.cc and model/device_blocks/mixture.cc, without their arithmetic.
#include "runtime/simulation/replayed_machine.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/status.h"
#include "device/modelled_device.h"

namespace stoker {
namespace {

// A kernel says how long it takes by the bytes that it touches.
constexpr double kBytesPerSecond = 1e9;

}  // namespace

absl::StatusOr<std::unique_ptr<ReplayedMachine>> ReplayedMachine::Create(const TimingModel& timing,
                                                                         uint64_t vram_bytes,
                                                                         VirtualClock& clock) {
  std::unique_ptr<ReplayedMachine> machine(new ReplayedMachine(timing, clock));
  if (vram_bytes > 0) RETURN_IF_ERROR(machine->TakeDevice(vram_bytes));
  return machine;
}

absl::Status ReplayedMachine::TakeDevice(uint64_t vram_bytes) {
  DeviceOptions options;
  options.rates = {.memory_bytes_per_second = kBytesPerSecond,
                   .copy_in_bytes_per_second = timing_.copy_in_rate.value,
                   .copy_out_bytes_per_second = timing_.copy_out_rate.value,
                   .launch_ns = 0,
                   .repeat_ns = 0,
                   .copy_in_ns = std::llround(timing_.copy_latency_ns.value),
                   .copy_out_ns = std::llround(timing_.copy_latency_ns.value)};
  options.modelled_memory_bytes = vram_bytes + sizeof(host_parts_);
  options.modelled_times_only = true;
  ASSIGN_OR_RETURN(device_, MakeModelledDevice(options, &clock_));
  ASSIGN_OR_RETURN(parts_, device_->Take(sizeof(host_parts_)));
  return absl::OkStatus();
}

void ReplayedMachine::Launch(int64_t ns) {
  device_->Launch(Stream::kCompute, {.name = "replayed",
                                     .run = [](const void*, void*) { return 0; },
                                     .touched_bytes = static_cast<uint64_t>(ns)});
}

void ReplayedMachine::BeginLayer() {
  const int64_t rest_ns = std::llround(timing_.layer_ns.value);
  if (device_ == nullptr) return clock_.AdvanceNs(rest_ns);
  Launch(rest_ns);
}

absl::Status ReplayedMachine::Await() {
  if (device_ == nullptr) return absl::OkStatus();
  return device_->Await(device_->Record(Stream::kCompute));
}

absl::Status ReplayedMachine::Compute(const Layer& layer, ExpertCache& store) {
  if (device_ == nullptr) return ComputeOnHost(layer, store);
  const int held_max = std::min(kHeldExpertsMax, store.pins_max(layer.layer));
  Held held;
  bool is_joined = true;
  for (;;) {
    ASSIGN_OR_RETURN(const bool is_any, CollectReady(layer, held_max, store, held));
    if (!is_any) break;
    ComputeHeld(layer, store, held);
    is_joined = false;
  }
  if (!is_joined) device_->WaitFor(Stream::kCompute, device_->Record(Stream::kCopyIn));
  return absl::OkStatus();
}

absl::Status ReplayedMachine::ComputeOnHost(const Layer& layer, ExpertCache& store) {
  ExpertRef held[kHeldExpertsMax];
  const int held_max = std::min(kHeldExpertsMax, store.pins_max(layer.layer));
  for (;;) {
    ASSIGN_OR_RETURN(const int count,
                     store.Collect(absl::MakeSpan(held, static_cast<size_t>(held_max)),
                                   ExpertProvider::Wait::kUntilOne));
    if (count == 0) return absl::OkStatus();
    clock_.AdvanceNs(timing_.ExpertNs(layer.expert_bytes * static_cast<uint64_t>(count)));
    for (int i = 0; i < count; ++i) held[i].Release();
  }
}

absl::StatusOr<bool> ReplayedMachine::CollectReady(const Layer& layer, int held_max,
                                                   ExpertCache& store, Held& held) {
  using Wait = ExpertProvider::Wait;
  for (;;) {
    const absl::Span<ExpertRef> room =
        absl::MakeSpan(held.refs + held.count, static_cast<size_t>(held_max - held.count));
    if (room.empty()) return true;
    ASSIGN_OR_RETURN(const int count,
                     store.Collect(room, held.count == 0 ? Wait::kUntilOne : Wait::kNo));
    if (count == 0) return held.count > 0;
    const absl::Span<ExpertRef> taken = room.first(static_cast<size_t>(count));
    LaunchGroups(layer, taken);
    for (ExpertRef& ref : taken) {
      if (!ref.valid()) continue;
      ExpertRef host_ref = std::move(ref);
      held.refs[held.count++] = std::move(host_ref);
    }
  }
}

// Those that are there together, the others one by one as they arrive.
void ReplayedMachine::LaunchGroups(const Layer& layer, absl::Span<ExpertRef> experts) {
  const auto is_on_device = [](const ExpertRef& ref) {
    return ref.valid() && ref.place() == ExpertPlace::kDevice;
  };
  ExpertRef* group[kHeldExpertsMax];
  size_t count = 0;
  for (ExpertRef& ref : experts) {
    if (is_on_device(ref) && device_->IsDone(ref.ready())) group[count++] = &ref;
  }
  if (count > 0) {
    Launch(timing_.DeviceNs(layer.expert_bytes * count));
    const DeviceEvent done = device_->Record(Stream::kCompute);
    for (size_t i = 0; i < count; ++i) group[i]->ReleaseAfter(done);
  }
  for (ExpertRef& ref : experts) {
    if (!is_on_device(ref)) continue;
    device_->WaitFor(Stream::kCompute, ref.ready());
    Launch(timing_.DeviceNs(layer.expert_bytes));
    ref.ReleaseAfter(device_->Record(Stream::kCompute));
  }
}

void ReplayedMachine::ComputeHeld(const Layer& layer, ExpertCache& store, Held& held) {
  const uint64_t bytes = layer.expert_bytes * static_cast<uint64_t>(held.count);
  uint64_t row_bytes = 0;
  for (int i = 0; i < held.count; ++i) {
    const auto rows = static_cast<uint64_t>(layer.rows[held.refs[i].id().expert]);
    row_bytes += layer.expert_bytes * rows;
  }
  const int64_t ns = timing_.ExpertNs(bytes);
  clock_.AdvanceNs(ns);
  store.NoteHostCompute(bytes, row_bytes, ns);
  for (int i = 0; i < held.count; ++i) {
    device_->CopyIn(Stream::kCopyIn, parts_.data(), host_parts_, sizeof(host_parts_));
    held.refs[i].Release();
  }
  held.count = 0;
}

void ReplayedMachine::ComputeResident(const Layer& layer, int expert_count) {
  Launch(timing_.DeviceNs(layer.expert_bytes * static_cast<uint64_t>(expert_count)));
}

}  // namespace stoker
