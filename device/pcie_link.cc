// Reads current_link_speed and its neighbours.
#include "device/pcie_link.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <fstream>
#include <iterator>

namespace stoker {
namespace {

std::string FirstWordOf(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

int NumberIn(const std::string& path, int otherwise) {
  const std::string word = FirstWordOf(path);
  int number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  return error == std::errc() && end == word.data() + word.size() ? number : otherwise;
}

// "16.0 GT/s PCIe", and without the fraction on older kernels.
int GenerationIn(const std::string& path) {
  static constexpr double kTransfersPerSecond[] = {2.5, 5, 8, 16, 32, 64};
  const std::string word = FirstWordOf(path);
  double speed = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), speed);
  if (error != std::errc() || end != word.data() + word.size()) return 0;
  for (size_t i = 0; i < std::size(kTransfersPerSecond); ++i) {
    if (speed == kTransfersPerSecond[i]) return static_cast<int>(i) + 1;
  }
  return 0;
}

// Where there is no link, the system says width 0 or 255.
int WidthIn(const std::string& path) {
  const int width = NumberIn(path, 0);
  return width > 0 && width <= 32 ? width : 0;
}

std::string Lanes(int generation, int width) {
  return width == 0 ? fmt::format("{}.0", generation) : fmt::format("{}.0 x{}", generation, width);
}

}  // namespace

PcieLink ReadPcieLink(std::string_view bus_id, const std::string& root) {
  std::string folder = fmt::format("{}/sys/bus/pci/devices/", root);
  for (const char c : bus_id) {
    folder += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return {.generation = GenerationIn(folder + "/current_link_speed"),
          .width = WidthIn(folder + "/current_link_width"),
          .generation_max = GenerationIn(folder + "/max_link_speed"),
          .width_max = WidthIn(folder + "/max_link_width"),
          .numa_node = NumberIn(folder + "/numa_node", -1)};
}

std::string Describe(const PcieLink& link) {
  if (link.generation == 0) return "PCIe link not known";
  std::string text = "PCIe " + Lanes(link.generation, link.width);
  if (link.generation_max > link.generation || link.width_max > link.width) {
    const int generation_max = link.generation_max == 0 ? link.generation : link.generation_max;
    text += fmt::format(" (up to {})", Lanes(generation_max, link.width_max));
  }
  return text;
}

}  // namespace stoker
