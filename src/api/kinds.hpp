#pragma once
// The hooks of builtin kinds, by the name that a kind block gives them (`hooks pod`).
#include <string_view>

#include "api/types.hpp"

namespace orchestra::api {
TypeHooks hooks_named(std::string_view name);
}  // namespace orchestra::api
