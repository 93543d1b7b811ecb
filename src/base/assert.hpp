#pragma once
// ORC_ASSERT: an invariant of ours broke. On in release builds; the host may hook it; bad input never
// reaches one.
#include "orchestra/engine.hpp"

namespace orchestra::detail {
[[noreturn]] ORC_API void assertion_failed(const char* expression, const char* file, int line, const char* message);
}

#define ORC_ASSERT(condition) \
  ((condition) ? (void)0 : ::orchestra::detail::assertion_failed(#condition, __FILE__, __LINE__, ""))
#define ORC_ASSERT_MSG(condition, message) \
  ((condition) ? (void)0 : ::orchestra::detail::assertion_failed(#condition, __FILE__, __LINE__, (message)))
