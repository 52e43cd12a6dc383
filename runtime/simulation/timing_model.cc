// Fits and applies the arithmetic of a step's time.
#include "runtime/simulation/timing_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/units.h"

namespace stoker {
namespace {

using Value = TimingModel::Value;

// Sums over the steps that only decode.
struct Sums {
  double wall_ns = 0;
  double waits_ns = 0;  // for drive and copies
  double expert_ns = 0;
  double expert_bytes = 0;  // that the processor computed
  double read_bytes = 0;
  double drive_busy_ns = 0;
  double layers = 0;  // steps x layers with routed experts
};

double Cost(const TraceStep& step, Cause cause) {
  return static_cast<double>(step.causes[static_cast<size_t>(cause)]);
}

bool OnlyDecodes(const Trace& trace, const TraceStep& step) {
  for (int64_t i = 0; i < step.rows.count; ++i) {
    if (trace.rows[step.rows.first + i].is_prompt) return false;
  }
  return step.rows.count > 0;
}

Sums SumDecoding(const Trace& trace) {
  Sums sums;
  for (const TraceStep& step : trace.steps) {
    if (step.wall_ns == 0 || !OnlyDecodes(trace, step)) continue;
    sums.wall_ns += static_cast<double>(step.wall_ns);
    sums.waits_ns += Cost(step, Cause::kWaitDrive) + Cost(step, Cause::kWaitCopy);
    sums.expert_ns += Cost(step, Cause::kExpertCompute);
    sums.read_bytes += static_cast<double>(step.read_bytes);
    sums.drive_busy_ns += static_cast<double>(step.drive_busy_ns);
    const auto experts = static_cast<double>(step.host_experts + step.device_experts);
    const double host_share =
        experts > 0 ? static_cast<double>(step.host_experts) / experts : 1;  // of the bytes, about
    for (int64_t i = 0; i < step.routings.count; ++i) {
      const TraceRouting& routing = trace.routings[step.routings.first + i];
      sums.expert_bytes +=
          host_share * static_cast<double>(routing.id_count) *
          static_cast<double>(trace.header.layers[routing.layer_index].expert_bytes);
      sums.layers += 1;
    }
  }
  return sums;
}

void Choose(const std::optional<double>& given, double fitted, Value& value) {
  if (given.has_value()) {
    value = {*given, Value::Source::kGiven};
  } else if (fitted > 0) {
    value = {fitted, Value::Source::kTrace};
  }
}

std::string_view NameOf(Value::Source source) {
  constexpr std::string_view kNames[] = {"assumed", "from the trace", "given"};
  return kNames[static_cast<size_t>(source)];
}

std::string RateText(const Value& rate) {
  return fmt::format("{} ({})", FormatRate(rate.value), NameOf(rate.source));
}

std::string DurationText(const Value& ns) {
  return fmt::format("{} ({})", FormatDuration(std::llround(ns.value)), NameOf(ns.source));
}

}  // namespace

int64_t TimingModel::DriveNs(uint64_t read_bytes) const {
  if (read_bytes == 0) return 0;
  return std::llround(drive_latency_ns.value +
                      static_cast<double>(read_bytes) * 1e9 / drive_rate.value);
}

int64_t TimingModel::ExpertNs(uint64_t bytes) const {
  return std::llround(static_cast<double>(bytes) * 1e9 / expert_rate.value);
}

int64_t TimingModel::DeviceNs(uint64_t bytes) const {
  return std::llround(device_latency_ns.value +
                      static_cast<double>(bytes) * 1e9 / device_rate.value);
}

int64_t TimingModel::LayerNs(const LayerWork& work) const {
  const int64_t arrival_ns =
      work.read_bytes == 0 ? 0 : DriveNs(work.read_bytes) + ExpertNs(work.last_bytes);
  return std::llround(layer_ns.value) + std::max(ExpertNs(work.expert_bytes), arrival_ns);
}

TimingModel FitTiming(const Trace& trace, const TimingOptions& options) {
  const Sums sums = SumDecoding(trace);
  const auto ratio = [](double a, double b) { return a > 0 && b > 0 ? a / b : 0; };
  TimingModel timing;
  // While a read was under way: latencies are in it.
  Choose(options.drive_rate, ratio(sums.read_bytes * 1e9, sums.drive_busy_ns), timing.drive_rate);
  Choose(options.drive_latency_ns, 0, timing.drive_latency_ns);
  if (timing.drive_rate.source == Value::Source::kTrace && !options.drive_latency_ns.has_value()) {
    timing.drive_latency_ns = {0, Value::Source::kTrace};
  }
  const LinkRates links = trace.links.value_or(LinkRates());
  const double expert_rate = ratio(sums.expert_bytes * 1e9, sums.expert_ns);
  Choose(options.expert_rate, expert_rate > 0 ? expert_rate : links.host, timing.expert_rate);
  Choose(options.layer_ns, ratio(sums.wall_ns - sums.waits_ns - sums.expert_ns, sums.layers),
         timing.layer_ns);
  Choose(options.copy_in_rate, links.copy_in, timing.copy_in_rate);
  Choose(options.copy_out_rate, links.copy_out, timing.copy_out_rate);
  Choose(options.copy_latency_ns, 0, timing.copy_latency_ns);
  Choose(options.device_rate, links.device, timing.device_rate);
  Choose(options.device_latency_ns, 0, timing.device_latency_ns);
  return timing;
}

std::string FormatTiming(const TimingModel& timing) {
  return fmt::format("drive {} after {}, experts computed at {}, {} a layer for the rest ({})",
                     RateText(timing.drive_rate), DurationText(timing.drive_latency_ns),
                     RateText(timing.expert_rate),
                     FormatDuration(std::llround(timing.layer_ns.value)),
                     NameOf(timing.layer_ns.source));
}

std::string FormatDeviceTiming(const TimingModel& timing) {
  return fmt::format("copies to the device {}, from it {}, after {}, experts there at {} after {}",
                     RateText(timing.copy_in_rate), RateText(timing.copy_out_rate),
                     DurationText(timing.copy_latency_ns), RateText(timing.device_rate),
                     DurationText(timing.device_latency_ns));
}

}  // namespace stoker
