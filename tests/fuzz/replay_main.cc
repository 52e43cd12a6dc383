// Runs a fuzz target without a fuzzer: over each file of a corpus and seeded mutations of it.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes);

namespace {

constexpr int kMutationsPerFile = 200;

// A few changed bytes, and at times a cut.
std::vector<uint8_t> Mutated(std::vector<uint8_t> bytes, std::mt19937_64& random) {
  if (bytes.empty()) return bytes;
  for (uint64_t changes = 1 + random() % 4; changes > 0; --changes) {
    bytes[random() % bytes.size()] = static_cast<uint8_t>(random() % 3 == 0 ? 0xff : random());
  }
  if (random() % 8 == 0) bytes.resize(random() % bytes.size());
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  size_t files = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream file(entry.path(), std::ios::binary);
      const std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
      std::mt19937_64 random(bytes.size());
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
      for (int m = 0; m < kMutationsPerFile; ++m) {
        const std::vector<uint8_t> mutated = Mutated(bytes, random);
        LLVMFuzzerTestOneInput(mutated.data(), mutated.size());
      }
      ++files;
    }
  }
  std::printf("%zu files replayed, %d mutations each\n", files, kMutationsPerFile);
  return files > 0 ? 0 : 1;
}
