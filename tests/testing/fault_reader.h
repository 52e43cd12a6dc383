// A block reader that goes wrong on purpose, as drives and kernels do, by seed.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "io/block_reader.h"

namespace stoker {

// Wraps a reader and spoils its completions. What happens to a read is decided by the seed, the
// place that it reads and how often that place was read before, not by the order of completion, so
// a run over a real drive can be repeated.
class FaultReader final : public BlockReader {
 public:
  // Chances are per read, in [0, 1]; at most one of them strikes a read.
  struct Faults {
    uint64_t seed = 1;
    double short_read = 0;   // fewer bytes than read, a multiple of the alignment, at least one
    double io_error = 0;     // -EIO
    double interrupted = 0;  // -EINTR
    double try_again = 0;    // -EAGAIN
    double stall = 0;        // the completion is withheld for stall_reaps calls of Reap
    double bit_flip = 0;     // one bit of the data is inverted; the read claims success
    int stall_reaps = 3;
    // Errors and short reads in a row for reads that end at the same place (a resumed read does);
    // then one is let through. An owner that retries more often than this always recovers.
    int consecutive_max = 2;
  };
  // Requires that `inner` outlives this reader.
  FaultReader(BlockReader& inner, const Faults& faults) : inner_(inner), faults_(faults) {}

  // Every read that touches [begin, end) of a file fails with `error` (EIO, say), `times` times
  // (-1: for ever).
  void FailRange(int file, uint64_t begin, uint64_t end, int error, int times = -1);
  // The next `times` reads that cover the byte get its bit 0 inverted, and claim success.
  void FlipByte(int file, uint64_t offset, int times = 1);
  // Takes back what the two above asked for.
  void Mend() { ranges_.clear(); }
  // How many reads were spoiled, stalls included.
  uint64_t injected() const { return injected_; }

  std::string_view name() const override { return inner_.name(); }
  absl::StatusOr<int> AddFile(const std::string& path) override { return inner_.AddFile(path); }
  size_t alignment(int file) const override { return inner_.alignment(file); }
  absl::StatusOr<FileIdentity> Identify(int file) const override { return inner_.Identify(file); }
  void RegisterMemory(absl::Span<std::byte> memory) override { inner_.RegisterMemory(memory); }
  void Submit(const ReadRequest& request, ReadPriority priority) override;
  bool Promote(uint64_t tag) override { return inner_.Promote(tag); }
  bool Cancel(uint64_t tag) override { return inner_.Cancel(tag); }
  void Kick() override { inner_.Kick(); }
  size_t Reap(absl::Span<ReadCompletion> completions, Wait wait) override;
  size_t in_flight() const override { return inner_.in_flight() + held_.size(); }
  std::string notice() const override { return inner_.notice(); }
  void Report(CounterVisitor& visitor) const override { inner_.Report(visitor); }

 private:
  struct Place {
    uint64_t reads = 0;
    int consecutive = 0;
  };
  struct Range {
    int file = 0;
    uint64_t begin = 0, end = 0;
    int error = 0;  // 0: flip
    int times = 0;
  };
  struct Held {
    ReadCompletion completion;
    int reaps = 0;
  };

  bool SpoilByRange(const ReadRequest& request, ReadCompletion& completion);
  void SpoilByChance(const ReadRequest& request, ReadCompletion& completion, int& stall_reaps);
  void Take(ReadCompletion completion);
  size_t Release(absl::Span<ReadCompletion> completions);

  BlockReader& inner_;
  const Faults faults_;
  std::map<uint64_t, ReadRequest> requests_;          // by tag
  std::map<std::pair<int, uint64_t>, Place> places_;  // by file and end
  std::vector<Range> ranges_;
  std::vector<Held> held_;  // in order of arrival
  uint64_t injected_ = 0;
};

}  // namespace stoker
