// Looks up the list of formats.
#include "kernels/formats/formats.h"

namespace stoker {

bool IsComputable(Dtype dtype) {
  return VisitFormat(Formats{}, dtype, [](auto) {});
}

}  // namespace stoker
