// What bench --links prints of what was measured.
#include "cli/link_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace stoker {
namespace {

LinkSurvey Survey() {
  LinkSurvey survey;
  survey.isa = "avx512";
  survey.threads = 2;
  survey.io = "uring";
  survey.device = "none";
  survey.experts = "Q4_K";
  survey.rows = {{.link = "drive", .beside = "", .rate = 2e9},
                 {.link = "copies to the device", .beside = "", .why_not = "no device"},
                 {.link = "drive", .beside = "experts by the processor", .rate = 1.5e9}};
  return survey;
}

std::string Print(std::string_view format) { return (*FindLinkFormat(format))(Survey()); }

TEST(LinkReport, EachRateStandsBesideItsShareOfTheLinkAlone) {
  const std::string markdown = Print("markdown");
  EXPECT_NE(markdown.find("| drive | nothing | 2.00 GB/s | 100 % |"), std::string::npos)
      << markdown;
  EXPECT_NE(markdown.find("| drive | experts by the processor | 1.50 GB/s | 75 % |"),
            std::string::npos)
      << markdown;
  const std::string csv = Print("csv");
  EXPECT_NE(csv.find("\"drive\",\"experts by the processor\",1.5e+09,0.75,\"\"\n"),
            std::string::npos)
      << csv;
}

TEST(LinkReport, LinkThatIsNotThereSaysWhyAndHasNoRate) {
  const std::string markdown = Print("markdown");
  EXPECT_NE(markdown.find("| copies to the device | | no device | |"), std::string::npos)
      << markdown;
  const nlohmann::json json = nlohmann::json::parse(Print("json"));
  ASSERT_EQ(json.at("rows").size(), 3u);
  EXPECT_EQ(json.at("rows").at(1).at("why_not"), "no device");
  EXPECT_FALSE(json.at("rows").at(1).contains("bytes_per_second"));
}

TEST(LinkReport, ShareIsNoneWhereTheLinkWasNotMeasuredAlone) {
  LinkSurvey survey;
  survey.rows = {{.link = "drive", .beside = "copies", .rate = 1e9}};
  const nlohmann::json json = nlohmann::json::parse((*FindLinkFormat("json"))(survey));
  EXPECT_EQ(json.at("rows").at(0).at("share_of_alone"), 0);
}

TEST(LinkReport, JsonNamesTheMachine) {
  const nlohmann::json json = nlohmann::json::parse(Print("json"));
  EXPECT_EQ(json.at("device"), "none");
  EXPECT_EQ(json.at("threads"), 2);
  EXPECT_EQ(json.at("experts"), "Q4_K");
}

TEST(LinkReport, UnknownFormatListsTheKnownOnes) {
  const auto format = FindLinkFormat("xml");
  ASSERT_FALSE(format.ok());
  EXPECT_NE(format.status().message().find("markdown, csv or json"), absl::string_view::npos);
}

}  // namespace
}  // namespace stoker
