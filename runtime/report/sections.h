// The sections of a page: each draws one part of a run's analysis, or says why it cannot.
#pragma once

#include <string>

#include "runtime/report/comparison.h"
#include "runtime/report/run_analysis.h"

namespace stoker {

struct Section {
  std::string id;     // of the anchor
  std::string title;  // plain text
  std::string html;
};

Section FactsSection(const RunAnalysis& run);
Section LatencySection(const RunAnalysis& run);
Section CausesSection(const RunAnalysis& run);
Section SpikesSection(const RunAnalysis& run);
Section HitsSection(const RunAnalysis& run);
Section HeatSection(const RunAnalysis& run);
Section ReuseSection(const RunAnalysis& run);
Section PrefetchSection(const RunAnalysis& run);
Section DraftSection(const RunAnalysis& run);
Section EntropySection(const RunAnalysis& run);

// Of two runs, A and B.
struct RunPair {
  const RunAnalysis& a;
  const RunAnalysis& b;
};
Section NumbersOfBothSection(const RunPair& runs);
Section LatencyOfBothSection(const RunPair& runs);
Section CausesOfBothSection(const RunPair& runs);
Section HitsOfBothSection(const RunPair& runs);
Section EntropyOfBothSection(const RunPair& runs);
Section AgreementSection(const Agreement& agreement);

// A sentence in place of a picture.
std::string Missing(const std::string& sentence);
// A number with its name; both plain text.
std::string Tile(const std::string& name, const std::string& value, const std::string& note = "");
std::string Tiles(const std::string& tiles);
// A bar across the page, parts by cause group, with its name before it.
std::string CauseBar(const std::string& name, const CauseTimes& causes);
std::string CauseLegend(const CauseTimes& causes);
std::string FormatShare(double share);  // "12.3 %"

}  // namespace stoker
