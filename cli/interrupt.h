// Ctrl-C as a question to ask between steps.
#pragma once

namespace stoker {

// From here on the first Ctrl-C is only noted and the second ends the process at once with status
// 130. Before, Ctrl-C does what it does to any program.
void WatchForInterrupt();
// Whether Ctrl-C was pressed since.
bool Interrupted();
// A reader of our output that leaves shows as a failed write, not as a signal.
void IgnoreBrokenPipe();

}  // namespace stoker
