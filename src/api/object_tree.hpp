#pragma once
// The decoded tree of an Object, for code of ours that reads many fields: decoded once per version, on
// first use, and shared by all readers.
#include "base/json.hpp"
#include "orchestra/object.hpp"

namespace orchestra {
/// Valid as long as the object (or a copy) lives. An empty object gives a null value.
ORC_API const json::value& tree(const Object& object);
/// From a tree that the caller built; takes it over.
ORC_API Object object_from_tree(json::value tree);
/// Of canonical JSON, as object_from_tree prints it; `invalid` if it is no object.
ORC_API Result<Object> object_from_canonical(std::string text);
}  // namespace orchestra
