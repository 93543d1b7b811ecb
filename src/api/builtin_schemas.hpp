#pragma once
// What the generator makes besides the pool: the kind blocks of the .types files, as text.
#include <span>

#include "api/schema.hpp"

namespace orchestra::api {

struct KindText {
  const char* group_version;
  const char* kind;
  const char* type_name;  ///< of its schema
  const char* text;       ///< the indented lines, each ended by '\n'
};
std::span<const KindText> builtin_kinds();

}  // namespace orchestra::api
