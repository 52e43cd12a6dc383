// What the multi-token-prediction layer starts from, on a device.
#pragma once

#include "model/device_blocks/step.h"
#include "model/weights.h"

namespace stoker {

// work.residual = join * [norm(embedding), norm(state)], of work.mtp.halves: as JoinStates.
void QueueJoin(const DeviceStep& step, const MtpWeights& weights);

}  // namespace stoker
