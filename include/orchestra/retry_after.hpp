#pragma once
// When to try again: the typed extra of `overloaded` errors. Since 0.2.
#include "orchestra/pending.hpp"

namespace orchestra {

/// `error.detail<RetryAfter>()`: before `after` has passed the same call will most likely be refused again.
struct RetryAfter {
  Duration after{};
};

}  // namespace orchestra
