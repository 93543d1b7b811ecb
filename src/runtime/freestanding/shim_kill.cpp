// Finding and killing what belongs to a container that has no pid namespace of its own.
//
// With cgroups the list is cgroup.procs. At level process it is: descendants of this shim (it is the
// subreaper, so none escapes) whose root directory is the container's. Both race with fork, so callers
// repeat until nothing is found.
#include <fcntl.h>
#include <signal.h>

#include "shim.hpp"

namespace orch {

using namespace orchestra::wire;

namespace {
constexpr size_t kProcessesMax = 8192;  ///< seen in one pass; the next pass sees the rest
struct DirectoryEntry {
  uint64_t inode;
  int64_t offset;
  unsigned short size;
  unsigned char type;
  char name[1];
};
int g_found[kProcessesMax];

bool root_is(long pid, const char* root) {
  Line<64> path;
  path.add("/proc/").add(pid).add("/root");
  static char target[4096];
  const long n = sys(__NR_readlinkat, AT_FDCWD, arg(path.text), arg(target), sizeof target - 1);
  if (n < 0) return false;
  target[n] = 0;
  return equal(target, root);
}

/// Appends the pids in a `children` or `cgroup.procs` text to g_found.
size_t append_pids(const char* text, size_t count) {
  while (*text != 0 && count < kProcessesMax) {
    int pid = 0;
    while (*text >= '0' && *text <= '9') pid = pid * 10 + (*text++ - '0');
    if (pid > 0) g_found[count++] = pid;
    while (*text != 0 && (*text < '0' || *text > '9')) ++text;
  }
  return count;
}

size_t append_children(long pid, size_t count) {
  Line<64> folder;
  folder.add("/proc/").add(pid).add("/task");
  const long tasks = open_at(AT_FDCWD, folder.text, O_RDONLY | O_DIRECTORY);
  if (tasks < 0) return count;
  alignas(8) static char entries[16384];
  static char text[65536];
  long n;
  while ((n = sys(__NR_getdents64, tasks, arg(entries), sizeof entries)) > 0) {
    for (long at = 0; at < n;) {
      const auto* entry = reinterpret_cast<const DirectoryEntry*>(entries + at);
      at += entry->size;
      if (entry->name[0] == '.') continue;
      Line<64> file;
      file.add(entry->name).add("/children");
      if (read_text(static_cast<int>(tasks), file.text, text, sizeof text) > 0)
        count = append_pids(text, count);
    }
  }
  close_fd(static_cast<int>(tasks));
  return count;
}
}  // namespace

int kill_descendants(const char* root) {
  size_t count = append_children(sys(__NR_getpid), 0);
  int killed = 0;
  for (size_t i = 0; i < count; ++i) {
    count = append_children(g_found[i], count);
    if (root != nullptr && !root_is(g_found[i], root)) continue;
    if (root == nullptr && g_found[i] == shim().identity.pause_pid) continue;
    if (sys(__NR_kill, g_found[i], SIGKILL) == 0) ++killed;
  }
  return killed;
}

int kill_cgroup(const char* procs_file) {
  static char text[65536];
  if (read_text(AT_FDCWD, procs_file, text, sizeof text) <= 0) return 0;
  const size_t count = append_pids(text, 0);
  // v2 since 5.14 kills the whole group at once, so that no fork escapes: DIR/cgroup.procs ->
  // DIR/cgroup.kill.
  Line<kPathBytes + 16> at_once;
  at_once.add(procs_file);
  constexpr size_t kName = sizeof "procs" - 1;
  if (count > 0 && at_once.used > kName) {
    at_once.used -= kName;
    at_once.add("kill");
    if (write_text(at_once.text, "1") >= 0) return static_cast<int>(count);
  }
  for (size_t i = 0; i < count; ++i) sys(__NR_kill, g_found[i], SIGKILL);
  return static_cast<int>(count);
}

uint64_t start_ticks_of(long pid) {
  Line<64> path;
  path.add("/proc/").add(pid).add("/stat");
  char text[1024];
  const long n = read_text(AT_FDCWD, path.text, text, sizeof text);
  if (n <= 0) return 0;
  long at = n;
  while (at > 0 && text[at] != ')') --at;  // the name before may hold anything
  int field = 2;
  for (; at < n && field < 22; ++at) {
    if (text[at] == ' ') ++field;
  }
  uint64_t ticks = 0;
  for (; at < n && text[at] >= '0' && text[at] <= '9'; ++at)
    ticks = ticks * 10 + static_cast<uint64_t>(text[at] - '0');
  return ticks;
}

}  // namespace orch
