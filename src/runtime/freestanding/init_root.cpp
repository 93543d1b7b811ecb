// The root file system of a container: mounts, devices, masks, pivot_root; and the plain root of level
// `process`.
//
// A root is hostile: it was shipped by an image, and another container may change it while we work. So
// no path below it is ever resolved by name twice or by the ordinary rules: each is opened once with
// openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS) as O_PATH descriptor, and mounts go from descriptor
// to descriptor (fsmount, open_tree, move_mount; Linux 5.12). CVE-2019-16884, CVE-2021-30465,
// CVE-2025-31133 and CVE-2025-52565 all were a second look at a name.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "init_steps.hpp"

namespace orch {

using namespace orchestra::wire;

long open_in(int root, const char* path, int flags, int mode) {
  open_how how;
  zero(&how, sizeof how);
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.mode = static_cast<uint64_t>(mode);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  long fd = -EAGAIN;
  for (int i = 0; i < 32 && (fd == -EAGAIN || fd == -EXDEV); ++i) {
    fd = sys(__NR_openat2, root, arg(path), arg(&how), sizeof how);
  }
  return fd;
}

long open_source(const Plan* plan, const MountStep& step) {
  const long source = open_at(AT_FDCWD, text_at(plan, step.source), O_PATH);
  if (source < 0 || step.below == 0) return source;
  const long below = open_in(static_cast<int>(source), text_at(plan, step.below), O_PATH);
  close_fd(static_cast<int>(source));
  return below;
}

namespace {

/// dev_t as the kernel takes and gives it (new_encode_dev).
unsigned long device_number(unsigned major_number, unsigned minor_number) {
  return (minor_number & 0xff) | (major_number << 8) |
         (static_cast<unsigned long>(minor_number & ~0xffu) << 12);
}

const Text* texts(const Plan* plan, Table table) { return table_at<Text>(plan, table); }

bool stat_fd(int fd, struct stat* out) {
  return sys(__NR_newfstatat, fd, arg(""), arg(out), AT_EMPTY_PATH) == 0;
}

/// Opens `path` below `root` as O_PATH; makes what is missing: folders, and a last file if not `folder`.
int open_or_make(int root, const char* path, bool folder, unsigned mode, Stage stage) {
  long found = open_in(root, path, O_PATH);
  if (found >= 0) return static_cast<int>(found);
  if (found != -ENOENT) check(found, stage, path);
  static char prefix[4096];
  const size_t size = length(path);
  if (size + 1 > sizeof prefix) fail(stage, ENAMETOOLONG, path);
  long parent = check(open_in(root, "/", O_PATH | O_DIRECTORY), stage, path);
  size_t at = 0;
  while (at < size) {
    while (at < size && path[at] == '/') ++at;
    size_t end = at;
    while (end < size && path[end] != '/') ++end;
    if (end == at) break;
    copy(prefix, path, end);
    prefix[end] = 0;
    const char* name = prefix + at;
    size_t rest = end;
    while (rest < size && path[rest] == '/') ++rest;
    const bool last = rest == size;
    long next = open_in(root, prefix, O_PATH);
    if (next == -ENOENT && (!last || folder)) {
      check(sys(__NR_mkdirat, parent, arg(name), last && mode != 0 ? mode : 0755), stage, path);
      next = sys(__NR_openat, parent, arg(name), O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
    } else if (next == -ENOENT) {
      const long file = check(
          sys(__NR_openat, parent, arg(name), O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644), stage, path);
      close_fd(static_cast<int>(file));
      next = sys(__NR_openat, parent, arg(name), O_PATH | O_NOFOLLOW | O_CLOEXEC);
    }
    check(next, stage, path);
    close_fd(static_cast<int>(parent));
    parent = next;
    at = end;
  }
  return static_cast<int>(parent);
}

long change_attributes(int mount_fd, bool recursive, uint64_t set, uint64_t clear, uint64_t propagation) {
  struct mount_attr attributes;
  zero(&attributes, sizeof attributes);
  attributes.attr_set = set;
  attributes.attr_clr = clear;
  attributes.propagation = propagation;
  if (set == 0 && clear == 0 && propagation == 0) return 0;
  const unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
  return sys(__NR_mount_setattr, mount_fd, arg(""), flags, arg(&attributes), sizeof attributes);
}

void set_attributes(int mount_fd, bool recursive, uint64_t set, uint64_t clear, uint64_t propagation,
                    Stage stage, const char* what) {
  check(change_attributes(mount_fd, recursive, set, clear, propagation), stage, what);
}

void attach(int mount_fd, int target_fd, Stage stage, const char* target) {
  check(sys(__NR_move_mount, mount_fd, arg(""), target_fd, arg(""),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH),
        stage, target);
}

void mount_filesystem(const Plan* plan, int root, const MountStep& step, uint32_t& mapped) {
  Line<512> why;
  const char* target = text_at(plan, step.target);
  const long mount_fd =
      step.mapping != IdMapping::none ? kept().trees[mapped++] : make_filesystem(plan, step, why);
  if (mount_fd < 0) {
    if (step.optional != 0) return;
    why.add(" on ").add(target);
    fail(Stage::mount, static_cast<int>(-mount_fd), why.text);
  }
  const int target_fd = open_or_make(root, target, true, step.mode, Stage::mount);
  set_attributes(static_cast<int>(mount_fd), false, 0, 0, step.propagation, Stage::mount, target);
  set_attributes(static_cast<int>(mount_fd), true, step.all_set, step.all_clear, 0, Stage::mount, target);
  if (step.copy_up != 0) copy_up(target_fd, static_cast<int>(mount_fd), target);
  attach(static_cast<int>(mount_fd), target_fd, Stage::mount, target);
  close_fd(static_cast<int>(mount_fd));
  close_fd(target_fd);
}

long clone_source(const Plan* plan, const MountStep& step, unsigned recursive) {
  const long found = open_source(plan, step);
  if (found < 0) return found;
  const long tree =
      sys(__NR_open_tree, found, arg(""), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | recursive);
  close_fd(static_cast<int>(found));
  return tree;
}

void mount_bind(const Plan* plan, int root, const MountStep& step, uint32_t& mapped) {
  const char* source = text_at(plan, step.source);
  const char* target = text_at(plan, step.target);
  Line<512> why;
  why.add("bind ").add(source).add(" on ").add(target);
  const unsigned recursive = step.recursive != 0 ? unsigned(AT_RECURSIVE) : 0u;
  const long mount_fd =
      step.mapping != IdMapping::none ? kept().trees[mapped++] : clone_source(plan, step, recursive);
  if (mount_fd < 0 && step.optional != 0) return;
  check(mount_fd, Stage::mount, why.text);
  struct stat info;
  if (!stat_fd(static_cast<int>(mount_fd), &info)) fail(Stage::mount, EIO, why.text);
  const int target_fd = open_or_make(root, target, S_ISDIR(info.st_mode), step.mode, Stage::mount);
  // ro and its like are of this mount alone (rro is of all); how it propagates is of all that is bound.
  set_attributes(static_cast<int>(mount_fd), step.recursive != 0, 0, 0,
                 step.propagation != 0 ? step.propagation : uint64_t{MS_PRIVATE}, Stage::mount, why.text);
  long changed = change_attributes(static_cast<int>(mount_fd), false, step.attr_set, step.attr_clear, 0);
  if (changed == -EPERM) {
    // In a user namespace the flags of the machine's mounts are locked: what may not be cleared stays.
    changed = change_attributes(static_cast<int>(mount_fd), false,
                                step.attr_set & ~uint64_t{MOUNT_ATTR__ATIME}, 0, 0);
  }
  check(changed, Stage::mount, why.text);
  set_attributes(static_cast<int>(mount_fd), true, step.all_set, step.all_clear, 0, Stage::mount, why.text);
  attach(static_cast<int>(mount_fd), target_fd, Stage::mount, why.text);
  close_fd(static_cast<int>(mount_fd));
  close_fd(target_fd);
}

/// Without CAP_MKNOD (a user namespace never has it) the machine's own node is bound, once its kind and
/// number are verified. `path` is that node's path on the machine.
void bind_node(int folder, const char* name, const char* path, unsigned mode, unsigned long number) {
  const long node = check(open_at(AT_FDCWD, path, O_PATH | O_NOFOLLOW), Stage::device, path);
  struct stat info;
  if (!stat_fd(static_cast<int>(node), &info) || (info.st_mode & S_IFMT) != (mode & S_IFMT) ||
      info.st_rdev != number) {
    fail(Stage::device, ENODEV, path);
  }
  const long file =
      check(sys(__NR_openat, folder, arg(name), O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600),
            Stage::device, path);
  close_fd(static_cast<int>(file));
  const long target =
      check(sys(__NR_openat, folder, arg(name), O_PATH | O_NOFOLLOW | O_CLOEXEC), Stage::device, path);
  const long tree =
      check(sys(__NR_open_tree, node, arg(""), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH),
            Stage::device, path);
  attach(static_cast<int>(tree), static_cast<int>(target), Stage::device, path);
  close_fd(static_cast<int>(tree));
  close_fd(static_cast<int>(target));
  close_fd(static_cast<int>(node));
}

void make_node(int folder, const char* name, unsigned mode, unsigned major_number, unsigned minor_number) {
  const unsigned long number = device_number(major_number, minor_number);
  const long result = sys(__NR_mknodat, folder, arg(name), mode, static_cast<long>(number));
  if (result == -EPERM) {
    Line<64> path;
    path.add("/dev/").add(name);
    bind_node(folder, name, path.text, mode, number);
  } else if (result != -EEXIST) {
    check(result, Stage::device, name);
  }
}

void make_default_devices(int folder) {
  struct Node {
    const char* name;
    unsigned major_number, minor_number;
  };
  constexpr Node nodes[] = {{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
                            {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
  for (const Node& node : nodes)
    make_node(folder, node.name, S_IFCHR | 0666, node.major_number, node.minor_number);
  constexpr const char* links[][2] = {{"/proc/self/fd", "fd"},       {"/proc/self/fd/0", "stdin"},
                                      {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
                                      {"pts/ptmx", "ptmx"},          {"/proc/kcore", "core"}};
  for (const auto& link : links) {
    const long result = sys(__NR_symlinkat, arg(link[0]), folder, arg(link[1]));
    if (result != -EEXIST) check(result, Stage::device, link[1]);
  }
}

void make_device(const Plan* plan, int root, const DeviceStep& step) {
  const char* path = text_at(plan, step.path);
  static char parent[4096];
  size_t slash = 0;
  const size_t size = length(path);
  if (size + 1 > sizeof parent) fail(Stage::device, ENAMETOOLONG, path);
  for (size_t i = 0; i < size; ++i) {
    if (path[i] == '/') slash = i;
  }
  copy(parent, path, slash);
  parent[slash] = 0;
  const int folder = open_or_make(root, slash == 0 ? "/" : parent, true, 0755, Stage::device);
  const char* name = path + slash + 1;
  const long made = sys(__NR_mknodat, folder, arg(name), step.mode,
                        static_cast<long>(device_number(step.major, step.minor)));
  if (made == -EEXIST) {
    struct stat info;
    check(sys(__NR_newfstatat, folder, arg(name), arg(&info), AT_SYMLINK_NOFOLLOW), Stage::device, path);
    const bool same = (info.st_mode & S_IFMT) == (step.mode & S_IFMT) &&
                      info.st_rdev == device_number(step.major, step.minor);
    if (!same) fail(Stage::device, EEXIST, path);
  } else if (made == -EPERM && !S_ISFIFO(step.mode)) {
    bind_node(folder, name, path, step.mode, device_number(step.major, step.minor));
  } else {
    check(made, Stage::device, path);
    check(sys(__NR_fchownat, folder, arg(name), step.uid, step.gid, AT_SYMLINK_NOFOLLOW), Stage::device,
          path);
  }
  close_fd(folder);
}

void do_mounts(const Plan* plan, int root) {
  uint32_t mapped = 0;
  for (uint32_t i = 0; i < plan->mounts.count; ++i) {
    const MountStep& step = table_at<MountStep>(plan, plan->mounts)[i];
    if (step.kind == MountKind::bind) mount_bind(plan, root, step, mapped);
    if (step.kind == MountKind::filesystem) mount_filesystem(plan, root, step, mapped);
    if (step.kind == MountKind::devices) {
      const int folder = open_or_make(root, text_at(plan, step.target), true, 0755, Stage::device);
      const long usable =
          check(open_in(root, text_at(plan, step.target), O_RDONLY | O_DIRECTORY), Stage::device, "/dev");
      close_fd(folder);
      make_default_devices(static_cast<int>(usable));
      close_fd(static_cast<int>(usable));
    }
  }
  for (uint32_t i = 0; i < plan->devices.count; ++i)
    make_device(plan, root, table_at<DeviceStep>(plan, plan->devices)[i]);
}

/// A file is covered by the host's null device (verified by number), a folder by one empty folder.
void mask_paths(const Plan* plan, int root) {
  long empty = -1;
  for (uint32_t i = 0; i < plan->masked.count; ++i) {
    const char* path = text_at(plan, texts(plan, plan->masked)[i]);
    const long target = open_in(root, path, O_PATH);
    if (target < 0) continue;  // missing paths are skipped (runtime-spec, maskedPaths)
    struct stat info;
    if (!stat_fd(static_cast<int>(target), &info)) fail(Stage::mask, EIO, path);
    long cover;
    if (S_ISDIR(info.st_mode) && empty < 0) {
      const long context = check(sys(__NR_fsopen, arg("tmpfs"), FSOPEN_CLOEXEC), Stage::mask, path);
      sys(__NR_fsconfig, context, FSCONFIG_SET_STRING, arg("size"), arg("4k"), 0);
      check(sys(__NR_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0), Stage::mask, path);
      cover = sys(__NR_fsmount, context, FSMOUNT_CLOEXEC,
                  MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
      close_fd(static_cast<int>(context));
      empty = cover;  // once attached it is the source of the next ones
    } else if (S_ISDIR(info.st_mode)) {
      cover = sys(__NR_open_tree, empty, arg(""), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    } else {
      const long null = check(open_at(AT_FDCWD, "/dev/null", O_PATH), Stage::mask, "/dev/null");
      struct stat device;
      if (!stat_fd(static_cast<int>(null), &device) || !S_ISCHR(device.st_mode) ||
          device.st_rdev != device_number(1, 3)) {
        fail(Stage::mask, ENODEV, "/dev/null of the host is not the null device");
      }
      cover = sys(__NR_open_tree, null, arg(""), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
      close_fd(static_cast<int>(null));
    }
    check(cover, Stage::mask, path);
    attach(static_cast<int>(cover), static_cast<int>(target), Stage::mask, path);
    if (cover != empty) close_fd(static_cast<int>(cover));
    close_fd(static_cast<int>(target));
  }
  close_fd(static_cast<int>(empty));
}

void make_read_only(const Plan* plan, int root) {
  for (uint32_t i = 0; i < plan->read_only.count; ++i) {
    const char* path = text_at(plan, texts(plan, plan->read_only)[i]);
    const long target = open_in(root, path, O_PATH);
    if (target < 0) continue;
    const long tree = check(sys(__NR_open_tree, target, arg(""),
                                OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE),
                            Stage::read_only, path);
    set_attributes(static_cast<int>(tree), true, MOUNT_ATTR_RDONLY, 0, 0, Stage::read_only, path);
    attach(static_cast<int>(tree), static_cast<int>(target), Stage::read_only, path);
    close_fd(static_cast<int>(tree));
    close_fd(static_cast<int>(target));
  }
}

/// Mounts what becomes the root; answers where.
/// pivot_root refuses a root whose parent is shared, and what is mounted below a shared mount would be seen
/// by others. The mount that holds `path` is found by trying: only mount points take a propagation.
void make_parent_private(const char* path) {
  static Line<kPathBytes> above;
  above = {};
  above.add(path);
  while (sys(__NR_mount, 0, arg(above.text), 0, MS_PRIVATE, 0) < 0 && above.used > 1) {
    while (above.used > 1 && above.text[above.used - 1] != '/') --above.used;
    if (above.used > 1) --above.used;
    above.text[above.used] = 0;
  }
}

const char* mount_root(const Plan* plan) {
  if ((plan->root_propagation & MS_SHARED) != 0)
    make_parent_private(text_at(plan, plan->overlay_lower == 0 ? plan->root : plan->overlay_target));
  if (plan->overlay_lower == 0) {
    const char* root = text_at(plan, plan->root);
    check(sys(__NR_mount, arg(root), arg(root), 0, MS_BIND | MS_REC, 0), Stage::root, root);
    return root;
  }
  const char* target = text_at(plan, plan->overlay_target);
  static Line<4096> options;  // the kernel takes one page; the library refuses plans with longer ones
  options.add("lowerdir=").add(text_at(plan, plan->overlay_lower));
  if (plan->overlay_upper != 0) {
    options.add(",upperdir=")
        .add(text_at(plan, plan->overlay_upper))
        .add(",workdir=")
        .add(text_at(plan, plan->overlay_work));
  }
  options.add(text_at(plan, plan->overlay_extra));
  check(sys(__NR_chdir, arg(text_at(plan, plan->overlay_directory))), Stage::root,
        text_at(plan, plan->overlay_directory));
  check(sys(__NR_mount, arg("overlay"), arg(target), arg("overlay"), 0, arg(options.text)), Stage::root,
        options.text);
  return target;
}

void change_root(const Plan* plan, int root) {
  check(sys(__NR_fchdir, root), Stage::pivot, "fchdir");
  if ((plan->flags & kNoPivot) != 0) {
    check(sys(__NR_mount, arg("."), arg("/"), 0, MS_MOVE, 0), Stage::pivot, "move mount to /");
    check(sys(__NR_chroot, arg(".")), Stage::pivot, "chroot");
  } else {
    check(sys(__NR_pivot_root, arg("."), arg(".")), Stage::pivot, "pivot_root(., .)");
    check(sys(__NR_umount2, arg("."), MNT_DETACH), Stage::pivot, "detach the old root");
  }
  check(sys(__NR_chdir, arg("/")), Stage::pivot, "chdir /");
}

void make_cwd(const Plan* plan, int root) {
  if ((plan->flags & kMakeCwd) == 0 || plan->cwd == 0) return;
  const long found = open_in(root, text_at(plan, plan->cwd), O_PATH);
  // On a read-only root it cannot be made; chdir then names the path.
  close_fd(found >= 0 ? static_cast<int>(found)
                      : open_or_make(root, text_at(plan, plan->cwd), true, 0755, Stage::cwd));
}

/// What the parent mounted covers the machine's root; from here on it is known by its descriptor alone.
int take_root_of_parent() {
  const int root = kept().root;
  check(sys(__NR_move_mount, root, arg(""), AT_FDCWD, arg("/"), MOVE_MOUNT_F_EMPTY_PATH), Stage::root, "/");
  return root;
}

int open_root(const Plan* plan) {
  if ((plan->flags & kRootByParent) != 0) return take_root_of_parent();
  const char* path = mount_root(plan);
  return static_cast<int>(check(open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY), Stage::root, path));
}
}  // namespace

long make_filesystem(const Plan* plan, const MountStep& step, Line<512>& why) {
  const char* type = text_at(plan, step.type);
  const long context = sys(__NR_fsopen, arg(type), FSOPEN_CLOEXEC);
  why.add("fsopen ").add(type);
  if (context < 0) return context;
  const char* source = step.source != 0 ? text_at(plan, step.source) : type;
  sys(__NR_fsconfig, context, FSCONFIG_SET_STRING, arg("source"), arg(source), 0);
  for (uint32_t i = 0; i < step.options.count; i += 2) {
    const Text value = texts(plan, step.options)[i + 1];
    const char* key = text_at(plan, texts(plan, step.options)[i]);
    const long result =
        value == 0 ? sys(__NR_fsconfig, context, FSCONFIG_SET_FLAG, arg(key), 0, 0)
                   : sys(__NR_fsconfig, context, FSCONFIG_SET_STRING, arg(key), arg(text_at(plan, value)), 0);
    if (result < 0) {
      why.add(", option ").add(key).add("=").add(text_at(plan, value));
      return result;
    }
  }
  long result = sys(__NR_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0);
  if (result >= 0) result = sys(__NR_fsmount, context, FSMOUNT_CLOEXEC, static_cast<long>(step.attr_set));
  close_fd(static_cast<int>(context));
  return result;
}

void make_own_root(const Plan* plan) {
  // What is unbindable cannot be bound to become the root: that comes at the end.
  const uint64_t early = plan->root_propagation & (MS_SHARED | MS_PRIVATE);
  const uint64_t propagation = (early != 0 ? early : static_cast<uint64_t>(MS_SLAVE)) | MS_REC;
  check(sys(__NR_mount, 0, arg("/"), 0, static_cast<long>(propagation), 0), Stage::propagation, "/");
  const int root = open_root(plan);
  sys(__NR_umask, 0);
  do_mounts(plan, root);
  if ((plan->flags & kTerminal) != 0) open_terminal(plan, root);
  make_cwd(plan, root);
  pause_for_hooks(plan);
  run_hooks(plan, plan->hooks_create_container);
  mask_paths(plan, root);
  make_read_only(plan, root);
  if ((plan->flags & kReadOnlyRoot) != 0)
    set_attributes(root, false, MOUNT_ATTR_RDONLY, 0, 0, Stage::read_only, "/");
  sys(__NR_umask, plan->umask);
  change_root(plan, root);
  close_fd(root);
  if (plan->root_propagation != 0) {
    // The bind above is a copy of what lay there before: what the specification asks for is the root's own.
    check(sys(__NR_mount, 0, arg("/"), 0, static_cast<long>(plan->root_propagation), 0), Stage::propagation,
          "/");
  }
}

void enter_plain_root(const Plan* plan) {
  const char* path = text_at(plan, plan->root);
  const int root = static_cast<int>(check(open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY), Stage::root, path));
  if ((plan->flags & kBareDevices) != 0) {
    // The image's /dev is used as it is; what cannot be made is missing, and was reported beforehand.
    sys(__NR_umask, 0);
    close_fd(open_or_make(root, "/dev", true, 0755, Stage::device));
    const long usable = check(open_in(root, "/dev", O_RDONLY | O_DIRECTORY), Stage::device, "/dev");
    constexpr struct {
      const char* name;
      unsigned minor_number;
    } nodes[] = {{"null", 3}, {"zero", 5}, {"full", 7}, {"random", 8}, {"urandom", 9}};
    for (const auto& node : nodes)
      sys(__NR_mknodat, usable, arg(node.name), S_IFCHR | 0666,
          static_cast<long>(device_number(1, node.minor_number)));
    sys(__NR_mknodat, usable, arg("tty"), S_IFCHR | 0666, static_cast<long>(device_number(5, 0)));
    close_fd(static_cast<int>(usable));
    sys(__NR_umask, plan->umask);
  }
  if ((plan->flags & kTerminal) != 0) open_terminal(plan, -1);
  make_cwd(plan, root);
  pause_for_hooks(plan);
  run_hooks(plan, plan->hooks_create_container);
  check(sys(__NR_fchdir, root), Stage::root, path);
  close_fd(root);
  check(sys(__NR_chroot, arg(".")), Stage::root, "chroot");
  check(sys(__NR_chdir, arg("/")), Stage::root, "chdir /");
}

}  // namespace orch
