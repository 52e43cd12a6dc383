// Percentiles, buckets and spikes.
#include "runtime/report/latency.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace stoker {
namespace {

constexpr size_t kCauses = static_cast<size_t>(Cause::kCount);

// A step that ended a gap for each of its decoding rows.
struct DecodeStep {
  const TraceStep* step = nullptr;
  int64_t rows = 0;
};

std::vector<DecodeStep> DecodeSteps(const Trace& trace, Latency& latency) {
  std::vector<DecodeStep> decode;
  for (const TraceStep& step : trace.steps) {
    int64_t prompt_rows = 0, draft_rows = 0;
    for (int64_t r = 0; r < step.rows.count; ++r) {
      const TraceRow& row = trace.rows[static_cast<size_t>(step.rows.first + r)];
      prompt_rows += row.is_prompt ? 1 : 0;
      draft_rows += row.is_draft ? 1 : 0;
    }
    const int64_t rows = step.rows.count - prompt_rows - draft_rows;
    latency.is_timed |= step.wall_ns > 0;
    latency.prompt_rows += prompt_rows;
    if (prompt_rows > 0) latency.prompt_wall_ns += step.wall_ns;
    const bool has_failed = step.wall_ns > 0 && step.tokens == 0;
    if (rows > 0 && !has_failed) decode.push_back({&step, rows});
  }
  return decode;
}

GapPercentiles PercentilesOf(const std::vector<DecodeStep>& sorted, int64_t count) {
  const auto at = [&](int64_t mille) {
    const int64_t rank = std::max<int64_t>(1, (count * mille + 999) / 1000);
    int64_t seen = 0;
    for (const DecodeStep& decode : sorted) {
      seen += decode.rows;
      if (seen >= rank) return decode.step->wall_ns;
    }
    return sorted.back().step->wall_ns;
  };
  return {count, at(500), at(900), at(990), at(999), sorted.back().step->wall_ns};
}

void AddTo(CauseTimes& sum, const CauseTimes& causes) {
  for (size_t c = 0; c < kCauses; ++c) sum[c] += causes[c];
}

TimeBucket BucketOf(const std::vector<DecodeStep>& decode, int64_t first, int64_t count) {
  TimeBucket bucket = {.first_step = first, .step_count = count};
  std::vector<int64_t> walls;
  for (int64_t i = first; i < first + count; ++i) {
    const TraceStep& step = *decode[static_cast<size_t>(i)].step;
    walls.push_back(step.wall_ns);
    AddTo(bucket.causes, step.causes);
  }
  for (int64_t& ns : bucket.causes) ns /= count;
  std::sort(walls.begin(), walls.end());
  bucket.median_ns = walls[(walls.size() - 1) / 2];
  bucket.max_ns = walls.back();
  return bucket;
}

std::vector<GapBin> HistogramOf(const std::vector<DecodeStep>& sorted) {
  const double low = static_cast<double>(std::max<int64_t>(1, sorted.front().step->wall_ns));
  const double high = std::max(low, static_cast<double>(sorted.back().step->wall_ns));
  const double decades = std::log10(high / low);
  const int bins = std::clamp(static_cast<int>(std::ceil(decades * 24)), 1, kHistogramBinsMax);
  std::vector<GapBin> histogram(static_cast<size_t>(bins));
  for (int b = 0; b < bins; ++b) {
    histogram[static_cast<size_t>(b)] = {
        .from_ns = static_cast<int64_t>(low * std::pow(high / low, double(b) / bins)),
        .to_ns = static_cast<int64_t>(low * std::pow(high / low, double(b + 1) / bins))};
  }
  histogram.back().to_ns = sorted.back().step->wall_ns;
  size_t bin = 0;
  for (const DecodeStep& decode : sorted) {
    while (bin + 1 < histogram.size() && decode.step->wall_ns >= histogram[bin].to_ns) ++bin;
    histogram[bin].count += decode.rows;
  }
  return histogram;
}

// The lower median of each cause alone.
CauseTimes MedianCauses(const std::vector<DecodeStep>& decode) {
  CauseTimes medians = {};
  std::vector<int64_t> values(decode.size());
  for (size_t c = 0; c < kCauses; ++c) {
    for (size_t i = 0; i < decode.size(); ++i) values[i] = decode[i].step->causes[c];
    const auto middle = values.begin() + static_cast<ptrdiff_t>((values.size() - 1) / 2);
    std::nth_element(values.begin(), middle, values.end());
    medians[c] = *middle;
  }
  return medians;
}

Spike SpikeOf(const Trace& trace, const TraceStep& step, int64_t decode_step,
              const CauseTimes& medians) {
  Spike spike = {.decode_step = decode_step,
                 .step = step.step,
                 .wall_ns = step.wall_ns,
                 .causes = step.causes,
                 .hits = step.hits,
                 .misses = step.misses_count};
  for (size_t c = 0; c < kCauses; ++c) {
    const int64_t excess_ns = step.causes[c] - medians[c];
    if (excess_ns <= spike.excess_ns) continue;
    spike.excess_ns = excess_ns;
    spike.excess_cause = static_cast<Cause>(c);
  }
  const auto first = trace.misses.begin() + step.misses.first;
  spike.worst_misses.assign(first, first + step.misses.count);
  std::stable_sort(spike.worst_misses.begin(), spike.worst_misses.end(),
                   [](const MissRecord& a, const MissRecord& b) { return a.read_ns > b.read_ns; });
  return spike;
}

std::vector<Spike> SpikesOf(const Trace& trace, const std::vector<DecodeStep>& decode,
                            int64_t median_ns) {
  std::vector<int64_t> order;
  for (size_t i = 0; i < decode.size(); ++i) {
    const double wall_ns = static_cast<double>(decode[i].step->wall_ns);
    if (wall_ns > kSpikeMedians * static_cast<double>(median_ns)) {
      order.push_back(static_cast<int64_t>(i));
    }
  }
  std::stable_sort(order.begin(), order.end(), [&decode](int64_t a, int64_t b) {
    return decode[static_cast<size_t>(a)].step->wall_ns >
           decode[static_cast<size_t>(b)].step->wall_ns;
  });
  order.resize(std::min(order.size(), kSpikesMax));
  const CauseTimes medians = MedianCauses(decode);
  std::vector<Spike> spikes;
  for (const int64_t index : order) {
    spikes.push_back(SpikeOf(trace, *decode[static_cast<size_t>(index)].step, index, medians));
  }
  return spikes;
}

}  // namespace

Latency AnalyzeLatency(const Trace& trace) {
  Latency latency;
  const std::vector<DecodeStep> decode = DecodeSteps(trace, latency);
  latency.decode_steps = static_cast<int64_t>(decode.size());
  int64_t gap_count = 0;
  for (const DecodeStep& d : decode) {
    gap_count += d.rows;
    latency.tokens += d.rows + d.step->drafts_right;
    latency.wall_ns += d.step->wall_ns;
    AddTo(latency.causes, d.step->causes);
  }
  if (!latency.is_timed || decode.empty()) return latency;

  latency.bucket_steps = (latency.decode_steps + kTimeBucketsMax - 1) / kTimeBucketsMax;
  for (int64_t first = 0; first < latency.decode_steps; first += latency.bucket_steps) {
    latency.buckets.push_back(
        BucketOf(decode, first, std::min(latency.bucket_steps, latency.decode_steps - first)));
  }
  std::vector<DecodeStep> sorted = decode;
  std::stable_sort(sorted.begin(), sorted.end(), [](const DecodeStep& a, const DecodeStep& b) {
    return a.step->wall_ns < b.step->wall_ns;
  });
  latency.gaps = PercentilesOf(sorted, gap_count);
  latency.histogram = HistogramOf(sorted);
  const size_t slowest = (sorted.size() + 99) / 100;
  for (size_t i = sorted.size() - slowest; i < sorted.size(); ++i) {
    AddTo(latency.slowest_causes, sorted[i].step->causes);
  }
  latency.spikes = SpikesOf(trace, decode, latency.gaps.p50_ns);
  return latency;
}

}  // namespace stoker
