#pragma once
// An Object whose text and tree were both at hand when it was written: it is not parsed again.
#include "api/object_tree.hpp"

namespace orchestra {
/// `text` is canonical JSON and `tree` what parsing it would give, members in the same order. Takes both
/// over.
ORC_API Object object_from_parts(json::value tree, std::string text);
}  // namespace orchestra
