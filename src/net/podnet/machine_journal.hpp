#pragma once
// MachineJournal: what this instance changed on the machine, written down before it is changed.
//
// One JSON file. It is written first and acted on second, so after kill -9 the next start knows of every
// change that may have been made. Sysctls keep their first old value and get it back only while they
// still have the value we gave them: somebody's later change is theirs.
#include <map>
#include <string>
#include <vector>

#include "orchestra/pod_network.hpp"

namespace orchestra::net {

struct MachineState {
  std::string instance, pod_cidr, cluster_cidr, service_cidr;
  std::string cluster_cidr6 = {}, service_cidr6 = {};
  std::string mode = {};      ///< "bridge"; empty: routed
  std::string families = {};  ///< of pods with IPv6: "IPv6,IPv4", "IPv6"; empty: IPv4 is the first
  friend bool operator==(const MachineState&, const MachineState&) = default;
};

class MachineJournal {
 public:
  /// Reads DATA_DIR/network.json; a missing file is an empty journal.
  static Result<MachineJournal> open(const std::string& data_dir);
  bool empty() const { return state_.instance.empty(); }
  const MachineState& state() const { return state_; }
  Result<void> record(const MachineState& state);
  /// Sets /proc/sys/`name` (in the namespace of the calling thread) unless it has the value already.
  Result<void> set_sysctl(const std::string& name, const std::string& value);
  Result<void> restore_sysctls();
  std::vector<MachineChange> changes() const { return changes_; }
  Result<void> remove();

 private:
  explicit MachineJournal(std::string path) : path_(std::move(path)) {}
  Result<void> save() const;
  std::string path_;
  MachineState state_;
  std::vector<MachineChange> changes_;  // what: "net/ipv4/ip_forward"
};

Result<std::string> read_sysctl(const std::string& name);
/// Without a journal: for sysctls of links that die with the link. A missing one is fine.
Result<void> write_sysctl(const std::string& name, const std::string& value);

}  // namespace orchestra::net
