// Which storage formats can be computed with. Adding one: its header here and its type in the list.
#pragma once

#include "base/dtype.h"
#include "kernels/formats/bf16.h"
#include "kernels/formats/f16.h"
#include "kernels/formats/f32.h"
#include "kernels/formats/q4_0.h"
#include "kernels/formats/q4_k.h"
#include "kernels/formats/q5_k.h"
#include "kernels/formats/q6_k.h"
#include "kernels/formats/q8_0.h"

namespace stoker {

template <typename... Format>
struct FormatList {};

using Formats = FormatList<F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K, Q6_K>;

// Calls visit(Format{}) for the listed format of `dtype`; false when none has it. The one place
// where a Dtype becomes a type: call it above the loops, not in them.
template <typename Visit, typename... Format>
STOKER_HOST_INLINE bool VisitFormat(FormatList<Format...>, Dtype dtype, Visit&& visit) {
  return ((dtype == Format::kDtype && (visit(Format{}), true)) || ...);
}

// Whether weights of this dtype can be multiplied and decoded.
bool IsComputable(Dtype dtype);

}  // namespace stoker
