// The trunk in device memory: parts are queued there, and the step ends when the logits are back.
#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/status.h"
#include "base/units.h"
#include "device/buffer.h"
#include "device/device_buffer.h"
#include "model/device_blocks/join.h"
#include "model/device_blocks/mixture.h"
#include "model/device_blocks/resident_mixtures.h"
#include "model/device_blocks/step.h"
#include "model/device_workspace.h"
#include "model/embedding_table.h"
#include "model/rope.h"
#include "model/step_recordings.h"
#include "model/trunk.h"
#include "model/trunk_reader.h"
#include "model/weights.h"
#include "model/workspace.h"

namespace stoker {
namespace {

constexpr uint64_t kPageBytes = 4096;  // pinned memory is whole pages

// Host memory that the device copies from and to without holding up the host.
class PinnedBuffer {
 public:
  ~PinnedBuffer() {
    if (device_ != nullptr) device_->Unpin(memory_.span());
  }
  absl::Status Take(Device& device, uint64_t bytes) {
    ASSIGN_OR_RETURN(memory_, HostBuffer::Create(bytes));
    RETURN_IF_ERROR(device.Pin(memory_.span()));
    device_ = &device;
    return absl::OkStatus();
  }
  std::byte* data() const { return memory_.data(); }

 private:
  HostBuffer memory_;
  Device* device_ = nullptr;
};

// What is taken on either side, in bytes.
struct Needs {
  uint64_t device = 0;
  uint64_t pinned = 0;
  uint64_t host = 0;
};
Needs NeedsOf(const ModelSpec& spec, const Model::Options& options) {
  Carver device, pinned, host;
  CarveDeviceWorkspace(spec, options, device);
  CarvePinnedBlock(spec, options, pinned);
  CarveHostPart(spec, options, host);
  return {.device = device.bytes(),
          .pinned = (pinned.bytes() + kPageBytes - 1) / kPageBytes * kPageBytes,
          .host = host.bytes()};
}

class DeviceTrunk final : public Trunk {
 public:
  DeviceTrunk(const TrunkSource& source, const ModelDevice& device)
      : spec_(source.spec),
        options_(source.options),
        host_ops_(source.ops),
        team_(source.team),
        device_(*device.device),
        stream_(device.stream),
        ops_(*device.ops) {}
  ~DeviceTrunk() override { Abandon(); }

  absl::Status Init(const TrunkSource& source);

  absl::Status Embed(const StepInput& input) override;
  absl::Status EmbedMtp(const StepInput& input, absl::Span<const MtpRow> rows) override;
  bool Repeat(const StepInput& input, ExpertProvider& experts, StepObserver* observer,
              const StepOutput& output) override;
  void AddAndNorm(const StepInput& input, int layer, Norm norm, float* hidden) override;
  void Attention(const StepInput& input, int layer) override;
  void FeedForward(const StepInput& input, int layer) override;
  absl::Status Mixture(const StepInput& input, int layer, ExpertProvider& experts,
                       StepObserver* observer) override;
  absl::Status Head(const StepInput& input, float* hidden, const StepOutput& output) override;
  absl::Status HeadMtp(const StepInput& input, const StepOutput& output) override;
  void Abandon() override;

 private:
  absl::Status LoadWeights(const TrunkSource& source, std::vector<float>& divisors);
  absl::Status OpenEmbeddings(const GgufModel& gguf);
  absl::Status LoadRope(const std::vector<float>& divisors);
  absl::Status TakeWorkspace();
  DeviceStep StepOf(const StepInput& input) const {
    return {spec_.config,  device_, stream_,        ops_,        work_,       input.kv,
            inbox_.places, rows_,   positions_max_, keys_total_, input.ledger};
  }
  const LayerWeights& Layer(int layer) const { return weights_.layers[static_cast<size_t>(layer)]; }
  void SendInbox(const StepInput& input);
  // Queues residual += delta, if it adds, and the norm of rows of it; `sources` null: of all.
  struct NormOf {
    bool adds = true;
    const float* weight = nullptr;
    const int32_t* sources = nullptr;
    int64_t rows = 0;
  };
  void QueueNorm(const NormOf& norm, const DeviceRows& out);
  // Whether the device can work on all layers of the step by itself.
  bool NeedsNoHost(const StepInput& input, ExpertProvider& experts);
  StepShape ShapeOf(const StepInput& input, const StepOutput& output) const;
  // The rows' embeddings to host memory, `stride` floats apart.
  absl::Status ReadEmbeddings(const StepInput& input, EmbeddingTable& table, float* out,
                              int64_t stride);
  // Each of `normed` that is not null gets the final norm of all rows.
  void QueueHead(const StepInput& input, const HeadWeights& w, std::initializer_list<float*> normed,
                 bool has_exp_sums);
  void QueueExpSums(const DeviceStep& wanted);
  // Waits for all that is queued, and hands out what came of it.
  absl::Status End(const StepInput& input, const StepOutput& output);
  // Where the final norm of all rows is copied to for `output`: pinned memory if there is room.
  float* NormedTarget(const StepOutput& output) const {
    const bool has_room = pinned_.normed != nullptr && rows_ <= StepRecordings::kRowsMax;
    return output.normed != nullptr && has_room ? pinned_.normed : output.normed;
  }
  // Ends the recording of the step, keeps it and queues what it holds; or the step's parts, when
  // it could not be made.
  absl::Status RunRecorded(const StepInput& input, const StepOutput& output);
  // Queues the copy of the step's rows, dense, to host memory.
  void CopyRowsOut(const float* rows, float* out);

  const ModelSpec& spec_;
  const Model::Options& options_;
  const Ops& host_ops_;
  ThreadTeam& team_;
  Device& device_;
  const Stream stream_;
  const DeviceOps& ops_;
  DeviceBuffer trunk_;
  DeviceBuffer workspace_;
  PinnedBuffer pinned_memory_;
  HostBuffer host_memory_;
  TrunkWeights weights_;  // views into trunk_; the embedding's shape where it is in the file
  DeviceWorkspace work_;
  PinnedBlock pinned_;
  HostPart host_;
  ResidentMixtures residents_{spec_.config, work_, pinned_, host_};
  std::unique_ptr<EmbeddingTable> embedding_;      // null: the table is resident on the device
  std::unique_ptr<EmbeddingTable> mtp_embedding_;  // with_mtp

  // Of the running step.
  int64_t rows_ = 0;
  int64_t logits_row_count_ = 0;
  StepInbox inbox_;  // on the device
  int32_t positions_max_ = 0;
  int64_t keys_total_ = 0;
  enum class Mode : uint8_t { kQueued, kRecording, kRepeated };
  Mode mode_ = Mode::kQueued;
  StepShape shape_;                    // kRecording
  ExpertProvider* experts_ = nullptr;  // null until there was a mixture
  StepObserver* observer_ = nullptr;

  bool can_record_ = true;  // until one could not be made
  StepRecordings recordings_;
};

absl::StatusOr<DeviceBuffer> TakeFor(Device& device, uint64_t bytes, std::string_view what) {
  absl::StatusOr<DeviceBuffer> buffer = device.Take(bytes);
  if (buffer.ok()) return buffer;
  return WithContext(buffer.status(),
                     fmt::format("taking {} for {} on the device", FormatBytes(bytes), what));
}

// The trunk passes through host memory, which is given back.
absl::Status DeviceTrunk::LoadWeights(const TrunkSource& source, std::vector<float>& divisors) {
  ASSIGN_OR_RETURN(const std::vector<TrunkTensor> tensors,
                   DescribeTrunk(source.gguf, spec_, weights_));
  // Taken before anything is read: what does not fit should be said at once.
  ASSIGN_OR_RETURN(trunk_, TakeFor(device_, spec_.trunk_bytes, "the resident weights"));
  ASSIGN_OR_RETURN(const HostBuffer arena, ReadTrunk(source.gguf, tensors, spec_.config, host_ops_,
                                                     team_, source.reader, source.progress));
  CHECK(arena.bytes() == trunk_.bytes());
  if (weights_.rope_divisors != nullptr) {
    divisors.assign(weights_.rope_divisors, weights_.rope_divisors + spec_.config.rope.dims / 2);
  }
  device_.CopyIn(Stream::kCopyIn, trunk_.data(), arena.data(), arena.bytes());
  const auto moved = [&](const auto* host) {
    const std::byte* at = reinterpret_cast<const std::byte*>(host);
    return reinterpret_cast<decltype(host)>(trunk_.data() + (at - arena.data()));
  };
  for (const TrunkTensor& tensor : tensors) {
    if (tensor.matrix != nullptr) tensor.matrix->data = moved(tensor.matrix->data);
    if (tensor.vector != nullptr) *tensor.vector = moved(*tensor.vector);
    if (tensor.transposed != nullptr) tensor.transposed->data = moved(tensor.transposed->data);
  }
  return device_.Await(device_.Record(Stream::kCopyIn));
}

absl::Status DeviceTrunk::LoadRope(const std::vector<float>& divisors) {
  const int64_t values = int64_t{options_.context_max} * work_.rope.pairs;
  const size_t bytes = static_cast<size_t>(values) * sizeof(float);
  ASSIGN_OR_RETURN(const HostBuffer tables, HostBuffer::Create(std::max<size_t>(2 * bytes, 1)));
  auto* cosines = reinterpret_cast<float*>(tables.data());
  float* sines = cosines + values;
  team_.ParallelFor(options_.context_max, 1024, [&](int64_t begin, int64_t end, int) {
    FillRopeTable(spec_.config.rope, divisors.empty() ? nullptr : divisors.data(), begin, end,
                  {cosines, sines});
  });
  const auto copy = [&](const float* device, const float* host) {
    // The device's own address, which was const only to its readers.
    std::byte* to =
        workspace_.data() + (reinterpret_cast<const std::byte*>(device) - workspace_.data());
    device_.CopyIn(Stream::kCopyIn, to, reinterpret_cast<const std::byte*>(host), bytes);
  };
  copy(work_.rope.cosines, cosines);
  copy(work_.rope.sines, sines);
  return device_.Await(device_.Record(Stream::kCopyIn));
}

absl::Status DeviceTrunk::TakeWorkspace() {
  const Needs needs = NeedsOf(spec_, options_);
  RETURN_IF_ERROR(pinned_memory_.Take(device_, needs.pinned));
  ASSIGN_OR_RETURN(host_memory_, HostBuffer::Create(needs.host));
  Carver pinned(pinned_memory_.data()), host(host_memory_.data());
  pinned_ = CarvePinnedBlock(spec_, options_, pinned);
  host_ = CarveHostPart(spec_, options_, host);
  host_.plan.places = reinterpret_cast<int32_t*>(pinned_.tables);
  if (spec_.config.expert_count > 0) {
    std::fill_n(host_.residents, ExpertLayers(spec_), ResidentLayer());
  }
  return absl::OkStatus();
}

absl::Status DeviceTrunk::OpenEmbeddings(const GgufModel& gguf) {
  if (weights_.is_tied) {
    weights_.output = weights_.embedding;
  } else {
    ASSIGN_OR_RETURN(
        embedding_, EmbeddingTable::Open(gguf, "token_embd.weight", weights_.embedding, host_ops_));
  }
  if (!spec_.with_mtp) return absl::OkStatus();
  const MtpWeights& mtp = weights_.mtp;
  ASSIGN_OR_RETURN(mtp_embedding_,
                   EmbeddingTable::Open(gguf, mtp.embedding_name, mtp.embedding, host_ops_));
  return absl::OkStatus();
}

absl::Status DeviceTrunk::Init(const TrunkSource& source) {
  std::vector<float> divisors;
  RETURN_IF_ERROR(LoadWeights(source, divisors));
  RETURN_IF_ERROR(OpenEmbeddings(source.gguf));
  ASSIGN_OR_RETURN(workspace_, TakeFor(device_, NeedsOf(spec_, options_).device, "the workspace"));
  Carver carver(workspace_.data());
  work_ = CarveDeviceWorkspace(spec_, options_, carver);
  RETURN_IF_ERROR(LoadRope(divisors));
  return TakeWorkspace();
}

// What the step's rows are, in one copy; and whatever pages they need.
void DeviceTrunk::SendInbox(const StepInput& input) {
  rows_ = static_cast<int64_t>(input.rows.size());
  logits_row_count_ = std::count_if(input.rows.begin(), input.rows.end(),
                                    [](const StepRow& row) { return row.wants_logits; });
  CHECK(logits_row_count_ <= options_.logits_rows_max);
  Carver here(pinned_.inbox), there(work_.inbox);
  const StepInbox inbox = StepInbox::Carve(rows_, logits_row_count_, here);
  inbox_ = StepInbox::Carve(rows_, logits_row_count_, there);
  positions_max_ = 0;
  keys_total_ = 0;
  int64_t wanted = 0;
  for (int64_t r = 0; r < rows_; ++r) {
    const StepRow& row = input.rows[static_cast<size_t>(r)];
    inbox.places[r] = {.token = row.token, .sequence = row.sequence, .position = row.position};
    if (row.wants_logits) inbox.logits_rows[wanted++] = static_cast<int32_t>(r);
    positions_max_ = std::max(positions_max_, row.position + 1);
    keys_total_ += row.position + 1;
  }
  mode_ = Mode::kQueued;
  device_.CopyIn(stream_, work_.inbox, pinned_.inbox, inbox.bytes);
  for (const SequenceRun& run : input.runs) {
    input.kv.Reserve(run.sequence, run.position + run.count);
  }
  input.kv.SendTable(stream_);
}

absl::Status DeviceTrunk::ReadEmbeddings(const StepInput& input, EmbeddingTable& table, float* out,
                                         int64_t stride) {
  for (int64_t r = 0; r < rows_; ++r) {
    host_.tokens[r] = input.rows[static_cast<size_t>(r)].token;
  }
  table.Expect({host_.tokens, input.rows.size()});
  for (int64_t r = 0; r < rows_; ++r) {
    RETURN_IF_ERROR(table.Read(host_.tokens[r], out + r * stride));
  }
  return absl::OkStatus();
}

absl::Status DeviceTrunk::Embed(const StepInput& input) {
  SendInbox(input);
  const int64_t stride = RowStride(spec_.config.hidden);
  if (embedding_ == nullptr) {
    StepOf(input).Queue(ops_.embed_rows, {.places = inbox_.places,
                                          .table = weights_.embedding,
                                          .out = work_.residual,
                                          .stride = stride,
                                          .rows = rows_});
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(ReadEmbeddings(input, *embedding_, pinned_.embedded, stride));
  device_.CopyIn(stream_, reinterpret_cast<std::byte*>(work_.residual),
                 reinterpret_cast<const std::byte*>(pinned_.embedded),
                 static_cast<size_t>(rows_ * stride) * sizeof(float));
  return absl::OkStatus();
}

absl::Status DeviceTrunk::EmbedMtp(const StepInput& input, absl::Span<const MtpRow> rows) {
  SendInbox(input);
  const int64_t hidden = spec_.config.hidden;
  const int64_t stride = work_.mtp.joined.stride;
  RETURN_IF_ERROR(ReadEmbeddings(input, *mtp_embedding_, pinned_.mtp_halves, stride));
  for (int64_t r = 0; r < rows_; ++r) {
    std::copy_n(rows[static_cast<size_t>(r)].hidden, hidden,
                pinned_.mtp_halves + r * stride + hidden);
  }
  device_.CopyIn(stream_, reinterpret_cast<std::byte*>(work_.mtp.halves),
                 reinterpret_cast<const std::byte*>(pinned_.mtp_halves),
                 static_cast<size_t>(rows_ * stride) * sizeof(float));
  QueueJoin(StepOf(input), weights_.mtp);
  return absl::OkStatus();
}

bool DeviceTrunk::NeedsNoHost(const StepInput& input, ExpertProvider& experts) {
  const DeviceStep step = StepOf(input);
  for (int layer = 0; layer < spec_.config.layer_count; ++layer) {
    if (!spec_.config.layer_is_moe(layer)) continue;
    if (!residents_.Takes(step, layer, experts)) return false;
  }
  return true;
}

StepShape DeviceTrunk::ShapeOf(const StepInput& input, const StepOutput& output) const {
  const KvLayer kv = input.kv.Layer(0);
  return {.rows = rows_,
          .logits_rows = logits_row_count_,
          .wants_normed = output.normed != nullptr,
          .has_exp_sums = output.exp_sums != nullptr,
          .positions_max = RecordedPositions(positions_max_, options_.context_max),
          .keys = kv.keys,
          .table = kv.table,
          .pages_per_sequence = kv.pages_per_sequence};
}

bool DeviceTrunk::Repeat(const StepInput& input, ExpertProvider& experts, StepObserver* observer,
                         const StepOutput& output) {
  if (!can_record_ || rows_ > StepRecordings::kRowsMax) return false;
  // What is recorded goes to the same place every time.
  const bool has_places = output.normed == nullptr || pinned_.normed != nullptr;
  if (output.hidden != nullptr || !has_places) return false;
  if (!NeedsNoHost(input, experts)) return false;
  experts_ = &experts;
  observer_ = observer;
  const StepShape shape = ShapeOf(input, output);
  if (const DeviceRecording* recording = recordings_.Find(shape)) {
    mode_ = Mode::kRepeated;
    for (int layer = 0; layer < spec_.config.layer_count; ++layer) {
      if (spec_.config.layer_is_moe(layer)) residents_.Note(layer);
    }
    device_.Repeat(stream_, *recording);
    return true;
  }
  if (!recordings_.IsRepeating(shape)) return false;
  mode_ = Mode::kRecording;
  shape_ = shape;
  positions_max_ = shape.positions_max;
  device_.BeginRecording(stream_);
  return false;
}

absl::Status DeviceTrunk::RunRecorded(const StepInput& input, const StepOutput& output) {
  mode_ = Mode::kQueued;
  absl::StatusOr<std::unique_ptr<DeviceRecording>> recording = device_.EndRecording();
  can_record_ = recording.ok();
  if (can_record_) {
    device_.Repeat(stream_, recordings_.Add(shape_, *std::move(recording)));
    return absl::OkStatus();
  }
  // Queued after all, from here on always: a recording is of use only if it costs nothing.
  residents_.Forget();
  RETURN_IF_ERROR(RunLayers(*this, spec_.config, input, *experts_, observer_, {}));
  QueueHead(input, HeadOf(weights_), {NormedTarget(output)}, shape_.has_exp_sums);
  return absl::OkStatus();
}

void DeviceTrunk::QueueNorm(const NormOf& norm, const DeviceRows& out) {
  Enqueue(device_, stream_, ops_.norm_rows,
          NormRowsArgs{.residual = work_.residual,
                       .delta = norm.adds ? work_.delta : nullptr,
                       .weight = norm.weight,
                       .out = out.x,
                       .sources = norm.sources,
                       .q8x32 = out.q8x32,
                       .q8x256 = out.q8x256,
                       .rows = norm.rows,
                       .cols = spec_.config.hidden,
                       .stride = out.stride,
                       .epsilon = spec_.config.norm_epsilon});
}

void DeviceTrunk::CopyRowsOut(const float* rows, float* out) {
  const int64_t width = spec_.config.hidden;
  const int64_t stride = RowStride(width);
  const auto copy = [&](int64_t row, int64_t values) {
    device_.CopyOut(stream_, reinterpret_cast<std::byte*>(out + row * width),
                    reinterpret_cast<const std::byte*>(rows + row * stride),
                    static_cast<size_t>(values) * sizeof(float));
  };
  if (stride == width) return copy(0, rows_ * width);
  for (int64_t row = 0; row < rows_; ++row) copy(row, width);
}

void DeviceTrunk::AddAndNorm(const StepInput& input, int layer, Norm norm, float* hidden) {
  const LayerWeights& w = Layer(layer);
  const bool is_attention = norm == Norm::kAttention;
  const DeviceRows out = is_attention ? work_.normed.Only(AttentionKinds(w.attention))
                         : spec_.config.layer_is_moe(layer)
                             ? MixtureInput(StepOf(input), w)
                             : work_.normed.Only(FeedForwardKinds(w.dense));
  const bool is_first = layer == 0 || layer == spec_.config.layer_count;
  QueueNorm({.adds = !is_attention || !is_first,
             .weight = is_attention ? w.attention.norm : w.ffn_norm,
             .rows = rows_},
            out);
  if (hidden != nullptr) CopyRowsOut(work_.residual, hidden);
}

void DeviceTrunk::Attention(const StepInput& input, int layer) {
  // Multi-token prediction has a cache of one layer.
  const int cached_layer = layer == spec_.config.layer_count ? 0 : layer;
  QueueAttention(StepOf(input), cached_layer, Layer(layer).attention);
}

void DeviceTrunk::FeedForward(const StepInput& input, int layer) {
  QueueFeedForward(StepOf(input), Layer(layer).dense, work_.normed, {.out = work_.delta});
}

absl::Status DeviceTrunk::Mixture(const StepInput& input, int layer, ExpertProvider& experts,
                                  StepObserver* observer) {
  const DeviceStep step = StepOf(input);
  const DeviceMixture mixture = {step,  weights_.layers, Layer(layer), pinned_,
                                 host_, host_ops_,       team_,        residents_};
  experts_ = &experts;
  observer_ = observer;
  if (!residents_.Takes(step, layer, experts)) {
    return QueueMixture(mixture, layer, experts, observer);
  }
  residents_.Queue(mixture, layer);
  return absl::OkStatus();
}

void DeviceTrunk::QueueHead(const StepInput& input, const HeadWeights& w,
                            std::initializer_list<float*> normed, bool has_exp_sums) {
  const DeviceRows out = work_.normed.Only(KindSet::Of({&w.output}));
  NormOf norm = {.weight = w.norm, .rows = rows_};
  for (float* copy : normed) {
    if (copy == nullptr) continue;
    if (norm.adds) QueueNorm(norm, out);
    norm.adds = false;
    CopyRowsOut(out.x, copy);
  }
  if (logits_row_count_ > 0) {
    // Only the rows that want logits, together at the front.
    norm.sources = inbox_.logits_rows;
    norm.rows = logits_row_count_;
    QueueNorm(norm, out);
    DeviceStep wanted = StepOf(input);
    wanted.rows = logits_row_count_;
    wanted.Multiply(out, spec_.config.hidden, {ProductTo(w.output, work_.logits)});
    device_.CopyOut(stream_, reinterpret_cast<std::byte*>(pinned_.logits),
                    reinterpret_cast<const std::byte*>(work_.logits),
                    static_cast<size_t>(logits_row_count_ * RowStride(spec_.config.vocab_count)) *
                        sizeof(float));
    if (has_exp_sums) QueueExpSums(wanted);
  }
  residents_.SendChoices(StepOf(input));
}

void DeviceTrunk::QueueExpSums(const DeviceStep& wanted) {
  const int64_t vocab = spec_.config.vocab_count;
  wanted.Queue(ops_.log_sum_exp, {.x = work_.logits,
                                  .rows = wanted.rows,
                                  .cols = vocab,
                                  .stride = RowStride(vocab),
                                  .out = work_.exp_sums});
  device_.CopyOut(stream_, reinterpret_cast<std::byte*>(pinned_.exp_sums),
                  reinterpret_cast<const std::byte*>(work_.exp_sums),
                  static_cast<size_t>(wanted.rows) * sizeof(ExpSum));
}

absl::Status DeviceTrunk::End(const StepInput& input, const StepOutput& output) {
  const int64_t vocab = spec_.config.vocab_count;
  const int64_t stride = RowStride(vocab);
  {
    const CauseScope cause(input.ledger, Cause::kWaitDevice);
    RETURN_IF_ERROR(device_.Await(device_.Record(stream_)));
  }
  if (experts_ != nullptr) residents_.Tell(rows_, *experts_, observer_);
  for (int64_t row = 0; row < logits_row_count_; ++row) {
    std::copy_n(pinned_.logits + row * stride, vocab, output.logits + row * vocab);
  }
  if (const float* normed = NormedTarget(output); normed != output.normed) {
    std::copy_n(normed, rows_ * spec_.config.hidden, output.normed);
  }
  if (output.exp_sums != nullptr) {
    std::copy_n(pinned_.exp_sums, logits_row_count_, output.exp_sums);
  }
  return absl::OkStatus();
}

absl::Status DeviceTrunk::Head(const StepInput& input, float* hidden, const StepOutput& output) {
  if (mode_ != Mode::kRepeated) {
    QueueHead(input, HeadOf(weights_), {hidden, NormedTarget(output)}, output.exp_sums != nullptr);
  }
  if (mode_ == Mode::kRecording) RETURN_IF_ERROR(RunRecorded(input, output));
  return End(input, output);
}

absl::Status DeviceTrunk::HeadMtp(const StepInput& input, const StepOutput& output) {
  QueueHead(input, MtpHeadOf(weights_), {NormedTarget(output)}, output.exp_sums != nullptr);
  return End(input, output);
}

// The provider's copies and releases are its own affair; ours are on these two streams.
void DeviceTrunk::Abandon() {
  if (std::exchange(mode_, Mode::kQueued) == Mode::kRecording) (void)device_.EndRecording();
  residents_.Forget();
  (void)device_.Await(device_.Record(stream_));
  (void)device_.Await(device_.Record(Stream::kCopyIn));
}

}  // namespace

WorkspaceNeeds DeviceWorkspaceNeeds(const ModelSpec& spec, const Model::Options& options) {
  const Needs needs = NeedsOf(spec, options);
  return {.host_bytes = needs.pinned + needs.host, .device_bytes = needs.device};
}

absl::StatusOr<std::unique_ptr<Trunk>> LoadDeviceTrunk(const TrunkSource& source,
                                                       const ModelDevice& device) {
  CHECK(device.ops != nullptr);
  if (source.spec.with_mtp && source.spec.config.hidden % 16 != 0) {
    return absl::UnimplementedError(
        fmt::format("multi-token prediction on a device needs a hidden width of whole sixteens, "
                    "and the model's is {}; try --device cpu, or --draft ngram",
                    source.spec.config.hidden));
  }
  auto trunk = std::make_unique<DeviceTrunk>(source, device);
  RETURN_IF_ERROR(trunk->Init(source));
  return trunk;
}

}  // namespace stoker
