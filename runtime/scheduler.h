// Which sequences step next, and with how many rows.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "runtime/engine.h"

namespace stoker {

// A run of rows of one sequence in a step.
struct StepPart {
  SequenceId sequence = 0;
  int slot = 0;   // place in the KV cache
  int first = 0;  // position of the first row
  int rows = 0;
  bool is_prompt = false;
  bool wants_token = false;  // its last row is the newest token: its logits give the next one
  int drafts = 0;            // rows behind that one, of tokens that are only guessed
};

// Orders sequences by arrival. A step takes the newest token of every decoding sequence (so a long
// prompt never stops the others) and fills up with prompt rows, first come first served, `chunk`
// rows at most. How a prompt is cut decides when it is ready, never what comes of it. A sequence
// waits until a slot of the KV cache is free. Drafts ride along behind the newest token, and count
// once the step has shown that they are right. One thread; a sequence enters with Add, moves on by
// Plan, Done and Grow, and leaves by Remove.
class Scheduler {
 public:
  Scheduler(int chunk, int slot_count);

  void Add(SequenceId id, int prompt_count);
  // Its slot is free from then on. Ids unknown are ignored.
  void Remove(SequenceId id);

  // The sequences whose next row is their newest token, with their slots: those that may have
  // drafts. Valid until the next Plan; allocates nothing.
  absl::Span<const StepPart> Decoding();
  // So many drafts of a decoding sequence take part in the next step.
  void Check(SequenceId id, int drafts);

  // Places waiting sequences in free slots and forms the next step; empty when there is nothing to
  // do. Valid until the next Plan. Allocates nothing.
  absl::Span<const StepPart> Plan();
  // The planned step was carried out. Once a plan; its sequences may have been removed.
  void Done();
  // The sequence, all of whose tokens have been through a step, got `tokens` more, of which all
  // but the last were drafts in that step.
  void Grow(SequenceId id, int tokens);

  bool idle() const { return entries_.empty(); }
  int waiting_count() const;

 private:
  struct Entry {
    SequenceId id = 0;
    int slot = -1;  // -1: waiting
    int prompt_count = 0;
    int known = 0;   // tokens there are
    int done = 0;    // of those, the ones that have been through a step
    int drafts = 0;  // to take part in the next step
  };
  Entry* Find(SequenceId id);
  void PlaceWaiting();

  const int chunk_;
  std::vector<Entry> entries_;   // by arrival
  std::vector<bool> slot_used_;  // by slot
  std::vector<StepPart> plan_;
};

}  // namespace stoker
