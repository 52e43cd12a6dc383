// Hit rates of every policy on recorded routings, at several shares of the experts resident.
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "cache/policies/ghost_cache.h"
#include "cache/policy.h"

namespace stoker {
namespace {

// Uses of experts, [token, layer, rank], in sequences that each begin a new prompt.
struct Routing {
  std::string name;
  int layer_count = 0;
  int expert_count = 0;
  int top_k = 0;
  std::vector<uint8_t> ids;
  std::vector<std::pair<int64_t, int64_t>> sequences;  // first token, tokens
};

// `base`.json and `base`.ids.u8; sequences flagged as degenerate are left out, and of the others
// every `stride`th is taken.
Routing ReadRouting(const std::string& base, size_t stride) {
  std::ifstream json_file(base + ".json");
  const auto json = nlohmann::json::parse(json_file);
  std::ifstream ids_file(base + ".ids.u8", std::ios::binary);
  Routing routing = {.name = base.substr(base.rfind('/') + 1),
                     .layer_count = json.at("n_layers"),
                     .expert_count = json.at("n_experts"),
                     .top_k = json.at("top_k"),
                     .ids = {std::istreambuf_iterator<char>(ids_file), {}}};
  for (const auto& sequence : json.at("sequences")) {
    if (sequence.value("repetition", false)) continue;
    routing.sequences.emplace_back(sequence.at("start"), sequence.at("n_tokens"));
  }
  if (stride > 1) {
    size_t kept = 0;
    for (size_t i = 0; i < routing.sequences.size(); i += stride) {
      routing.sequences[kept++] = routing.sequences[i];
    }
    routing.sequences.resize(kept);
  }
  return routing;
}

// A made-up model whose hot experts change from prompt to prompt: for a run without data.
Routing MakeUpRouting() {
  Routing routing = {.name = "made-up", .layer_count = 8, .expert_count = 16, .top_k = 2};
  std::mt19937_64 random(1);
  for (int64_t sequence = 0; sequence < 4; ++sequence) {
    const int64_t token_count = 100;
    routing.sequences.emplace_back(sequence * token_count, token_count);
    for (int64_t i = 0; i < token_count * routing.layer_count; ++i) {
      const uint64_t first = (std::min(random() % 16, random() % 16) + 5 * sequence) % 16;
      const uint64_t second = (first + 1 + random() % 15) % 16;
      routing.ids.push_back(static_cast<uint8_t>(first));
      routing.ids.push_back(static_cast<uint8_t>(second));
    }
  }
  return routing;
}

// Of this process: what else runs on the machine does not show.
int64_t CpuNs() {
  timespec now = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

struct Score {
  int64_t uses = 0;
  int64_t hits = 0;
  int64_t ns = 0;
};

// As the store does: a request's residents first, then misses in rank order, members spared, and an
// even split for the floor.
Score Replay(const Routing& routing, const PolicyChoice& choice, double share, bool is_cold) {
  const int key_count = routing.layer_count * routing.expert_count;
  const auto slot_count = static_cast<int64_t>(share * key_count + 0.5);
  std::vector<PolicyShape::Layer> layers;
  std::vector<uint32_t> profile;  // made from the trace itself, for those that need one
  for (int l = 0; l < routing.layer_count; ++l) {
    layers.push_back({.first_key = l * routing.expert_count, .expert_count = routing.expert_count});
  }
  if (choice.row->needs_profile) {
    profile.resize(key_count, 0);
    for (size_t i = 0; i < routing.ids.size(); ++i) {
      const auto layer = static_cast<int>(i / routing.top_k % routing.layer_count);
      ++profile[layer * routing.expert_count + routing.ids[i]];
    }
  }
  const int64_t floor =
      std::min<int64_t>({slot_count / routing.layer_count, routing.expert_count / 2,
                         (slot_count - routing.top_k) / (routing.layer_count - 1)});
  const PolicyShape shape = {.key_count = key_count,
                             .slot_count = slot_count,
                             .layers = layers,
                             .profile = profile,
                             .layer_floor = static_cast<int>(std::max<int64_t>(floor, 0))};
  const LayerIndex index(shape);
  GhostCache::Holders holders(key_count, 0);
  std::vector<uint8_t> is_member(key_count, 0);
  std::vector<ExpertKey> keys(routing.top_k);
  auto cache = std::make_unique<GhostCache>(choice, shape, index, 0);
  Score score;
  const int64_t start_ns = CpuNs();
  for (const auto& [first, token_count] : routing.sequences) {
    if (is_cold && score.uses > 0) {
      cache = std::make_unique<GhostCache>(choice, shape, index, 0);
      std::fill(holders.begin(), holders.end(), 0);
    }
    const uint8_t* ids = &routing.ids[first * routing.layer_count * routing.top_k];
    for (int64_t t = 0; t < token_count; ++t) {
      for (int l = 0; l < routing.layer_count; ++l) {
        for (ExpertKey& key : keys) {
          key = l * routing.expert_count + *ids++;
          is_member[key] = 1;
        }
        score.hits += cache->Play({.keys = keys, .is_member = is_member, .layer = l}, holders);
        for (const ExpertKey key : keys) is_member[key] = 0;
        score.uses += routing.top_k;
      }
    }
  }
  score.ns = CpuNs() - start_ns;
  return score;
}

struct TableOptions {
  std::vector<std::string> policies = PolicyNames();
  std::vector<Setting> settings;
};

void PrintTable(const Routing& routing, bool is_cold, const TableOptions& options) {
  constexpr double kShares[] = {0.0625, 0.125, 0.25, 0.5};
  fmt::print("\n{}, {}\n{:<24}", routing.name, is_cold ? "cold for each prompt" : "warm", "");
  for (const double share : kShares) fmt::print("{:>8}%", 100 * share);
  fmt::print("{:>10}\n", "ns a use");
  for (const std::string& name : options.policies) {
    const PolicyChoice choice = *ChoosePolicy(name, options.settings);
    Score sum;
    fmt::print("{:<24}", name);
    for (const double share : kShares) {
      const Score score = Replay(routing, choice, share, is_cold);
      fmt::print("{:>9.2f}",
                 100.0 * static_cast<double>(score.hits) / static_cast<double>(score.uses));
      sum.uses += score.uses;
      sum.ns += score.ns;
    }
    fmt::print("{:>10}\n", sum.ns / sum.uses);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace stoker

// Arguments: traces, each the path of a .json and its .ids.u8 without the ending (none: a made-up
// one); stride=N to take every Nth sequence; policy=NAME, again and again, for these alone; and
// parameters as lfu.uses_per_key=4.
int main(int argc, char** argv) {
  stoker::TableOptions options;
  std::vector<std::string> paths;
  std::vector<std::string> policies;
  size_t stride = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::string name = argument.substr(0, argument.find('='));
    const std::string value = argument.substr(std::min(argument.size(), name.size() + 1));
    if (name == argument) {
      paths.push_back(argument);
    } else if (name == "stride") {
      stride = std::stoul(value);
    } else if (name == "policy") {
      policies.push_back(value);
    } else {
      options.settings.push_back({name, std::stod(value)});
    }
  }
  if (!policies.empty()) options.policies = policies;
  std::vector<stoker::Routing> routings;
  for (const std::string& path : paths) routings.push_back(stoker::ReadRouting(path, stride));
  if (routings.empty()) routings.push_back(stoker::MakeUpRouting());
  for (const stoker::Routing& routing : routings) {
    if (routing.sequences.size() > 1) stoker::PrintTable(routing, true, options);
    stoker::PrintTable(routing, false, options);
  }
  return 0;
}
