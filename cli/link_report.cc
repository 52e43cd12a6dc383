// A row for each link and what was busy beside it.
#include "cli/link_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/units.h"

namespace stoker {
namespace {

// Of the same link alone; 0 when that was not measured.
double AloneRate(const LinkSurvey& survey, std::string_view link) {
  for (const LinkRow& row : survey.rows) {
    if (row.link == link && row.beside.empty()) return row.rate;
  }
  return 0;
}

double ShareOfAlone(const LinkSurvey& survey, const LinkRow& row) {
  const double alone = AloneRate(survey, row.link);
  return alone > 0 ? row.rate / alone : 0;
}

std::string Markdown(const LinkSurvey& survey) {
  std::string text = fmt::format(
      "device: {}; {}, {} threads, {}; experts of {}\n\n"
      "| link | beside | rate | of alone |\n| --- | --- | ---: | ---: |\n",
      survey.device, survey.isa, survey.threads, survey.io, survey.experts);
  for (const LinkRow& row : survey.rows) {
    if (row.rate == 0) {
      text += fmt::format("| {} | | {} | |\n", row.link, row.why_not);
      continue;
    }
    text += fmt::format("| {} | {} | {} | {:.0f} % |\n", row.link,
                        row.beside.empty() ? "nothing" : row.beside, FormatRate(row.rate),
                        ShareOfAlone(survey, row) * 100);
  }
  return text;
}

std::string Csv(const LinkSurvey& survey) {
  std::string text = "link,beside,bytes_per_second,share_of_alone,why_not\n";
  for (const LinkRow& row : survey.rows) {
    text += fmt::format("\"{}\",\"{}\",{:.6g},{:.6g},\"{}\"\n", row.link, row.beside, row.rate,
                        ShareOfAlone(survey, row), row.why_not);
  }
  return text;
}

std::string Json(const LinkSurvey& survey) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const LinkRow& row : survey.rows) {
    nlohmann::ordered_json json = {{"link", row.link}, {"beside", row.beside}};
    if (row.rate == 0) {
      json["why_not"] = row.why_not;
    } else {
      json["bytes_per_second"] = row.rate;
      json["share_of_alone"] = ShareOfAlone(survey, row);
    }
    rows.push_back(json);
  }
  const nlohmann::ordered_json json = {{"device", survey.device},   {"isa", survey.isa},
                                       {"threads", survey.threads}, {"io", survey.io},
                                       {"experts", survey.experts}, {"rows", rows}};
  return json.dump(2) + "\n";
}

}  // namespace

absl::StatusOr<LinkFormat> FindLinkFormat(std::string_view name) {
  if (name == "markdown") return &Markdown;
  if (name == "csv") return &Csv;
  if (name == "json") return &Json;
  return absl::InvalidArgumentError(
      fmt::format("unknown format '{}'\n  try: markdown, csv or json", name));
}

}  // namespace stoker
