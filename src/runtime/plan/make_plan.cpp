#include "runtime/plan/make_plan.hpp"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/assert.hpp"
#include "base/json.hpp"
#include "runtime/plan/plan_builder.hpp"
#include "runtime/spec/capabilities.hpp"

namespace orchestra::runtime {
namespace {

using wire::DeviceStep, wire::HookStep, wire::JoinStep, wire::LimitStep, wire::MountKind, wire::MountStep,
    wire::WriteStep;

constexpr std::size_t kOverlayOptionsMax = 4000;  // the kernel takes one page

Error invalid(const std::string& message) { return Error(Error::invalid, "runtime", message); }

struct NamespaceType {
  std::string_view name;
  std::uint32_t flag;
};
constexpr std::array kNamespaces{
    NamespaceType{"pid", CLONE_NEWPID},   NamespaceType{"network", CLONE_NEWNET},
    NamespaceType{"mount", CLONE_NEWNS},  NamespaceType{"ipc", CLONE_NEWIPC},
    NamespaceType{"uts", CLONE_NEWUTS},   NamespaceType{"cgroup", CLONE_NEWCGROUP},
    NamespaceType{"user", CLONE_NEWUSER}, NamespaceType{"time", 0x80 /* CLONE_NEWTIME */},
};

/// "/a/../b" has no place in a plan: what a path means must not depend on what is mounted meanwhile.
Result<std::string> clean_target(const std::string& path, const char* field) {
  if (path.empty() || path[0] != '/')
    return invalid(std::string(field) + ": \"" + path + "\" is not an absolute path");
  std::string clean;
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string_view part(path.data() + at, end - at);
    if (part == "..") return invalid(std::string(field) + ": \"" + path + "\" has a \"..\" component");
    if (!part.empty() && part != ".") clean.append("/").append(part);
    at = end + 1;
  }
  return clean.empty() ? std::string("/") : clean;
}

class Planner {
 public:
  Planner(const ContainerSpec& spec, const PlanContext& context) : spec_(spec), context_(context) {}

  Result<std::string> run() {
    if (!spec_.process) return invalid("process: missing");
    if (spec_.process->args.empty()) return invalid("process.args: empty; name the program to run");
    ORC_TRY(namespaces());
    if (!context_.exec) {
      ORC_TRY(root());
      ORC_TRY(mounts());
      ORC_TRY(devices());
      ORC_TRY(hooks());
      sysctls();
      paths();
    } else if (context_.isolation == Isolation::process) {
      plan().root = builder_.text(context_.root.directory);
      plan().flags |= wire::kChroot;
    }
    ORC_TRY(process());
    ORC_TRY(labels());
    ORC_TRY(listener());
    plan().cgroup_files = builder_.texts(context_.cgroup_files);
    plan().cgroup_unified = builder_.text(context_.cgroup_unified);
    plan().seccomp = builder_.bytes_table(context_.seccomp_filter, 8);
    ORC_ASSIGN(std::string block, builder_.finish());
    ORC_ASSERT(wire::plan_is_sound(block.data(), block.size()));
    return block;
  }

 private:
  wire::Plan& plan() { return builder_.plan; }

  Result<void> namespaces() {
    if (context_.exec) {
      plan().flags |= wire::kJoinContainer;
      plan().clone_flags = context_.join_namespaces;
      return {};
    }
    std::set<std::string> seen;
    std::vector<JoinStep> joins;
    for (const auto& space : spec_.namespaces) {
      const auto type = std::find_if(kNamespaces.begin(), kNamespaces.end(),
                                     [&](const NamespaceType& t) { return t.name == space.type; });
      if (type == kNamespaces.end()) {
        return Error(Error::unsupported, "runtime",
                     "linux.namespaces: type \"" + space.type + "\" is not supported");
      }
      if (!seen.insert(space.type).second)
        return invalid("linux.namespaces: \"" + space.type + "\" is listed twice");
      if (!space.path.empty()) {
        // The user namespace first: it decides what may be done in the others.
        const auto where = space.type == "user" ? joins.begin() : joins.end();
        joins.insert(where, {type->flag, builder_.text(space.path)});
      } else if (space.type == "time") {
        plan().flags |= wire::kTimeNamespace;
        std::string lines;
        for (const auto& [clock, offset] : spec_.time_offsets) {
          lines +=
              clock + " " + std::to_string(offset.seconds) + " " + std::to_string(offset.nanoseconds) + "\n";
        }
        plan().time_offsets = builder_.text(lines);
      } else if (type->flag == CLONE_NEWCGROUP) {
        plan().flags |= wire::kCgroupNamespace;
      } else {
        plan().clone_flags |= type->flag;
      }
    }
    plan().joins = builder_.table(joins);
    plan().uid_maps = id_maps(spec_.uid_mappings);
    plan().gid_maps = id_maps(spec_.gid_mappings);
    const bool own_uts = seen.count("uts") != 0;
    if (!spec_.hostname.empty() && !own_uts)
      return invalid("hostname: needs a uts namespace in linux.namespaces");
    if (!spec_.domainname.empty() && !own_uts)
      return invalid("domainname: needs a uts namespace in linux.namespaces");
    if (!spec_.net_devices.empty() && !context_.moves_net_devices)
      return Error(Error::unsupported, "runtime",
                   "linux.netDevices: the network of a pod's container is the pod's; move the device there");
    if (spec_.intel_rdt)
      return Error(Error::unsupported, "runtime", "linux.intelRdt: resctrl is not supported");
    plan().hostname = builder_.text(spec_.hostname);
    plan().domainname = builder_.text(spec_.domainname);
    return {};
  }

  wire::Table id_maps(const std::vector<ContainerSpec::IdMapping>& mappings) {
    std::vector<wire::IdMapStep> steps;
    for (const auto& one : mappings) steps.push_back({one.container, one.host, one.size});
    return builder_.table(steps);
  }

  Result<void> labels() {
    const auto& process = *spec_.process;
    const std::string& profile = process.apparmor_profile;
    if (!profile.empty() && profile != "unconfined" && !context_.apparmor) {
      return Error(Error::unsupported, "runtime",
                   "process.apparmorProfile: \"" + profile +
                       "\": AppArmor is not enabled on this machine; use unconfined or leave it out");
    }
    if (!process.selinux_label.empty() && !context_.selinux) {
      return Error(Error::unsupported, "runtime",
                   "process.selinuxLabel: \"" + process.selinux_label +
                       "\": SELinux is not enabled on this machine; leave it out");
    }
    if (!spec_.mount_label.empty() && !context_.selinux) {
      return Error(Error::unsupported, "runtime",
                   "linux.mountLabel: \"" + spec_.mount_label +
                       "\": SELinux is not enabled on this machine; leave it out");
    }
    if (context_.apparmor) plan().apparmor = builder_.text(profile);
    plan().selinux = builder_.text(process.selinux_label);
    return {};
  }

  Result<void> listener() {
    if (!spec_.seccomp) return {};
    constexpr std::pair<std::string_view, std::uint32_t> flags[] = {
        {"SECCOMP_FILTER_FLAG_TSYNC", 1},
        {"SECCOMP_FILTER_FLAG_LOG", 2},
        {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", 4},
        {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 32}};
    for (const std::string& flag : spec_.seccomp->flags) {
      for (const auto& [name, value] : flags) {
        if (name == flag) plan().seccomp_flags |= value;
      }
    }
    bool notifies = spec_.seccomp->default_action == "SCMP_ACT_NOTIFY";
    for (const auto& rule : spec_.seccomp->syscalls) {
      if (rule.action != "SCMP_ACT_NOTIFY") continue;
      notifies = true;
      // What init has to say about a failure goes through it; nobody would listen yet.
      for (const char* name : {"write", "sendto"}) {
        if (std::find(rule.names.begin(), rule.names.end(), name) != rule.names.end())
          return invalid(std::string("linux.seccomp: SCMP_ACT_NOTIFY for ") + name + " cannot be used");
      }
    }
    if (notifies && spec_.seccomp->default_action == "SCMP_ACT_NOTIFY")
      return invalid("linux.seccomp: SCMP_ACT_NOTIFY cannot be the default action");
    if (!notifies) return {};
    if (spec_.seccomp->listener_path.empty())
      return invalid("linux.seccomp: SCMP_ACT_NOTIFY needs listenerPath");
    if (spec_.seccomp->listener_path.size() > 107)
      return invalid("linux.seccomp.listenerPath: \"" + spec_.seccomp->listener_path +
                     "\" has more than 107 bytes");
    if (context_.state_members.empty())
      return Error(Error::unsupported, "runtime",
                   "linux.seccomp: a listener is not supported for this process");
    plan().seccomp_flags |= 8;                                        // NEW_LISTENER
    if ((plan().seccomp_flags & 1) != 0) plan().seccomp_flags |= 16;  // TSYNC_ESRCH, which both together need
    plan().notify_socket = builder_.text(spec_.seccomp->listener_path);
    json::object head{{"ociVersion", spec_.oci_version}, {"fds", json::array{"seccompFd"}}};
    if (!spec_.seccomp->listener_metadata.empty()) head["metadata"] = spec_.seccomp->listener_metadata;
    std::string text = to_json(head);
    text.pop_back();
    plan().notify_head = builder_.text(text + ",\"pid\":");
    plan().notify_middle = builder_.text(",\"state\":{\"pid\":");
    plan().notify_tail = builder_.text("," + context_.state_members.substr(1) + "}");
    return {};
  }

  Result<void> root() {
    const std::string directory = spec_.root_path.empty() ? context_.root.directory : spec_.root_path;
    const bool own = (plan().clone_flags & CLONE_NEWNS) != 0;
    plan().flags |= own ? wire::kOwnRoot : wire::kChroot | wire::kBareDevices;
    if (context_.no_pivot) plan().flags |= wire::kNoPivot;
    if (context_.root_by_parent) {
      plan().flags |= wire::kRootByParent;
      plan().version = wire::kPlanVersion;
    }
    if (spec_.root_readonly && own) plan().flags |= wire::kReadOnlyRoot;
    if (!spec_.rootfs_propagation.empty()) {
      plan().root_propagation = propagation_flags(spec_.rootfs_propagation) | MS_REC;
      if (plan().root_propagation == MS_REC)
        return invalid("linux.rootfsPropagation: unknown value \"" + spec_.rootfs_propagation + "\"");
    }
    if (spec_.root_path.empty() && !context_.root.overlay_lower.empty()) return overlay(own);
    if (directory.empty()) return invalid("root.path: missing");
    plan().root = builder_.text(directory);
    return {};
  }

  Result<void> overlay(bool own) {
    if (!own)
      return invalid("root: an overlay needs a mount namespace; level process takes a plain directory");
    std::string lower;
    for (const std::string& layer : context_.root.overlay_lower) {
      if (layer.find_first_of(":,\\") != std::string::npos)
        return invalid("root: layer path \"" + layer + "\" has a character that overlay options reserve");
      lower += (lower.empty() ? "" : ":") + layer;
    }
    if (lower.size() + context_.root.overlay_upper.size() + context_.root.overlay_work.size() >
        kOverlayOptionsMax) {
      return Error(Error::too_large, "runtime",
                   "root: " + std::to_string(context_.root.overlay_lower.size()) +
                       " layers do not fit into the overlay's 4 KiB of options");
    }
    plan().overlay_directory = builder_.text(context_.root.layers_directory);
    plan().overlay_lower = builder_.text(lower);
    plan().overlay_upper = builder_.text(context_.root.overlay_upper);
    plan().overlay_work = builder_.text(context_.root.overlay_work);
    plan().overlay_extra = builder_.text(context_.root.userxattr ? ",userxattr" : "");
    plan().overlay_target = builder_.text(context_.root_target);
    return {};
  }

  Result<void> mounts() {
    if ((plan().flags & wire::kOwnRoot) == 0) return {};
    if (spec_.mounts.size() > wire::kMountsMax) {
      return Error(Error::too_large, "runtime",
                   "mounts: " + std::to_string(spec_.mounts.size()) + " entries; at most " +
                       std::to_string(wire::kMountsMax));
    }
    std::vector<MountStep> steps;
    bool devices_made = false;
    for (const auto& mount : spec_.mounts) {
      ORC_ASSIGN(const std::string target, clean_target(mount.destination, "mounts.destination"));
      if (mount.type == "cgroup" || mount.type == "cgroup2") {
        cgroup_steps(mount, target, steps);
        continue;
      }
      ORC_ASSIGN(const MountStep step, mount_step(mount, target));
      steps.push_back(step);
      // The default nodes go into the container's own /dev, before anything is mounted over one of them.
      if (target == "/dev" && step.kind == MountKind::filesystem) {
        MountStep nodes;
        nodes.kind = MountKind::devices;
        nodes.target = builder_.text("/dev");
        steps.push_back(nodes);
        devices_made = true;
      }
    }
    const bool dev_is_bound = std::any_of(spec_.mounts.begin(), spec_.mounts.end(),
                                          [](const auto& m) { return m.destination == "/dev"; });
    if (!devices_made && !dev_is_bound) {
      MountStep nodes;
      nodes.kind = MountKind::devices;
      nodes.target = builder_.text("/dev");
      steps.insert(steps.begin(), nodes);
    }
    plan().mounts = builder_.table(steps);
    return {};
  }

  /// v2 alone: a cgroup2 mount where the container has a cgroup namespace, else its own group is bound. v1: a
  /// tmpfs with the container's group of each hierarchy (runtime-spec, config-linux.md "Cgroups Path").
  void cgroup_steps(const ContainerSpec::Mount& mount, const std::string& target,
                    std::vector<MountStep>& steps) {
    const MountOptions options = parse_mount_options(mount.options);
    const auto bind = [&](const CgroupMount& from, const std::string& to) {
      MountStep step;
      step.kind = MountKind::bind;
      step.source = builder_.text(from.folder);
      step.target = builder_.text(to);
      step.attr_set = options.set;
      steps.push_back(step);
    };
    const auto& all = context_.cgroup_mounts;
    const bool unified =
        !all.empty() && std::all_of(all.begin(), all.end(), [](const CgroupMount& m) { return m.unified; });
    if (unified && (plan().flags & wire::kCgroupNamespace) == 0) return bind(all.front(), target);
    MountStep step;
    step.target = builder_.text(target);
    step.type = builder_.text(unified ? "cgroup2" : "tmpfs");
    step.source = builder_.text("cgroup");
    step.attr_set = unified ? options.set : options.set & ~std::uint64_t{MOUNT_ATTR_RDONLY};
    steps.push_back(step);
    if (unified) return;
    for (const CgroupMount& one : all) bind(one, target + "/" + one.name);
    if ((options.set & MOUNT_ATTR_RDONLY) != 0) read_only_.push_back(target);  // once its folders are there
  }

  Result<MountStep> mount_step(const ContainerSpec::Mount& mount, const std::string& target) {
    const MountOptions options = parse_mount_options(mount.options);
    MountStep step;
    step.target = builder_.text(target);
    step.attr_set = options.set;
    step.attr_clear = options.clear;
    step.propagation = options.propagation & ~std::uint64_t{MS_REC};  // how deep is `recursive`
    step.all_set = options.all_set;
    step.all_clear = options.all_clear;
    if (options.bind || mount.type == "bind") {
      // What is no flag is data for the file system (config.md, mounts), and a bind has none of its own: the
      // kernel takes no notice of data there, nor do we.
      if (mount.source.empty()) return invalid("mounts \"" + target + "\": source: missing");
      step.kind = MountKind::bind;
      step.recursive = options.recursive ? 1 : 0;
      step.source =
          builder_.text(mount.source[0] == '/' ? mount.source : context_.bundle + "/" + mount.source);
      if (const auto below = context_.sub_paths.find(mount.destination); below != context_.sub_paths.end()) {
        step.below = builder_.text(below->second);
        plan().version = wire::kPlanVersion;
      }
      ORC_TRY(map_ids(mount, options, target, step));
      return step;
    }
    if (options.id_mapped || !mount.uid_mappings.empty())
      return invalid("mounts \"" + target + "\": only a bind can be id-mapped");
    if (options.copy_up && mount.type != "tmpfs")
      return invalid("mounts \"" + target + "\": tmpcopyup belongs to tmpfs");
    step.copy_up = options.copy_up ? 1 : 0;
    if (mount.type.empty()) return invalid("mounts \"" + target + "\": type: missing");
    step.type = builder_.text(mount.type);
    step.source = builder_.text(mount.source);
    std::vector<wire::Text> pairs;
    for (const std::string& flag : options.superblock) {
      if (flag == "sync" || flag == "dirsync" || flag == "lazytime" || flag == "mand") {
        pairs.push_back(builder_.text(flag));
        pairs.push_back(0);
      }
    }
    if (!spec_.mount_label.empty() && mount.type != "proc" && mount.type != "sysfs") {
      pairs.push_back(builder_.text("context"));
      pairs.push_back(builder_.text(spec_.mount_label));
    }
    for (const std::string& option : options.data) {
      // A terminal's group has to be mapped: with one id it is that one.
      if (context_.ids != nullptr && mount.type == "devpts" && option == "gid=5" && !context_.ids->has_gid(5))
        continue;
      const std::size_t equal = option.find('=');
      pairs.push_back(builder_.text(option.substr(0, equal)));
      pairs.push_back(equal == std::string::npos ? 0 : builder_.text(option.substr(equal + 1), true));
    }
    step.options = builder_.table(pairs);
    step.optional = mount.type == "mqueue" ? 1 : 0;
    // They show the pod's network and ipc namespaces, over which a user namespace of its own has no rights.
    if (context_.root_by_parent && (mount.type == "mqueue" || mount.type == "sysfs"))
      step.mapping = wire::IdMapping::of_container;
    return step;
  }

  Result<void> map_ids(const ContainerSpec::Mount& mount, const MountOptions& options,
                       const std::string& target, MountStep& step) {
    if (!options.id_mapped && mount.uid_mappings.empty()) return {};
    if (++id_mapped_ > wire::kIdMappedMountsMax) {
      return Error(Error::too_large, "runtime",
                   "mounts: at most " + std::to_string(wire::kIdMappedMountsMax) + " can be id-mapped");
    }
    if (mount.uid_mappings.empty() && spec_.uid_mappings.empty()) {
      return invalid("mounts \"" + target +
                     "\": idmap needs uidMappings of the mount or of the container's user namespace");
    }
    step.mapping = mount.uid_mappings.empty() ? wire::IdMapping::of_container : wire::IdMapping::own;
    step.mapping_recursive = options.id_mapped_recursive ? 1 : 0;
    step.uids = id_maps(mount.uid_mappings);
    step.gids = id_maps(mount.gid_mappings);
    return {};
  }

  Result<void> devices() {
    std::vector<DeviceStep> steps;
    for (const auto& device : spec_.devices) {
      ORC_ASSIGN(const std::string path, clean_target(device.path, "linux.devices.path"));
      DeviceStep step;
      step.path = builder_.text(path);
      const std::uint32_t kind = device.type == 'b' ? S_IFBLK : device.type == 'p' ? S_IFIFO : S_IFCHR;
      step.mode = kind | device.file_mode.value_or(0666);
      step.major = static_cast<std::uint32_t>(device.major);
      step.minor = static_cast<std::uint32_t>(device.minor);
      step.uid = device.uid.value_or(0);
      step.gid = device.gid.value_or(0);
      steps.push_back(step);
    }
    plan().devices = builder_.table(steps);
    return {};
  }

  Result<wire::Table> hook_table(const std::vector<ContainerSpec::Hook>& hooks) {
    std::vector<HookStep> steps;
    for (const auto& hook : hooks) {
      HookStep step;
      step.path = builder_.text(hook.path);
      step.args = builder_.texts(hook.args);
      step.env = builder_.texts(hook.env);
      step.timeout_ms = static_cast<std::uint32_t>(hook.timeout.value_or(30)) * 1000;
      steps.push_back(step);
    }
    return builder_.table(steps);
  }
  Result<void> hooks() {
    plan().hook_state = builder_.text(context_.state_json);
    ORC_ASSIGN(plan().hooks_create_container, hook_table(spec_.hooks.create_container));
    ORC_ASSIGN(plan().hooks_start_container, hook_table(spec_.hooks.start_container));
    return {};
  }

  void sysctls() {
    std::vector<WriteStep> steps;
    for (const auto& [name, value] : spec_.sysctl) {
      std::string path = name;
      std::replace(path.begin(), path.end(), '.', '/');
      steps.push_back({builder_.text(path), builder_.text(value, true)});
    }
    plan().sysctls = builder_.table(steps);
  }

  void paths() {
    if ((plan().flags & wire::kOwnRoot) == 0) return;
    plan().masked = builder_.texts(spec_.masked_paths);
    read_only_.insert(read_only_.begin(), spec_.readonly_paths.begin(), spec_.readonly_paths.end());
    plan().read_only = builder_.texts(read_only_);
  }

  Result<std::uint64_t> capability_set(const std::vector<std::string>& names) {
    std::uint64_t set = 0;
    for (const std::string& name : names) {
      const auto number = capability_number(name);
      if (number) set |= std::uint64_t{1} << *number;  // unknown ones warn: the caller lists them
    }
    return set;
  }

  Result<void> process() {
    const auto& process = *spec_.process;
    if (process.env.size() > wire::kEnvMax || process.args.size() > wire::kEnvMax) {
      return Error(Error::too_large, "runtime",
                   "process: more than " + std::to_string(wire::kEnvMax) + " arguments or variables");
    }
    ORC_ASSIGN(const std::string cwd, clean_target(process.cwd, "process.cwd"));
    plan().cwd = builder_.text(cwd);
    plan().args = builder_.texts(process.args);
    plan().env = builder_.texts(process.env);
    plan().uid = process.user.uid;
    plan().gid = process.user.gid;
    plan().umask = process.user.umask.value_or(022);
    plan().groups = builder_.table(process.user.additional_gids);
    ORC_TRY(ids());
    plan().oom_score_adj = process.oom_score_adj.value_or(0);
    plan().columns = process.console_columns;
    plan().rows = process.console_rows;
    if (process.terminal) plan().flags |= wire::kTerminal;
    if (process.no_new_privileges) plan().flags |= wire::kNoNewPrivileges;
    if (context_.make_cwd && !context_.exec) plan().flags |= wire::kMakeCwd;
    if (context_.runtime_hooks) plan().flags |= wire::kRuntimeHooks;
    if (context_.check_program) plan().flags |= wire::kCheckProgram;
    if (context_.no_new_keyring) plan().flags |= wire::kKeepSession;
    if (!context_.start_fifo.empty()) plan().flags |= wire::kStartByFifo;
    plan().start_fifo = builder_.text(context_.start_fifo);
    plan().flags |= wire::kSetIds | wire::kSetCapabilities;
    const ContainerSpec::Capabilities none;
    const auto& caps = process.capabilities ? *process.capabilities : none;
    ORC_ASSIGN(plan().cap_bounding, capability_set(caps.bounding));
    ORC_ASSIGN(plan().cap_effective, capability_set(caps.effective));
    ORC_ASSIGN(plan().cap_permitted, capability_set(caps.permitted));
    ORC_ASSIGN(plan().cap_inheritable, capability_set(caps.inheritable));
    ORC_ASSIGN(plan().cap_ambient, capability_set(caps.ambient));
    plan().preserved_fds = static_cast<std::uint32_t>(context_.preserved_fds);
    ORC_TRY(placement(process));
    return limits(process);
  }

  /// Rootless: an id without a mapping does not exist inside.
  Result<void> ids() const {
    if (context_.ids == nullptr) return {};
    const auto& user = spec_.process->user;
    const auto missing = [&](const char* field, std::uint32_t id) {
      return Error(Error::unsupported, "runtime",
                   std::string(field) + " " + std::to_string(id) + " is not mapped in the user namespace (" +
                       context_.ids->describe() +
                       "); give this user more ids in /etc/subuid and /etc/subgid");
    };
    if (!context_.ids->has_uid(user.uid)) return missing("process.user.uid", user.uid);
    if (!context_.ids->has_gid(user.gid)) return missing("process.user.gid", user.gid);
    for (const std::uint32_t gid : user.additional_gids) {
      if (!context_.ids->ranged || !context_.ids->has_gid(gid))
        return missing("process.user.additionalGids", gid);
    }
    return {};
  }

  Result<wire::Table> mask(const std::string& list, const char* field) {
    if (list.empty()) return wire::Table{};
    const auto words = parse_number_list(list);
    if (!words) return invalid(std::string(field) + ": \"" + list + "\" is no list of numbers like 0-3,5");
    return builder_.table(*words);
  }

  /// Where and how eagerly the process runs.
  Result<void> placement(const ContainerSpec::Process& process) {
    if (process.scheduler) {
      const auto& from = *process.scheduler;
      constexpr std::pair<std::string_view, std::uint32_t> policies[] = {
          {"SCHED_OTHER", 0}, {"SCHED_FIFO", 1}, {"SCHED_RR", 2},      {"SCHED_BATCH", 3},
          {"SCHED_ISO", 4},   {"SCHED_IDLE", 5}, {"SCHED_DEADLINE", 6}};
      constexpr std::pair<std::string_view, std::uint64_t> flags[] = {
          {"SCHED_FLAG_RESET_ON_FORK", 0x01}, {"SCHED_FLAG_RECLAIM", 0x02},
          {"SCHED_FLAG_DL_OVERRUN", 0x04},    {"SCHED_FLAG_KEEP_POLICY", 0x08},
          {"SCHED_FLAG_KEEP_PARAMS", 0x10},   {"SCHED_FLAG_UTIL_CLAMP_MIN", 0x20},
          {"SCHED_FLAG_UTIL_CLAMP_MAX", 0x40}};
      wire::SchedulerStep step;
      for (const auto& [name, value] : policies) step.policy = name == from.policy ? value : step.policy;
      for (const std::string& flag : from.flags) {
        for (const auto& [name, value] : flags) step.flags |= name == flag ? value : 0;
      }
      step.nice = from.nice;
      step.priority = static_cast<std::uint32_t>(from.priority);
      step.runtime = from.runtime;
      step.deadline = from.deadline;
      step.period = from.period;
      plan().scheduler = builder_.table(std::vector{step});
    }
    if (process.io_priority) {
      const std::string& name = process.io_priority->io_class;
      const int io_class = name == "IOPRIO_CLASS_RT" ? 1 : name == "IOPRIO_CLASS_BE" ? 2 : 3;
      plan().io_priority = io_class << 13 | process.io_priority->priority;
    }
    if (context_.exec) {
      ORC_ASSIGN(plan().affinity, mask(process.exec_affinity_initial, "process.execCPUAffinity.initial"));
      ORC_ASSIGN(plan().affinity_final, mask(process.exec_affinity_final, "process.execCPUAffinity.final"));
    }
    if (spec_.personality && !context_.exec) plan().personality = *spec_.personality == "LINUX32" ? 8 : 0;
    if (!spec_.memory_policy) return {};
    constexpr std::pair<std::string_view, int> modes[] = {{"MPOL_DEFAULT", 0},
                                                          {"MPOL_PREFERRED", 1},
                                                          {"MPOL_BIND", 2},
                                                          {"MPOL_INTERLEAVE", 3},
                                                          {"MPOL_LOCAL", 4},
                                                          {"MPOL_PREFERRED_MANY", 5},
                                                          {"MPOL_WEIGHTED_INTERLEAVE", 6}};
    constexpr std::pair<std::string_view, int> flags[] = {{"MPOL_F_STATIC_NODES", 1 << 15},
                                                          {"MPOL_F_RELATIVE_NODES", 1 << 14},
                                                          {"MPOL_F_NUMA_BALANCING", 1 << 13}};
    plan().memory_policy = 0;
    for (const auto& [name, value] : modes)
      plan().memory_policy |= name == spec_.memory_policy->mode ? value : 0;
    for (const std::string& flag : spec_.memory_policy->flags) {
      for (const auto& [name, value] : flags) plan().memory_policy |= name == flag ? value : 0;
    }
    ORC_ASSIGN(plan().memory_nodes, mask(spec_.memory_policy->nodes, "linux.memoryPolicy.nodes"));
    return {};
  }

  Result<void> limits(const ContainerSpec::Process& process) {
    std::vector<LimitStep> steps;
    std::set<int> seen;
    for (const auto& limit : process.rlimits) {
      const int number = rlimit_number(limit.type);
      if (number < 0) return invalid("process.rlimits: unknown type \"" + limit.type + "\"");
      if (!seen.insert(number).second)
        return invalid("process.rlimits: \"" + limit.type + "\" is listed twice");
      if (limit.soft > limit.hard) {
        return invalid("process.rlimits: " + limit.type + ": soft " + std::to_string(limit.soft) +
                       " is above hard " + std::to_string(limit.hard));
      }
      steps.push_back({static_cast<std::uint32_t>(number), 0, limit.soft, limit.hard});
    }
    plan().limits = builder_.table(steps);
    return {};
  }

  const ContainerSpec& spec_;
  const PlanContext& context_;
  std::vector<std::string> read_only_;  ///< what mounts add to the specification's paths
  PlanBuilder builder_;
  std::uint32_t id_mapped_ = 0;
};
}  // namespace

Result<std::string> make_plan(const ContainerSpec& spec, const PlanContext& context) {
  return Planner(spec, context).run();
}

}  // namespace orchestra::runtime
