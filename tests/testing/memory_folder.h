// Where a test puts small files whose syncs should not wait for a drive.
#pragma once

#include <filesystem>
#include <string>

namespace stoker {

// A folder in memory where the system has one, else that of temporary files.
inline std::string MemoryFolder() {
  const std::string folder = "/dev/shm";
  if (std::filesystem::is_directory(folder)) return folder;
  return std::filesystem::temp_directory_path().string();
}

}  // namespace stoker
