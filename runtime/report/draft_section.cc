// What speculation did, drawn.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/units.h"
#include "runtime/report/html.h"
#include "runtime/report/plot.h"
#include "runtime/report/sections.h"

namespace stoker {
namespace {

std::string DraftTiles(const Drafts& drafts) {
  const double steps = static_cast<double>(std::max<int64_t>(1, drafts.steps));
  std::string tiles =
      Tile("Drafts checked", fmt::format("{}", drafts.checked),
           fmt::format("in {} of {} steps", drafts.steps_checked, drafts.steps)) +
      Tile("Of these right",
           FormatShare(static_cast<double>(drafts.right) / static_cast<double>(drafts.checked))) +
      Tile("Tokens a step and sequence", fmt::format("{:.2f}", drafts.tokens_a_row)) +
      Tile("Drafting", FormatDuration(std::llround(static_cast<double>(drafts.draft_ns) / steps)),
           "a step") +
      Tile("Spent on wrong drafts",
           FormatDuration(std::llround(static_cast<double>(drafts.wasted_ns) / steps)),
           "a step, estimated");
  if (drafts.prediction_error >= 0) {
    tiles += Tile("Steps' times were expected", FormatShare(drafts.prediction_error),
                  "off, in the median");
  }
  return Tiles(tiles);
}

}  // namespace

Section DraftSection(const RunAnalysis& run) {
  Section section = {.id = "drafts", .title = "Drafts"};
  const Drafts& drafts = run.drafts;
  if (drafts.checked == 0) {
    section.html = Missing("No drafts were checked in this run.");
    return section;
  }
  HtmlTable table("table-drafts", "Drafts by place", {"Place", "Checked", "Right", "Share"});
  std::vector<double> zeros, shares;
  std::vector<std::string> places;
  for (size_t place = 0; place < drafts.by_place.size(); ++place) {
    const DraftCount& count = drafts.by_place[place];
    const double share = static_cast<double>(count.right) / static_cast<double>(count.checked);
    places.push_back(fmt::format("{}", place + 1));
    zeros.push_back(0);
    shares.push_back(share);
    table.Add({fmt::format("draft {}", place + 1), fmt::format("{}", count.checked),
               fmt::format("{}", count.right), FormatShare(share)});
  }
  section.html = DraftTiles(drafts);
  if (places.empty()) return section;
  section.html += Render(
      {.id = "acceptance",
       .title = "How often drafts were right, by place behind the newest token",
       .summary = "Of those whose predecessors were all right: the others were not looked at.",
       .shapes = DrawColumns(zeros, shares, "c-draft"),
       .x_ticks = LabelEach(places),
       .y_ticks = Axis::Linear(0, 1).Ticks(5, LabelPercent),
       .x_title = "place",
       .y_title = "share that was right",
       .table = &table});
  return section;
}

}  // namespace stoker
