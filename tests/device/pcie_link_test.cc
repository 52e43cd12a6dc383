// Links read from directories that look like a system's.
#include "device/pcie_link.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

class PcieLinkTest : public ::testing::Test {
 protected:
  void Put(const std::string& name, const std::string& text) {
    const std::filesystem::path file = root_.File("sys/bus/pci/devices/0000:3b:00.0/" + name);
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  PcieLink Read(std::string_view bus_id = "0000:3b:00.0") const {
    return ReadPcieLink(bus_id, root_.path());
  }

  TemporaryDirectory root_;
};

TEST_F(PcieLinkTest, LinkAndNodeAreRead) {
  Put("current_link_speed", "16.0 GT/s PCIe\n");
  Put("current_link_width", "16\n");
  Put("max_link_speed", "16.0 GT/s PCIe\n");
  Put("max_link_width", "16\n");
  Put("numa_node", "1\n");
  for (const std::string_view bus_id : {"0000:3b:00.0", "0000:3B:00.0"}) {
    const PcieLink link = Read(bus_id);
    EXPECT_EQ(link.generation, 4);
    EXPECT_EQ(link.width, 16);
    EXPECT_EQ(link.generation_max, 4);
    EXPECT_EQ(link.width_max, 16);
    EXPECT_EQ(link.numa_node, 1);
    EXPECT_EQ(Describe(link), "PCIe 4.0 x16");
  }
}

TEST_F(PcieLinkTest, EveryGenerationIsKnown) {
  int generation = 0;
  for (const char* speed : {"2.5 GT/s PCIe", "5.0 GT/s PCIe", "8 GT/s", "16.0 GT/s PCIe",
                            "32.0 GT/s PCIe", "64.0 GT/s PCIe"}) {
    Put("current_link_speed", speed);
    EXPECT_EQ(Read().generation, ++generation) << speed;
  }
}

TEST_F(PcieLinkTest, LinkThatIdlesSaysWhatItCanDo) {
  Put("current_link_speed", "2.5 GT/s PCIe\n");
  Put("current_link_width", "8\n");
  Put("max_link_speed", "32.0 GT/s PCIe\n");
  Put("max_link_width", "16\n");
  EXPECT_EQ(Describe(Read()), "PCIe 1.0 x8 (up to 5.0 x16)");
}

TEST_F(PcieLinkTest, WhatCannotBeReadIsNotKnown) {
  Put("current_link_speed", "Unknown\n");
  Put("current_link_width", "255\n");
  Put("max_link_speed", "17 GT/s\n");
  Put("max_link_width", "many\n");
  Put("numa_node", "-1\n");
  const PcieLink link = Read();
  EXPECT_EQ(link.generation, 0);
  EXPECT_EQ(link.width, 0);
  EXPECT_EQ(link.generation_max, 0);
  EXPECT_EQ(link.width_max, 0);
  EXPECT_EQ(link.numa_node, -1);
  EXPECT_EQ(Describe(link), "PCIe link not known");
  EXPECT_EQ(Read("0000:ff:00.0").generation, 0);
  EXPECT_EQ(Read("").numa_node, -1);
}

}  // namespace
}  // namespace stoker
