// `--systemd-cgroup`: the container's group is a unit of systemd.
#include <unistd.h>

#include "runtime/oci/oci_command.hpp"
#include "runtime/systemd/systemd.hpp"

namespace orchestra::runtime {

bool on_unified(const CgroupLayout& layout) {
  const CgroupHierarchy* memory = layout.find("memory");
  return memory != nullptr && memory->unified;
}

Result<std::string> OciCommand::start_systemd_unit(OciState& state, const ContainerSpec& spec) {
  const bool user = geteuid() != 0;
  ORC_ASSIGN(const SystemdUnit unit, parse_systemd_path(spec.cgroups_path, state.id, user));
  ORC_ASSIGN(const CgroupLayout layout, detect_cgroups());
  auto properties = systemd_limits(spec.resources, on_unified(layout));
  ORC_ASSIGN(auto further, systemd_annotations(spec.annotations));
  properties.insert(properties.end(), further.begin(), further.end());
  ORC_ASSIGN(auto systemd, Systemd::open(user));
  ORC_ASSIGN(holder_, ScopeHolder::start());
  auto group = systemd.start(unit, holder_->pid(), "container " + state.id, properties);
  if (group) state.systemd_unit = unit.unit;
  return group;
}

void OciCommand::stop_systemd_unit(const OciState& state) const {
  if (state.systemd_unit.empty()) return;
  auto systemd = Systemd::open(geteuid() != 0);
  auto stopped = systemd ? systemd->stop(state.systemd_unit) : Result<void>(systemd.error());
  if (!stopped) warn(stopped.error().message());
}

}  // namespace orchestra::runtime
