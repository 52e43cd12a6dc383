// What a model sees of the expert store: it asks for a layer's experts and is handed them, pinned,
// as they come.
#pragma once

#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/expert_id.h"
#include "device/device.h"

namespace stoker {

class ExpertProvider;

// Which processor an expert is handed to: its bytes are in that one's memory.
enum class ExpertPlace : uint8_t { kHost, kDevice };

// A routed expert in memory. Holding it is the pin: its bytes stay where they are until it is
// destroyed. Move-only.
class ExpertRef {
 public:
  ExpertRef() = default;
  ExpertRef(ExpertProvider* owner, int32_t slot, ExpertId id, const std::byte* const* parts)
      : owner_(owner), slot_(slot), id_(id), parts_(parts) {}
  // In device memory, all there once `ready` has come.
  ExpertRef(ExpertProvider* owner, int32_t slot, ExpertId id, const std::byte* const* parts,
            DeviceEvent ready)
      : owner_(owner),
        slot_(slot),
        id_(id),
        parts_(parts),
        place_(ExpertPlace::kDevice),
        ready_(ready) {}
  ~ExpertRef() { Release(); }
  ExpertRef(ExpertRef&& other) noexcept { *this = std::move(other); }
  ExpertRef& operator=(ExpertRef&& other) noexcept {
    if (this != &other) {
      Release();
      owner_ = std::exchange(other.owner_, nullptr);
      slot_ = other.slot_;
      id_ = other.id_;
      parts_ = other.parts_;
      place_ = other.place_;
      ready_ = other.ready_;
    }
    return *this;
  }
  inline void Release();  // unpins early
  // Unpins once the event has come: that of the device's work with a kDevice expert, which a ref
  // must not be let go before.
  inline void ReleaseAfter(DeviceEvent event);

  bool valid() const { return owner_ != nullptr; }
  ExpertId id() const { return id_; }
  ExpertPlace place() const { return place_; }
  // kDevice: what work on it has to wait for.
  DeviceEvent ready() const { return ready_; }
  // The expert's byte ranges in the order of its ExpertSpec (gate, up, down; or fused gate-up,
  // down).
  const std::byte* part(int index) const { return parts_[index]; }

 private:
  ExpertProvider* owner_ = nullptr;
  int32_t slot_ = -1;
  ExpertId id_;
  const std::byte* const* parts_ = nullptr;
  ExpertPlace place_ = ExpertPlace::kHost;
  DeviceEvent ready_;
};

// A layer whose experts are all in device memory, and stay where they are as long as the provider
// lives.
struct ResidentLayer {
  // In host memory, [experts][kExpertPartsMax]: where on the device each part lies; null: the layer
  // is not resident.
  const std::byte* const* parts = nullptr;
  // Behind the copies that brought them, and has come. Providers that copied to one device never
  // give the same for tables of their own, so it tells whether a table is the one known already.
  DeviceEvent since;
};

// One request runs at a time. The order is: Request, then Collect until it returns 0. Every expert
// asked for is handed over exactly once, residents first, the rest in whatever order they arrive. A
// request may be for more experts than the store has room for: the store reads on as refs are
// released, so the caller must not hold more than `pins_max(layer)` refs at once. A request cannot
// fail for lack of room; it fails (and is over) when an expert cannot be read, with the cause. One
// thread.
//
// What a request finds resident depends on the requests before it alone, and not on which reads
// were faster, provided that a caller that blocks in Collect (kUntilOne) holds no refs: a slot that
// it holds may be the very one that an expert on its way has to wait for. If it does hold some the
// request goes on all the same, with other experts giving way. A provider that keeps experts in a
// device's memory as well cannot promise this.
class ExpertProvider {
 public:
  enum class Wait : uint8_t { kNo, kUntilOne };

  virtual ~ExpertProvider() = default;
  // Refs of this layer that may be held at once; at least 1.
  virtual int pins_max(int layer) const = 0;
  // Asks for distinct experts of one layer, in router-rank order of their first use (the order
  // policies see). rows[i]: how many rows of the step chose experts[i], which is what computing it
  // costs; empty: one each.
  virtual absl::Status Request(int layer, absl::Span<const int32_t> experts,
                               absl::Span<const int32_t> rows) = 0;
  absl::Status Request(int layer, absl::Span<const int32_t> experts) {
    return Request(layer, experts, {});
  }
  // Puts ready experts into `out` and returns how many. kUntilOne blocks until there is at least
  // one, unless the request is over: then 0. kNo: 0 can also mean "none ready now"; `outstanding`
  // tells.
  virtual absl::StatusOr<int> Collect(absl::Span<ExpertRef> out, Wait wait) = 0;
  // Experts of the running request not yet handed over.
  virtual int outstanding() const = 0;
  // Told how long the host took to compute experts: `row_bytes` is the sum of each one's bytes
  // times its rows. A provider that chooses places learns from it.
  virtual void NoteHostCompute(uint64_t /*bytes*/, uint64_t /*row_bytes*/, int64_t /*ns*/) {}
  // Whether the device can work on the layer by itself, with whatever experts its router chooses:
  // then nobody needs to ask for them, but only to say afterwards which were used.
  virtual ResidentLayer Resident(int /*layer*/) { return {}; }
  // Experts of a resident layer that were used without a Request, with what it would have been
  // told.
  virtual void NoteUses(int /*layer*/, absl::Span<const int32_t> /*experts*/,
                        absl::Span<const int32_t> /*rows*/) {}

 protected:
  friend class ExpertRef;
  virtual void Unpin(int32_t slot) = 0;
  // A provider without a device hands out nothing that could be released so.
  virtual void UnpinAfter(int32_t slot, DeviceEvent /*event*/) { Unpin(slot); }
};

inline void ExpertRef::Release() {
  if (owner_ != nullptr) std::exchange(owner_, nullptr)->Unpin(slot_);
}
inline void ExpertRef::ReleaseAfter(DeviceEvent event) {
  if (owner_ != nullptr) std::exchange(owner_, nullptr)->UnpinAfter(slot_, event);
}

}  // namespace stoker
