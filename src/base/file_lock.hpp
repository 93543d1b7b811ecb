// A lock on a file that ends with its holder, whose process id the file tells.
#pragma once

#include <string>

#include "base/fd.hpp"

namespace orchestra {

struct FileLock {
  Fd fd;               ///< holds the lock until it is closed; empty: not got
  std::string holder;  ///< process id in the file while somebody else has the lock; empty: it says none
};

/// Locks `path` (made when it is missing, mode 0600) and writes our process id into it.
/// The lock of a killed process lives on for a moment in a child that it was just starting, so a holder that
/// is not there any more is waited for, a second at most; with `wait_for_self` so is this very process.
/// Errors: those of the file. That another process has the lock is no error but an empty `fd`.
Result<FileLock> lock_file(const std::string& path, bool wait_for_self = false);

}  // namespace orchestra
