// CHECK and DCHECK: for what only we can do wrong (shapes, states, bounds); never for user input.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace stoker {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace stoker

#define CHECK(condition)                        \
  (__builtin_expect(!!(condition), 1) ? (void)0 \
                                      : ::stoker::CheckFailed(__FILE__, __LINE__, #condition))
#ifdef NDEBUG
#define DCHECK(condition) ((void)0)
#else
#define DCHECK(condition) CHECK(condition)
#endif
