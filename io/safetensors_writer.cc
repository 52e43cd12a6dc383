// Writes F32 tensors as they come, beside the file that they become.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "io/file.h"
#include "io/safetensors.h"

namespace stoker {
namespace {

constexpr size_t kLengthBytes = sizeof(uint64_t);

class FileWriter final : public SafetensorsWriter {
 public:
  FileWriter(std::string path, std::string temporary, FileDescriptor file)
      : path_(std::move(path)), temporary_(std::move(temporary)), file_(std::move(file)) {}
  ~FileWriter() override {
    if (!is_closed_) unlink(temporary_.c_str());
  }

  absl::Status Begin(const std::vector<Tensor>& tensors);
  absl::Status Write(int index, int64_t at, absl::Span<const float> values) override;
  absl::Status Close() override;

 private:
  struct Place {
    std::string name;
    uint64_t begin = 0;                                // bytes from the start of the file
    int64_t count = 0;                                 // elements
    std::vector<std::pair<int64_t, int64_t>> written;  // disjoint runs of elements, in order
  };
  absl::Status PutBytes(uint64_t offset, const void* bytes, size_t count);
  absl::Status MarkWritten(Place& place, int64_t begin, int64_t end);

  const std::string path_;
  const std::string temporary_;
  FileDescriptor file_;
  std::vector<Place> places_;
  bool is_closed_ = false;
};

absl::Status FileWriter::PutBytes(uint64_t offset, const void* bytes, size_t count) {
  for (size_t done = 0; done < count;) {
    const ssize_t put = pwrite(file_.get(), static_cast<const char*>(bytes) + done, count - done,
                               static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return StatusOfErrno(errno, fmt::format("writing {}", temporary_));
    done += static_cast<size_t>(put);
  }
  return absl::OkStatus();
}

absl::Status FileWriter::Begin(const std::vector<Tensor>& tensors) {
  nlohmann::json header = nlohmann::json::object();
  uint64_t at = 0;
  for (const Tensor& tensor : tensors) {
    Place place{.name = tensor.name, .begin = at, .count = 1, .written = {}};
    for (const int64_t dim : tensor.shape) {
      CHECK(dim >= 0 && !__builtin_mul_overflow(place.count, dim, &place.count));
    }
    const uint64_t end = at + static_cast<uint64_t>(place.count) * sizeof(float);
    CHECK(!header.contains(tensor.name));
    header[tensor.name] = {{"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {at, end}}};
    at = end;
    places_.push_back(std::move(place));
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // aligns the data; the format allows it
  const uint64_t header_bytes = text.size();
  for (Place& place : places_) place.begin += kLengthBytes + header_bytes;
  RETURN_IF_ERROR(PutBytes(0, &header_bytes, kLengthBytes));
  return PutBytes(kLengthBytes, text.data(), text.size());
}

// Runs are merged as they meet, so writing in order keeps one.
absl::Status FileWriter::MarkWritten(Place& place, int64_t begin, int64_t end) {
  auto& runs = place.written;
  const auto next = std::lower_bound(runs.begin(), runs.end(), std::pair(begin, begin));
  const bool hits_next = next != runs.end() && next->first < end;
  const bool hits_previous = next != runs.begin() && std::prev(next)->second > begin;
  if (hits_next || hits_previous) {
    return absl::InvalidArgumentError(
        fmt::format("elements {} to {} of '{}' are written twice", begin, end, place.name));
  }
  auto run = next != runs.begin() && std::prev(next)->second == begin
                 ? std::prev(next)
                 : runs.insert(next, {begin, begin});
  run->second = end;
  if (const auto after = std::next(run); after != runs.end() && after->first == end) {
    run->second = after->second;
    runs.erase(after);
  }
  return absl::OkStatus();
}

absl::Status FileWriter::Write(int index, int64_t at, absl::Span<const float> values) {
  CHECK(!is_closed_ && index >= 0 && static_cast<size_t>(index) < places_.size());
  Place& place = places_[static_cast<size_t>(index)];
  const auto count = static_cast<int64_t>(values.size());
  CHECK(at >= 0 && at <= place.count && count <= place.count - at);
  if (count == 0) return absl::OkStatus();
  RETURN_IF_ERROR(MarkWritten(place, at, at + count));
  return PutBytes(place.begin + static_cast<uint64_t>(at) * sizeof(float), values.data(),
                  values.size() * sizeof(float));
}

absl::Status FileWriter::Close() {
  CHECK(!is_closed_);
  for (const Place& place : places_) {
    const bool is_whole =
        place.count == 0 || (place.written.size() == 1 && place.written[0].first == 0 &&
                             place.written[0].second == place.count);
    if (!is_whole) {
      return absl::FailedPreconditionError(
          fmt::format("not every element of '{}' was written", place.name));
    }
  }
  if (fsync(file_.get()) != 0) return StatusOfErrno(errno, fmt::format("writing {}", temporary_));
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return StatusOfErrno(errno, path_);
  is_closed_ = true;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(
    const std::string& path, std::vector<Tensor> tensors) {
  std::string temporary = path + ".XXXXXX";
  FileDescriptor file(mkostemp(temporary.data(), O_CLOEXEC));
  if (file.get() < 0) return StatusOfErrno(errno, fmt::format("creating {}", path));
  (void)fchmod(file.get(), 0644);  // mkostemp makes files that only their owner can read
  auto writer = std::make_unique<FileWriter>(path, std::move(temporary), std::move(file));
  RETURN_IF_ERROR(writer->Begin(tensors));
  return writer;
}

}  // namespace stoker
