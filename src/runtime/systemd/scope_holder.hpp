#pragma once
// A scope of systemd needs a process from its first moment on, and a container's init is to be born inside.
// So a child that does nothing holds the scope open until init is there; it goes with this object. Since 0.1.
#include <memory>

#include "base/fd.hpp"
#include "orchestra/result.hpp"

namespace orchestra::runtime {

class ScopeHolder {
 public:
  static Result<std::unique_ptr<ScopeHolder>> start();
  ~ScopeHolder();
  ScopeHolder(const ScopeHolder&) = delete;
  ScopeHolder& operator=(const ScopeHolder&) = delete;
  int pid() const { return pid_; }

 private:
  ScopeHolder() = default;
  Fd alive_;  ///< the child ends when this end of its pipe is closed, also by our death
  int pid_ = -1;
};

}  // namespace orchestra::runtime
