// Which experts in RAM the host computes and which are copied to the device.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace stoker {

// Where experts are computed. Those in VRAM always by the device.
enum class PlaceRule : uint8_t {
  kAuto,  // those in RAM by the host or, after a copy, by the device, so that both end together
  kGpu,   // all by the device; what comes from a file is copied on
  kCpu,   // those in RAM, and what comes from a file, by the host
  kCopy,  // those in RAM by the device after a copy; what comes from a file by the host
};

// What the machine does with experts, measured: bytes of weights per second. A copy to the device
// reads the memory that the host computes from, so each is measured beside the other too. 0: not
// known.
struct LinkRates {
  double host = 0;      // computed by the host, for one row
  double host_row = 0;  // the same times rows, when there are many: bound by arithmetic
  double copy_in = 0;   // host to device
  double copy_out = 0;  // device to host
  double host_beside_copy = 0;
  double copy_beside_host = 0;
  double device = 0;  // computed by the device, for one row: what its memory carries
  double drive = 0;   // read from files
  friend bool operator==(const LinkRates&, const LinkRates&) = default;
};
// All of them, in the order in which traces hold them.
inline constexpr double LinkRates::*kLinkRateFields[] = {&LinkRates::host,
                                                         &LinkRates::host_row,
                                                         &LinkRates::copy_in,
                                                         &LinkRates::copy_out,
                                                         &LinkRates::host_beside_copy,
                                                         &LinkRates::copy_beside_host,
                                                         &LinkRates::device,
                                                         &LinkRates::drive};
// In whole bytes a second, as traces hold them; what is not above zero is 0.
LinkRates WholeRates(const LinkRates& rates);

// An expert in RAM that a step needs.
struct PlaceCandidate {
  int32_t key = 0;
  uint64_t bytes = 0;
  int32_t rows = 1;
  bool is_worth_keeping = false;  // in VRAM, once it is there: goes first among equals
};

struct PlaceQuestion {
  PlaceRule rule = PlaceRule::kAuto;
  LinkRates rates;
  bool is_from_file = false;          // the candidates came from files just now
  uint64_t device_backlog_bytes = 0;  // DevicePassBytes of the experts that are in VRAM already
};

// What the device reads to compute an expert: one pass over its weights serves up to 8 rows.
uint64_t DevicePassBytes(uint64_t bytes, int32_t rows);

// Puts those that are to be copied to the device first, in the order to copy them, and returns how
// many they are. Depends on its arguments only; allocates nothing.
//
// kAuto takes the split that ends first by this model: the host takes max(bytes / host, bytes *
// rows / host_row) for an expert, a copy bytes / copy_in, both at their rates beside each other
// while both are busy; the device computes what is in VRAM meanwhile and a copied expert when it
// is there. The experts of a layer are of one size, so a copy costs the same for each and the host
// is rid of most by those with the most rows: only how many is searched for, and equal ends mean
// the fewest. (A device that computes more slowly than the host would have them the other way
// round; there is none.) Without host and copy_in it copies nothing.
int ChoosePlaces(const PlaceQuestion& question, absl::Span<PlaceCandidate> experts);
// When the last expert is computed, in seconds, if the first `copy_count` are copied.
double PlacedSeconds(const PlaceQuestion& question, absl::Span<const PlaceCandidate> experts,
                     int copy_count);

// Live estimates of the rates. A sample counts for 1 / kSampleShare; the first of a rate that is
// not known is taken whole. Samples of less than kSampleBytesMin say more about latency than about
// a rate and are passed over. The plain rate and the one beside the other are told apart by the
// caller.
class LinkEstimates {
 public:
  static constexpr double kSampleShare = 8;
  static constexpr uint64_t kSampleBytesMin = 256 << 10;

  explicit LinkEstimates(const LinkRates& rates) : rates_(rates) {}
  const LinkRates& rates() const { return rates_; }

  // Arguments as ExpertProvider::NoteHostCompute. The sample is of the bound that takes the longer
  // by the present estimates: memory (host) or arithmetic (host_row).
  void NoteHost(uint64_t bytes, uint64_t row_bytes, int64_t ns, bool is_beside_copy);
  void NoteCopyIn(uint64_t bytes, int64_t ns, bool is_beside_host);
  void NoteCopyOut(uint64_t bytes, int64_t ns);

 private:
  LinkRates rates_;
};

}  // namespace stoker
