// Rows of the embedding table, from memory or by pread.
#include "model/embedding_table.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/status.h"

namespace stoker {
namespace {

int64_t CachedRows(const MatrixView& shape) {
  return std::min(shape.rows, EmbeddingTable::kCachedRowsMax);
}

int64_t ModifiedNs(const struct stat& info) {
  return int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

}  // namespace

uint64_t EmbeddingTable::CacheBytes(const MatrixView& shape) {
  return static_cast<uint64_t>(CachedRows(shape)) * (shape.row_bytes() + sizeof(int32_t));
}

absl::StatusOr<std::unique_ptr<EmbeddingTable>> EmbeddingTable::Open(const GgufModel& gguf,
                                                                     std::string_view name,
                                                                     const MatrixView& shape,
                                                                     const Ops& ops) {
  const GgufTensor& tensor = *gguf.FindTensor(name);
  const std::string& path = gguf.paths()[static_cast<size_t>(tensor.file)];
  std::unique_ptr<EmbeddingTable> table(new EmbeddingTable(shape, ops));
  table->name_ = name;
  table->path_ = path;
  table->offset_ = tensor.offset;
  table->file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat info;
  if (table->file_ < 0 || fstat(table->file_, &info) != 0) {
    return absl::DataLossError(fmt::format("opening {}: {}", path, std::strerror(errno)));
  }
  table->file_bytes_ = static_cast<uint64_t>(info.st_size);
  table->file_mtime_ns_ = ModifiedNs(info);
  // Rows lie far apart: reading ahead would only push other pages out.
  (void)posix_fadvise(table->file_, 0, 0, POSIX_FADV_RANDOM);
  const int64_t rows = CachedRows(shape);
  table->tokens_.assign(static_cast<size_t>(rows), -1);
  ASSIGN_OR_RETURN(table->rows_, HostBuffer::Create(static_cast<size_t>(rows) * shape.row_bytes()));
  return table;
}

std::unique_ptr<EmbeddingTable> EmbeddingTable::Resident(const MatrixView& table, const Ops& ops) {
  return std::unique_ptr<EmbeddingTable>(new EmbeddingTable(table, ops));
}

EmbeddingTable::~EmbeddingTable() {
  if (file_ >= 0) close(file_);
}

void EmbeddingTable::Expect(absl::Span<const int32_t> tokens) {
  if (file_ < 0) return;
  for (const int32_t token : tokens) {
    if (tokens_[static_cast<size_t>(token) % tokens_.size()] == token) continue;
    const uint64_t at = offset_ + static_cast<uint64_t>(token) * table_.row_bytes();
    (void)posix_fadvise(file_, static_cast<off_t>(at), static_cast<off_t>(table_.row_bytes()),
                        POSIX_FADV_WILLNEED);
  }
}

absl::Status EmbeddingTable::Read(int32_t token, float* out) {
  DCHECK(token >= 0 && token < table_.rows);
  const std::byte* row = nullptr;
  if (file_ < 0) {
    row = table_.row(token);
  } else {
    const size_t line = static_cast<size_t>(token) % tokens_.size();
    std::byte* cached = rows_.data() + line * table_.row_bytes();
    if (tokens_[line] != token) {
      tokens_[line] = -1;
      RETURN_IF_ERROR(ReadRow(token, cached));
      tokens_[line] = token;
    }
    row = cached;
  }
  ops_.decode(table_.dtype, row, table_.cols, out);
  return absl::OkStatus();
}

absl::Status EmbeddingTable::ReadRow(int32_t token, std::byte* row) const {
  RETURN_IF_ERROR(CheckUnchanged());
  const size_t bytes = table_.row_bytes();
  const uint64_t at = offset_ + static_cast<uint64_t>(token) * bytes;
  for (size_t done = 0; done < bytes;) {
    const ssize_t got = pread(file_, row + done, bytes - done, static_cast<off_t>(at + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return absl::DataLossError(
          fmt::format("reading {}, row {}, from {}: {}", name_, token, path_,
                      got == 0 ? "the file ends before it" : std::strerror(errno)));
    }
    done += static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

absl::Status EmbeddingTable::CheckUnchanged() const {
  struct stat info;
  if (fstat(file_, &info) != 0) {
    return absl::DataLossError(fmt::format("looking at {}: {}", path_, std::strerror(errno)));
  }
  if (static_cast<uint64_t>(info.st_size) != file_bytes_ || ModifiedNs(info) != file_mtime_ns_) {
    return absl::DataLossError(
        fmt::format("{} was changed while it was in use; start again when it is complete", path_));
  }
  return absl::OkStatus();
}

}  // namespace stoker
