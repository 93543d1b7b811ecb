#pragma once
// The terminal of a container run in the foreground, connected to the caller's.
#include "base/fd.hpp"

namespace orchestra::runtime {
/// Copies between the master and input/output until the container's end (`ended` becomes readable and the
/// master is empty). The caller's terminal, if it is one, is raw meanwhile and restored.
void proxy_terminal(const Fd& master, int input, int output, const Fd& ended);
}  // namespace orchestra::runtime
