#pragma once
// A few bits that somebody worked out of one version of an object, kept with it: a set of five hundred pods
// is counted many times while most of them stay as they are.
#include <atomic>
#include <cstdint>

#include "orchestra/object.hpp"

namespace orchestra {
/// 0 until its one user stores something that follows from the object alone (controllers/common/pods.cpp, for
/// pods). Null: an empty object. Valid as long as the object (or a copy) lives; any thread.
ORC_API std::atomic<std::uint32_t>* memo_of(const Object& object);
}  // namespace orchestra
