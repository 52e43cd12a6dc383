// An expert cache over a modelled device and files in memory, on a virtual clock: what the tests of
// two tiers stand on.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/counters.h"
#include "base/status.h"
#include "cache/expert_cache.h"
#include "device/modelled_device.h"
#include "tests/cache/memory_store.h"

namespace stoker {

struct TieredStoreOptions {
  ExpertFilesOptions files = {};
  int vram_slot_count = 4;  // a class
  int ram_slot_count = 8;   // a class
  int pins_min = 1;
  PlaceRule place = PlaceRule::kAuto;
  // By default the host computes as fast as a copy goes.
  LinkRates rates = {.host = 1e9, .host_row = 1e9, .copy_in = 1e9};
  std::string vram_policy = "lru";
  std::string policy = "lru";
  std::string admission = "always";
  int layer_floor = 0;
  size_t alignment = 512;
  uint64_t seed = 1;
  bool is_manual = false;  // see MemoryReader
  FaultReader::Faults faults = {};
  int hint_loads_max = 0;
  ModelledRates device_rates = {.copy_in_bytes_per_second = 1e9, .copy_out_bytes_per_second = 1e9};
};

// Adds slots of VRAM, as many a class as asked for.
inline void AddVram(int slot_count, CachePlan& plan) {
  plan.vram_bytes = 0;
  for (SlotClass c : plan.classes) {
    c.slot_count = std::min<int64_t>(slot_count, c.expert_count);
    const bool is_all = c.slot_count == c.expert_count;
    c.transit_count = is_all || slot_count == 0 ? 0 : std::max<int64_t>(1, c.slot_count / 8);
    plan.vram_bytes += c.slot_bytes * static_cast<uint64_t>(c.slot_count);
    plan.vram_classes.push_back(c);
  }
  if (plan.vram_bytes > 0) plan.staging_bytes = kStagingSlots * plan.classes[0].slot_bytes;
}

class TieredStore {
 public:
  explicit TieredStore(const TieredStoreOptions& options)
      : files(options.files),
        memory(MemoryOptions(options.alignment, options.seed, options.is_manual)),
        reader(memory, options.faults),
        ledger(clock),
        device(*MakeModelledDevice({.rates = options.device_rates}, &clock)),
        plan(PlanWithSlots(files, options.ram_slot_count, options.alignment, options.pins_min)) {
    files.AddTo(memory);
    AddVram(options.vram_slot_count, plan);
    CacheOptions cache_options;
    cache_options.tiers = {
        {.kind = TierKind::kVram, .budget_bytes = UINT64_MAX, .policy = options.vram_policy},
        {.kind = TierKind::kRam,
         .budget_bytes = UINT64_MAX,
         .policy = options.policy,
         .admission = options.admission}};
    cache_options.device = device.get();
    cache_options.place = options.place;
    cache_options.rates = options.rates;
    cache_options.profile = MadeUpProfile(files.key_count());
    cache_options.layer_floor = options.layer_floor;
    cache_options.hint_loads_max = options.hint_loads_max;
    cache_options.file_names = files.names();
    auto created =
        ExpertCache::Create(files.catalog(), plan, cache_options, reader, clock, &ledger);
    EXPECT_TRUE(created.ok()) << created.status();
    cache = *std::move(created);
  }

  // Requests, collects everything one by one and checks its bytes; experts in VRAM are computed by
  // a kernel that checks them when it runs. Where each was computed, by expert.
  absl::StatusOr<std::map<int32_t, ExpertPlace>> Ask(int layer, std::vector<int32_t> experts,
                                                     std::vector<int32_t> rows = {}) {
    RETURN_IF_ERROR(cache->Request(layer, experts, rows));
    std::map<int32_t, ExpertPlace> places;
    while (true) {
      ExpertRef ref;
      auto count = cache->Collect({&ref, 1}, ExpertProvider::Wait::kUntilOne);
      if (!count.ok()) return count.status();
      if (*count == 0) return places;
      EXPECT_EQ(ref.id().layer, layer);
      EXPECT_TRUE(places.emplace(ref.id().expert, ref.place()).second);
      if (ref.place() == ExpertPlace::kDevice) {
        Compute(std::move(ref));
      } else {
        EXPECT_TRUE(files.Matches(ref));
      }
    }
  }
  ExpertPlace AskOne(int layer, int32_t expert) { return Ask(layer, {expert})->at(expert); }

  // Queues the check of an expert's bytes on the device and lets go of it once that is done.
  void Compute(ExpertRef ref, uint64_t touched_bytes = 4096) {
    CheckArgs args = {.store = this, .id = ref.id()};
    for (int p = 0; p < files.catalog().Find(ref.id().layer)->part_count; ++p) {
      args.parts[p] = ref.part(p);
    }
    device->WaitFor(Stream::kCompute, ref.ready());
    device->Launch(Stream::kCompute, {.name = "check_expert",
                                      .run = &RunCheck,
                                      .args = &args,
                                      .args_bytes = sizeof(args),
                                      .touched_bytes = touched_bytes});
    ref.ReleaseAfter(device->Record(Stream::kCompute));
  }

  // Lets all that is under way end, and what follows from it.
  void Rest() {
    for (int i = 0; i < 300; ++i) {
      clock.AdvanceNs(10'000'000);
      ExpertRef ref;
      ASSERT_EQ(*cache->Collect({&ref, 1}, ExpertProvider::Wait::kNo), 0);
    }
  }
  double Gauge(std::string_view name) const {
    struct Visitor final : CounterVisitor {
      void Counter(std::string_view of, uint64_t value) override {
        values[std::string(of)] = static_cast<double>(value);
      }
      void Gauge(std::string_view of, double value) override { values[std::string(of)] = value; }
      std::map<std::string, double> values;
    } visitor;
    cache->Report(visitor);
    return visitor.values.at(std::string(name));
  }

  ExpertFiles files;
  MemoryReader memory;
  FaultReader reader;
  VirtualClock clock;
  TimeLedger ledger;
  std::unique_ptr<ModelledDevice> device;
  CachePlan plan;
  int wrong_bytes = 0;  // kernels that found other bytes than those of their expert
  int computed = 0;
  std::unique_ptr<ExpertCache> cache;

 private:
  struct CheckArgs {
    TieredStore* store = nullptr;
    ExpertId id;
    const std::byte* parts[kExpertPartsMax] = {};
  };
  static int RunCheck(const void* pointer, void*) {
    const CheckArgs& args = *static_cast<const CheckArgs*>(pointer);
    const ExpertRef view(nullptr, 0, args.id, args.parts);
    ++args.store->computed;
    if (!args.store->files.Matches(view)) ++args.store->wrong_bytes;
    return 0;
  }
};

}  // namespace stoker
