#pragma once
// Starts orch-shim from a threaded host without a trace: no SIGCHLD, no child to reap, no copied memory.
#include <sys/types.h>

#include <string>
#include <vector>

#include "base/fd.hpp"

namespace orchestra::runtime {

struct SpawnPlan {
  std::string role;                ///< argv[1]
  std::vector<int> descriptors;    ///< become 0, 1, 2, ... in the program; -1 = /dev/null
  std::string fallback_directory;  ///< for a file with the program where memory files may not be executed
  std::string cgroup;              ///< v2 group to be born in; where that is refused it is joined by a write
  bool orphan = true;              ///< double fork: the program is nobody's child
};
struct Spawned {
  pid_t pid = 0;
  Fd pidfd;  ///< only when not an orphan
};
Result<Spawned> spawn_embedded(const SpawnPlan& plan);

}  // namespace orchestra::runtime
