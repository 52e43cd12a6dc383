// Small made-up models for the tests of the expert store: a catalog and files whose every byte is
// known.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/expert_catalog.h"
#include "cache/expert_cache.h"
#include "cache/expert_provider.h"
#include "tests/testing/memory_reader.h"

namespace stoker {

struct ExpertFilesOptions {
  int layer_count = 4;
  int expert_count = 8;
  int first_layer = 0;  // transformer layer of the first; layers go up by one
  std::vector<uint64_t> part_bytes = {1000, 1000, 1500};
  int large_layers = 0;         // the first so many layers have parts of twice the size
  uint64_t start_bytes = 0;     // what precedes the first tensor: misaligns everything
  bool is_split = false;        // odd layers are in a second file
  uint64_t stride_padding = 0;  // bytes between experts of a tensor
};

// The byte at a place of a file, without a pattern that a shifted read could match.
inline std::byte ByteAt(int file, uint64_t offset) {
  uint64_t x = (offset + 1) * 0x9e3779b97f4a7c15ull + static_cast<uint64_t>(file) * 0x1234567;
  x ^= x >> 29;
  x *= 0xbf58476d1ce4e5b9ull;
  return static_cast<std::byte>(x >> 56);
}

// Lays tensors (one a layer and part, experts merged) one after another.
class ExpertFiles {
 public:
  explicit ExpertFiles(const ExpertFilesOptions& options) {
    std::vector<uint64_t> ends(options.is_split ? 2 : 1, options.start_bytes);
    for (int l = 0; l < options.layer_count; ++l) {
      LayerExperts layer;
      layer.layer = options.first_layer + l;
      layer.expert_count = options.expert_count;
      layer.part_count = static_cast<int>(options.part_bytes.size());
      const int file = options.is_split ? l % 2 : 0;
      for (int p = 0; p < layer.part_count; ++p) {
        const uint64_t bytes = options.part_bytes[p] * (l < options.large_layers ? 2 : 1);
        layer.parts[p] = {.file = file, .offset = ends[file], .bytes = bytes};
        layer.stride_bytes[p] = bytes + options.stride_padding;
        ends[file] += layer.stride_bytes[p] * static_cast<uint64_t>(options.expert_count);
      }
      catalog_.layers.push_back(layer);
    }
    for (size_t file = 0; file < ends.size(); ++file) {
      std::vector<std::byte>& bytes = files_.emplace_back(ends[file]);
      for (uint64_t i = 0; i < bytes.size(); ++i) bytes[i] = ByteAt(static_cast<int>(file), i);
    }
  }

  const ExpertCatalog& catalog() const { return catalog_; }
  size_t key_count() const {
    size_t count = 0;
    for (const LayerExperts& layer : catalog_.layers) count += layer.expert_count;
    return count;
  }
  const std::vector<std::byte>& bytes(int file) const { return files_[file]; }
  int file_count() const { return static_cast<int>(files_.size()); }
  static std::string Name(int file) { return "model-" + std::to_string(file) + ".gguf"; }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (int file = 0; file < file_count(); ++file) names.push_back(Name(file));
    return names;
  }

  void AddTo(MemoryReader& reader) const {
    for (int file = 0; file < file_count(); ++file) {
      reader.PutFile(Name(file), files_[file]);
      CHECK(*reader.AddFile(Name(file)) == file);
    }
  }
  std::vector<size_t> Alignments(size_t alignment) const {
    return std::vector<size_t>(files_.size(), alignment);
  }
  // Where a part of an expert begins in its file.
  ByteRange Range(ExpertId id, int part) const {
    const LayerExperts& layer = *catalog_.Find(id.layer);
    ByteRange range = layer.parts[part];
    range.offset += layer.stride_bytes[part] * static_cast<uint64_t>(id.expert);
    return range;
  }
  // Whether a ref's bytes are those of its expert in the files.
  bool Matches(const ExpertRef& ref) const {
    for (int p = 0; p < catalog_.Find(ref.id().layer)->part_count; ++p) {
      const ByteRange range = Range(ref.id(), p);
      const std::byte* expected = files_[range.file].data() + range.offset;
      if (std::memcmp(ref.part(p), expected, range.bytes) != 0) return false;
    }
    return true;
  }

 private:
  ExpertCatalog catalog_;
  std::vector<std::vector<std::byte>> files_;
};

// A plan with exactly `slot_count` slots a class.
inline CachePlan PlanWithSlots(const ExpertFiles& files, int slot_count, size_t alignment,
                               int pins_min = 1) {
  CachePlan plan =
      *PlanCache(files.catalog(), {.ram_bytes = UINT64_MAX}, pins_min, files.Alignments(alignment));
  plan.arena_bytes = 0;
  for (SlotClass& c : plan.classes) {
    c.slot_count = std::min<int64_t>(slot_count, c.expert_count);
    plan.arena_bytes += c.slot_bytes * static_cast<uint64_t>(c.slot_count);
  }
  return plan;
}

// Uses of experts by runs that never were, for the policies that need them.
inline std::vector<uint32_t> MadeUpProfile(size_t key_count) {
  std::vector<uint32_t> uses(key_count);
  for (size_t key = 0; key < key_count; ++key) uses[key] = static_cast<uint32_t>(key * 7 % 5);
  return uses;
}

inline CacheOptions RamOnly(std::string policy = "lru", int layer_floor = 0) {
  CacheOptions options;
  options.tiers = {{.budget_bytes = UINT64_MAX, .policy = std::move(policy)}};
  options.layer_floor = layer_floor;
  return options;
}

}  // namespace stoker
