// Claims of the page: what it holds, what it leaves out and says so, and that it is safe.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/report/cause_group.h"
#include "runtime/report/html.h"
#include "runtime/report/plot.h"
#include "runtime/report/report.h"
#include "runtime/simulation/drafted_trace.h"
#include "tests/runtime/synthetic_trace.h"

namespace stoker {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Html, WhatCouldBeMarkupIsEscaped) {
  EXPECT_EQ(EscapeHtml("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
  EXPECT_EQ(EscapeHtml("Größe 模型 🚂"), "Größe 模型 🚂");
}

TEST(Html, WhatIsNoUtf8OrAControlIsReplaced) {
  EXPECT_EQ(EscapeHtml(std::string_view("a\0b", 3)),
            "a\xEF\xBF\xBD"
            "b");
  EXPECT_EQ(EscapeHtml("\x1b[31m"), "\xEF\xBF\xBD[31m");
  EXPECT_EQ(EscapeHtml("\xFF\xC3"), "\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(EscapeHtml("\xC0\xAF"), "\xEF\xBF\xBD\xEF\xBF\xBD");           // overlong
  EXPECT_EQ(EscapeHtml("\xED\xA0\x80").substr(0, 3), "\xEF\xBF\xBD");      // half a surrogate
  EXPECT_EQ(EscapeHtml("\xF4\x90\x80\x80").substr(0, 3), "\xEF\xBF\xBD");  // beyond the last
}

TEST(Axis, ValuesAreClampedAndInOrder) {
  const Axis log = Axis::Log(1, 100);
  EXPECT_DOUBLE_EQ(log.At(10), 0.5);
  EXPECT_DOUBLE_EQ(log.At(0), 0);
  EXPECT_DOUBLE_EQ(log.At(1e9), 1);
  EXPECT_DOUBLE_EQ(Axis::Linear(0, 4).At(1), 0.25);
  EXPECT_DOUBLE_EQ(Axis::Linear(3, 3).At(3), 0);  // of no width
}

TEST(Axis, TicksAreRoundValuesWithUnits) {
  const std::vector<Tick> percent = Axis::Linear(0, 1).Ticks(5, LabelPercent);
  ASSERT_EQ(percent.size(), 6u);
  EXPECT_EQ(percent[0].label, "0 %");
  EXPECT_EQ(percent[1].label, "20 %");
  EXPECT_EQ(percent[5].label, "100 %");
  for (const double top : {1.5e3, 7.3e6, 2.1e9, 6e11}) {
    const size_t count = Axis::Linear(0, top).Ticks(5, LabelDuration).size();
    EXPECT_GE(count, 3u) << top;
    EXPECT_LE(count, 7u) << top;
  }
  EXPECT_EQ(Axis::Log(1e6, 1e9).Ticks(4, LabelDuration)[0].label, "1 ms");
  EXPECT_GE(Axis::Log(30e6, 34e6).Ticks(5, LabelDuration).size(), 2u);  // no power of ten inside
}

TEST(CauseGroups, EveryCauseIsInOneGroup) {
  for (size_t c = 0; c < static_cast<size_t>(Cause::kCount); ++c) {
    CauseTimes causes = {};
    causes[c] = 1;
    int64_t sum = 0;
    for (const CauseGroup& group : CauseGroups()) sum += TimeOf(group, causes);
    EXPECT_EQ(sum, 1) << NameOf(static_cast<Cause>(c));
    EXPECT_FALSE(LabelOf(static_cast<Cause>(c)).empty());
  }
}

TEST(Report, LoadsNothingFromElsewhere) {
  const std::string page = RenderReport(SyntheticTrace::Make({}), {});
  for (const char* word : {"http:", "https:", "<link", "<img", "@import", "fetch(", "src="}) {
    EXPECT_THAT(page, Not(HasSubstr(word)));
  }
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
  EXPECT_THAT(page, Not(HasSubstr("{{")));
}

TEST(Report, AModelsNameIsOnlyText) {
  const std::string page =
      RenderReport(SyntheticTrace::Make({.model = "</title><script>alert(1)</script>"}), {});
  EXPECT_THAT(page, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(1)&lt;/script&gt;"));
  // What is filled in is not looked at again.
  EXPECT_THAT(RenderReport(SyntheticTrace::Make({.model = "{{style}}"}), {}),
              HasSubstr("Run of {{style}}"));
}

TEST(Report, LengthIsBoundedByTheModelNotTheRun) {
  SyntheticTraceOptions options = {.experts = 16, .decode_steps = 500};
  const size_t longer = RenderReport(SyntheticTrace::Make(options), {}).size();
  options.decode_steps = 20000;
  EXPECT_LT(RenderReport(SyntheticTrace::Make(options), {}).size(), longer * 2);
  const Trace large =
      SyntheticTrace::Make({.layers = 58, .experts = 256, .top_k = 8, .decode_steps = 500});
  EXPECT_LT(RenderReport(large, {}).size(), 500'000u);
}

TEST(Report, SpikesSayWhichExpertWasMissingAndWhy) {
  const std::string page = RenderReport(SyntheticTrace::Make({}), {});
  EXPECT_THAT(page, HasSubstr("id=\"spike-1\""));
  EXPECT_THAT(page, HasSubstr("href=\"#spike-1\""));
  EXPECT_THAT(page, HasSubstr("evicted at step "));
  EXPECT_THAT(page, HasSubstr(" more than usual waiting for the drive"));
}

TEST(Report, SpikesSayWhenAHintWasLateOrDropped) {
  Trace trace = SyntheticTrace::Make({.prompt_rows = 0});
  const TraceStep& spike = trace.steps[49];
  ASSERT_GE(spike.misses.count, 4);
  MissRecord* misses = &trace.misses[static_cast<size_t>(spike.misses.first)];
  misses[0].reason = MissReason::kHintLate;
  misses[1].reason = MissReason::kHintDropped;
  misses[2].reason = MissReason::kNeverSeen;
  misses[3].evicted_step = spike.step;
  const std::string page = RenderReport(trace, {});
  EXPECT_THAT(page, HasSubstr("guessed, but the hint came late"));
  EXPECT_THAT(page, HasSubstr("guessed, but the hint was dropped"));
  EXPECT_THAT(page, HasSubstr("never seen before"));
  EXPECT_THAT(page, HasSubstr("evicted in this very step"));
}

TEST(Report, RatesStandBesideTheirCeilings) {
  const Trace trace = SyntheticTrace::Make({});
  EXPECT_THAT(RenderReport(trace, {}), HasSubstr("no ceiling given (--drive-ceiling)"));
  EXPECT_THAT(RenderReport(trace, {.drive_ceiling = 2e9}),
              HasSubstr("% of the 2.00 GB/s measured"));
}

TEST(Report, ForeignTracesGiveWhatTheyCan) {
  const std::string page = RenderReport(SyntheticTrace::Make({.has_times = false}), {});
  EXPECT_THAT(page, HasSubstr("The trace has no times"));
  EXPECT_THAT(page, HasSubstr("does not say what was in memory"));
  EXPECT_THAT(page, HasSubstr("Nothing was prefetched"));
  EXPECT_THAT(page, HasSubstr("id=\"heat\""));
  EXPECT_THAT(page, HasSubstr("id=\"reuse-room\""));
  EXPECT_THAT(page, HasSubstr("id=\"entropy-by-layer\""));
  EXPECT_THAT(page, Not(HasSubstr("id=\"latency-over-time\"")));
}

TEST(Report, AnEmptyTraceIsAPageThatSaysSo) {
  const std::string page = RenderReport(Trace{}, {});
  EXPECT_THAT(page, HasSubstr("No routing is in the trace"));
  EXPECT_THAT(page, HasSubstr("Run of a model without a name"));
}

TEST(Report, ACollapsedLayerIsWarnedOf) {
  EXPECT_THAT(RenderReport(SyntheticTrace::Make({.collapsed_layer = 2}), {}),
              HasSubstr("Layer 3 has collapsed"));
  EXPECT_THAT(RenderReport(SyntheticTrace::Make({}), {}), Not(HasSubstr("has collapsed")));
}

TEST(Report, PrefetchIsDrawnWhereThereWasSome) {
  const std::string page = RenderReport(SyntheticTrace::Make({.has_prefetch = true}), {});
  EXPECT_THAT(page, HasSubstr("id=\"guesses\""));
  EXPECT_THAT(page, HasSubstr("id=\"hints\""));
  EXPECT_THAT(page, Not(HasSubstr("Nothing was prefetched")));
}

TEST(Report, DraftsAreDrawnWhereSomeWereChecked) {
  const Trace trace = SyntheticTrace::Make({});
  EXPECT_THAT(RenderReport(trace, {}), HasSubstr("No drafts were checked"));
  const std::string page = RenderReport(WithDrafts(trace, 3, {1.0}, 1), {});
  EXPECT_THAT(page, HasSubstr("id=\"acceptance\""));
  EXPECT_THAT(page, HasSubstr("4.00"));  // tokens a step
  EXPECT_THAT(page, Not(HasSubstr("No drafts were checked")));
}

TEST(Comparison, HoldsBothRunsAgainstEachOther) {
  const std::string page =
      RenderComparison(SyntheticTrace::Make({.model = "q8.gguf"}),
                       SyntheticTrace::Make({.other_choice = 0.2, .model = "<q4>.gguf"}));
  EXPECT_THAT(page, HasSubstr("A: q8.gguf, B: &lt;q4&gt;.gguf"));
  for (const char* id : {"latency-both", "hits-both", "entropy-both", "agreement-choices",
                         "agreement-best", "table-both"}) {
    EXPECT_THAT(page, HasSubstr(std::string("id=\"") + id + "\""));
  }
}

TEST(Comparison, SaysWhatCannotBeCompared) {
  const std::string page = RenderComparison(
      SyntheticTrace::Make({}), SyntheticTrace::Make({.layers = 4, .has_times = false}));
  EXPECT_THAT(page, HasSubstr("cannot be held against each other"));
  EXPECT_THAT(page, HasSubstr("At least one of the traces has no"));
}

}  // namespace
}  // namespace stoker
