// An expert cache over files in memory, with faults on demand: what the store's tests stand on.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "cache/expert_cache.h"
#include "tests/cache/expert_files.h"
#include "tests/testing/fault_reader.h"
#include "tests/testing/memory_reader.h"

namespace stoker {

struct MemoryStoreOptions {
  ExpertFilesOptions files = {};
  int slot_count = 8;  // a class
  int pins_min = 1;
  std::string policy = "lru";
  std::string admission = "always";
  int layer_floor = 0;
  bool verify_hashes = true;
  size_t alignment = 512;
  uint64_t seed = 1;
  bool is_manual = false;  // see MemoryReader
  FaultReader::Faults faults = {};
  int hint_loads_max = 0;
  ResidencyObserver* residency = nullptr;
};

inline MemoryReader::MemoryOptions MemoryOptions(size_t alignment, uint64_t seed, bool is_manual) {
  MemoryReader::MemoryOptions options;
  options.alignment = alignment;
  options.seed = seed;
  options.manual = is_manual;
  return options;
}

class MemoryStore {
 public:
  explicit MemoryStore(const MemoryStoreOptions& options)
      : files(options.files),
        memory(MemoryOptions(options.alignment, options.seed, options.is_manual)),
        reader(memory, options.faults),
        ledger(clock),
        plan(PlanWithSlots(files, options.slot_count, options.alignment, options.pins_min)) {
    files.AddTo(memory);
    CacheOptions cache_options = RamOnly(options.policy, options.layer_floor);
    cache_options.tiers[0].admission = options.admission;
    cache_options.profile = MadeUpProfile(files.key_count());
    cache_options.verify_hashes = options.verify_hashes;
    cache_options.hint_loads_max = options.hint_loads_max;
    cache_options.residency = options.residency;
    cache_options.file_names = files.names();
    auto created =
        ExpertCache::Create(files.catalog(), plan, cache_options, reader, clock, &ledger);
    EXPECT_TRUE(created.ok()) << created.status();
    cache = *std::move(created);
  }

  // Requests, collects everything one by one, checks every byte and releases at once. The experts
  // in the order in which they were handed over.
  absl::StatusOr<std::vector<int32_t>> Ask(int layer, std::vector<int32_t> experts) {
    EXPECT_TRUE(cache->Request(layer, experts).ok());
    std::vector<int32_t> order;
    while (true) {
      ExpertRef ref;
      auto count = cache->Collect({&ref, 1}, ExpertProvider::Wait::kUntilOne);
      if (!count.ok()) return count.status();
      if (*count == 0) return order;
      EXPECT_EQ(ref.id().layer, layer);
      EXPECT_TRUE(files.Matches(ref)) << "layer " << layer << " expert " << ref.id().expert;
      order.push_back(ref.id().expert);
    }
  }
  // Whether asking would find the expert resident: asks, and looks at the counts.
  bool Hits(int layer, int32_t expert) {
    const uint64_t before = cache->counts().hits;
    EXPECT_TRUE(Ask(layer, {expert}).ok());
    return cache->counts().hits > before;
  }
  // Requests and collects, keeping the pins.
  std::vector<ExpertRef> Hold(int layer, std::vector<int32_t> experts) {
    std::vector<ExpertRef> refs(experts.size());
    EXPECT_TRUE(cache->Request(layer, experts).ok());
    for (size_t held = 0; held < refs.size();) {
      auto count =
          cache->Collect(absl::MakeSpan(refs).subspan(held), ExpertProvider::Wait::kUntilOne);
      EXPECT_TRUE(count.ok()) << count.status();
      if (!count.ok() || *count == 0) break;
      held += static_cast<size_t>(*count);
    }
    return refs;
  }

  ExpertFiles files;
  MemoryReader memory;
  FaultReader reader;
  VirtualClock clock;
  TimeLedger ledger;
  CachePlan plan;
  std::unique_ptr<ExpertCache> cache;
};

inline std::string Message(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

}  // namespace stoker
