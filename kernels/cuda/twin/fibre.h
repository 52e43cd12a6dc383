// Threads of a block as fibres of one OS thread: stacks that are switched by hand.
#pragma once

#include <cstddef>

namespace stoker::twin {

// A stack that runs one function again and again, each time until the function returns or calls
// Leave. It is made once and reused: what a fibre that never leaves early costs is two switches.
// One OS thread uses a fibre; its address is its identity.
class Fibre {
 public:
  // Runs each time the fibre, having nothing left to do, is entered.
  using Body = void (*)(void* context);

  Fibre(Body body, void* context);
  ~Fibre();
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;

  // Called off the fibre: runs it until its body returns (true) or leaves (false; the next Enter
  // goes on from there).
  bool Enter();
  // Called on the fibre: back to Enter.
  void Leave();

 private:
  [[noreturn]] static void Main(Fibre* fibre);

  // Around a switch, for the sanitizers, which must know which stack they are on.
  void BeforeEnter();
  void AfterEnter();
  void AfterArrival();

  Body body_;
  void* context_;
  bool finished_ = false;
  std::byte* mapping_ = nullptr;  // a guard page, then the stack
  void* stack_pointer_ = nullptr;
  void* caller_stack_pointer_ = nullptr;
  // The sanitizers' notions of both stacks.
  void* fake_stack_ = nullptr;
  void* caller_fake_stack_ = nullptr;
  const void* caller_bottom_ = nullptr;
  size_t caller_bytes_ = 0;
  void* tsan_fibre_ = nullptr;
  void* tsan_caller_ = nullptr;
};

}  // namespace stoker::twin
