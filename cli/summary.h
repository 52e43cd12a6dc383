// What a run cost, for people and for programs.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "runtime/statistics.h"

namespace stoker {

// Speeds, hit rate, bytes read, time by cause, time between tokens, the slowest token and why.
std::string FormatSummary(const RunSummary& summary);
nlohmann::ordered_json SummaryJson(const RunSummary& summary);

// The device of a run, and the rates by which experts are placed, in a line or two.
std::string FormatDevice(const EngineInfo& info);
// The same, with where experts are now: null without a device.
nlohmann::ordered_json DeviceJson(const Engine& engine);

// What speculation did, and why it was on or off, in a line; empty without a drafter.
std::string FormatDrafts(const DraftTotals& drafts);
// The same: null without a drafter.
nlohmann::ordered_json DraftsJson(const DraftTotals& drafts);

// Nanoseconds by cause name.
nlohmann::ordered_json CausesJson(const CauseTimes& causes);

// "wait_drive 61 %, expert_compute 22 %, ...": the largest first, those under 0.5 % left out.
std::string FormatCauses(const CauseTimes& causes);
// Why an expert had to be read: "layer 4 expert 31, evicted in step 12, read in 3.2 ms".
std::string FormatMiss(const MissRecord& miss);

// One JSON value on a line. Bytes that are no UTF-8 become U+FFFD.
std::string JsonLine(const nlohmann::ordered_json& value);

}  // namespace stoker
