// The trunk's reads as a queue of pieces, and the conversions that follow them.
#include "model/trunk_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/status.h"

namespace stoker {
namespace {

// Large enough to run at the drive's full rate, small enough that progress moves.
constexpr uint64_t kPieceBytes = 4 << 20;
constexpr size_t kInFlightMax = 16;
constexpr int kAttemptsMax = 4;

// A part of a run that is read by one request at a time.
struct Piece {
  int file = 0;  // index into GgufModel::paths()
  uint64_t offset = 0;
  uint64_t bytes = 0;   // still to read, a multiple of the block
  uint64_t wanted = 0;  // of these, bytes that must come; the rest may lie past the end of the file
  std::byte* target = nullptr;
  int attempts = 0;
};

class PieceReader {
 public:
  PieceReader(const GgufModel& gguf, absl::Span<const TrunkTensor> tensors,
              const TrunkLayout& layout, std::byte* arena, BlockReader& reader,
              const Model::Progress& progress)
      : gguf_(gguf), tensors_(tensors), reader_(reader), progress_(progress) {
    for (const TrunkLayout::Run& run : layout.runs()) Cut(run, arena + run.arena_at);
  }

  absl::Status Run();

 private:
  void Cut(const TrunkLayout::Run& run, std::byte* target);
  absl::Status OpenFiles();
  void Submit(size_t index);
  // Takes one completion; true when its piece is done.
  absl::StatusOr<bool> Complete(const ReadCompletion& completion);
  absl::Status Failure(const Piece& piece, absl::StatusCode code, std::string_view what) const;
  void Drain();

  const GgufModel& gguf_;
  absl::Span<const TrunkTensor> tensors_;
  BlockReader& reader_;
  const Model::Progress& progress_;
  std::vector<int> reader_files_;  // by file of the model
  std::vector<Piece> pieces_;
  uint64_t total_bytes_ = 0;
  uint64_t done_bytes_ = 0;
};

void PieceReader::Cut(const TrunkLayout::Run& run, std::byte* target) {
  for (uint64_t at = 0; at < run.bytes; at += kPieceBytes) {
    const uint64_t bytes = std::min(kPieceBytes, run.bytes - at);
    pieces_.push_back({.file = run.file,
                       .offset = run.offset + at,
                       .bytes = bytes,
                       .wanted = std::min(bytes, run.wanted - at),
                       .target = target + at});
    total_bytes_ += bytes;
  }
}

absl::Status PieceReader::OpenFiles() {
  for (const std::string& path : gguf_.paths()) {
    ASSIGN_OR_RETURN(const int file, reader_.AddFile(path));
    if (TrunkLayout::kBlockBytes % reader_.alignment(file) != 0) {
      return absl::UnimplementedError(
          fmt::format("{} asks for reads aligned to {} bytes; at most {} is supported", path,
                      reader_.alignment(file), TrunkLayout::kBlockBytes));
    }
    reader_files_.push_back(file);
  }
  return absl::OkStatus();
}

void PieceReader::Submit(size_t index) {
  const Piece& piece = pieces_[index];
  reader_.Submit({.file = reader_files_[static_cast<size_t>(piece.file)],
                  .offset = piece.offset,
                  .target = piece.target,
                  .bytes = piece.bytes,
                  .tag = index},
                 ReadPriority::kDemand);
}

absl::Status PieceReader::Failure(const Piece& piece, absl::StatusCode code,
                                  std::string_view what) const {
  const GgufTensor* first = nullptr;
  const GgufTensor* last = nullptr;
  for (const TrunkTensor& tensor : tensors_) {
    const GgufTensor& source = *tensor.source;
    const bool overlaps = source.file == piece.file &&
                          source.offset < piece.offset + piece.wanted &&
                          piece.offset < source.offset + source.bytes;
    if (!overlaps) continue;
    if (first == nullptr || source.offset < first->offset) first = &source;
    if (last == nullptr || source.offset > last->offset) last = &source;
  }
  const std::string names = first == nullptr ? "weights"
                            : first == last  ? first->name
                                             : fmt::format("{} to {}", first->name, last->name);
  return absl::Status(code, fmt::format("reading {} from {}, bytes {} to {}: {}", names,
                                        gguf_.paths()[static_cast<size_t>(piece.file)],
                                        piece.offset, piece.offset + piece.wanted, what));
}

absl::StatusOr<bool> PieceReader::Complete(const ReadCompletion& completion) {
  Piece& piece = pieces_[static_cast<size_t>(completion.tag)];
  if (completion.result < 0) {
    const int error = static_cast<int>(-completion.result);
    const bool is_transient = error == EINTR || error == EAGAIN || error == EIO;
    if (!is_transient || ++piece.attempts >= kAttemptsMax) {
      return Failure(piece, absl::StatusCode::kDataLoss, std::strerror(error));
    }
    return false;
  }
  const uint64_t got = static_cast<uint64_t>(completion.result);
  if (got >= piece.wanted) return true;
  // Whole blocks that came are kept; the rest is asked for again.
  const uint64_t kept = got / TrunkLayout::kBlockBytes * TrunkLayout::kBlockBytes;
  if (kept == 0 && ++piece.attempts >= kAttemptsMax) {
    return Failure(piece, absl::StatusCode::kDataLoss,
                   "the file ends here; it is truncated, or was while this run was starting");
  }
  piece.offset += kept;
  piece.target += kept;
  piece.bytes -= kept;
  piece.wanted -= kept;
  done_bytes_ += kept;
  return false;
}

// After an error the reads under way must end before their targets do.
void PieceReader::Drain() {
  ReadCompletion completions[kInFlightMax];
  while (reader_.in_flight() > 0)
    reader_.Reap(absl::MakeSpan(completions), BlockReader::Wait::kUntilOne);
}

absl::Status PieceReader::Run() {
  RETURN_IF_ERROR(OpenFiles());
  ReadCompletion completions[kInFlightMax];
  size_t next = 0;
  size_t done = 0;
  while (done < pieces_.size()) {
    while (next < pieces_.size() && reader_.in_flight() < kInFlightMax) Submit(next++);
    const size_t count = reader_.Reap(absl::MakeSpan(completions), BlockReader::Wait::kUntilOne);
    CHECK(count > 0);
    for (size_t i = 0; i < count; ++i) {
      const absl::StatusOr<bool> is_done = Complete(completions[i]);
      if (!is_done.ok()) {
        Drain();
        return is_done.status();
      }
      const auto index = static_cast<size_t>(completions[i].tag);
      if (!*is_done) {
        Submit(index);
        continue;
      }
      ++done;
      done_bytes_ += pieces_[index].bytes;
    }
    if (progress_) progress_(done_bytes_, total_bytes_);
  }
  return absl::OkStatus();
}

// One row of `source` in the target's dtype; `wide` is scratch.
void RowAs(Dtype target, const MatrixView& source, int64_t row, const Ops& ops,
           std::vector<float>& wide, std::vector<std::byte>& out) {
  if (target == source.dtype) {
    std::memcpy(out.data(), source.row(row), source.row_bytes());
    return;
  }
  ops.decode(source.dtype, source.row(row), source.cols, wide.data());
  ops.to_f16(wide.data(), source.cols, reinterpret_cast<uint16_t*>(out.data()));
}

// Transposes the key half of each head of W_kv_b: from [key_dim, kv_rank] to [kv_rank, key_dim].
void TransposeKeys(const MatrixView& source, const MatrixView& target, int64_t head_count,
                   const Ops& ops, ThreadTeam& team, std::byte* data) {
  const int64_t rank = source.cols;
  const int64_t key_dim = target.cols;
  const int64_t head_rows = source.rows / head_count;
  const size_t value_bytes = RowBytes(target.dtype, 1);
  team.ParallelFor(head_count, 1, [&](int64_t head, int64_t, int) {
    std::vector<float> wide(static_cast<size_t>(rank));
    std::vector<std::byte> row(static_cast<size_t>(rank) * value_bytes);
    for (int64_t i = 0; i < key_dim; ++i) {
      RowAs(target.dtype, source, head * head_rows + i, ops, wide, row);
      for (int64_t c = 0; c < rank; ++c) {
        const int64_t at = (head * rank + c) * key_dim + i;
        std::memcpy(data + static_cast<size_t>(at) * value_bytes,
                    row.data() + static_cast<size_t>(c) * value_bytes, value_bytes);
      }
    }
  });
}

}  // namespace

absl::StatusOr<HostBuffer> ReadTrunk(const GgufModel& gguf, absl::Span<const TrunkTensor> tensors,
                                     const ModelConfig& config, const Ops& ops, ThreadTeam& team,
                                     BlockReader& reader, const Model::Progress& progress) {
  const TrunkLayout layout(tensors);
  ASSIGN_OR_RETURN(HostBuffer arena, HostBuffer::Create(layout.bytes()));
  RETURN_IF_ERROR(PieceReader(gguf, tensors, layout, arena.data(), reader, progress).Run());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TrunkTensor& tensor = tensors[i];
    const std::byte* raw = arena.data() + layout.raw_at(i);
    if (tensor.matrix != nullptr) tensor.matrix->data = raw;
    if (tensor.vector != nullptr) {
      auto* values = reinterpret_cast<float*>(arena.data() + layout.converted_at(i));
      ops.decode(tensor.source->dtype, raw, tensor.source->dims[0], values);
      *tensor.vector = values;
    }
    if (tensor.transposed != nullptr) {
      std::byte* keys = arena.data() + layout.converted_at(i);
      TransposeKeys(*tensor.matrix, *tensor.transposed, config.head_count, ops, team, keys);
      tensor.transposed->data = keys;
    }
  }
  return arena;
}

}  // namespace stoker
