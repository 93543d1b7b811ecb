// Records of ended containers on a disk (exit_durability = machine): they outlive a machine that stops.
//
// The record on tmpfs comes first and is what everybody reads; a child of the shim copies it behind the exit,
// so that no log and no answer waits for a disk. What ends while it writes is written by the next one.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "shim.hpp"

namespace orch {
using namespace orchestra::wire;
namespace {

constexpr size_t kCopyBytes = 64 << 10;
char g_copy[kCopyBytes];

/// `from` as `name` in the folder `to`, on the disk when this returns.
long keep_file(const char* from, int to, const char* name) {
  const long in = open_at(AT_FDCWD, from, O_RDONLY);
  if (in < 0) return in;
  Line<kIdBytes + 32> temporary;
  temporary.add(name).add(".new");
  const long out = open_at(to, temporary.text, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  long result = out;
  while (result >= 0) {
    const long n = sys(__NR_read, in, arg(g_copy), kCopyBytes);
    result = n > 0 ? write_fd(static_cast<int>(out), g_copy, static_cast<size_t>(n)) : n;
    if (n <= 0) break;
  }
  if (result >= 0) result = sys(__NR_fsync, out);
  close_fd(static_cast<int>(in));
  close_fd(static_cast<int>(out));
  if (result >= 0) result = sys(__NR_renameat2, to, arg(temporary.text), to, arg(name), 0);
  if (result < 0 && out >= 0) sys(__NR_unlinkat, to, arg(temporary.text), 0);
  return result;
}

long keep_all() {
  const char* records = shim().config.records;
  sys(__NR_mkdirat, AT_FDCWD, arg(records), 0700);
  const long folder = open_at(AT_FDCWD, records, O_RDONLY | O_DIRECTORY);
  if (folder < 0) return folder;
  const int to = static_cast<int>(folder);
  Line<kPathBytes + 32> pod;
  pod.add(shim().config.directory).add("/config.json");
  long result = keep_file(pod.text, to, "pod.json");
  for (const Container& container : containers()) {
    if (!container.used || !container.unkept) continue;
    Line<kPathBytes + 32> config, state;
    Line<kIdBytes + 32> config_name, state_name;
    config.add(container.config.directory).add("/config.json");
    state.add(container.config.directory).add("/state");
    config_name.add(container.config.id).add(".json");
    state_name.add(container.config.id).add(".state");
    if (result >= 0) result = keep_file(config.text, to, config_name.text);
    if (result >= 0) result = keep_file(state.text, to, state_name.text);
  }
  if (result >= 0) result = sys(__NR_fsync, folder);
  return result;
}
}  // namespace

void keep_exits() {
  if (shim().config.records[0] == 0 || shim().keeper > 0 || shim().ending) return;
  bool any = false;
  for (const Container& container : containers()) any |= container.used && container.unkept;
  if (!any) return;
  int pidfd = -1;
  const long pid = clone_process(0, SIGCHLD, &pidfd);
  if (pid == 0) {
    const long result = keep_all();
    if (result < 0) {
      Line<kPathBytes + 128> text;
      text.add("orch-shim: exit records cannot be kept in ")
          .add(shim().config.records)
          .add(": error ")
          .add(-result)
          .add("\n");
      write_fd(2, text.text, text.used);
    }
    exit_now(result < 0 ? 1 : 0);
  }
  if (pid < 0) return;  // the next exit, or the next child that ends, tries again
  close_fd(pidfd);
  shim().keeper = pid;
  for (Container& container : containers()) container.unkept = false;
}

void keeper_ended() {
  shim().keeper = 0;
  keep_exits();
}

void wait_for_keeper() {
  if (shim().keeper <= 0) return;
  int status;
  while (sys(__NR_wait4, shim().keeper, arg(&status), 0, 0) == -EINTR) {
  }
  shim().keeper = 0;
}

}  // namespace orch
