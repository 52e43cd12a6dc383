// Encodes each event as one record; rows of a large step are cut into several.
#include "runtime/trace/trace_recorder.h"

#include <algorithm>

#include "base/check.h"
#include "base/status.h"
#include "kernels/formats/half.h"
#include "kernels/ops.h"
#include "runtime/trace/trace_header.h"

namespace stoker {
namespace {

constexpr int64_t kFlushNs = 1'000'000'000;

// Any record but ids and weights: at most this many numbers.
constexpr size_t kNumbersMax = 40;

}  // namespace

absl::StatusOr<std::unique_ptr<TraceRecorder>> TraceRecorder::Create(const std::string& path,
                                                                     const TraceHeader& header,
                                                                     const Clock& clock) {
  ASSIGN_OR_RETURN(std::unique_ptr<TraceWriter> writer,
                   TraceWriter::Create(path, HeaderJson(header)));
  return std::unique_ptr<TraceRecorder>(new TraceRecorder(header, clock, std::move(writer)));
}

TraceRecorder::TraceRecorder(const TraceHeader& header, const Clock& clock,
                             std::unique_ptr<TraceWriter> writer)
    : clock_(clock),
      writer_(std::move(writer)),
      has_weights_(header.weights_known),
      id_bytes_(IdBytesOf(header)),
      last_flush_ns_(clock.NowNs()) {
  for (const TraceHeader::Layer& layer : header.layers) {
    layer_index_.resize(static_cast<size_t>(layer.layer) + 1, -1);
    layer_index_.back() = static_cast<int>(expert_bytes_.size());
    expert_bytes_.push_back(layer.expert_bytes);
  }
}

int TraceRecorder::IndexOf(int layer) const {
  const auto place = static_cast<size_t>(layer);
  CHECK(place < layer_index_.size() && layer_index_[place] >= 0);
  return layer_index_[place];
}

void TraceRecorder::AddRows(const Rows& rows) {
  uint8_t* out = writer_->Begin(TraceRecord::kRows, 5 * kVarintBytesMax);
  out = PutVarint(out, static_cast<uint64_t>(rows.sequence));
  out = PutVarint(out, static_cast<uint64_t>(rows.first_position));
  out = PutVarint(out, static_cast<uint64_t>(rows.count));
  *out++ = rows.is_prompt ? 1 : 0;
  if (rows.drafts > 0) out = PutVarint(out, static_cast<uint64_t>(rows.drafts));
  writer_->End(out);
}

void TraceRecorder::AddLinks(const LinkRates& links) {
  PutRates(TraceRecord::kLinks, WholeRates(links));
}

void TraceRecorder::PutRates(TraceRecord kind, const LinkRates& rates) {
  uint8_t* out = writer_->Begin(kind, kNumbersMax * kVarintBytesMax);
  for (double LinkRates::*const rate : kLinkRateFields) {
    out = PutVarint(out, static_cast<uint64_t>(rates.*rate));
  }
  writer_->End(out);
}

void TraceRecorder::OnStep(absl::Span<const StepRow>) {
  if (writer_->buffered_bytes() >= TraceWriter::kFlushBytes ||
      clock_.NowNs() - last_flush_ns_ >= kFlushNs) {
    Flush();
  }
  in_step_ = true;
}

uint8_t* TraceRecorder::PutIds(uint8_t* out, absl::Span<const int32_t> experts) const {
  if (id_bytes_ == 1) {
    for (const int32_t expert : experts) *out++ = static_cast<uint8_t>(expert);
    return out;
  }
  for (const int32_t expert : experts) {
    *out++ = static_cast<uint8_t>(expert);
    *out++ = static_cast<uint8_t>(expert >> 8);
  }
  return out;
}

void TraceRecorder::OnRouting(int layer, int top_k, absl::Span<const int32_t> experts,
                              absl::Span<const float> weights) {
  const int index = IndexOf(layer);
  const auto width = static_cast<size_t>(top_k);
  const size_t use_bytes = id_bytes_ + (has_weights_ ? 2 : 0);
  const size_t rows_max =
      (TraceWriter::kRecordBytesMax - kNumbersMax * kVarintBytesMax) / (width * use_bytes);
  const size_t row_count = experts.size() / width;
  for (size_t first = 0; first < row_count; first += rows_max) {
    const size_t rows = std::min(rows_max, row_count - first);
    uint8_t* out =
        writer_->Begin(TraceRecord::kRouting, 5 * kVarintBytesMax + rows * width * use_bytes);
    out = PutVarint(out, static_cast<uint64_t>(index));
    out = PutVarint(out, width);
    out = PutVarint(out, first);
    out = PutVarint(out, rows);
    out = PutIds(out, experts.subspan(first * width, rows * width));
    if (has_weights_) {
      for (const float weight : weights.subspan(first * width, rows * width)) {
        const uint16_t half = HalfOfFloat(weight);
        *out++ = static_cast<uint8_t>(half);
        *out++ = static_cast<uint8_t>(half >> 8);
      }
    }
    writer_->End(out);
  }
}

void TraceRecorder::OnLookahead(int layer, int target_layer, int count,
                                absl::Span<const int32_t> experts, absl::Span<const float>) {
  const auto width = static_cast<size_t>(count);
  const size_t rows_max =
      (TraceWriter::kRecordBytesMax - kNumbersMax * kVarintBytesMax) / (width * id_bytes_);
  const size_t row_count = experts.size() / width;
  for (size_t first = 0; first < row_count; first += rows_max) {
    const size_t rows = std::min(rows_max, row_count - first);
    uint8_t* out =
        writer_->Begin(TraceRecord::kLookahead, 5 * kVarintBytesMax + rows * width * id_bytes_);
    out = PutVarint(out, static_cast<uint64_t>(IndexOf(layer)));
    out = PutVarint(out, static_cast<uint64_t>(IndexOf(target_layer)));
    out = PutVarint(out, width);
    out = PutVarint(out, first);
    out = PutVarint(out, rows);
    out = PutIds(out, experts.subspan(first * width, rows * width));
    writer_->End(out);
  }
}

void TraceRecorder::OnResidency(ResidencyChange change, ExpertId id, uint64_t bytes) {
  const int index = IndexOf(id.layer);
  uint8_t* out = writer_->Begin(TraceRecord::kResidency, 4 * kVarintBytesMax);
  *out++ = static_cast<uint8_t>(change);
  out = PutVarint(out, static_cast<uint64_t>(index));
  out = PutVarint(out, static_cast<uint64_t>(id.expert));
  out = PutVarint(out, ResidencyCodeOf(bytes, expert_bytes_[static_cast<size_t>(index)]));
  writer_->End(out);
}

void TraceRecorder::OnPlacement(const Placement& placement) {
  const PlaceQuestion& question = placement.question;
  CHECK(placement.experts.size() <= size_t{kExpertsMax});
  if (question.rates != last_rates_) {
    PutRates(TraceRecord::kRates, question.rates);
    last_rates_ = question.rates;
  }
  static_assert((5 + 2 * size_t{kExpertsMax}) * kVarintBytesMax <= TraceWriter::kRecordBytesMax);
  uint8_t* out =
      writer_->Begin(TraceRecord::kPlacement, (5 + 2 * placement.experts.size()) * kVarintBytesMax);
  out = PutVarint(out, static_cast<uint64_t>(IndexOf(placement.layer)));
  *out++ = question.is_from_file ? 1 : 0;
  out = PutVarint(out, question.device_backlog_bytes);
  out = PutVarint(out, static_cast<uint64_t>(placement.copy_count));
  out = PutVarint(out, placement.experts.size());
  for (const PlaceCandidate& expert : placement.experts) {
    out = PutVarint(out, static_cast<uint64_t>(expert.key - placement.first_key));
    out = PutVarint(out, static_cast<uint64_t>(expert.rows) << 1 |
                             static_cast<uint64_t>(expert.is_worth_keeping));
  }
  writer_->End(out);
}

void TraceRecorder::PutMiss(const MissRecord& miss, int64_t step) {
  uint8_t* out = writer_->Begin(TraceRecord::kMiss, 6 * kVarintBytesMax);
  out = PutVarint(out, static_cast<uint64_t>(IndexOf(miss.id.layer)));
  out = PutVarint(out, static_cast<uint64_t>(miss.id.expert));
  *out++ = static_cast<uint8_t>(miss.reason);
  out = PutVarint(out, miss.evicted_step < 0 ? 0 : ZigzagOf(step - miss.evicted_step) + 1);
  out = PutVarint(out, static_cast<uint64_t>(miss.read_ns));
  out = PutVarint(out, miss.read_bytes);
  writer_->End(out);
}

void TraceRecorder::EndStep(const StepRecord& record) {
  if (!in_step_) return;
  in_step_ = false;
  for (const MissRecord& miss : record.worst_misses) PutMiss(miss, record.step);
  const int64_t now_ns = clock_.NowNs();
  if (start_ns_ < 0) start_ns_ = now_ns - record.wall_ns;
  const int64_t end_ns = now_ns - start_ns_;
  const int64_t begin_ns = std::max(last_end_ns_, end_ns - record.wall_ns);
  uint8_t* out = writer_->Begin(TraceRecord::kStepEnd, kNumbersMax * kVarintBytesMax);
  out = PutVarint(out, ZigzagOf(record.step - last_step_));
  out = PutVarint(out, static_cast<uint64_t>(begin_ns - last_end_ns_));
  out = PutVarint(out, static_cast<uint64_t>(record.wall_ns));
  out = PutVarint(out, static_cast<uint64_t>(record.tokens));
  out = PutVarint(out, record.causes.size());
  for (const int64_t ns : record.causes) out = PutVarint(out, static_cast<uint64_t>(ns));
  for (const uint64_t count :
       {record.hits, record.misses, record.vram_hits, record.read_bytes, record.copied_in_bytes,
        record.copied_out_bytes, record.host_experts, record.device_experts}) {
    out = PutVarint(out, count);
  }
  out = PutVarint(out, static_cast<uint64_t>(std::max<int64_t>(0, record.drive_busy_ns)));
  out = PutVarint(out, static_cast<uint64_t>(std::max<int64_t>(0, record.system_ns)));
  if (record.draft_rows > 0 || record.predicted_ns > 0) {
    out = PutVarint(out, static_cast<uint64_t>(record.draft_rows));
    out = PutVarint(out, static_cast<uint64_t>(record.drafts_right));
    out = PutVarint(out, static_cast<uint64_t>(std::max<int64_t>(0, record.predicted_ns)));
    out = PutVarint(out, static_cast<uint64_t>(std::max<int64_t>(0, record.wasted_ns)));
  }
  writer_->End(out);
  writer_->EndStep();
  last_end_ns_ = begin_ns + record.wall_ns;
  last_step_ = record.step;
}

void TraceRecorder::Flush() {
  writer_->Flush();
  last_flush_ns_ = clock_.NowNs();
}

}  // namespace stoker
