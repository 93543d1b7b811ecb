#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>

#include "base/fd.hpp"
#include "orchestra/machine.hpp"
#include "runtime/linux/cgroups.hpp"
#include "runtime/linux/try_in_child.hpp"
#include "runtime/linux/user_namespace.hpp"

namespace orchestra {
namespace {

using runtime::try_in_child;

constexpr const char* kFull = "isolation level full";
constexpr const char* kRootless = "isolation level rootless";

MachineAbility ability(std::string name, int error, std::string call, std::string remedy,
                       std::string needed_for) {
  MachineAbility entry;
  entry.name = std::move(name);
  entry.available = error == 0;
  entry.evidence = error == 0 ? call + ": works" : system_error("runtime", call, "", error).message();
  if (error != 0) entry.remedy = std::move(remedy);
  entry.needed_for = std::move(needed_for);
  return entry;
}

std::string root_remedy() {
  return geteuid() == 0 ? "run outside of the container or sandbox that withholds CAP_SYS_ADMIN"
                        : "run as root, or use --isolation process";
}

void probe_kernel(std::vector<MachineAbility>& all) {
  utsname name{};
  uname(&name);
  int major = 0, minor = 0;
  std::sscanf(name.release, "%d.%d", &major, &minor);
  const bool fine = major > 5 || (major == 5 && minor >= 12);
  all.push_back({"kernel", fine, std::string("Linux ") + name.release + " " + name.machine,
                 fine ? "" : "Linux 5.12 or newer is needed (openat2, mount_setattr)", kFull});
  const bool exit_codes = major > 6 || (major == 6 && minor >= 15);
  all.push_back({"exit codes of adopted processes", exit_codes, std::string("Linux ") + name.release,
                 exit_codes ? ""
                            : "Linux 6.15 keeps exit codes in pidfds; before, the code of a container whose "
                              "shim was killed is \"unknown\"",
                 "exact exit codes after a killed shim"});
  all.push_back({"root", geteuid() == 0, "effective uid " + std::to_string(geteuid()),
                 geteuid() == 0 ? "" : "run as root", kFull});
}

void probe_namespaces(std::vector<MachineAbility>& all) {
  struct Space {
    const char* name;
    int flag;
    const char* call;
  };
  constexpr Space spaces[] = {{"mount namespaces", CLONE_NEWNS, "unshare(CLONE_NEWNS)"},
                              {"pid namespaces", CLONE_NEWPID, "unshare(CLONE_NEWPID)"},
                              {"network namespaces", CLONE_NEWNET, "unshare(CLONE_NEWNET)"},
                              {"ipc namespaces", CLONE_NEWIPC, "unshare(CLONE_NEWIPC)"},
                              {"uts namespaces", CLONE_NEWUTS, "unshare(CLONE_NEWUTS)"},
                              {"cgroup namespaces", CLONE_NEWCGROUP, "unshare(CLONE_NEWCGROUP)"}};
  for (const Space& space : spaces) {
    const int error =
        try_in_child([](long flag) { return unshare(static_cast<int>(flag)) == 0 ? 0 : errno; }, space.flag);
    all.push_back(ability(space.name, error, space.call, root_remedy(), kFull));
  }
}

void probe_user_namespaces(std::vector<MachineAbility>& all) {
  const int error = try_in_child([](long) { return unshare(CLONE_NEWUSER) == 0 ? 0 : errno; }, 0);
  MachineAbility spaces = ability("user namespaces", error, "unshare(CLONE_NEWUSER)", "", kRootless);
  const runtime::UserNamespaceCause cause = runtime::why_no_user_namespaces();
  if (error != 0 && !cause.cause.empty()) spaces.evidence += "; " + cause.cause;
  if (error != 0) spaces.remedy = cause.remedy;
  all.push_back(spaces);
  const runtime::RootlessIds ids = runtime::find_rootless_ids();
  all.push_back({"ranges of user ids", ids.maps.ranged,
                 ids.maps.ranged ? ids.maps.describe() : ids.single_because,
                 ids.maps.ranged ? "" : "none needed where all programs of pods run as root inside",
                 "users other than root in rootless pods"});
  // Really made, with what a container starts with: flags and files alone lie.
  const auto tried = runtime::try_rootless(ids.maps, "");
  MachineAbility level{
      kRootless, tried.has_value(),
      tried ? "a user namespace with its maps, /proc and /tmp was made" : tried.error().message(), "",
      "containers without root"};
  if (!tried && !cause.cause.empty()) level.evidence += "; " + cause.cause;
  if (!tried) level.remedy = cause.remedy.empty() ? "use full (as root) or process" : cause.remedy;
  all.push_back(level);
}

void probe_file_systems(std::vector<MachineAbility>& all) {
  struct Type {
    const char* name;
    const char* needed_for;
  };
  constexpr Type types[] = {{"overlay", "image layers without copying"},
                            {"proc", kFull},
                            {"tmpfs", kFull},
                            {"devpts", "terminals"},
                            {"mqueue", "POSIX message queues"}};
  for (const Type& type : types) {
    const int error = try_in_child(
        [](long name) {
          const long fd = syscall(SYS_fsopen, reinterpret_cast<const char*>(name), 1 /* FSOPEN_CLOEXEC */);
          return fd >= 0 ? 0 : errno;
        },
        reinterpret_cast<long>(type.name));
    all.push_back(ability(
        std::string(type.name) + " file system", error, std::string("fsopen(") + type.name + ")",
        error == ENODEV ? std::string("load the kernel module: modprobe ") + type.name : root_remedy(),
        type.needed_for));
  }
  const int chroot_error = try_in_child([](long) { return chroot("/") == 0 ? 0 : errno; }, 0);
  all.push_back(
      ability("chroot", chroot_error, "chroot(/)", "CAP_SYS_CHROOT is needed", "isolation level process"));
}

void probe_confinement(std::vector<MachineAbility>& all) {
  const int seccomp_error = try_in_child(
      [](long) {
        sock_filter allow{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
        sock_fprog program{1, &allow};
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
        return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 ? 0 : errno;
      },
      0);
  all.push_back(ability("seccomp filters", seccomp_error, "prctl(PR_SET_SECCOMP)",
                        "a kernel with CONFIG_SECCOMP_FILTER", "the default seccomp profile"));
  const bool memory_files = [] {
    const Fd fd(static_cast<int>(syscall(SYS_memfd_create, "probe", 0x11u /* MFD_CLOEXEC | MFD_EXEC */)));
    const Fd older(fd ? -1 : static_cast<int>(syscall(SYS_memfd_create, "probe", 1u)));
    return fd || older;
  }();
  const auto noexec = read_file("/proc/sys/vm/memfd_noexec", 8);
  const bool executable = memory_files && !(noexec && noexec->starts_with("2"));
  all.push_back({"executable memory files", executable,
                 "vm.memfd_noexec=" + (noexec ? noexec->substr(0, 1) : std::string("absent")),
                 executable ? "" : "none needed: the shim is started from a file in the data folder",
                 "starting the shim"});
}

void probe_cgroups(std::vector<MachineAbility>& all) {
  auto layout = runtime::detect_cgroups();
  if (!layout) {
    all.push_back({"cgroups", false, layout.error().message(), "mount cgroups at /sys/fs/cgroup", "limits"});
    return;
  }
  struct Controller {
    const char* name;
    const char* needed_for;
  };
  constexpr Controller controllers[] = {{"cpu", "cpu requests and limits"},
                                        {"memory", "memory limits, OOM detection"},
                                        {"pids", "process limits"},
                                        {"cpuset", "cpu pinning"}};
  for (const Controller& controller : controllers) {
    const auto* at = layout->find(controller.name);
    const bool writable = at != nullptr && at->writable && access(at->mount.c_str(), W_OK) == 0;
    std::string evidence = at == nullptr ? "in no hierarchy"
                                         : std::string(at->unified ? "v2 " : "v1 ") + at->mount +
                                               (writable ? "" : " (not writable)");
    all.push_back({std::string("cgroup controller ") + controller.name, writable, evidence,
                   writable        ? ""
                   : at == nullptr ? "boot with the controller, or mount its hierarchy"
                                   : "run as root, or delegate a subtree",
                   controller.needed_for});
  }
  const auto* devices = layout->find("devices");
  const bool v1_devices = devices != nullptr && devices->writable;
  const bool programs = !v1_devices && layout->unified() != nullptr && geteuid() == 0;
  all.push_back({"device rules", v1_devices || programs,
                 v1_devices ? "v1 " + devices->mount
                 : programs ? "eBPF programs at v2 " + layout->unified()->mount
                            : "no v1 devices hierarchy, and eBPF programs need root",
                 v1_devices || programs ? "" : "run as root; nodes in /dev are only the default ones",
                 "device access rules"});
}
}  // namespace

std::vector<MachineAbility> probe_machine() {
  std::vector<MachineAbility> all;
  probe_kernel(all);
  probe_namespaces(all);
  probe_user_namespaces(all);
  probe_file_systems(all);
  probe_confinement(all);
  probe_cgroups(all);
  bool full = true;
  for (const MachineAbility& one : all) full &= one.available || one.needed_for != kFull;
  bool chroot_works = false;
  for (const MachineAbility& one : all) chroot_works |= one.name == "chroot" && one.available;
  all.push_back({"isolation level full", full,
                 full ? "all that it needs is there" : "something above is missing",
                 full ? "" : root_remedy(), "containers as in production"});
  all.push_back({"isolation level process", chroot_works, chroot_works ? "chroot works" : "chroot is refused",
                 chroot_works ? "" : "run with CAP_SYS_CHROOT", "machines that allow no namespaces"});
  return all;
}

}  // namespace orchestra
