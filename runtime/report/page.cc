// Puts sections into the skeleton of the page.
#include <fmt/format.h>

#include <vector>

#include "runtime/report/html.h"
#include "runtime/report/page_assets.h"
#include "runtime/report/report.h"
#include "runtime/report/sections.h"

namespace stoker {
namespace {

struct Page {
  std::string title;     // plain text
  std::string subtitle;  // plain text
  std::vector<Section> sections;
};

// What stands for the placeholder `name` of page.html.
std::string Fill(const Page& page, std::string_view name) {
  if (name == "style") return std::string(PageStyle());
  if (name == "script") return std::string(PageScript());
  if (name == "title") return EscapeHtml(page.title);
  if (name == "subtitle") return EscapeHtml(page.subtitle);
  std::string html;
  for (const Section& section : page.sections) {
    html += name == "contents" ? fmt::format("<li><a href=\"#{}\">{}</a></li>", section.id,
                                             EscapeHtml(section.title))
                               : fmt::format(
                                     "<section id=\"{0}\" aria-labelledby=\"{0}-title\">\n<h2 "
                                     "id=\"{0}-title\">{1}</h2>\n{2}</section>\n",
                                     section.id, EscapeHtml(section.title), section.html);
  }
  return html;
}

// Replaces each "{{name}}" of the skeleton, once: what is filled in is not looked at again.
std::string Render(const Page& page) {
  std::string html;
  std::string_view rest = PageSkeleton();
  while (!rest.empty()) {
    const size_t open = rest.find("{{");
    html += rest.substr(0, open);
    if (open == std::string_view::npos) break;
    const size_t close = rest.find("}}", open);
    html += Fill(page, rest.substr(open + 2, close - open - 2));
    rest.remove_prefix(close + 2);
  }
  return html;
}

// The last part of a path.
std::string ShortName(const std::string& model) {
  const size_t slash = model.find_last_of('/');
  const std::string name = slash == std::string::npos ? model : model.substr(slash + 1);
  return name.empty() ? "a model without a name" : name;
}

}  // namespace

std::string RenderReport(const Trace& trace, const ReportOptions& options) {
  const RunAnalysis run = AnalyzeRun(trace, options);
  return Render(
      {.title = "Run of " + ShortName(run.header.model),
       .subtitle = "What was routed where, what it cost, and why",
       .sections = {FactsSection(run), LatencySection(run), CausesSection(run), SpikesSection(run),
                    HitsSection(run), HeatSection(run), ReuseSection(run), PrefetchSection(run),
                    DraftSection(run), EntropySection(run)}});
}

std::string RenderComparison(const Trace& first, const Trace& other) {
  const RunAnalysis a = AnalyzeRun(first, {});
  const RunAnalysis b = AnalyzeRun(other, {});
  const RunPair runs = {a, b};
  return Render(
      {.title = fmt::format("A: {}, B: {}", ShortName(a.header.model), ShortName(b.header.model)),
       .subtitle = "Two runs held against each other",
       .sections = {NumbersOfBothSection(runs), LatencyOfBothSection(runs),
                    CausesOfBothSection(runs), HitsOfBothSection(runs), EntropyOfBothSection(runs),
                    AgreementSection(CompareChoices(first, other))}});
}

}  // namespace stoker
