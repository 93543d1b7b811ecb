#pragma once
// Groups that systemd owns: a container as a transient scope (`--systemd-cgroup`), by D-Bus.
//
// Source: org.freedesktop.systemd1(5), systemd.scope(5), systemd.resource-control(5); the form
// `slice:prefix:name` of linux.cgroupsPath and the annotations `org.systemd.property.NAME` are those of
// runc's docs/systemd.md, which podman and containerd rely on.
#include <map>
#include <string>
#include <string_view>

#include "orchestra/container_spec.hpp"
#include "orchestra/result.hpp"
#include "runtime/systemd/dbus.hpp"

namespace orchestra::runtime {

/// Where a container goes: "machine.slice:libpod:4f2a" is the scope libpod-4f2a.scope in machine.slice.
struct SystemdUnit {
  std::string slice, unit;
};
/// An empty path: `orchestra-ID.scope` in system.slice, for an ordinary user in user.slice. Errors name the
/// part that is wrong.
Result<SystemdUnit> parse_systemd_path(const std::string& cgroups_path, const std::string& id, bool user);

/// Limits as the properties of a unit, name to value, so that systemd keeps them when it writes a unit's
/// groups again. `unified`: as cgroup v2 has them. Pure.
struct SystemdProperty {
  std::string name, type;  ///< type: "t", "b", "s", "ay" ..
  std::uint64_t number = 0;
  std::string text;  ///< of "s", and the bytes of "ay"
};
std::vector<SystemdProperty> systemd_limits(const ContainerSpec::Resources& resources, bool unified);
/// `org.systemd.property.TimeoutStopUSec`: "uint64 123456", and the other forms of GVariant text that make
/// sense there: true, false, 'text', 12, int32 -5. An error names the annotation.
Result<std::vector<SystemdProperty>> systemd_annotations(
    const std::map<std::string, std::string>& annotations);

/// A connection to the service manager: of the machine, or of this user. Calls wait up to 10 s in all.
class Systemd {
 public:
  /// By the bus, or where none runs by the manager's own socket. `unavailable` names both and what to use
  /// instead.
  static Result<Systemd> open(bool user);

  /// Makes the scope (or the slice, where the unit is one) with `pid` in it and waits until it is there;
  /// gives its group below each hierarchy, "/machine.slice/libpod-4f2a.scope". A failed unit of that name is
  /// put away, one that runs is `busy`.
  Result<std::string> start(const SystemdUnit& unit, int pid, const std::string& description,
                            const std::vector<SystemdProperty>& properties);
  /// Until the machine starts again.
  Result<void> set(const std::string& unit, const std::vector<SystemdProperty>& properties);
  /// Ends it and what runs in it; one that is gone is no error.
  Result<void> stop(const std::string& unit);

 private:
  explicit Systemd(DbusConnection connection) : connection_(std::move(connection)) {}
  DbusMessage manager_call(const char* member, const char* signature, std::string body) const;
  Result<void> wait_for_job(const DbusMessage& answer, const std::string& what);
  Result<std::string> group_of(const std::string& unit);

  DbusConnection connection_;
};

}  // namespace orchestra::runtime
