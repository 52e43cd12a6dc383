// Which storage formats can be computed with. Adding one: its header here, its row in the list in
// formats.cc.
#pragma once

#include "base/dtype.h"

namespace stoker {

// Whether weights of this dtype can be multiplied and decoded.
bool IsComputable(Dtype dtype);

}  // namespace stoker
