// What the terminal that stdout goes to can show.
#pragma once

namespace stoker {

// Columns of the terminal: COLUMNS, else what the terminal says, else 80.
int TerminalColumns();
// Whether to colour stdout: it is a terminal that can, and NO_COLOR (no-color.org) is not set.
bool WantsColor(bool stdout_is_terminal);

}  // namespace stoker
