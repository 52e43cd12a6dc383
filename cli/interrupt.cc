// Ctrl-C as a question to ask between steps.
#include "cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include "cli/exit_status.h"

namespace stoker {
namespace {

// A signal handler can reach nothing else: the one mutable global of the program.
volatile sig_atomic_t interrupt_count = 0;

void OnInterrupt(int) {
  if (interrupt_count > 0) _exit(static_cast<int>(ExitStatus::kInterrupted));
  interrupt_count = 1;
}

}  // namespace

void WatchForInterrupt() {
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;
  action.sa_flags = SA_RESTART;  // reads under way go on; we stop between steps
  sigaction(SIGINT, &action, nullptr);
}

bool Interrupted() { return interrupt_count > 0; }

void IgnoreBrokenPipe() { signal(SIGPIPE, SIG_IGN); }

}  // namespace stoker
