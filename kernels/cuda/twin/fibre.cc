// Switches stacks, on x86-64, and tells the sanitizers.
#include "kernels/cuda/twin/fibre.h"

#include <sys/mman.h>

#include <cstdint>

#include "base/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

#ifndef __x86_64__
#error "the switch below is written for x86-64"
#endif

// Saves the registers that a call must keep, and the stack pointer in *save; goes on from the stack
// pointer `resume`, which was saved the same way. Rounding modes are nobody's to change and are not
// kept. A new stack is laid out so that the first switch to it "returns" to the start below, which
// calls the function in r12 with what is in rbx.
extern "C" void StokerTwinSwitch(void** save, void* resume);
extern "C" void StokerTwinStart();
asm(R"(
.text
.type StokerTwinSwitch, @function
StokerTwinSwitch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size StokerTwinSwitch, .-StokerTwinSwitch
.type StokerTwinStart, @function
StokerTwinStart:
  movq %rbx, %rdi
  callq *%r12
  ud2
.size StokerTwinStart, .-StokerTwinStart
)");

namespace stoker::twin {
namespace {

constexpr size_t kGuardBytes = 4096;
// Frames of kernels are small, but the sanitizers' are several times as large.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kStackBytes = 256 * 1024;
#else
constexpr size_t kStackBytes = 64 * 1024;
#endif

}  // namespace

Fibre::Fibre(Body body, void* context) : body_(body), context_(context) {
  void* mapping = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(mapping != MAP_FAILED);
  mapping_ = static_cast<std::byte*>(mapping);
  CHECK(mprotect(mapping_, kGuardBytes, PROT_NONE) == 0);
  // From the top down: 16 bytes to keep the alignment, the return address, and the six registers:
  // rbp, rbx, r12 to r15.
  auto* top = reinterpret_cast<void**>(mapping_ + kGuardBytes + kStackBytes);
  *--top = nullptr;
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&StokerTwinStart);
  *--top = nullptr;
  *--top = this;
  *--top = reinterpret_cast<void*>(&Fibre::Main);
  for (int i = 0; i < 3; ++i) *--top = nullptr;
  stack_pointer_ = top;
#if defined(__SANITIZE_THREAD__)
  tsan_fibre_ = __tsan_create_fiber(0);
#endif
}

Fibre::~Fibre() {
#if defined(__SANITIZE_THREAD__)
  __tsan_destroy_fiber(tsan_fibre_);
#endif
  munmap(mapping_, kGuardBytes + kStackBytes);
}

bool Fibre::Enter() {
  BeforeEnter();
  StokerTwinSwitch(&caller_stack_pointer_, stack_pointer_);
  AfterEnter();
  return finished_;
}

void Fibre::Leave() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fake_stack_, caller_bottom_, caller_bytes_);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(tsan_caller_, 0);
#endif
  StokerTwinSwitch(&stack_pointer_, caller_stack_pointer_);
  AfterArrival();
}

void Fibre::BeforeEnter() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&caller_fake_stack_, mapping_ + kGuardBytes, kStackBytes);
#endif
#if defined(__SANITIZE_THREAD__)
  tsan_caller_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(tsan_fibre_, 0);
#endif
}

void Fibre::AfterEnter() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(caller_fake_stack_, nullptr, nullptr);
#endif
}

void Fibre::AfterArrival() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack_, &caller_bottom_, &caller_bytes_);
#endif
}

void Fibre::Main(Fibre* fibre) {
  fibre->AfterArrival();
  for (;;) {
    fibre->finished_ = false;
    fibre->body_(fibre->context_);
    fibre->finished_ = true;
    fibre->Leave();
  }
}

}  // namespace stoker::twin
