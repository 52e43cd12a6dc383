// A file that is replaced whole or not at all, whoever kills the process and when.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace stoker {

// What ReplaceFile is about to do, for tests that stop it there.
enum class FileStep : uint8_t { kOpen, kWrite, kSync, kRename, kSyncFolder, kDone };

// Writes the bytes beside `path` (as PATH.new, at most kReplaceChunkBytes at a time), syncs them,
// renames them to `path` and syncs the folder: at every moment `path` is what it was or what it is
// to be, also after a loss of power. A PATH.new that a killed process left is taken over. Aborted
// when another process is writing it at this moment; otherwise the system's error naming the file.
inline constexpr size_t kReplaceChunkBytes = 4096;
absl::Status ReplaceFile(const std::string& path, std::string_view bytes,
                         const std::function<void(FileStep)>& before = {});

}  // namespace stoker
