// The link between a card and the host, as the system files of PCIe devices tell it.
#pragma once

#include <string>
#include <string_view>

namespace stoker {

// 0: not known. A card that idles may have slowed its link down: now is then below max.
struct PcieLink {
  int generation = 0;
  int width = 0;
  int generation_max = 0;
  int width_max = 0;
  int numa_node = -1;  // of the host memory near it; -1: not known, or there is only one
};

// Of the device at `bus_id` ("0000:3b:00.0", in either case), under `root` (empty for the real one;
// a directory with sys/ for tests). What cannot be read is not known.
PcieLink ReadPcieLink(std::string_view bus_id, const std::string& root = "");

// "PCIe 4.0 x16", "PCIe 1.0 x16 (up to 4.0 x16)"; "PCIe link not known".
std::string Describe(const PcieLink& link);

}  // namespace stoker
