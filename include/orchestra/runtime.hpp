#pragma once
// Runtime: containers in pods that outlive this program.
//
// With this class alone a program can run OCI bundles, group them in pods, exec, signal, limit and
// measure them; crash, start again, and find every container running and every exit code. Each pod has
// a small process of its own (orch-shim, embedded in the library) that is the parent of its containers.
// Any thread may call; handles are small and copyable. Since 0.1.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/pending.hpp"

namespace orchestra {

struct RuntimeOptions {
  std::string state_dir;  ///< of this boot, on tmpfs: "/run/orchestra/ID"
  std::string data_dir;   ///< survives a boot: "/var/lib/orchestra/runtime"
  /// best: the highest level that works here, tried by really starting a container.
  enum class Isolation : std::uint8_t { best, full, rootless, process } isolation = Isolation::best;
  std::string cgroup_parent;  ///< below each cgroup mount; default "/orchestra-INSTANCE"
  std::string instance;       ///< 8 hex digits of the data folder; part of every name we make
};

/// `orchestra oci ARGS..`: the command line of the common OCI runtimes (create start state kill delete run
/// exec list ps pause resume features spec). Blocks; the descriptors are the program's 0, 1, 2. Answers the
/// exit status.
ORC_API int run_oci_command(const std::vector<std::string>& args, int input, int output, int error);

}  // namespace orchestra
