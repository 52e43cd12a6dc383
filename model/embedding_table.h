// The embedding table, read by row: a run touches few of its rows, so the table stays in the file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/tensor_view.h"
#include "device/buffer.h"
#include "io/gguf.h"
#include "kernels/ops.h"

namespace stoker {

// Rows come from a small direct-mapped cache, else from the file through the page cache; tied
// models hand in the resident table instead. One thread.
class EmbeddingTable {
 public:
  static constexpr int64_t kCachedRowsMax = 1024;
  static uint64_t CacheBytes(const MatrixView& shape);

  // Of the tensor `name`, which the file has.
  static absl::StatusOr<std::unique_ptr<EmbeddingTable>> Open(const GgufModel& gguf,
                                                              std::string_view name,
                                                              const MatrixView& shape,
                                                              const Ops& ops);
  static std::unique_ptr<EmbeddingTable> Resident(const MatrixView& table, const Ops& ops);
  ~EmbeddingTable();
  EmbeddingTable(const EmbeddingTable&) = delete;
  EmbeddingTable& operator=(const EmbeddingTable&) = delete;

  // Says which rows are about to be read, so that those not in memory are fetched side by side.
  void Expect(absl::Span<const int32_t> tokens);
  // The row of a token, widened: out [hidden]. DataLoss when it cannot be read, or when the file is
  // not the one that was opened. Requires a token of the vocabulary.
  absl::Status Read(int32_t token, float* out);

 private:
  EmbeddingTable(const MatrixView& table, const Ops& ops) : table_(table), ops_(ops) {}
  absl::Status ReadRow(int32_t token, std::byte* row) const;
  absl::Status CheckUnchanged() const;

  MatrixView table_;  // data null when it is in the file
  const Ops& ops_;
  std::string name_;  // of the tensor
  std::string path_;
  int file_ = -1;
  uint64_t offset_ = 0;
  uint64_t file_bytes_ = 0;
  int64_t file_mtime_ns_ = 0;
  HostBuffer rows_;              // [cached rows, row_bytes]
  std::vector<int32_t> tokens_;  // which token's row each cache line holds, -1 for none
};

}  // namespace stoker
