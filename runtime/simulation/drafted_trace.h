// What a recorded run would have asked for if its steps had checked drafts.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/trace/trace.h"

namespace stoker {

// How often drafts are right, by place: of those whose predecessors were. The last entry holds for
// all places behind it.
using AcceptanceByPlace = std::vector<double>;

// As the run itself found, from traces of runs with drafts; empty for others.
AcceptanceByPlace AcceptanceOf(const Trace& trace);

// The same tokens in other steps: each decoding sequence has its next token and `length` drafts in
// every step, and goes on by one more than were right, which is drawn by `seed` with those chances.
// A wrong draft's experts are taken to be those of the token that came: what a wrong token would
// have used nobody knows. Prompts stay as they were. Steps have no times of their own.
Trace WithDrafts(const Trace& trace, int length, const AcceptanceByPlace& acceptance,
                 uint64_t seed);

}  // namespace stoker
