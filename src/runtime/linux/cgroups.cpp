#include "runtime/linux/cgroups.hpp"

#include "runtime/domain.hpp"
#include "runtime/linux/device_filter.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

namespace orchestra::runtime {
namespace {

constexpr std::size_t kFileBytesMax = 1 << 20;
constexpr const char* kHostLeaf = "orchestra-host";  ///< where a host moves itself out of the way
constexpr const char* kSharedDevices = "devices";    ///< of all containers with the usual device rules
constexpr const char* kShims = "shims";  ///< of all pods, in hierarchies that limit nothing of ours
// Controllers whose v1 hierarchies a container gets a group in; others only when a limit asks for them.
constexpr std::string_view kUsedControllers[] = {"cpu", "cpuacct", "memory", "pids", "devices", "freezer"};

Result<void> write_value(const std::string& path, std::string_view value) {
  ORC_ASSIGN(const Fd file, open_file(path, O_WRONLY));
  if (write(file.get(), value.data(), value.size()) < 0) {
    return system_error(kDomain, "write \"" + std::string(value) + "\" to", path, errno);
  }
  return {};
}

std::optional<std::uint64_t> number_in(const std::string& path, std::string_view key = {}) {
  const auto text = read_file(path, kFileBytesMax);
  if (!text) return std::nullopt;
  std::string_view rest = *text;
  if (!key.empty()) {
    std::size_t at = 0;
    while (at < rest.size() &&
           !(rest.substr(at).starts_with(key) && rest.substr(at + key.size()).starts_with(' '))) {
      const std::size_t end = rest.find('\n', at);
      if (end == std::string_view::npos) return std::nullopt;
      at = end + 1;
    }
    if (at >= rest.size()) return std::nullopt;
    rest.remove_prefix(at + key.size() + 1);
  }
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (error != std::errc() || end == rest.data()) return std::nullopt;
  return value;
}

std::vector<std::string> folders_in(const std::string& path) {
  std::vector<std::string> names;
  DIR* handle = opendir(path.c_str());
  if (handle == nullptr) return names;
  while (const dirent* entry = readdir(handle)) {
    const std::string name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") names.push_back(name);
  }
  closedir(handle);
  return names;
}

std::vector<int> pids_in(const std::string& procs) {
  std::vector<int> pids;
  const auto text = read_file(procs, kFileBytesMax);
  if (!text) return pids;
  const char* at = text->data();
  const char* end = at + text->size();
  while (at < end) {
    int pid = 0;
    const auto [next, error] = std::from_chars(at, end, pid);
    if (error == std::errc() && pid > 0) pids.push_back(pid);
    at = std::max(next, at) + 1;
  }
  return pids;
}

void pause_ms(int ms) { poll(nullptr, 0, ms); }

/// Kills members, removes folders depth first. True when it is gone.
bool remove_once(const std::string& path) {
  if (rmdir(path.c_str()) == 0 || errno == ENOENT) return true;
  for (const std::string& name : folders_in(path)) remove_once(path + "/" + name);
  if (rmdir(path.c_str()) == 0 || errno == ENOENT) return true;
  if (errno == EBUSY || errno == ENOTEMPTY) {
    if (write_value(path + "/cgroup.kill", "1")) return false;  // v2 since 5.14: no fork escapes it
    for (const int pid : pids_in(path + "/cgroup.procs")) kill(pid, SIGKILL);
  }
  return false;
}

/// Removes empty groups, depth first: kubepods, its classes, the parent. What is in use stays.
void prune(const std::string& path) {
  for (const std::string& name : folders_in(path)) prune(path + "/" + name);
  rmdir(path.c_str());
}
}  // namespace

Result<std::shared_ptr<Cgroups>> Cgroups::open(CgroupLayout layout, std::string parent) {
  if (parent.empty() || parent[0] != '/' || parent.find("..") != std::string::npos) {
    return Error(Error::invalid, kDomain,
                 "cgroup_parent \"" + parent + "\" is not an absolute path without \"..\"");
  }
  std::shared_ptr<Cgroups> made(new Cgroups(std::move(layout), std::move(parent)));
  for (const CgroupHierarchy& hierarchy : made->layout_.hierarchies) {
    const bool ours = access(hierarchy.mount.c_str(), W_OK) == 0 ||
                      access(made->folder(hierarchy, "").c_str(), W_OK) == 0;  // handed to this user
    if (!hierarchy.writable || !ours) continue;
    made->all_.push_back(&hierarchy);
    const bool used = std::any_of(
        std::begin(kUsedControllers), std::end(kUsedControllers), [&](std::string_view controller) {
          return std::find(hierarchy.controllers.begin(), hierarchy.controllers.end(), controller) !=
                 hierarchy.controllers.end();
        });
    if (used) made->used_.push_back(&hierarchy);
  }
  return made;
}

const CgroupHierarchy* Cgroups::device_programs() const {
  const CgroupHierarchy* devices = layout_.find("devices");
  if (delegated_ || (devices != nullptr && devices->writable)) return nullptr;
  const CgroupHierarchy* unified = layout_.unified();
  return std::find(used_.begin(), used_.end(), unified) != used_.end() ? unified : nullptr;
}

namespace {
/// Our own group of the v2 hierarchy: "/user.slice/..". A leaf that an earlier call moved us into is left
/// out.
Result<std::string> own_group() {
  ORC_ASSIGN(const std::string text, read_file("/proc/self/cgroup", kFileBytesMax));
  std::size_t at = text.starts_with("0::") ? 0 : text.find("\n0::");
  if (at == std::string::npos) return Error(Error::unsupported, kDomain, "no cgroup v2 hierarchy");
  at = text.find("::", at) + 2;
  std::string path = text.substr(at, text.find('\n', at) - at);
  const std::string leaf = std::string("/") + kHostLeaf;
  if (path.ends_with(leaf)) path.resize(path.size() - leaf.size());
  return path == "/" ? std::string() : path;
}

std::vector<std::string> words_in(const std::string& path) {
  std::vector<std::string> words;
  const auto text = read_file(path, 4096);
  for (std::size_t at = 0; text && at < text->size();) {
    const std::size_t end = std::min(text->find_first_of(" \n", at), text->size());
    if (end > at) words.push_back(text->substr(at, end - at));
    at = end + 1;
  }
  return words;
}

/// Hands the controllers of `folder` on to its children; moves this process out of the way if it may. A group
/// with members must not try: cpu and pids alone would go through, and make all its children "domain
/// invalid".
bool hand_on(const std::string& folder, bool move_host) {
  const std::string members = folder + "/cgroup.procs", leaf = folder + "/" + kHostLeaf;
  const std::vector<int> before = pids_in(members);
  if (move_host && std::find(before.begin(), before.end(), getpid()) != before.end() &&
      (mkdir(leaf.c_str(), 0755) == 0 || errno == EEXIST)) {
    (void)write_value(leaf + "/cgroup.procs", std::to_string(getpid()));
  }
  if (!pids_in(members).empty()) return false;
  for (const std::string& controller : words_in(folder + "/cgroup.controllers"))
    (void)write_value(folder + "/cgroup.subtree_control", "+" + controller);
  return true;
}
}  // namespace

Result<std::shared_ptr<Cgroups>> Cgroups::open_delegated(const CgroupLayout& layout,
                                                         const std::string& parent, bool move_host) {
  const CgroupHierarchy* unified = layout.unified();
  if (unified == nullptr) return Error(Error::unsupported, kDomain, "no cgroup v2 hierarchy is mounted");
  ORC_ASSIGN(const std::string own, own_group());
  const std::string folder = unified->mount + own;
  for (const char* file : {"", "/cgroup.procs", "/cgroup.subtree_control"}) {
    if (own.empty() || access((folder + file).c_str(), W_OK) != 0) {
      return Error(Error::denied, kDomain,
                   "no cgroup v2 subtree is delegated to uid " + std::to_string(geteuid()) + ": " + folder +
                       file +
                       " is not writable; as root: systemctl edit user@.service, [Service] Delegate=yes");
    }
  }
  const bool handed_on = hand_on(folder, move_host);
  CgroupHierarchy hierarchy = *unified;
  hierarchy.controllers = words_in(folder + "/cgroup.subtree_control");
  hierarchy.writable = true;
  if (!handed_on || hierarchy.controllers.empty()) {
    return Error(Error::busy, kDomain,
                 folder +
                     " has processes besides this one, so its controllers cannot be handed on; start this "
                     "program in a scope of its own: systemd-run --user --scope -p Delegate=yes");
  }
  CgroupLayout own_layout;
  own_layout.hierarchies.push_back(std::move(hierarchy));
  std::shared_ptr<Cgroups> made(new Cgroups(std::move(own_layout), own + parent));
  made->delegated_ = true;
  made->all_ = made->used_ = {&made->layout_.hierarchies.front()};
  return made;
}

std::string Cgroups::folder(const CgroupHierarchy& hierarchy, const std::string& group) const {
  return hierarchy.mount + (parent_ == "/" ? "" : parent_) + (group.empty() ? "" : "/" + group);
}
std::string Cgroups::folder_of(std::string_view controller, const std::string& group) const {
  const CgroupHierarchy* hierarchy = layout_.find(controller);
  return hierarchy == nullptr ? std::string() : folder(*hierarchy, group);
}

namespace {
/// An empty v1 cpuset takes no process (ENOSPC): a new one starts with what its parent has.
Result<void> inherit_cpuset(const std::string& path) {
  for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
    const auto value = read_file(path.substr(0, path.rfind('/')) + file, 4096);
    const auto own = read_file(path + file, 4096);
    if (value && own && own->size() <= 1) ORC_TRY(write_value(path + file, *value));
  }
  return {};
}

/// Makes `whole` from the mount down; on v2 each level hands its controllers to the next.
Result<void> make_path(const CgroupHierarchy& hierarchy, const std::string& whole, bool cpuset) {
  std::string path = hierarchy.mount;
  const std::string rest = whole.substr(path.size());
  for (std::size_t at = 1; at < rest.size();) {
    const std::size_t end = std::min(rest.find('/', at), rest.size());
    if (hierarchy.unified) {
      // One by one: a controller that cannot be handed on (threaded parent) must not take the others along.
      for (const std::string& controller : hierarchy.controllers) {
        (void)write_value(path + "/cgroup.subtree_control", "+" + controller);
      }
    }
    path += "/" + rest.substr(at, end - at);
    if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return system_error(kDomain, "mkdir", path, errno);
    if (cpuset && !hierarchy.unified) ORC_TRY(inherit_cpuset(path));
    at = end + 1;
  }
  return {};
}

Result<void> make_in(const CgroupHierarchy& hierarchy, const std::string& whole) {
  constexpr int kAttempts = 5;  // another runtime of this instance may prune an empty parent meanwhile
  const auto& controllers = hierarchy.controllers;
  const bool cpuset = std::find(controllers.begin(), controllers.end(), "cpuset") != controllers.end();
  if (!hierarchy.unified && !cpuset && (mkdir(whole.c_str(), 0755) == 0 || errno == EEXIST)) return {};
  auto made = make_path(hierarchy, whole, cpuset);
  for (int attempt = 1; !made && made.error().is(Error::not_found) && attempt < kAttempts; ++attempt) {
    made = make_path(hierarchy, whole, cpuset);
  }
  return made;
}
}  // namespace

void Cgroups::share_device_group(std::vector<ContainerSpec::DeviceRule> rules) {
  const CgroupHierarchy* devices = layout_.find("devices");
  if (devices == nullptr || devices->unified || devices->controllers.size() != 1) return;
  if (std::erase(used_, devices) == 0) return;
  shared_devices_ = devices;
  shared_rules_ = std::move(rules);
}

bool Cgroups::shares_devices(const ContainerSpec::Resources& resources) const {
  return shared_devices_ != nullptr && (resources.devices.empty() || resources.devices == shared_rules_);
}

Result<void> Cgroups::make_shared_devices() {
  const std::string whole = folder(*shared_devices_, kSharedDevices);
  std::lock_guard lock(shared_mutex_);
  // Its rules are in the list, one a line. A program that was killed while it wrote them left others.
  const auto listed = read_file(whole + "/devices.list", kFileBytesMax);
  const auto allowed = static_cast<std::ptrdiff_t>(shared_rules_.size()) - 1;
  if (listed && std::count(listed->begin(), listed->end(), '\n') == allowed) return {};
  ORC_TRY(make_in(*shared_devices_, whole));
  ContainerSpec::Resources resources;
  resources.devices = shared_rules_;
  std::vector<std::string> missing;
  for (const CgroupWrite& write : plan_limits(layout_, resources, missing))
    ORC_TRY(write_value(whole + "/" + write.file, write.value));
  return {};
}

std::vector<const CgroupHierarchy*> Cgroups::chosen(const ContainerSpec::Resources& resources) const {
  std::vector<const CgroupHierarchy*> all = used_;
  std::vector<std::string> missing;
  const bool shared = shares_devices(resources);
  for (const CgroupWrite& write : plan_limits(layout_, resources, missing)) {
    const CgroupHierarchy* at = layout_.find(write.controller);
    if (shared && at == shared_devices_) continue;
    if (at != nullptr && std::find(all.begin(), all.end(), at) == all.end()) all.push_back(at);
  }
  return all;
}

Result<void> Cgroups::make(const std::string& group, const ContainerSpec::Resources& resources) {
  for (const CgroupHierarchy* hierarchy : chosen(resources)) {
    if (systemd_owned_ && hierarchy->unified) continue;
    ORC_TRY(make_in(*hierarchy, folder(*hierarchy, group)));
  }
  if (shares_devices(resources) && !resources.devices.empty()) return make_shared_devices();
  return {};
}

namespace {
Result<void> write_limit(const std::string& folder, const CgroupWrite& write) {
  const std::string path = folder + "/" + write.file;
  if (!write.other_file.empty() && access(path.c_str(), F_OK) != 0) {
    return write_value(folder + "/" + write.other_file,
                       write.other_value.empty() ? write.value : write.other_value);
  }
  return write_value(path, write.value);
}
}  // namespace

Result<void> Cgroups::apply(const std::string& group, const ContainerSpec::Resources& resources,
                            std::vector<std::string>& missing, std::vector<std::string>& refused) {
  const auto where = [&](const CgroupWrite& write) {
    return write.controller == "cgroup" ? unified_folder(group) : folder_of(write.controller, group);
  };
  std::vector<CgroupWrite> again;
  const bool shared = shares_devices(resources);
  for (CgroupWrite& write : plan_limits(layout_, resources, missing)) {
    if (shared && layout_.find(write.controller) == shared_devices_) continue;
    if (!write_limit(where(write), write)) again.push_back(std::move(write));
  }
  // Quota before period or after it, limit before swap or after it: what is in force decides.
  for (const CgroupWrite& write : again) {
    auto written = write_limit(where(write), write);
    if (!written && write.required) return written.error();
    if (!written && write.file.find(".rsvd.") == std::string::npos)
      refused.push_back(written.error().message());
  }
  if (const CgroupHierarchy* unified = device_programs(); unified != nullptr && !resources.devices.empty()) {
    auto attached = attach_device_program(folder(*unified, group), resources.devices);
    if (!attached) refused.push_back("device rules: " + attached.error().message());
  }
  return {};
}

Result<void> Cgroups::update(const std::string& group, const ContainerSpec::Resources& resources,
                             std::vector<std::string>& missing) {
  const CgroupHierarchy* memory = layout_.find("memory");
  if (resources.check_before_update.value_or(false) && memory != nullptr &&
      resources.memory_limit.value_or(0) > 0) {
    const std::string file = memory->unified ? "/memory.current" : "/memory.usage_in_bytes";
    const std::uint64_t used = number_in(folder(*memory, group) + file).value_or(0);
    if (used > static_cast<std::uint64_t>(*resources.memory_limit)) {
      return Error(Error::conflict, kDomain,
                   "memory limit " + std::to_string(*resources.memory_limit) + " is below the " +
                       std::to_string(used) + " bytes in use (checkBeforeUpdate)");
    }
  }
  for (const CgroupHierarchy* hierarchy : chosen(resources)) {
    const std::string whole = folder(*hierarchy, group);
    if (access(whole.c_str(), F_OK) == 0) continue;
    ORC_TRY(make_in(*hierarchy, whole));
    ORC_ASSIGN(const std::vector<int> members, processes(group));
    for (const int pid : members) {
      auto moved = write_value(whole + "/cgroup.procs", std::to_string(pid));
      if (!moved && !moved.error().is(Error::not_found)) return moved.error();
    }
  }
  return apply(group, resources, missing, missing);
}

std::string Cgroups::unified_folder(const std::string& group) const {
  const CgroupHierarchy* unified = layout_.unified();
  return unified == nullptr ? std::string() : folder(*unified, group);
}

std::string Cgroups::shim_folder(const CgroupHierarchy& hierarchy, const std::string& pod) const {
  const bool limited = std::find(used_.begin(), used_.end(), &hierarchy) != used_.end();
  if (!limited) return folder(hierarchy, kShims);
  // v1 lets a group have both members and children, so the shim is a member of the pod's own group.
  return folder(hierarchy, hierarchy.unified ? pod + "/shim" : pod);
}

CgroupPlace Cgroups::place_shim(const std::string& pod) const {
  CgroupPlace place;
  for (const CgroupHierarchy* hierarchy : all_) {
    const std::string whole = shim_folder(*hierarchy, pod);
    if (hierarchy->unified) {
      place.unified = whole;
    } else {
      place.files.push_back(whole + "/tasks");
    }
  }
  return place;
}

Result<void> Cgroups::make_shim(const std::string& pod, bool unified) {
  for (const CgroupHierarchy* hierarchy : all_) {
    if (hierarchy->unified != unified) continue;
    const std::string whole = shim_folder(*hierarchy, pod);
    if (access(whole.c_str(), F_OK) != 0) ORC_TRY(make_in(*hierarchy, whole));
  }
  return {};
}

CgroupPlace Cgroups::place(const std::string& group, const ContainerSpec::Resources& resources) const {
  CgroupPlace place;
  for (const CgroupHierarchy* hierarchy : chosen(resources)) {
    if (hierarchy->unified) {
      place.unified = folder(*hierarchy, group);
    } else {
      place.files.push_back(folder(*hierarchy, group) + "/tasks");
    }
  }
  if (shares_devices(resources) && !resources.devices.empty())
    place.files.push_back(folder(*shared_devices_, kSharedDevices) + "/tasks");
  if (systemd_owned_) {  // those that systemd watches, whatever controllers they have
    if (const CgroupHierarchy* own = layout_.find("name=systemd"))
      place.files.push_back(folder(*own, group) + "/tasks");
    if (const CgroupHierarchy* unified = layout_.unified()) place.unified = folder(*unified, group);
  }
  return place;
}

std::vector<CgroupMount> Cgroups::mounts(const std::string& group) const {
  std::vector<CgroupMount> all;
  for (const CgroupHierarchy* hierarchy : used_) {
    all.push_back({hierarchy->mount.substr(hierarchy->mount.rfind('/') + 1), folder(*hierarchy, group),
                   hierarchy->unified});
  }
  if (shared_devices_ != nullptr) {
    const std::string own = folder(*shared_devices_, group);
    const bool has_own = access(own.c_str(), F_OK) == 0;
    all.push_back({shared_devices_->mount.substr(shared_devices_->mount.rfind('/') + 1),
                   has_own ? own : folder(*shared_devices_, kSharedDevices), false});
  }
  return all;
}

void Cgroups::remove_empty(const std::string& group) {
  for (const CgroupHierarchy* hierarchy : all_) rmdir(folder(*hierarchy, group).c_str());
}

std::string Cgroups::members_file(const std::string& group) const {
  return used_.empty() ? std::string() : folder(*used_.front(), group) + "/cgroup.procs";
}

Result<void> Cgroups::remove(const std::string& group, Duration deadline) {
  const auto limit_ms = std::chrono::duration_cast<std::chrono::milliseconds>(deadline).count();
  std::int64_t waited = 0;
  for (const CgroupHierarchy* hierarchy : all_) {
    const std::string path = folder(*hierarchy, group);
    for (int pause = 1; !remove_once(path); pause = std::min(pause * 2, 100)) {
      if (waited >= limit_ms) {
        return Error(Error::busy, kDomain,
                     "cgroup " + path + " still has processes " + std::to_string(waited) +
                         " ms after they were killed");
      }
      pause_ms(pause);
      waited += pause;
    }
  }
  return {};
}

std::string Cgroups::oom_file(const std::string& group) const {
  const CgroupHierarchy* memory = layout_.find("memory");
  if (memory == nullptr) return {};
  return folder(*memory, group) + (memory->unified ? "/memory.events" : "/memory.oom_control");
}

Result<ContainerUsage> Cgroups::usage(const std::string& group) const {
  ContainerUsage usage;
  const CgroupHierarchy* memory = layout_.find("memory");
  const CgroupHierarchy* accounting = layout_.find("cpuacct");
  if (accounting != nullptr) {
    usage.cpu_ns = number_in(folder(*accounting, group) + "/cpuacct.usage").value_or(0);
  } else if (const CgroupHierarchy* cpu = layout_.find("cpu"); cpu != nullptr && cpu->unified) {
    usage.cpu_ns = number_in(folder(*cpu, group) + "/cpu.stat", "usage_usec").value_or(0) * 1000;
  }
  if (memory != nullptr) {
    const std::string path = folder(*memory, group);
    usage.memory_bytes =
        number_in(path + (memory->unified ? "/memory.current" : "/memory.usage_in_bytes")).value_or(0);
    const std::uint64_t inactive =
        number_in(path + "/memory.stat", memory->unified ? "inactive_file" : "total_inactive_file")
            .value_or(0);
    usage.memory_working_set_bytes = usage.memory_bytes > inactive ? usage.memory_bytes - inactive : 0;
  }
  if (const CgroupHierarchy* pids = layout_.find("pids"))
    usage.pids = number_in(folder(*pids, group) + "/pids.current").value_or(0);
  return usage;
}

Result<void> Cgroups::freeze(const std::string& group, bool frozen, Duration deadline) {
  const CgroupHierarchy* freezer = layout_.find("freezer");
  const CgroupHierarchy* unified = layout_.unified();
  if (freezer == nullptr && unified == nullptr)
    return Error(Error::unsupported, kDomain, "freeze: no freezer controller on this machine");
  const std::string path = freezer != nullptr ? folder(*freezer, group) : folder(*unified, group);
  const auto limit_ms = std::chrono::duration_cast<std::chrono::milliseconds>(deadline).count();
  if (freezer == nullptr) {
    ORC_TRY(write_value(path + "/cgroup.freeze", frozen ? "1" : "0"));
    for (std::int64_t waited = 0; number_in(path + "/cgroup.events", "frozen") != (frozen ? 1u : 0u);
         waited += 5) {
      if (waited >= limit_ms)
        return Error(Error::deadline_exceeded, kDomain, "freeze: " + path + " did not change in time");
      pause_ms(5);
    }
    return {};
  }
  const std::string wanted = frozen ? "FROZEN" : "THAWED";
  for (std::int64_t waited = 0;; waited += 10) {
    ORC_TRY(write_value(path + "/freezer.state", wanted));
    const auto state = read_file(path + "/freezer.state", 64);
    if (state && state->starts_with(wanted)) return {};
    if (waited >= limit_ms)
      return Error(Error::deadline_exceeded, kDomain, "freeze: " + path + " did not become " + wanted);
    pause_ms(10);
  }
}

bool Cgroups::frozen(const std::string& group) const {
  if (const CgroupHierarchy* freezer = layout_.find("freezer")) {
    const auto state = read_file(folder(*freezer, group) + "/freezer.state", 64);
    return state && !state->starts_with("THAWED");
  }
  const auto state = read_file(unified_folder(group) + "/cgroup.freeze", 64);
  return state && state->starts_with("1");
}

Result<std::vector<int>> Cgroups::processes(const std::string& group) const {
  if (used_.empty()) return Error(Error::unsupported, kDomain, "no cgroup hierarchy on this machine");
  return pids_in(folder(*used_.front(), group) + "/cgroup.procs");
}

void Cgroups::remove_parent() {
  if (parent_ == "/") return;
  for (const CgroupHierarchy* hierarchy : all_) {
    prune(folder(*hierarchy, ""));
    for (std::string above = parent_; above.rfind('/') > 0 && above.rfind('/') != std::string::npos;) {
      above.resize(above.rfind('/'));
      if (rmdir((hierarchy->mount + above).c_str()) != 0) break;
    }
  }
}

}  // namespace orchestra::runtime
