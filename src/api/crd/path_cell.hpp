#pragma once
// A cell of a custom type's row: the value at a simple JSONPath, in the column's type.
#include "api/types.hpp"

namespace orchestra::api {

/// null where there is nothing, or not of the column's type.
json::value path_cell(const Column& column, const json::object& object, Now now);

}  // namespace orchestra::api
