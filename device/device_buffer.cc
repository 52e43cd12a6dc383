// Gives device memory back to its device.
#include "device/device_buffer.h"

#include "device/device.h"

namespace stoker {

DeviceBuffer::~DeviceBuffer() {
  if (owner_ != nullptr) owner_->GiveBack(data_, bytes_);
}

}  // namespace stoker
