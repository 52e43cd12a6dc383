// A pool of bytes under a policy, or under foresight.
#include "runtime/simulation/pool_replay.h"

#include <algorithm>
#include <memory>

#include "runtime/simulation/belady.h"

namespace stoker {
namespace {

// What a replay asks of who gives way. `use` is the place of the running use in the stream.
//
// A policy and an admission policy, as the store would drive them.
class PolicyRanker {
 public:
  PolicyRanker(const UseStream& stream, const PolicyChoice& policy,
               const AdmissionChoice& admission, const PoolOptions& options)
      : stream_(stream), policy_choice_(policy), admission_choice_(admission), options_(options) {
    uint64_t total_bytes = 0;
    for (size_t i = 0; i < stream.first_keys.size(); ++i) {
      const bool is_last = i + 1 == stream.first_keys.size();
      const auto end =
          is_last ? static_cast<int32_t>(stream.layer_of_key.size()) : stream.first_keys[i + 1];
      layers_.push_back(
          {.first_key = stream.first_keys[i], .expert_count = end - stream.first_keys[i]});
      total_bytes += stream.bytes_of_layer[i] * static_cast<uint64_t>(layers_.back().expert_count);
    }
    // Of experts of the mean size.
    const double share =
        static_cast<double>(options.budget_bytes) / static_cast<double>(total_bytes);
    const auto key_count = static_cast<double>(stream.layer_of_key.size());
    slot_count_ = std::clamp<int64_t>(static_cast<int64_t>(share * key_count + 1e-9), 1,
                                      static_cast<int64_t>(stream.layer_of_key.size()));
    Restart();
  }

  void Restart() {
    const PolicyShape shape = {.key_count = static_cast<ExpertKey>(stream_.layer_of_key.size()),
                               .slot_count = slot_count_,
                               .layers = layers_,
                               .profile = options_.profile,
                               .quotas_bind_requests = false};
    policy_ = policy_choice_.Make(shape);
    admission_ = admission_choice_.Make(shape);
  }
  void Used(ExpertKey key) { admission_->Used(key); }
  void Touched(ExpertKey key, int64_t) { policy_->Touched(key); }
  void Inserted(ExpertKey key, int64_t) { policy_->Inserted(key, Arrival::kDemand); }
  void Removed(ExpertKey key) { policy_->Removed(key); }
  ExpertKey Victim(ExpertKey incoming, Evictable evictable) {
    return policy_->PickVictim(incoming, evictable);
  }
  ExpertKey Crowded(ExpertKey incoming, Evictable evictable) {
    return policy_->PickCrowded(incoming, evictable);
  }
  bool Admits(ExpertKey incoming, ExpertKey victim, int64_t) {
    return admission_->Admits(incoming, victim);
  }

 private:
  const UseStream& stream_;
  const PolicyChoice& policy_choice_;
  const AdmissionChoice& admission_choice_;
  const PoolOptions& options_;
  std::vector<PolicyShape::Layer> layers_;
  int64_t slot_count_ = 0;
  std::unique_ptr<EvictionPolicy> policy_;
  std::unique_ptr<AdmissionPolicy> admission_;
};

// Foresight.
class BeladyRanker {
 public:
  BeladyRanker(const UseStream& stream, bool may_bypass)
      : next_(NextRequests(stream)),
        may_bypass_(may_bypass),
        residents_(static_cast<ExpertKey>(stream.layer_of_key.size())) {}

  void Restart() {}
  void Used(ExpertKey) {}
  void Touched(ExpertKey key, int64_t use) { residents_.Set(key, next_[use]); }
  void Inserted(ExpertKey key, int64_t use) { residents_.Set(key, next_[use]); }
  void Removed(ExpertKey key) { residents_.Remove(key); }
  ExpertKey Victim(ExpertKey, Evictable evictable) { return residents_.Pick(evictable); }
  ExpertKey Crowded(ExpertKey, Evictable) { return -1; }
  bool Admits(ExpertKey, ExpertKey victim, int64_t use) {
    return !may_bypass_ || victim < 0 || next_[use] < residents_.next(victim);
  }

 private:
  const std::vector<int32_t> next_;
  const bool may_bypass_;
  FarthestFirst residents_;
};

template <typename Ranker>
class Pool {
 public:
  Pool(const UseStream& stream, const PoolOptions& options, const TimingModel& timing,
       Ranker& ranker)
      : stream_(stream),
        options_(options),
        timing_(timing),
        ranker_(ranker),
        is_resident_(stream.layer_of_key.size(), 0),
        last_request_of_key_(stream.layer_of_key.size(), -1) {}

  ReplayResult Run() && {
    const auto step_count = static_cast<int64_t>(stream_.steps.size());
    result_.steps.reserve(static_cast<size_t>(step_count));
    for (int64_t step = 0; step < step_count; ++step) RunStep(step);
    return std::move(result_);
  }

 private:
  void RunStep(int64_t step) {
    const UseStream::Step& flat = stream_.steps[step];
    if (options_.cold_per_prompt && flat.starts_prompt) Empty();
    result_.steps.emplace_back();
    step_ns_ = 0;
    layer_ = -1;
    const int64_t end = stream_.end_request(step);
    for (int64_t request = flat.first_request; request < end; ++request) {
      if (stream_.requests[request].layer_index != layer_) BeginLayer(request, end);
      RunRequest(request);
    }
    EndLayer();
    if (flat.is_prompt || flat.decode_rows == 0) return;
    result_.step_ns.push_back(step_ns_);
    result_.decode_rows += flat.decode_rows;
  }

  void Empty() {
    for (size_t key = 0; key < is_resident_.size(); ++key) {
      if (is_resident_[key] != 0) Evict(static_cast<ExpertKey>(key));
    }
    ranker_.Restart();
  }

  // The rows of a layer are one work to the timing model, and pinned together.
  void BeginLayer(int64_t first_request, int64_t end_request) {
    EndLayer();
    layer_ = stream_.requests[first_request].layer_index;
    first_request_ = first_request;
    for (int64_t request = first_request;
         request < end_request && stream_.requests[request].layer_index == layer_; ++request) {
      for (const ExpertKey key : stream_.uses_of(request)) last_request_of_key_[key] = request;
    }
  }
  void EndLayer() {
    if (layer_ >= 0) step_ns_ += timing_.LayerNs(work_);
    work_ = {};
  }

  void RunRequest(int64_t request) {
    const UseStream::Request& flat = stream_.requests[request];
    const absl::Span<const ExpertKey> uses = stream_.uses_of(request);
    PhaseCounts& counts = flat.is_prompt ? result_.prompt : result_.decode;
    const uint64_t bytes = stream_.bytes_of_layer[flat.layer_index];
    counts.accesses += uses.size();
    work_.expert_bytes += bytes * uses.size();
    for (size_t i = 0; i < uses.size(); ++i) {
      const int64_t use = flat.first_use + static_cast<int64_t>(i);
      ranker_.Used(uses[i]);
      if (is_resident_[uses[i]] != 0) {
        ++counts.hits;
        ++result_.steps.back().hits;
        ranker_.Touched(uses[i], use);
        continue;
      }
      ++counts.misses;
      ++result_.steps.back().misses;
      counts.read_bytes += bytes;
      work_.read_bytes += bytes;
      work_.last_bytes = bytes;
      Bring(uses[i], request, use);
    }
  }

  void Bring(ExpertKey key, int64_t request, int64_t use) {
    const uint64_t bytes = stream_.bytes_of_layer[layer_];
    const auto is_full = [&] { return resident_bytes_ + bytes > options_.budget_bytes; };
    ExpertKey victim = ranker_.Crowded(
        key, [&](ExpertKey other) { return last_request_of_key_[other] < first_request_; });
    if (victim < 0 && is_full()) victim = Victim(key, request);
    if (!ranker_.Admits(key, victim, use)) return;
    if (victim >= 0) Evict(victim);
    while (is_full() && (victim = Victim(key, request)) >= 0) Evict(victim);
    is_resident_[key] = 1;
    resident_bytes_ += bytes;
    ranker_.Inserted(key, use);
  }

  // None of the layer's; a row that does not find room beside the rows before it lets go of theirs.
  ExpertKey Victim(ExpertKey key, int64_t request) {
    const ExpertKey victim = ranker_.Victim(
        key, [&](ExpertKey other) { return last_request_of_key_[other] < first_request_; });
    if (victim >= 0) return victim;
    return ranker_.Victim(key,
                          [&](ExpertKey other) { return last_request_of_key_[other] < request; });
  }

  void Evict(ExpertKey key) {
    ranker_.Removed(key);
    is_resident_[key] = 0;
    resident_bytes_ -= stream_.bytes_of_layer[stream_.layer_of_key[key]];
  }

  const UseStream& stream_;
  const PoolOptions& options_;
  const TimingModel& timing_;
  Ranker& ranker_;
  std::vector<uint8_t> is_resident_;          // by key
  std::vector<int64_t> last_request_of_key_;  // of those begun, the running layer's included
  uint64_t resident_bytes_ = 0;
  ReplayResult result_;
  int32_t layer_ = -1;         // of the running step
  int64_t first_request_ = 0;  // of the running layer
  TimingModel::LayerWork work_;
  int64_t step_ns_ = 0;
};

}  // namespace

ReplayResult ReplayPool(const UseStream& stream, const PolicyChoice& policy,
                        const AdmissionChoice& admission, const PoolOptions& options,
                        const TimingModel& timing) {
  PolicyRanker ranker(stream, policy, admission, options);
  return Pool<PolicyRanker>(stream, options, timing, ranker).Run();
}

ReplayResult ReplayBelady(const UseStream& stream, bool may_bypass, const PoolOptions& options,
                          const TimingModel& timing) {
  BeladyRanker ranker(stream, may_bypass);
  return Pool<BeladyRanker>(stream, options, timing, ranker).Run();
}

}  // namespace stoker
