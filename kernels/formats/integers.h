// The common integer form of quantized blocks: what a format supplies so that every generic kernel
// (reference, scalar, and a card's plain one) can multiply it.
//
// A format is a struct with
//   Block                 the bytes of one block, of alignment 1
//   kDtype, kBlockValues, kActivation
//   Decode(block, y)      block to kBlockValues floats: the value of each weight, bit for bit that
//                         of gguf-py
//   Value(block, i)       one of them
//   Unpack(block)         quantized formats: the integers and scales below
// and is listed in formats.h.
#pragma once

#include <cstdint>

namespace stoker {

// A block of 32 (kQ8x32): weight i is d * q[i].
struct Integers32 {
  int8_t q[32];
  float d;
};

// A superblock of 256 (kQ8x256): weight i is d * scale[i / 16] * q[i] - dmin * minimum[i / 16].
// Formats whose sub-blocks are longer than 16 repeat their scales. Without minima, dmin is 0 and
// Format::kHasMinima says so.
struct Integers256 {
  int8_t q[256];
  int16_t scale[16];
  int16_t minimum[16];
  float d;
  float dmin;
};

}  // namespace stoker
