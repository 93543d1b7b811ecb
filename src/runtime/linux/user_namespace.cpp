#include "runtime/linux/user_namespace.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "runtime/domain.hpp"
#include "runtime/linux/spawn.hpp"
#include "runtime/shim/shim_client.hpp"

namespace orchestra::runtime {
namespace {
constexpr std::size_t kSubidBytesMax = 1 << 20, kPasswdBytesMax = 64 << 10;
constexpr const char* kUidHelper = "/usr/bin/newuidmap";
constexpr const char* kGidHelper = "/usr/bin/newgidmap";
constexpr int kProbeMs = 10'000, kReclaimMs = 120'000;

std::string user_name(uid_t uid) {
  std::vector<char> buffer(kPasswdBytesMax);
  passwd entry{};
  passwd* found = nullptr;
  if (getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) return {};
  return found->pw_name;
}

Result<Fd> memory_file(const wire::UserNamespace& space) {
  Fd file(static_cast<int>(syscall(SYS_memfd_create, "orch-user-namespace", 1u /* MFD_CLOEXEC */)));
  if (!file) return system_error(kDomain, "memfd_create", "user namespace", errno);
  ORC_TRY(write_all(file.get(), {reinterpret_cast<const char*>(&space), sizeof space}));
  return file;
}

/// Runs `role` of the embedded program and takes its one message.
Result<void> run_role(const char* role, const IdMaps& maps, int directory, int limit_ms,
                      const std::string& fallback_directory) {
  ORC_ASSIGN(const Fd config, memory_file(to_wire(maps)));
  ORC_ASSIGN(auto pipe, make_pipe());
  SpawnPlan plan;
  plan.role = role;
  plan.descriptors = {-1, -1, -1, config.get(), pipe.second.get()};
  if (directory >= 0) plan.descriptors.push_back(directory);
  plan.fallback_directory = fallback_directory;
  ORC_TRY(spawn_embedded(plan));
  pipe.second.reset();
  pollfd wait{pipe.first.get(), POLLIN, 0};
  int ready = 0;
  do {
    ready = poll(&wait, 1, limit_ms);
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) {
    return Error(Error::deadline_exceeded, kDomain,
                 std::string(role) + ": no answer in " + std::to_string(limit_ms / 1000) + " s");
  }
  wire::ReportMessage message;
  if (read(pipe.first.get(), &message, sizeof message) != static_cast<ssize_t>(sizeof message))
    return Error(Error::internal, kDomain, std::string(role) + ": ended without an answer");
  message.text[sizeof message.text - 1] = '\0';
  if (message.kind == wire::Report::failed) return failure_error(message, role);
  return {};
}

std::string value_of(const char* path) {
  auto text = read_file(path, 64);
  return text ? *text : std::string();
}

/// A root that is no mount point: chroot(2) was called, and the kernel then refuses user namespaces.
bool is_chrooted() {
  const auto mounts = read_file("/proc/self/mountinfo", 4 << 20);
  if (!mounts) return false;
  for (std::size_t at = 0; at < mounts->size();) {
    const std::size_t end = std::min(mounts->find('\n', at), mounts->size());
    std::size_t field = at;
    for (int i = 0; i < 4 && field < end; ++i) field = mounts->find(' ', field) + 1;
    if (mounts->compare(field, 2, "/ ") == 0) return false;
    at = end + 1;
  }
  return !mounts->empty();
}
}  // namespace

RootlessIds find_rootless_ids(bool keep_id) {
  const std::uint32_t uid = geteuid(), gid = getegid();
  const std::string name = user_name(uid);
  const std::string who = name.empty() ? "uid " + std::to_string(uid) : name;
  RootlessIds found;
  const auto ranges = [&](const char* path) {
    const auto text = read_file(path, kSubidBytesMax);
    return text ? parse_subid(*text, name, uid) : std::vector<SubidRange>();
  };
  const auto uids = ranges("/etc/subuid"), gids = ranges("/etc/subgid");
  if (access(kUidHelper, X_OK) != 0 || access(kGidHelper, X_OK) != 0) {
    found.single_because = "newuidmap and newgidmap are missing; install the Debian package uidmap";
  } else if (name.empty()) {
    found.single_because = who + " has no entry in the user database, which newuidmap wants";
  } else if (uids.empty() || gids.empty()) {
    found.single_because = "no line for " + who + " in " + (uids.empty() ? "/etc/subuid" : "/etc/subgid") +
                           "; as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 " +
                           who;
  }
  const std::vector<SubidRange> none;
  const bool single = !found.single_because.empty();
  found.maps = plan_id_maps(uid, gid, single ? none : uids, single ? none : gids, keep_id);
  return found;
}

wire::UserNamespace to_wire(const IdMaps& maps) {
  wire::UserNamespace space;
  space.wanted = 1;
  space.by_helpers = maps.ranged ? 1 : 0;
  for (const wire::IdRange& range : maps.uids) {
    if (space.uid_count < wire::kIdRangesMax) space.uids[space.uid_count++] = range;
  }
  for (const wire::IdRange& range : maps.gids) {
    if (space.gid_count < wire::kIdRangesMax) space.gids[space.gid_count++] = range;
  }
  set_field(space.newuidmap, kUidHelper);
  set_field(space.newgidmap, kGidHelper);
  return space;
}

Result<void> try_rootless(const IdMaps& maps, const std::string& fallback_directory) {
  return run_role("probe", maps, -1, kProbeMs, fallback_directory);
}

UserNamespaceCause why_no_user_namespaces() {
  if (value_of("/proc/sys/kernel/unprivileged_userns_clone").starts_with("0"))
    return {"kernel.unprivileged_userns_clone is 0", "sysctl kernel.unprivileged_userns_clone=1"};
  if (value_of("/proc/sys/user/max_user_namespaces").starts_with("0"))
    return {"user.max_user_namespaces is 0", "sysctl user.max_user_namespaces=15000"};
  if (value_of("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").starts_with("1")) {
    return {
        "AppArmor restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile that allows userns"};
  }
  if (is_chrooted()) {
    return {"this process runs in a chroot, where the kernel refuses user namespaces",
            "run outside of the chroot"};
  }
  const auto status = read_file("/proc/self/status", 64 << 10);
  if (status && status->find("\nSeccomp:\t2") != std::string::npos) {
    return {"a seccomp filter (of an outer container) is loaded and may refuse them",
            "allow clone, unshare and setns with CLONE_NEWUSER in the outer container's seccomp profile"};
  }
  return {};
}

Result<void> reclaim_tree(const IdMaps& maps, const std::string& path,
                          const std::string& fallback_directory) {
  if (!maps.ranged) return {};
  auto folder = open_file(path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (!folder) return folder.error().is(Error::not_found) ? Result<void>() : Result<void>(folder.error());
  auto done = run_role("reclaim", maps, folder->get(), kReclaimMs, fallback_directory);
  if (!done) return done.error().with_context(path);
  return {};
}

}  // namespace orchestra::runtime
