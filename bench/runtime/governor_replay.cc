// What the governor of drafts makes of recorded routings: against none, and against the best fixed
// length, for drafters of set chances, without the noise of a machine but for what is added.
//
// The decoded tokens of a trace are dealt out over steps with drafts, as the governor asks for
// them; steps take the time of the simulator's model of drive and compute, and a share more for
// each row. What they miss is that of one least recently used cache. A wrong draft uses the experts
// of some token of the same sequence.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <list>
#include <random>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/status.h"
#include "model/model.h"
#include "runtime/simulation/simulation.h"
#include "runtime/simulation/slot_replay.h"
#include "runtime/simulation/timing_model.h"
#include "runtime/trace/trace.h"
#include "speculative/governor.h"
#include "speculative/shadow_cache.h"

namespace stoker {
namespace {

constexpr int kLengthMax = 8;

struct Flags {
  std::string trace;
  std::vector<double> shares = {0.5, 0.25};
  std::vector<double> chances = {0.5, 0.7, 0.8, 0.9};
  int seeds = 5;
  int tokens = 2000;
  uint64_t expert_bytes = 0;  // where the trace does not say
  double drive_rate = 3.5e9;
  double expert_rate = 5e10;
  double layer_us = 200;
  double row_share = 0.1;  // of a layer's time beside its experts, for each row more
  double draft_share = 0;  // of a step that misses nothing, for a round of drafts
  double noise = 0.1;
};

struct Token {
  std::vector<uint16_t> ids;  // [layers, top_k]
  bool begins = false;        // a sequence
};

// The tokens of a trace that were decoded one by one, as far as all layers are known of them.
std::vector<Token> TokensOf(const Trace& trace, int count) {
  std::vector<Token> tokens;
  int32_t sequence = -1;
  for (const TraceStep& step : trace.steps) {
    const TraceRow& row = trace.rows[static_cast<size_t>(step.rows.first)];
    const bool is_whole = step.routings.count == static_cast<int64_t>(trace.header.layers.size());
    if (row.is_prompt || step.rows.count != 1 || !is_whole) continue;
    Token token = {.begins = row.sequence != sequence};
    sequence = row.sequence;
    for (int64_t r = 0; r < step.routings.count; ++r) {
      const TraceRouting& routing = trace.routings[static_cast<size_t>(step.routings.first + r)];
      const auto ids = trace.ids.begin() + routing.first_id;
      token.ids.insert(token.ids.end(), ids, ids + routing.id_count);
    }
    tokens.push_back(std::move(token));
    if (static_cast<int>(tokens.size()) == count) break;
  }
  return tokens;
}

// What the store is in this bench: the shadow's own ring is part of what is measured.
class LruCache {
 public:
  LruCache(int keys, int64_t slot_count) : slot_count_(slot_count), places_(keys, order_.end()) {}
  // Of one layer of a step; how many of them were missing.
  int Use(const std::vector<int32_t>& keys) {
    int missing = 0;
    for (const int32_t key : keys) {
      auto& place = places_[static_cast<size_t>(key)];
      if (place != order_.end()) {
        order_.splice(order_.begin(), order_, place);
        continue;
      }
      ++missing;
      order_.push_front(key);
      place = order_.begin();
      if (static_cast<int64_t>(order_.size()) <= slot_count_) continue;
      places_[static_cast<size_t>(order_.back())] = order_.end();
      order_.pop_back();
    }
    return missing;
  }

 private:
  const int64_t slot_count_;
  std::list<int32_t> order_;  // the latest first
  std::vector<std::list<int32_t>::iterator> places_;
};

struct Outcome {
  double tokens_per_s = 0;
  double prediction_error = 0;  // median of |predicted / actual - 1|
};

// One run of one sequence after another.
class Run {
 public:
  Run(const Flags& flags, const Trace& trace, const std::vector<Token>& tokens, double share,
      double chance, int fixed_length, uint64_t seed)
      : flags_(flags),
        tokens_(tokens),
        chance_(chance),
        catalog_(CatalogOf(trace.header)),
        top_k_(static_cast<int>(tokens.front().ids.size() / catalog_.layers.size())),
        layers_(trace.header.layers),
        slot_count_(std::llround(share * static_cast<double>(catalog_.expert_count()))),
        cache_(static_cast<int>(catalog_.expert_count()), slot_count_),
        shadow_(catalog_, {.slot_count = slot_count_, .rows_max = 1 + kLengthMax, .top_k = top_k_}),
        governor_(GovernorOptions(fixed_length)),
        seed_(seed),
        random_(seed) {
    timing_.drive_rate.value = flags.drive_rate;
    timing_.expert_rate.value = flags.expert_rate;
    timing_.layer_ns.value = flags.layer_us * 1e3;
    for (const TraceHeader::Layer& layer : layers_) {
      const TimingModel::LayerWork work = {.expert_bytes = layer.expert_bytes * Count(top_k_)};
      draft_ns_ += flags.draft_share * static_cast<double>(timing_.LayerNs(work));
    }
  }

  Outcome Do() {
    for (size_t next = 0; next < tokens_.size();) next += Step(next);
    std::sort(errors_.begin(), errors_.end());
    return {.tokens_per_s = static_cast<double>(tokens_.size()) * 1e9 / total_ns_,
            .prediction_error = errors_.empty() ? 0 : errors_[errors_.size() / 2]};
  }

 private:
  static uint64_t Count(int count) { return static_cast<uint64_t>(count); }
  Governor::Options GovernorOptions(int fixed_length) const {
    std::vector<double> values;
    for (const ParameterRow& row : Governor::kParameters) values.push_back(row.value);
    return {.length_max = kLengthMax,
            .fixed_length = fixed_length,
            .is_drafting_free = flags_.draft_share == 0,
            .missing_max = static_cast<double>(tokens_.front().ids.size()),
            .shadow = &shadow_,
            .values = values};
  }
  // Whether a draft of the token at `index` is right, whoever makes it.
  bool IsRight(size_t index) const {
    std::mt19937_64 random(seed_ * 1'000'003 + index);
    random.discard(3);
    return std::uniform_real_distribution<>()(random) < chance_;
  }
  int RightOf(size_t next, int drafts) const {
    int right = 0;
    while (right < drafts && IsRight(next + 1 + static_cast<size_t>(right))) ++right;
    return right;
  }

  // Checks what the governor asks for behind the token at `next`; how many tokens that gives.
  size_t Step(size_t next) {
    if (tokens_[next].begins) governor_.Begin(0);
    size_t room = 0;
    while (next + 1 + room < tokens_.size() && !tokens_[next + 1 + room].begins) ++room;
    Governor::Candidate candidate = {.room = static_cast<int>(std::min<size_t>(room, kLengthMax))};
    governor_.Choose(absl::MakeSpan(&candidate, 1));
    Listen(next, candidate);
    const int right = RightOf(next, candidate.check);
    if (candidate.check > 0) governor_.ObserveDrafts(0, candidate.check, right);
    Compute(next, candidate, right);
    return 1 + static_cast<size_t>(right);
  }

  // Drafts that are not checked are heard out before others are made.
  void Listen(size_t next, Governor::Candidate& candidate) {
    if (candidate.check > 0 || candidate.draft == 0) return;
    if (next < heard_until_) {
      candidate.draft = 0;
      return;
    }
    const int right = RightOf(next, candidate.draft);
    governor_.ObserveDrafts(0, candidate.draft, right);
    heard_until_ = next + static_cast<size_t>(right) + 1;
  }

  // Some token of the same sequence.
  size_t OtherOf(size_t index) {
    size_t begin = index, end = index + 1;
    while (begin > 0 && !tokens_[begin].begins) --begin;
    while (end < tokens_.size() && !tokens_[end].begins) ++end;
    return begin + random_() % (end - begin);
  }

  void Compute(size_t next, const Governor::Candidate& candidate, int right) {
    const int rows = 1 + candidate.check;
    std::vector<const Token*> tokens;
    for (int row = 0; row < rows; ++row) {
      const bool is_text = row <= right;
      tokens.push_back(&tokens_[is_text ? next + static_cast<size_t>(row) : OtherOf(next)]);
    }
    shadow_.OnStep(std::vector<StepRow>(static_cast<size_t>(rows)));
    double compute_ns = 0, wait_ns = 0, missing = 0;
    for (size_t layer = 0; layer < catalog_.layers.size(); ++layer) {
      ComputeLayer(layer, tokens, compute_ns, wait_ns, missing);
    }
    const double noise = std::exp(std::normal_distribution<>(0, flags_.noise)(random_));
    const double undrafted = shadow_.Use(0, 1 + right);
    const double predicted_ns = governor_.PredictNs(rows);
    const double step_ns = (compute_ns + wait_ns) * noise;
    if (predicted_ns > 0) errors_.push_back(std::abs(predicted_ns / step_ns - 1));
    const std::vector<DraftCost::Round> rounds(
        static_cast<size_t>(candidate.draft),
        {.sequences = 1, .ns = std::max<int64_t>(1, std::llround(draft_ns_ * noise))});
    int64_t draft_ns = 0;
    if (draft_ns_ > 0) {
      for (const DraftCost::Round& round : rounds) draft_ns += round.ns;
    }
    governor_.ObserveStep({.cost = {.rows = rows,
                                    .compute_ns = compute_ns * noise,
                                    .wait_ns = wait_ns * noise,
                                    .missing = missing},
                           .sequences = 1,
                           .tokens = 1 + right,
                           .checked = candidate.check,
                           .draft_ns = draft_ns,
                           .undrafted_missing = undrafted,
                           .draft_rounds = rounds});
    total_ns_ += step_ns + static_cast<double>(draft_ns);
  }

  void ComputeLayer(size_t layer, const std::vector<const Token*>& tokens, double& compute_ns,
                    double& wait_ns, double& missing) {
    std::vector<int32_t> chosen, keys;
    for (const Token* token : tokens) {
      const auto ids = token->ids.begin() + static_cast<ptrdiff_t>(layer) * top_k_;
      chosen.insert(chosen.end(), ids, ids + top_k_);
    }
    shadow_.OnRouting(catalog_.layers[layer].layer, top_k_, chosen, {});
    const uint64_t expert_bytes = layers_[layer].expert_bytes;
    int32_t first = 0;
    for (size_t before = 0; before < layer; ++before) first += layers_[before].expert_count;
    for (const int32_t id : chosen) keys.push_back(first + id);
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    const int missed = cache_.Use(keys);
    const TimingModel::LayerWork resident = {.expert_bytes = expert_bytes * keys.size()};
    TimingModel::LayerWork work = resident;
    work.read_bytes = expert_bytes * Count(missed);
    work.last_bytes = missed > 0 ? expert_bytes : 0;
    const auto computing = static_cast<double>(timing_.LayerNs(resident));
    wait_ns += static_cast<double>(timing_.LayerNs(work)) - computing;
    compute_ns += computing + flags_.row_share * timing_.layer_ns.value *
                                  static_cast<double>(tokens.size() - 1);
    missing += missed;
  }

  const Flags& flags_;
  const std::vector<Token>& tokens_;
  const double chance_;
  const ExpertCatalog catalog_;
  const int top_k_;
  const std::vector<TraceHeader::Layer>& layers_;
  const int64_t slot_count_;
  TimingModel timing_;
  double draft_ns_ = 0;
  LruCache cache_;
  ShadowCache shadow_;
  Governor governor_;
  const uint64_t seed_;
  std::mt19937_64 random_;
  size_t heard_until_ = 0;
  double total_ns_ = 0;
  std::vector<double> errors_;
};

void PrintRow(const Flags& flags, const Trace& trace, const std::vector<Token>& tokens,
              double share, double chance) {
  std::vector<double> plain;
  const auto ratios_of = [&](int length, Outcome* sum) {
    double log_sum = 0, least = 1e9;
    for (int seed = 0; seed < flags.seeds; ++seed) {
      const Outcome outcome =
          Run(flags, trace, tokens, share, chance, length, static_cast<uint64_t>(seed)).Do();
      if (length == 0) plain.push_back(outcome.tokens_per_s);
      const double ratio = outcome.tokens_per_s / plain[static_cast<size_t>(seed)];
      log_sum += std::log(ratio);
      least = std::min(least, ratio);
      if (sum == nullptr) continue;
      sum->prediction_error += outcome.prediction_error / flags.seeds;
    }
    return std::pair(std::exp(log_sum / flags.seeds), least);
  };
  ratios_of(0, nullptr);
  double best = 1;
  int best_length = 0;
  for (const int length : {1, 2, 3, 4, 6, 8}) {
    const double ratio = ratios_of(length, nullptr).first;
    if (ratio > best) best = ratio, best_length = length;
  }
  Outcome governed;
  const auto [mean, least] = ratios_of(-1, &governed);
  fmt::print("| {:.0f} % | {:.2f} | {:.2f} | {:.2f} ({}) | {:.2f} ({:.2f}) | {:.2f} | {:.0f} % |\n",
             share * 100, chance, plain[0], best, best_length, mean, least, mean / best,
             100 * governed.prediction_error);
  std::fflush(stdout);
}

absl::Status Main(const Flags& flags) {
  ASSIGN_OR_RETURN(Trace trace, ReadTrace(flags.trace));
  for (TraceHeader::Layer& layer : trace.header.layers) {
    if (flags.expert_bytes > 0) layer.expert_bytes = flags.expert_bytes;
  }
  if (!KnowsExpertBytes(trace)) {
    return absl::InvalidArgumentError(
        "the trace does not say how large its experts are\n  try: --expert-bytes");
  }
  const std::vector<Token> tokens = TokensOf(trace, flags.tokens);
  if (tokens.empty()) {
    return absl::InvalidArgumentError(
        "no token of the trace was decoded in a step of its own, with all layers known\n  try: a "
        "trace of one sequence, without drafts");
  }
  fmt::print(
      "{} tokens of {}, {} layers\n\n| in RAM | right | none, tokens/s | best fixed | "
      "governed | of best | prediction off by |\n|---|---|---|---|---|---|---|\n",
      tokens.size(), trace.header.model, trace.header.layers.size());
  for (const double share : flags.shares) {
    for (const double chance : flags.chances) PrintRow(flags, trace, tokens, share, chance);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace stoker

int main(int argc, char** argv) {
  stoker::Flags flags;
  CLI::App app{"The governor of drafts over recorded routings."};
  app.add_option("trace", flags.trace, "Of stoker run --trace, or one of docs/TRACES.md")
      ->required();
  app.add_option("--share", flags.shares, "Of the experts in RAM")->check(CLI::Range(0.01, 1.0));
  app.add_option("--right", flags.chances, "Chance that a draft is right, if those before it are")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--seeds", flags.seeds, "Runs of each")->check(CLI::PositiveNumber);
  app.add_option("--tokens", flags.tokens, "Of the trace, at most")->check(CLI::PositiveNumber);
  app.add_option("--expert-bytes", flags.expert_bytes, "Where the trace does not say");
  app.add_option("--drive", flags.drive_rate, "Bytes a second")->check(CLI::PositiveNumber);
  app.add_option("--expert-rate", flags.expert_rate, "Bytes of experts computed a second")
      ->check(CLI::PositiveNumber);
  app.add_option("--layer-us", flags.layer_us, "Of everything else, per layer");
  app.add_option("--row-share", flags.row_share, "Of that, for each row more");
  app.add_option("--draft-share", flags.draft_share, "Of a step that misses nothing, for a draft");
  app.add_option("--noise", flags.noise, "Of steps' times");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = stoker::Main(flags);
  if (status.ok()) return 0;
  fmt::print(stderr, "governor_replay: {}\n", stoker::MessageOf(status));
  return 1;
}
