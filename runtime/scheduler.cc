// Decode rows first, then prompts in order of arrival.
#include "runtime/scheduler.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace stoker {

Scheduler::Scheduler(int chunk, int slot_count)
    : chunk_(chunk), slot_used_(static_cast<size_t>(slot_count), false) {
  CHECK(chunk >= 1 && slot_count >= 1);
  plan_.reserve(slot_used_.size());
}

void Scheduler::Add(SequenceId id, int prompt_count) {
  CHECK(prompt_count >= 1 && Find(id) == nullptr);
  entries_.push_back({.id = id, .prompt_count = prompt_count, .known = prompt_count});
}

void Scheduler::Remove(SequenceId id) {
  Entry* entry = Find(id);
  if (entry == nullptr) return;
  if (entry->slot >= 0) slot_used_[static_cast<size_t>(entry->slot)] = false;
  entries_.erase(entries_.begin() + (entry - entries_.data()));
}

absl::Span<const StepPart> Scheduler::Decoding() {
  plan_.clear();
  for (const Entry& entry : entries_) {
    if (entry.slot < 0 || entry.done < entry.prompt_count) continue;
    plan_.push_back({.sequence = entry.id, .slot = entry.slot, .first = entry.done, .rows = 1});
  }
  return plan_;
}

void Scheduler::Check(SequenceId id, int drafts) {
  Entry* entry = Find(id);
  CHECK(entry != nullptr && entry->known == entry->done + 1);
  entry->drafts = drafts;
}

absl::Span<const StepPart> Scheduler::Plan() {
  PlaceWaiting();
  plan_.clear();
  int prompt_room = chunk_;
  for (Entry& entry : entries_) {
    if (entry.slot < 0) continue;
    const bool is_prompt = entry.done < entry.prompt_count;
    const int left = entry.known - entry.done;
    const int rows = is_prompt ? std::min(left, prompt_room) : left;
    if (rows == 0) continue;
    if (is_prompt) prompt_room -= rows;
    const int drafts = std::exchange(entry.drafts, 0);
    plan_.push_back({.sequence = entry.id,
                     .slot = entry.slot,
                     .first = entry.done,
                     .rows = rows + drafts,
                     .is_prompt = is_prompt,
                     .wants_token = rows == left,
                     .drafts = drafts});
  }
  return plan_;
}

void Scheduler::Done() {
  for (const StepPart& part : plan_) {
    Entry* entry = Find(part.sequence);
    if (entry != nullptr) entry->done += part.rows - part.drafts;
  }
}

void Scheduler::Grow(SequenceId id, int tokens) {
  Entry* entry = Find(id);
  CHECK(entry != nullptr && entry->done == entry->known && tokens >= 1);
  entry->known += tokens;
  entry->done += tokens - 1;
}

int Scheduler::waiting_count() const {
  return static_cast<int>(std::count_if(entries_.begin(), entries_.end(),
                                        [](const Entry& entry) { return entry.slot < 0; }));
}

Scheduler::Entry* Scheduler::Find(SequenceId id) {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [id](const Entry& entry) { return entry.id == id; });
  return found == entries_.end() ? nullptr : &*found;
}

void Scheduler::PlaceWaiting() {
  for (Entry& entry : entries_) {
    if (entry.slot >= 0) continue;
    const auto free = std::find(slot_used_.begin(), slot_used_.end(), false);
    if (free == slot_used_.end()) return;
    *free = true;
    entry.slot = static_cast<int>(free - slot_used_.begin());
  }
}

}  // namespace stoker
