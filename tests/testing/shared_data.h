// Finds the project's own files and, beside the project, the reference data that tests may use.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

namespace stoker {

// The project's root: STOKER_SOURCE_DIR, else the working directory.
inline std::string SourceDir() {
  const char* dir = std::getenv("STOKER_SOURCE_DIR");
  return dir != nullptr ? dir : ".";
}

// The root of the reference data: STOKER_SHARED_DIR, else ../shared beside the project; empty when
// it is not there.
inline std::string SharedDir() {
  const char* dir = std::getenv("STOKER_SHARED_DIR");
  const std::string path = dir != nullptr ? dir : SourceDir() + "/../shared";
  std::error_code error;
  return std::filesystem::is_directory(path, error) ? path : std::string();
}

inline std::string SharedPath(std::string_view relative) {
  return SharedDir() + "/" + std::string(relative);
}

}  // namespace stoker

// Skips the running test, aloud, where the reference data is missing.
#define SKIP_WITHOUT_SHARED()                                                             \
  do {                                                                                    \
    if (::stoker::SharedDir().empty())                                                    \
      GTEST_SKIP() << "no reference data (set STOKER_SHARED_DIR or put it in ../shared)"; \
  } while (0)
