#include "runtime/oci/oci_state.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/fd.hpp"
#include "base/json.hpp"
#include "runtime/linux/cgroups.hpp"

namespace orchestra::runtime {
namespace {
constexpr std::size_t kStateBytesMax = 4 << 20;

bool is_frozen(const OciState& state) {
  if (state.cgroup.empty()) return false;
  const auto layout = detect_cgroups();
  if (!layout) return false;
  const std::string below = (state.cgroup_parent == "/" ? "" : state.cgroup_parent) + "/" + state.cgroup;
  if (const auto* freezer = layout->find("freezer")) {
    const auto text = read_file(freezer->mount + below + "/freezer.state", 64);
    return text && text->starts_with("FROZEN");
  }
  if (const auto* unified = layout->unified()) {
    const auto text = read_file(unified->mount + below + "/cgroup.freeze", 64);
    return text && text->starts_with("1");
  }
  return false;
}

json::object annotations_json(const OciState& state) {
  json::object out;
  for (const auto& [name, value] : state.annotations) out[name] = value;
  return out;
}
}  // namespace

Result<void> OciStore::reserve(const std::string& id) const {
  ORC_TRY(make_directories(root_, 0700));
  if (mkdir(folder(id).c_str(), 0700) != 0) {
    if (errno == EEXIST)
      return Error(Error::already_exists, "runtime", "container " + id + " already exists");
    return system_error("runtime", "mkdir", folder(id), errno);
  }
  return {};
}

Result<void> OciStore::save(const OciState& state) const {
  const json::object record{{"id", state.id},
                            {"bundle", state.bundle},
                            {"rootfs", state.rootfs},
                            {"created", state.created},
                            {"owner", state.owner},
                            {"ociVersion", state.oci_version},
                            {"pid", state.pid},
                            {"startTicks", state.start_ticks},
                            {"cgroupParent", state.cgroup_parent},
                            {"cgroup", state.cgroup},
                            {"systemdUnit", state.systemd_unit},
                            {"annotations", annotations_json(state)}};
  return replace_file(folder(state.id) + "/state.json", to_json(record), 0600, false);
}

Result<OciState> OciStore::load(const std::string& id) const {
  OciState state;
  state.id = id;
  if (access(folder(id).c_str(), F_OK) != 0)
    return Error(Error::not_found, "runtime", "container " + id + " does not exist");
  state.exists = true;
  const auto text = read_file(folder(id) + "/state.json", kStateBytesMax);
  if (!text) return state;
  ORC_ASSIGN(const json::value record, parse_json(*text));
  state.bundle = string_at(record, "/bundle");
  state.rootfs = string_at(record, "/rootfs");
  state.created = string_at(record, "/created");
  state.owner = string_at(record, "/owner");
  state.oci_version = string_at(record, "/ociVersion", "1.0.2");
  state.pid = static_cast<int>(int_at(record, "/pid"));
  state.start_ticks = static_cast<std::uint64_t>(int_at(record, "/startTicks"));
  state.cgroup_parent = string_at(record, "/cgroupParent");
  state.cgroup = string_at(record, "/cgroup");
  state.systemd_unit = string_at(record, "/systemdUnit");
  if (const auto* annotations = object_at(record, "/annotations")) {
    for (const auto& member : *annotations) {
      if (member.value().is_string())
        state.annotations[std::string(member.key())] = std::string(member.value().get_string());
    }
  }
  return state;
}

std::vector<std::string> OciStore::ids() const {
  std::vector<std::string> all;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(root_, failed)) {
    const std::string name = entry.path().filename();
    if (name[0] != '.') all.push_back(name);
  }
  std::sort(all.begin(), all.end());
  return all;
}

Result<void> OciStore::forget(const std::string& id) const { return remove_tree(folder(id)); }

std::string OciStore::status(const OciState& state) const {
  if (state.pid == 0) return "creating";
  const auto ticks = process_start_time(state.pid);
  if (!ticks || *ticks != state.start_ticks) return "stopped";
  const auto stat = read_file("/proc/" + std::to_string(state.pid) + "/stat", 4096);
  if (stat) {
    const std::size_t end = stat->rfind(')');
    if (end != std::string::npos && end + 2 < stat->size() &&
        ((*stat)[end + 2] == 'Z' || (*stat)[end + 2] == 'X'))
      return "stopped";
  }
  if (access(fifo(state.id).c_str(), F_OK) == 0) return "created";
  return is_frozen(state) ? "paused" : "running";
}

std::string state_members_json(const OciState& state, const std::string& status) {
  json::object out{
      {"ociVersion", state.oci_version}, {"id", state.id}, {"status", status}, {"bundle", state.bundle}};
  if (!state.annotations.empty()) out["annotations"] = annotations_json(state);
  return to_json(out);
}

std::string state_json(const OciState& state, const std::string& status, bool with_extras) {
  json::object out{{"ociVersion", state.oci_version},
                   {"id", state.id},
                   {"pid", status == "stopped" ? 0 : state.pid},
                   {"status", status},
                   {"bundle", state.bundle}};
  if (with_extras) {
    out["rootfs"] = state.rootfs;
    out["created"] = state.created;
    out["owner"] = state.owner;
  }
  if (!state.annotations.empty()) out["annotations"] = annotations_json(state);
  return with_extras ? to_pretty_json(out) : to_json(out);
}

}  // namespace orchestra::runtime
