// What the terminal can show.
#pragma once

namespace stoker {

// Columns of the terminal: COLUMNS, else what the terminal says, else 80.
int TerminalColumns();
// Whether to colour a stream: it is a terminal that can, and NO_COLOR (no-color.org) is not set.
bool WantsColor(bool is_terminal);

}  // namespace stoker
