// Attention of the rows of a step, by whichever way suits their number.
//
// Few rows (a decoded token of each of some sequences, drafts to verify) leave most of a GPU idle
// unless their tiles are worked on side by side. Many rows (prompts) fill it as they are, share
// what they read, and would need scratch for every score. The host does not know where rows stand
// (places are on the device), so their number alone decides.
#include "kernels/cuda/attend_tile.cuh"
#include "kernels/cuda/launchers.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {

constexpr int kErrorInvalidValue = 1;  // cudaErrorInvalidValue

int AttendRows(const AttendRowsArgs& args, void* native_stream) {
  if (args.rows == 0) return 0;
  if (args.key_dim > kKeyDimMax) return kErrorInvalidValue;
  if (args.rows <= kAttendSplitRowsMax && CanSplit(args)) {
    return AttendBySplitting(args, native_stream);
  }
  return AttendByWalking(args, native_stream);
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
