// Passes of multi-token prediction over a text, for the tests of them on the host and on a device.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/status.h"
#include "tests/model/loaded_model.h"

namespace stoker {

inline LoadedModel::Options WithMtp() {
  LoadedModel::Options options;
  options.with_mtp = true;
  options.model.mtp_rows_max = options.model.step_rows_max;
  return options;
}

// The row at `position` of a text whose states are known, [positions, hidden].
inline MtpRow RowAt(const std::vector<int32_t>& tokens, const std::vector<float>& states,
                    size_t position, int sequence = 0) {
  const size_t hidden = states.size() / tokens.size();
  return {.token = tokens[position + 1],
          .sequence = sequence,
          .position = static_cast<int32_t>(position),
          .hidden = states.data() + position * hidden,
          .wants_logits = true};
}

// Every guess that a text allows, of sequence 0, in passes of at most `chunk` rows.
inline MtpResult Guesses(LoadedModel& model, const std::vector<int32_t>& tokens,
                         const std::vector<float>& states, size_t chunk) {
  MtpResult all;
  model.mtp_kv().Truncate(0, 0);
  for (size_t first = 0; first + 1 < tokens.size(); first += chunk) {
    std::vector<MtpRow> rows;
    for (size_t i = first; i < std::min(tokens.size() - 1, first + chunk); ++i) {
      rows.push_back(RowAt(tokens, states, i));
    }
    const absl::StatusOr<MtpResult> pass = model.RunMtp(rows);
    EXPECT_TRUE(pass.ok()) << MessageOf(pass.status());
    if (!pass.ok()) return all;
    all.logits.insert(all.logits.end(), pass->logits.begin(), pass->logits.end());
    all.normed.insert(all.normed.end(), pass->normed.begin(), pass->normed.end());
  }
  return all;
}

}  // namespace stoker
