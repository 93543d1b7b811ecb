#pragma once
// The folder of a container of `orchestra oci`: ROOT/ID/{state.json, exec.fifo}, and what it means.
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/container_spec.hpp"
#include "orchestra/result.hpp"

namespace orchestra::runtime {

struct OciState {
  std::string id, bundle, rootfs, created, owner, oci_version;
  std::map<std::string, std::string> annotations;
  int pid = 0;
  std::uint64_t start_ticks = 0;
  std::string cgroup_parent, cgroup;  ///< empty: none
  std::string systemd_unit;           ///< that the group belongs to; empty: to us
  bool exists = false;                ///< the folder is there, but creating has not finished
};

class OciStore {
 public:
  explicit OciStore(std::string root) : root_(std::move(root)) {}
  std::string folder(const std::string& id) const { return root_ + "/" + id; }
  std::string fifo(const std::string& id) const { return folder(id) + "/exec.fifo"; }
  /// `already_exists` when the id is taken.
  Result<void> reserve(const std::string& id) const;
  Result<void> save(const OciState& state) const;
  /// `not_found`: "container ID does not exist".
  Result<OciState> load(const std::string& id) const;
  std::vector<std::string> ids() const;
  Result<void> forget(const std::string& id) const;
  /// creating created running paused stopped
  std::string status(const OciState& state) const;

 private:
  std::string root_;
};

/// The state without its pid, as an object: what a seccomp listener is told beside the pid.
std::string state_members_json(const OciState& state, const std::string& status);
/// The state as the runtime-spec's "state" operation prints it.
std::string state_json(const OciState& state, const std::string& status, bool with_extras);

}  // namespace orchestra::runtime
