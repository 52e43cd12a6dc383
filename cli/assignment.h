// A value that was given to an option, and where it was given.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace stoker {

// Later kinds win over earlier ones.
struct Origin {
  enum class Kind : uint8_t { kDefault, kFile, kEnvironment, kFlag } kind = Kind::kDefault;
  std::string place = {};  // "stoker.toml:12", "STOKER_RAM", "--ram"
  int line = 0;            // of the file
};

struct AssignedValue {
  // What a file says it is; flags and the environment have text only, to be read as the option
  // wants it.
  enum class Kind : uint8_t {
    kUntyped,
    kBoolean,
    kInteger,
    kReal,
    kText,
    kOther
  } kind = Kind::kUntyped;
  std::string text = {};
};

struct Assignment {
  std::string key;  // a flag without its dashes
  std::vector<AssignedValue> values;
  bool is_list = false;  // as an array of a file is, whatever its length
  Origin origin = {};
};

}  // namespace stoker
