// How the process of a container is born: by its parent (the shim, or the role `oci`), which is outside.
//
// Some of what a container needs only its parent may do: write the maps of a new user namespace, open
// control groups and the start fifo for a child that will not be root of the machine any more, map the ids of
// a mount or of the whole root, give a time namespace its offsets before anybody lives in it. It is all done
// here, before the clone or while the child waits for one byte; what the child gets as descriptors lies in
// `Kept`.
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "init_steps.hpp"
#include "roles.hpp"

namespace orch {

using namespace orchestra::wire;

namespace {
constexpr unsigned kWaitAll = 0x40000000;  // __WALL: also children without an exit signal
constexpr size_t kMapBytesMax = 16 << 10;  // 340 lines
constexpr char kCannotMap[] = " (its file system cannot map ids on this kernel)";
alignas(Kept) char g_kept_bytes[sizeof(Kept)];

/// "inside outside count" lines.
const char* map_text(const Plan* plan, Table maps, size_t& size) {
  static Line<kMapBytesMax> text;
  text.used = 0;
  for (uint32_t i = 0; i < maps.count; ++i) {
    const IdMapStep& step = table_at<IdMapStep>(plan, maps)[i];
    text.add(static_cast<long>(step.inside)).add(" ").add(static_cast<long>(step.outside)).add(" ");
    text.add(static_cast<long>(step.count)).add("\n");
  }
  size = text.used;
  return text.text;
}

long write_map(long pid, const char* file, const char* text) {
  Line<64> path;
  path.add("/proc/").add(pid).add("/").add(file);
  return write_text(path.text, text);
}

/// Both maps of the user namespace of `pid`.
long write_maps(const Plan* plan, long pid, Table uids, Table gids) {
  size_t size = 0;
  // Without rights of our own the kernel takes one's own group only once setgroups is given up.
  if (sys(__NR_geteuid) != 0) write_map(pid, "setgroups", "deny");
  const long result = write_map(pid, "gid_map", map_text(plan, gids, size));
  return result < 0 ? result : write_map(pid, "uid_map", map_text(plan, uids, size));
}

void reap_child(long pid) {
  int status;
  while (sys(__NR_wait4, pid, arg(&status), kWaitAll, 0) == -EINTR) {
  }
}

/// A user namespace with these maps, as a descriptor; nobody lives in it.
long make_id_space(const Plan* plan, Table uids, Table gids) {
  int pidfd = -1;
  const long pid = clone_process(CLONE_NEWUSER, 0, &pidfd);
  if (pid == 0) {
    sys(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
    while (true) sys(__NR_pause);
  }
  if (pid < 0) return pid;
  long result = write_maps(plan, pid, uids, gids);
  if (result >= 0) {
    Line<64> path;
    path.add("/proc/").add(pid).add("/ns/user");
    result = open_at(AT_FDCWD, path.text, O_RDONLY);
  }
  sys(__NR_pidfd_send_signal, pidfd, SIGKILL, 0, 0);
  close_fd(pidfd);
  reap_child(pid);
  return result;
}

/// The ids of the container as a descriptor, made when something is mapped by them for the first time.
long container_ids(const Plan* plan, int& space) {
  if (space < 0) space = static_cast<int>(make_id_space(plan, plan->uid_maps, plan->gid_maps));
  return space;
}

/// A detached copy of `path` below `folder` (empty: of that itself) whose files have the owners that `space`
/// gives them.
long copy_mapped(int folder, const char* path, bool recursive, long space, bool map_recursive) {
  const unsigned below = (recursive ? unsigned(AT_RECURSIVE) : 0u) | (*path == 0 ? AT_EMPTY_PATH : 0u);
  const long tree = sys(__NR_open_tree, folder, arg(path), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | below);
  if (tree < 0) return tree;
  struct mount_attr attributes;
  zero(&attributes, sizeof attributes);
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<uint64_t>(space);
  const unsigned flags = AT_EMPTY_PATH | (map_recursive ? unsigned(AT_RECURSIVE) : 0u);
  const long result = sys(__NR_mount_setattr, tree, arg(""), flags, arg(&attributes), sizeof attributes);
  if (result >= 0) return tree;
  close_fd(static_cast<int>(tree));
  return result;
}

/// The source of a bind, detached, with other owners.
long make_mapped_tree(const Plan* plan, const MountStep& step, int& ids) {
  const bool own = step.mapping == IdMapping::own;
  const long space = own ? make_id_space(plan, step.uids, step.gids) : container_ids(plan, ids);
  if (space < 0) return space;
  const long source = open_source(plan, step);
  const long tree = source < 0 ? source
                               : copy_mapped(static_cast<int>(source), "", step.recursive != 0, space,
                                             step.mapping_recursive != 0);
  close_fd(static_cast<int>(source));
  if (own) close_fd(static_cast<int>(space));
  return tree;
}

struct MadeRoot {
  long tree = -EIO;
  Line<512> why;
};

/// Mounts the overlay on mapped copies of its lower folders, in a mount namespace of this process's own: the
/// kernel takes lower folders by path only, and below no mount that is attached nowhere (before Linux 6.15).
/// The upper folder is not mapped: what is written there belongs to the pod's ids on the disk, too.
void mount_mapped_overlay(const Plan* plan, int space, MadeRoot& made) {
  static Line<4096> options;
  static char lower[4096];
  const char* target = text_at(plan, plan->overlay_target);
  long layers = -1, folder = -1;
  const auto stop = [&](long result, const char* what) {  // the descriptors would stay with the parent
    close_fd(static_cast<int>(layers));
    close_fd(static_cast<int>(folder));
    made.tree = result;
    made.why.add(what);
  };
  long result = sys(__NR_unshare, CLONE_NEWNS);
  if (result >= 0) result = sys(__NR_mount, 0, arg("/"), 0, MS_REC | MS_PRIVATE, 0);
  if (result < 0) return stop(result, "mount namespace");
  result = sys(__NR_mount, arg("tmpfs"), arg(target), arg("tmpfs"), MS_NOSUID | MS_NODEV, arg("mode=700"));
  if (result < 0) return stop(result, target);
  layers = open_at(AT_FDCWD, text_at(plan, plan->overlay_directory), O_PATH | O_DIRECTORY);
  folder = open_at(AT_FDCWD, target, O_PATH | O_DIRECTORY);
  if (layers < 0) return stop(layers, text_at(plan, plan->overlay_directory));
  if (folder < 0) return stop(folder, target);
  const char* from = text_at(plan, plan->overlay_lower);
  options.add("lowerdir=");
  for (long number = 0; *from != 0; ++number) {
    size_t size = 0;
    while (from[size] != 0 && from[size] != ':') ++size;
    if (size + 1 > sizeof lower) return stop(-ENAMETOOLONG, "layers");
    copy(lower, from, size);
    lower[size] = 0;
    from += size + (from[size] == ':' ? 1 : 0);
    Line<16> name;
    name.add(number);
    result = sys(__NR_mkdirat, folder, arg(name.text), 0700);
    const long tree = result < 0 ? result : copy_mapped(static_cast<int>(layers), lower, false, space, false);
    if (tree < 0) return stop(tree, lower);
    result = sys(__NR_move_mount, tree, arg(""), folder, arg(name.text), MOVE_MOUNT_F_EMPTY_PATH);
    close_fd(static_cast<int>(tree));
    if (result < 0) return stop(result, lower);
    options.add(number == 0 ? "" : ":").add(name.text);
  }
  if (plan->overlay_upper != 0) {
    options.add(",upperdir=").add(text_at(plan, plan->overlay_upper));
    options.add(",workdir=").add(text_at(plan, plan->overlay_work));
  }
  options.add(text_at(plan, plan->overlay_extra));
  result = sys(__NR_fchdir, folder);
  if (result >= 0)
    result = sys(__NR_mount, arg("overlay"), arg(target), arg("overlay"), 0, arg(options.text));
  if (result >= 0) result = sys(__NR_open_tree, AT_FDCWD, arg(target), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  stop(result, result < 0 ? options.text : "");
}

/// The root of the container, attached nowhere.
long make_mapped_root(const Plan* plan, int& ids, Line<512>& why) {
  why.add("id-mapped root ");
  const long space = container_ids(plan, ids);
  if (space < 0) return space;
  if (plan->overlay_lower == 0) {
    why.add(text_at(plan, plan->root));
    return copy_mapped(AT_FDCWD, text_at(plan, plan->root), true, space, false);
  }
  int ends[2], pidfd = -1;
  const long piped = sys(__NR_pipe2, arg(ends), O_CLOEXEC);
  if (piped < 0) return piped;
  MadeRoot made;
  const long helper = clone_process(CLONE_FILES, SIGCHLD, &pidfd);  // its descriptors are ours
  if (helper == 0) {
    mount_mapped_overlay(plan, static_cast<int>(space), made);
    write_fd(ends[1], &made, sizeof made);
    exit_now(0);
  }
  if (helper > 0) {
    reap_child(helper);
    sys(__NR_read, ends[0], arg(&made), sizeof made);
  } else {
    made.tree = helper;
  }
  close_fd(pidfd);
  close_fd(ends[0]);
  close_fd(ends[1]);
  why.add(made.why.text);
  return made.tree;
}

long refuse(Refusal& why, Stage stage, long error, const char* text) {
  why.stage = stage;
  why.text.used = 0;
  why.text.add(text);
  return error;
}

long open_trees(const Plan* plan, int& ids, Refusal& why) {
  Kept& all = kept();
  for (uint32_t i = 0; i < plan->mounts.count; ++i) {
    const MountStep& step = table_at<MountStep>(plan, plan->mounts)[i];
    if (step.mapping == IdMapping::none) continue;
    if (all.tree_count == kIdMappedMountsMax) return refuse(why, Stage::mount, -EMFILE, "id-mapped mounts");
    Line<512> text;
    const bool bind = step.kind == MountKind::bind;
    if (bind) text.add("id-mapped bind ").add(text_at(plan, step.source));
    const long tree = bind ? make_mapped_tree(plan, step, ids) : make_filesystem(plan, step, text);
    if (tree < 0 && step.optional == 0) {
      text.add(" on ").add(text_at(plan, step.target));
      if (bind && tree == -EINVAL) text.add(kCannotMap);
      return refuse(why, Stage::mount, tree, text.text);
    }
    all.trees[all.tree_count++] = tree < 0 ? -1 : static_cast<int>(tree);
  }
  if ((plan->flags & kRootByParent) == 0) return 0;
  Line<512> text;
  const long root = make_mapped_root(plan, ids, text);
  if (root == -EINVAL) text.add(kCannotMap);
  if (root < 0) return refuse(why, Stage::root, root, text.text);
  all.root = static_cast<int>(root);
  all.root_count = 1;
  return 0;
}

long open_kept(const Plan* plan, Refusal& why) {
  Kept& all = kept();
  all.start = -1;
  all.cgroup_count = all.tree_count = all.root_count = 0;
  if ((plan->flags & kStartByFifo) != 0) {
    const char* path = text_at(plan, plan->start_fifo);
    const long fd = open_at(AT_FDCWD, path, O_RDWR);
    if (fd < 0) return refuse(why, Stage::start, fd, path);
    all.start = static_cast<int>(fd);
  }
  for (uint32_t i = 0; plan->uid_maps.count != 0 && i < plan->cgroup_files.count; ++i) {
    const char* path = text_at(plan, table_at<Text>(plan, plan->cgroup_files)[i]);
    const long fd = open_at(AT_FDCWD, path, O_WRONLY);
    if (fd < 0) return refuse(why, Stage::cgroup, fd, path);
    all.cgroups[all.cgroup_count++] = static_cast<int>(fd);
  }
  int ids = -1;
  const long trees = open_trees(plan, ids, why);
  close_fd(ids);
  return trees;
}

void close_kept() {
  Kept& all = kept();
  close_fd(all.start);
  for (uint32_t i = 0; i < all.cgroup_count; ++i) close_fd(all.cgroups[i]);
  for (uint32_t i = 0; i < all.tree_count; ++i) close_fd(all.trees[i]);
  if (all.root_count != 0) close_fd(all.root);
  all.start = -1;
  all.cgroup_count = all.tree_count = all.root_count = 0;
}

/// Children are born in a new time namespace; its offsets can be set only until the first one is.
long make_time_namespace(const Plan* plan, Refusal& why) {
  long result = sys(__NR_unshare, kNewTime);
  if (result < 0) return refuse(why, Stage::unshare, result, "time");
  if (plan->time_offsets == 0) return 0;
  const char* offsets = text_at(plan, plan->time_offsets);
  result = write_text("/proc/self/timens_offsets", offsets);
  return result < 0 ? refuse(why, Stage::unshare, result, offsets) : 0;
}

/// In the child: waits until it has ids, and becomes id 0 of its namespace where there is one.
void become_mapped(int ready) {
  char byte;
  long n;
  do {
    n = sys(__NR_read, ready, arg(&byte), 1);
  } while (n == -EINTR);
  if (n != 1) exit_now(128);
  sys(__NR_setresgid, 0, 0, 0);
  sys(__NR_setresuid, 0, 0, 0);
  sys(__NR_prctl, PR_SET_DUMPABLE, 1);  // else /proc/self belongs to nobody
}

/// In the parent: the maps, and what the child may not do any more. Lets it go on.
long give_ids(const Plan* plan, long pid, int ready, Refusal& why) {
  const long mapped = write_maps(plan, pid, plan->uid_maps, plan->gid_maps);
  if (mapped < 0) return refuse(why, Stage::ids, mapped, "uid_map and gid_map");
  Line<16> score;
  score.add(static_cast<long>(plan->oom_score_adj));
  write_map(pid, "oom_score_adj", score.text);  // refused: as in init, the library has told it
  const char go = 1;
  return write_fd(ready, &go, 1);
}
}  // namespace

Kept& kept() { return *reinterpret_cast<Kept*>(g_kept_bytes); }

long clone_process(uint64_t flags, int exit_signal, int* pidfd, int cgroup) {
  clone_args args;
  zero(&args, sizeof args);
  int fd = -1;
  args.flags = flags | CLONE_PIDFD;
  if (cgroup >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(cgroup);
  }
  args.pidfd = reinterpret_cast<uint64_t>(&fd);
  args.exit_signal = static_cast<uint64_t>(exit_signal);
  const long pid = sys(__NR_clone3, arg(&args), sizeof args);
  if (pid > 0) *pidfd = fd;
  return pid;
}

long clone_into(const char* cgroup, uint64_t flags, int exit_signal, int* pidfd, bool& inside) {
  inside = false;
  if (*cgroup == 0) return clone_process(flags, exit_signal, pidfd);
  const long folder = open_at(AT_FDCWD, cgroup, O_PATH | O_DIRECTORY);
  inside = folder >= 0;  // set before, as the child sees the memory of this moment
  long pid = folder < 0 ? folder : clone_process(flags, exit_signal, pidfd, static_cast<int>(folder));
  close_fd(static_cast<int>(folder));
  // Kernels before 5.7, threaded groups, delegated trees: the child writes itself in.
  if (pid == -EBUSY || pid == -EOPNOTSUPP || pid == -EACCES || pid == -EINVAL || pid == -ENOENT) {
    inside = false;
    pid = clone_process(flags, exit_signal, pidfd);
  }
  return pid;
}

long clone_container(const Plan* plan, uint64_t flags, int* pidfd, bool& in_cgroup, Refusal& why) {
  long pid = open_kept(plan, why);
  int ready[2] = {-1, -1}, time_before = -1;
  const bool mapped = plan->uid_maps.count != 0;
  if (pid >= 0 && mapped) pid = sys(__NR_pipe2, arg(ready), O_CLOEXEC);
  if (pid >= 0 && (plan->flags & kTimeNamespace) != 0) {
    time_before = static_cast<int>(open_at(AT_FDCWD, "/proc/self/ns/time", O_RDONLY));
    pid = make_time_namespace(plan, why);
  }
  if (pid >= 0) {
    pid = clone_into(text_at(plan, plan->cgroup_unified), flags, SIGCHLD, pidfd, in_cgroup);
    if (pid < 0) refuse(why, Stage::clone, pid, "clone3");
  }
  if (pid == 0) {
    if (mapped) {
      close_fd(ready[1]);
      become_mapped(ready[0]);
    }
    return 0;
  }
  if (time_before >= 0) {
    sys(__NR_setns, time_before, kNewTime);
    close_fd(time_before);
  }
  if (pid > 0 && mapped) {
    const long given = give_ids(plan, pid, ready[1], why);
    if (given < 0) {
      sys(__NR_pidfd_send_signal, *pidfd, SIGKILL, 0, 0);
      reap_child(pid);
      close_fd(*pidfd);
      *pidfd = -1;
      pid = given;
    }
  }
  close_fd(ready[0]);
  close_fd(ready[1]);
  close_kept();
  return pid;
}

}  // namespace orch
