// The shared memory of one block of a kernel's twin.
#pragma once

#include <cstddef>
#include <cstdint>

namespace stoker::twin {

// Variables are carved in the order in which they are first asked for, a zone that nobody may touch
// around each: a write into a zone is found when the block ends, and any access at once under the
// address sanitizer.
class SharedMemory {
 public:
  struct Request {
    const void* key;
    const char* name;  // static text
    size_t bytes;
    size_t alignment;
  };

  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // A new block: no variables, and `dynamic_bytes` of dynamic memory filled with the pattern.
  void Start(size_t dynamic_bytes, uint8_t pattern);
  void* dynamic() const { return variables_[0].data; }
  void* Variable(const Request& request);
  // The block is over: the name of a variable whose zones were written to, or null.
  const char* End();

 private:
  static constexpr int kVariablesMax = 32;
  struct Carved {
    const void* key;
    const char* name;
    std::byte* data;
    size_t bytes;
  };

  void* Carve(const Request& request);

  std::byte* arena_ = nullptr;
  size_t used_ = 0;
  size_t variable_bytes_ = 0;
  uint8_t pattern_ = 0;
  int variable_count_ = 0;
  Carved variables_[kVariablesMax] = {};
};

}  // namespace stoker::twin
