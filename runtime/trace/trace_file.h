// The bytes of our trace files: magic, blocks, records, numbers. docs/TRACES.md says the same to
// readers of other programs.
//
//     file   = magic, block...
//     block  = payload_bytes u32, kind u8, 0 u24, hash u64, payload      little endian
//     header = JSON                                                      the first block
//     steps  = record...                                                 whole records
//     end    = step count varint                                         the last, unless killed
//     record = kind u8, payload_bytes varint, payload
//
// The hash is XXH3 of the payload, seeded by the rest of the block's head and its number, so that a
// block that was cut, moved or repeated is seen. A reader passes over kinds of records that it does
// not know and over bytes behind those of a record that it knows: both are how the format grows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace stoker {

// The last digit is the version: another one means that an older reader cannot make sense of it.
inline constexpr std::string_view kTraceMagic = "STOKTRC1";

enum class TraceBlock : uint8_t { kHeader = 1, kSteps = 2, kEnd = 3 };
inline constexpr size_t kTraceBlockHeadBytes = 16;
// Of a payload. A header of 100 layers is 20 KiB.
inline constexpr size_t kTraceBlockBytesMax = size_t{16} << 20;

enum class TraceRecord : uint8_t {
  kRows = 1,       // sequence, first position, count, is_prompt
  kRouting = 2,    // layer index, top_k, first row, row count, ids, weights as F16 if known
  kLookahead = 3,  // layer index, target index, experts a row, first row, row count, ids
  kResidency = 4,  // change, layer index, expert, bytes
  kMiss = 5,       // layer index, expert, reason, evicted step, read_ns, read_bytes
  kStepEnd = 6,    // times and counts; what came since the last one is the step's
  kLinks = 7,      // what was measured before the first step: kLinkRateFields
  kRates = 8,      // what experts are placed by from here on: kLinkRateFields
  kPlacement = 9,  // layer index, is_from_file, backlog, copied, count; expert, rows << 1 | worth
};

// Seed of a block's hash.
inline uint64_t TraceBlockSeed(uint64_t number, TraceBlock kind, size_t payload_bytes) {
  return number << 40 ^ static_cast<uint64_t>(kind) << 32 ^ static_cast<uint64_t>(payload_bytes);
}

// Numbers are LEB128: seven bits a byte, low ones first, the top bit says that more follow.
inline constexpr size_t kVarintBytesMax = 10;

inline uint8_t* PutVarint(uint8_t* out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) *out++ = static_cast<uint8_t>(value | 0x80);
  *out++ = static_cast<uint8_t>(value);
  return out;
}

inline uint64_t LittleEndian(const uint8_t* data, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= static_cast<uint64_t>(data[i]) << (8 * i);
  return value;
}

// Signed numbers: 0, -1, 1, -2, ... are 0, 1, 2, 3, ...
inline uint64_t ZigzagOf(int64_t value) {
  return static_cast<uint64_t>(value) << 1 ^ static_cast<uint64_t>(value >> 63);
}
inline int64_t FromZigzag(uint64_t value) {
  return static_cast<int64_t>(value >> 1 ^ (~(value & 1) + 1));
}

// Bytes of a residency change are mostly none or the expert's: 0, 1, and others one more.
inline uint64_t ResidencyCodeOf(uint64_t bytes, uint64_t expert_bytes) {
  if (bytes == 0) return 0;
  return bytes == expert_bytes ? 1 : bytes + 1;
}
inline uint64_t FromResidencyCode(uint64_t code, uint64_t expert_bytes) {
  if (code <= 1) return code * expert_bytes;
  return code - 1;
}

// Walks the numbers of a record; past its end everything is 0 and ok() false.
class TraceBytes {
 public:
  static constexpr uint64_t kAmountMax = uint64_t{1} << 60;  // 36 years in nanoseconds

  TraceBytes(const uint8_t* data, size_t bytes) : next_(data), end_(data + bytes) {}

  bool ok() const { return ok_; }
  size_t left() const { return static_cast<size_t>(end_ - next_); }

  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (next_ == end_) return Fail();
      const uint8_t byte = *next_++;
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return Fail();
  }
  // An amount, small enough that a few of them add up without overflow; else it fails.
  int64_t Amount() {
    const uint64_t value = Varint();
    return static_cast<int64_t>(value <= kAmountMax ? value : Fail());
  }
  int64_t SignedAmount() {
    const uint64_t value = Varint();
    return FromZigzag(value <= 2 * kAmountMax ? value : Fail());
  }
  uint8_t Byte() {
    if (next_ == end_) return static_cast<uint8_t>(Fail());
    return *next_++;
  }
  // Null when fewer are left.
  const uint8_t* Take(uint64_t bytes) {
    if (bytes > left()) {
      Fail();
      return nullptr;
    }
    const uint8_t* const taken = next_;
    next_ += bytes;
    return taken;
  }

 private:
  uint64_t Fail() {
    ok_ = false;
    next_ = end_;
    return 0;
  }

  const uint8_t* next_;
  const uint8_t* end_;
  bool ok_ = true;
};

}  // namespace stoker
