// Guesses by layer, their quality, and who may guess.
#include "prefetch/prefetcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace stoker {
namespace {

// Of a measurement of waiting that a step leaves to the next: half is gone after 44.
constexpr double kWaitFade = 63.0 / 64;

constexpr std::string_view kRowName = "hints";
enum Parameter : size_t { kLoads, kRows, kWindow, kPause };
constexpr ParameterRow kParameters[] = {
    {.name = "loads",
     .value = 2,
     .minimum = 1,
     .maximum = 8,
     .is_whole = true,
     .reason = "experts read on guesses at once; whole experts keep a drive busy one or two at a "
               "time, and more only stand in the way of what a step waits for"},
    {.name = "rows",
     .value = 4,
     .minimum = 1,
     .maximum = 16,
     .is_whole = true,
     .reason = "rows of the largest step that is guessed; the more rows, the more of a layer's "
               "experts they use between them, and the less there is to guess"},
    {.name = "window",
     .value = 16,
     .minimum = 4,
     .maximum = 4096,
     .is_whole = true,
     .reason = "reads after which a layer's guesses are judged; larger judges more surely, smaller "
               "stops sooner what does not pay"},
    {.name = "pause",
     .value = 64,
     .minimum = 1,
     .maximum = 65536,
     .is_whole = true,
     .reason = "steps for which a layer whose guesses did not pay makes none, doubled up to 5 "
               "times while they still do not; larger tries less often what never pays"},
};

PredictorShape ShapeOf(const ExpertCatalog& catalog, const Prefetcher::Options& options) {
  PredictorShape shape = {.top_k = options.top_k,
                          .sequence_count = options.sequence_count,
                          .rows_max = options.choice.rows_max};
  for (const LayerExperts& layer : catalog.layers) {
    shape.expert_counts.push_back(layer.expert_count);
  }
  return shape;
}

int32_t WidestLayer(const PredictorShape& shape) {
  return shape.expert_counts.empty()
             ? 0
             : *std::max_element(shape.expert_counts.begin(), shape.expert_counts.end());
}

}  // namespace

absl::Span<const ParameterRow> PrefetchParameters() { return kParameters; }

absl::StatusOr<PrefetchChoice> ChoosePrefetch(std::string_view predictor,
                                              absl::Span<const Setting> settings) {
  PrefetchChoice choice;
  ASSIGN_OR_RETURN(choice.predictor, ChoosePredictor(predictor, settings));
  ASSIGN_OR_RETURN(const std::vector<double> values,
                   ChooseParameters(kRowName, kParameters, settings));
  if (choice.is_none()) return choice;
  choice.loads_max = static_cast<int>(values[kLoads]);
  choice.rows_max = static_cast<int>(values[kRows]);
  choice.worth = {.window = static_cast<int>(values[kWindow]),
                  .pause = static_cast<int>(values[kPause])};
  return choice;
}

Prefetcher::Prefetcher(const ExpertCatalog& catalog, const Options& options, ExpertCache& store)
    : options_(options),
      layer_count_(static_cast<int>(catalog.layers.size())),
      store_(store),
      guesses_(catalog.layers.size()),
      worth_(catalog.layers.size(), GuessWorth(options.choice.worth)),
      quality_(catalog.layers.size()) {
  CHECK(!options.choice.is_none() && layer_count_ > 0);
  const PredictorShape shape = ShapeOf(catalog, options);
  predictor_ = options.choice.predictor.Make(shape);
  const auto widest = static_cast<size_t>(WidestLayer(shape));
  expert_counts_ = shape.expert_counts;
  confidences_.resize(widest);
  order_.reserve(widest);
  marks_.resize(widest, 0);
  index_of_layer_.resize(static_cast<size_t>(catalog.layers.back().layer) + 1, -1);
  for (const LayerExperts& layer : catalog.layers) {
    index_of_layer_[static_cast<size_t>(layer.layer)] = static_cast<int32_t>(layers_.size());
    layers_.push_back(layer.layer);
  }
}

uint64_t Prefetcher::PlanBytes(const ExpertCatalog& catalog, const Options& options) {
  if (options.choice.is_none() || catalog.layers.empty()) return 0;
  const PredictorShape shape = ShapeOf(catalog, options);
  constexpr uint64_t kLayerBytes =
      sizeof(Guess) + sizeof(GuessWorth) + sizeof(GuessQuality) + 2 * sizeof(int32_t);
  const uint64_t widest = static_cast<uint64_t>(WidestLayer(shape));
  return sizeof(Prefetcher) + options.choice.predictor.PlanBytes(shape) +
         ExpertCache::HintTableBytes(catalog) + catalog.layers.size() * kLayerBytes +
         static_cast<uint64_t>(catalog.layers.back().layer + 1) * sizeof(int32_t) +
         widest * (sizeof(float) + sizeof(int32_t) + sizeof(uint32_t));
}

void Prefetcher::OnStep(absl::Span<const PredictedRow> rows) {
  row_count_ = static_cast<int>(rows.size());
  is_guessing_ = row_count_ <= options_.choice.rows_max;
  if (!is_guessing_) {
    for (Guess& guess : guesses_) guess.is_standing = false;
    store_.WithdrawGuesses();
  }
  MeasureWait();
  predictor_->OnStep(rows);
  if (!is_guessing_ || !options_.choice.predictor.row->needs_tokens) return;
  // The drive may be idle until the first layer's experts are asked for.
  for (int index = 0; index < std::min(predictor_->layers_ahead(), layer_count_); ++index) {
    Propose(index);
  }
  store_.IssueHints();
}

void Prefetcher::OnRouting(int layer, int top_k, absl::Span<const int32_t> experts) {
  const int index = Index(layer);
  ChargeSpent();
  if (is_guessing_) Judge(index, experts);
  predictor_->OnRouting(index, top_k, experts);
  if (!is_guessing_) return;
  for (int distance = 1; distance <= std::min(predictor_->layers_ahead(), layer_count_ - 1);
       ++distance) {
    Propose(Later(index, distance));
  }
}

int Prefetcher::lookahead_layers(int layer) const {
  if (!is_guessing_) return 0;
  const int index = Index(layer);
  const int last = std::min(predictor_->lookahead_layers(), layer_count_ - 1 - index);
  for (int distance = last; distance > 0; --distance) {
    if (!worth_[static_cast<size_t>(index + distance)].is_silent()) return distance;
  }
  return 0;
}

void Prefetcher::OnLookahead(int /*layer*/, int target_layer, int count,
                             absl::Span<const int32_t> experts, int64_t spent_ns) {
  if (!is_guessing_ || predictor_->lookahead_layers() == 0) return;
  const int target = Index(target_layer);
  CHECK(spent_count_ < kTargetsMax);
  if (spent_count_ == 0) spent_wait_ns_ = store_.counts().wait_ns;
  spent_[static_cast<size_t>(spent_count_++)] = {.target = target, .ns = spent_ns};
  predictor_->OnLookahead(target, count, experts);
  Propose(target);
  store_.IssueHints();
}

void Prefetcher::EndStep() {
  ChargeSpent();
  store_.IssueHints();
}

// A layer that waited for the drive after its guesses were made would have waited so much longer
// without them: there they took nothing from the step.
void Prefetcher::ChargeSpent() {
  const int count = std::exchange(spent_count_, 0);
  if (count == 0 || store_.counts().wait_ns > spent_wait_ns_) return;
  for (int i = 0; i < count; ++i) {
    const Spent& spent = spent_[static_cast<size_t>(i)];
    worth_[static_cast<size_t>(spent.target)].Spent(spent.ns);
  }
}

// Waiting is for what was read on demand, and for what was still being read on a guess.
void Prefetcher::MeasureWait() {
  const CacheCounts& counts = store_.counts();
  const double bytes = static_cast<double>(counts.read_bytes + counts.hints.late_bytes) -
                       static_cast<double>(counts.hints.issued_bytes + counts.warm.issued_bytes);
  recent_wait_ns_ =
      kWaitFade * recent_wait_ns_ +
      static_cast<double>(counts.wait_ns - std::exchange(wait_ns_before_, counts.wait_ns));
  recent_wait_bytes_ =
      kWaitFade * recent_wait_bytes_ + bytes - std::exchange(wait_bytes_before_, bytes);
  wait_ns_per_byte_ = recent_wait_ns_ / std::max(1.0, recent_wait_bytes_);
}

// The layer is about to be asked for these, which the rows chose between them.
void Prefetcher::Judge(int index, absl::Span<const int32_t> experts) {
  Guess& guess = guesses_[static_cast<size_t>(index)];
  GuessQuality& quality = quality_[static_cast<size_t>(index)];
  GuessWorth& worth = worth_[static_cast<size_t>(index)];
  if (worth.is_silent()) {
    ++quality.silent_steps;
    ++total_.silent_steps;
  }
  worth.Asked(store_.hint_counts()[static_cast<size_t>(index)], guess.is_standing,
              wait_ns_per_byte_);
  if (!std::exchange(guess.is_standing, false)) return;
  ++mark_;
  GuessQuality now;
  for (const int32_t expert : experts) {
    uint32_t& mark = marks_[static_cast<size_t>(expert)];
    if (mark != mark_) ++now.asked;
    mark = mark_;
  }
  now.guessed = static_cast<uint64_t>(guess.count);
  for (int i = 0; i < guess.count; ++i) {
    if (marks_[static_cast<size_t>(guess.experts[static_cast<size_t>(i)])] == mark_) ++now.right;
  }
  for (GuessQuality* of : {&quality, &total_}) {
    of->asked += now.asked;
    of->guessed += now.guessed;
    of->right += now.right;
  }
}

void Prefetcher::Propose(int target) {
  if (worth_[static_cast<size_t>(target)].is_silent()) return;
  const auto expert_count = static_cast<size_t>(expert_counts_[static_cast<size_t>(target)]);
  std::fill_n(confidences_.begin(), expert_count, 0.0f);
  predictor_->Propose(target, absl::MakeSpan(confidences_).first(expert_count));
  Choose(target);
}

// The most expected ones, as many as are worth acting on; among equals the lower number first.
void Prefetcher::Choose(int target) {
  order_.clear();
  for (int32_t expert = 0; expert < expert_counts_[static_cast<size_t>(target)]; ++expert) {
    if (confidences_[static_cast<size_t>(expert)] > 0) order_.push_back(expert);
  }
  const auto wanted = static_cast<size_t>(
      std::min(predictor_->experts_per_row() * row_count_, ExpertCache::kGuessMax));
  const size_t count = std::min(order_.size(), wanted);
  if (count == 0) return;
  std::partial_sort(order_.begin(), order_.begin() + static_cast<ptrdiff_t>(count), order_.end(),
                    [this](int32_t a, int32_t b) {
                      const float of_a = confidences_[static_cast<size_t>(a)];
                      const float of_b = confidences_[static_cast<size_t>(b)];
                      return of_a != of_b ? of_a > of_b : a < b;
                    });
  Guess& guess = guesses_[static_cast<size_t>(target)];
  guess.count = static_cast<int>(count);
  guess.is_standing = true;
  std::copy_n(order_.begin(), count, guess.experts.begin());
  store_.Guess(layers_[static_cast<size_t>(target)],
               absl::MakeConstSpan(guess.experts).first(count));
}

void Prefetcher::Report(CounterVisitor& visitor) const {
  visitor.Counter("prefetch_asked", total_.asked);
  visitor.Counter("prefetch_guessed", total_.guessed);
  visitor.Counter("prefetch_right", total_.right);
  visitor.Counter("prefetch_silent_steps", total_.silent_steps);
  visitor.Gauge("prefetch_recall", total_.recall());
  visitor.Gauge("prefetch_precision", total_.precision());
  const absl::Span<const HintCounts> hints = store_.hint_counts();
  for (size_t index = 0; index < quality_.size(); ++index) {
    const std::string name = fmt::format("prefetch_layer_{}", layers_[index]);
    visitor.Gauge(name + "_recall", quality_[index].recall());
    visitor.Gauge(name + "_precision", quality_[index].precision());
    visitor.Gauge(name + "_on_time_share", hints[index].on_time_share());
    visitor.Counter(name + "_wasted_bytes", hints[index].wasted_bytes);
    visitor.Counter(name + "_silent_steps", quality_[index].silent_steps);
  }
}

}  // namespace stoker
