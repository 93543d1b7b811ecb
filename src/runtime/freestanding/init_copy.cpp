// tmpcopyup: a tmpfs begins with a copy of what the image has at its target.
//
// The image is hostile: nothing here follows a symbolic link (O_NOFOLLOW, descriptor by descriptor), depth
// and number of entries are bounded, and only folders, regular files and links are copied; nodes and fifos
// are not.
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "init_steps.hpp"

namespace orch {

using namespace orchestra::wire;

namespace {
constexpr int kDepthMax = 32;
constexpr uint32_t kEntriesMax = 100000;
constexpr size_t kChunkBytes = 64 << 10;
uint32_t g_entries = 0;

struct DirectoryEntry {
  uint64_t inode;
  int64_t offset;
  unsigned short size;
  unsigned char type;
  char name[1];
};

void take_owner(int folder, const char* name, const struct stat& info) {
  // Ids that this user namespace does not know stay ours.
  sys(__NR_fchownat, folder, arg(name), info.st_uid, info.st_gid, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH);
}

void copy_file(int from, int to, const char* name, const struct stat& info, const char* what) {
  static char chunk[kChunkBytes];
  const long in = sys(__NR_openat, from, arg(name), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  check(in, Stage::mount, what);
  const long out =
      check(sys(__NR_openat, to, arg(name), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600),
            Stage::mount, what);
  while (true) {
    const long n = check(sys(__NR_read, in, arg(chunk), kChunkBytes), Stage::mount, what);
    if (n == 0) break;
    check(write_fd(static_cast<int>(out), chunk, static_cast<size_t>(n)), Stage::mount, what);
  }
  take_owner(static_cast<int>(out), "", info);
  sys(__NR_fchmod, out, info.st_mode & 07777);
  close_fd(static_cast<int>(in));
  close_fd(static_cast<int>(out));
}

void copy_link(int from, int to, const char* name, const struct stat& info, const char* what) {
  static char text[4096];
  const long n = check(sys(__NR_readlinkat, from, arg(name), arg(text), sizeof text - 1), Stage::mount, what);
  text[n] = 0;
  check(sys(__NR_symlinkat, arg(text), to, arg(name)), Stage::mount, what);
  take_owner(to, name, info);
}

void copy_folder(int from, int to, int depth, const char* what);

void copy_entry(int from, int to, const char* name, int depth, const char* what) {
  if (equal(name, ".") || equal(name, "..")) return;
  if (++g_entries > kEntriesMax) fail(Stage::mount, E2BIG, what);
  struct stat info;
  check(sys(__NR_newfstatat, from, arg(name), arg(&info), AT_SYMLINK_NOFOLLOW), Stage::mount, what);
  if (S_ISREG(info.st_mode)) return copy_file(from, to, name, info, what);
  if (S_ISLNK(info.st_mode)) return copy_link(from, to, name, info, what);
  if (!S_ISDIR(info.st_mode)) return;
  const long inner = check(sys(__NR_openat, from, arg(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
                           Stage::mount, what);
  check(sys(__NR_mkdirat, to, arg(name), 0700), Stage::mount, what);
  const long copy = check(sys(__NR_openat, to, arg(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
                          Stage::mount, what);
  copy_folder(static_cast<int>(inner), static_cast<int>(copy), depth + 1, what);
  take_owner(static_cast<int>(copy), "", info);
  sys(__NR_fchmod, copy, info.st_mode & 07777);
  close_fd(static_cast<int>(inner));
  close_fd(static_cast<int>(copy));
}

void copy_folder(int from, int to, int depth, const char* what) {
  if (depth > kDepthMax) fail(Stage::mount, ELOOP, what);
  alignas(8) char entries[2048];
  long n;
  while ((n = check(sys(__NR_getdents64, from, arg(entries), sizeof entries), Stage::mount, what)) > 0) {
    for (long at = 0; at < n;) {
      const auto* entry = reinterpret_cast<const DirectoryEntry*>(entries + at);
      at += entry->size;
      copy_entry(from, to, entry->name, depth, what);
    }
  }
}
}  // namespace

void copy_up(int from, int to, const char* what) {
  const long source = sys(__NR_openat, from, arg("."), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (source == -ENOTDIR) return;
  check(source, Stage::mount, what);
  const long target =
      check(sys(__NR_openat, to, arg("."), O_RDONLY | O_DIRECTORY | O_CLOEXEC), Stage::mount, what);
  g_entries = 0;
  copy_folder(static_cast<int>(source), static_cast<int>(target), 0, what);
  close_fd(static_cast<int>(source));
  close_fd(static_cast<int>(target));
}

}  // namespace orch
