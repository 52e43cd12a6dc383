// The memory plan is kept: an engine runs in a cgroup that allows the plan's total and the stated
// margin, and its resident memory never goes above them.
//
// Each measurement is a process of its own (this program, called with a budget), because peak
// memory belongs to a process.
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>

#include "base/units.h"
#include "runtime/inspection.h"
#include "tests/runtime/shipped_model.h"

namespace stoker {
namespace {

constexpr const char* kRoot = "/sys/fs/cgroup/memory";

// A memory cgroup (v1) that lives as long as this.
class MemoryCgroup {
 public:
  explicit MemoryCgroup(uint64_t limit_bytes)
      : path_(fmt::format("{}/stoker-test-{}", kRoot, getpid())) {
    std::error_code error;
    std::filesystem::create_directory(path_, error);
    Write("memory.limit_in_bytes", std::to_string(limit_bytes));
  }
  ~MemoryCgroup() { rmdir(path_.c_str()); }
  bool Write(const char* file, const std::string& value) const {
    std::ofstream stream(path_ + "/" + file);
    stream << value;
    stream.flush();
    return stream.good();
  }
  static bool IsAvailable() {
    return access(kRoot, W_OK) == 0 && access("/proc/self/exe", R_OK) == 0;
  }

 private:
  std::string path_;
};

uint64_t PeakResidentBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtoull(line.c_str() + 6, nullptr, 10) << 10;
  }
  return 0;
}

EngineOptions OptionsOn(const std::string& device) {
  EngineOptions options = SmallOptions();
  options.device = device;
  if (device != "modelled") return options;
  options.chunk = 16;
  options.modelled.memory_bytes = uint64_t{1} << 30;
  return options;
}

// The memory of a modelled GPU is this process's, beside its plan for RAM.
uint64_t AllowedBytes(const MemoryPlan& plan) {
  return plan.total_bytes + plan.device.total_bytes + kBudgetMarginBytes;
}

// In the child: prompt and decode, then prints peak and plan. Exit status 0 when all went well.
int RunAndReport(uint64_t budget_bytes, const std::string& device) {
  constexpr size_t kTokens = 100;
  constexpr size_t kTokensOnDevice = 8;  // whose kernels run on the processor
  const size_t token_count = device == "modelled" ? kTokensOnDevice : kTokens;
  EngineOptions options = OptionsOn(device);
  options.ram = {.kind = MemoryBudget::Kind::kBytes, .bytes = budget_bytes};
  const auto engine = Engine::Open(options, nullptr);
  if (!engine.ok()) {
    fmt::print(stderr, "{}\n", engine.status().ToString());
    return 1;
  }
  const uint64_t idle_bytes = PeakResidentBytes();
  std::vector<TokenId> prompt = PromptIds(**engine);
  prompt.resize(std::min(prompt.size(), token_count));
  const SequenceOutcome outcome =
      Generate(**engine, GreedyRequest(prompt, static_cast<int64_t>(token_count)));
  const MemoryPlan& plan = (*engine)->info().plan;
  fmt::print("budget {}: plan {}, process margin in it {}, resident at start {}, at most {}\n",
             FormatBytes(budget_bytes), FormatBytes(plan.total_bytes),
             FormatBytes(plan.process_bytes), FormatBytes(idle_bytes),
             FormatBytes(PeakResidentBytes()));
  std::fflush(stdout);
  if (outcome.tokens.size() != token_count) return 2;
  return PeakResidentBytes() <= AllowedBytes(plan) ? 0 : 3;
}

// Runs this program in the cgroup; returns its exit status, or minus the signal that ended it.
int RunInside(const MemoryCgroup& cgroup, uint64_t budget_bytes, const std::string& device) {
  const std::string budget = std::to_string(budget_bytes);
  const pid_t child = fork();
  if (child == 0) {
    if (!cgroup.Write("cgroup.procs", std::to_string(getpid()))) _exit(4);
    setenv("STOKER_MEMORY_TEST_BUDGET", budget.c_str(), 1);
    setenv("STOKER_MEMORY_TEST_DEVICE", device.c_str(), 1);
    execl("/proc/self/exe", "memory_test", "--gtest_filter=MemoryChild.Runs", nullptr);
    _exit(5);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(MemoryChild, Runs) {
  const char* budget = std::getenv("STOKER_MEMORY_TEST_BUDGET");
  if (budget == nullptr) GTEST_SKIP() << "the part of ResidentMemory that runs in a cgroup";
  std::exit(
      RunAndReport(std::strtoull(budget, nullptr, 10), std::getenv("STOKER_MEMORY_TEST_DEVICE")));
}

void ExpectWithinThePlan(const std::string& device, std::initializer_list<double> shares) {
  if (!MemoryCgroup::IsAvailable()) GTEST_SKIP() << kRoot << " (cgroup v1) is not ours to write";
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's own memory is in no plan";
#endif
  const auto inspection = Inspect(OptionsOn(device));
  ASSERT_TRUE(inspection.ok()) << inspection.status();
  const MemoryPlan& plan = inspection->plan;
  for (const double share : shares) {
    const uint64_t budget =
        plan.minimum_bytes +
        static_cast<uint64_t>(share * static_cast<double>(plan.full_bytes - plan.minimum_bytes));
    const MemoryCgroup cgroup(budget + plan.device.total_bytes + kBudgetMarginBytes);
    EXPECT_EQ(RunInside(cgroup, budget, device), 0) << "budget " << FormatBytes(budget);
  }
}

TEST(ResidentMemory, StaysWithinThePlanAndTheMarginInACgroup) {
  ExpectWithinThePlan("cpu", {0.0, 0.25, 0.5, 1.0});
}

TEST(ResidentMemory, WithADeviceStaysWithinBothPlansAndTheMargin) {
  ExpectWithinThePlan("modelled", {0.0, 1.0});
}

}  // namespace
}  // namespace stoker
