#pragma once
// The larger steps of orch-init, each in a file of its own.
#include "roles.hpp"

namespace orch {

inline constexpr int MSG_NOSIGNAL_ = 0x4000;
inline constexpr int kStartFd = 5;          ///< the start fifo of `orchestra oci`
inline constexpr uint64_t kNewTime = 0x80;  ///< CLONE_NEWTIME, which shares a bit with the exit signal

/// Descriptors that the parent opened for the child it is about to make.
struct Kept {
  int start = -1;
  uint32_t cgroup_count = 0, tree_count = 0, root_count = 0;
  int cgroups[64];
  int trees[orchestra::wire::kIdMappedMountsMax];  ///< of mounts with a mapping, in the plan's order; -1:
                                                   ///< none
  int root;                                        ///< of kRootByParent: not attached anywhere yet
};
Kept& kept();

/// Tells the parent what failed and ends this process.
[[noreturn]] void fail(orchestra::wire::Stage stage, int error, const char* text);
/// fail() if `result` is negative.
long check(long result, orchestra::wire::Stage stage, const char* text);
int report_fd();
/// Lets the parent run the hooks of the runtime's namespaces, if the plan has any.
void pause_for_hooks(const orchestra::wire::Plan* plan);

/// tmpcopyup: copies what the folder `from` holds (an O_PATH descriptor) into the folder `to`.
void copy_up(int from, int to, const char* what);
/// Loads a filter with a listener, and hands the listener over.
void load_with_listener(const orchestra::wire::Plan* plan);
/// Connects to the one who listens, if the plan has one, and finds this process's pid on the machine.
void connect_listener(const orchestra::wire::Plan* plan);
/// A file system of the plan that is mounted nowhere yet: a descriptor, or -errno and what failed.
long make_filesystem(const orchestra::wire::Plan* plan, const orchestra::wire::MountStep& step,
                     Line<512>& why);
/// Opens `path` as it is looked up when the folder `root` is /: O_PATH or what `flags` say; -errno.
long open_in(int root, const char* path, int flags, int mode = 0);
/// What a bind mounts, as an O_PATH descriptor, or -errno.
long open_source(const orchestra::wire::Plan* plan, const orchestra::wire::MountStep& step);
/// Level full: root mount, mounts, devices, terminal, pivot_root, masks.
void make_own_root(const orchestra::wire::Plan* plan);
/// Level process: chroot, device nodes where allowed.
void enter_plain_root(const orchestra::wire::Plan* plan);
/// Makes a pseudo terminal, sends its master to the parent, puts the other end on 0, 1, 2. `root` < 0:
/// of the current root.
void open_terminal(const orchestra::wire::Plan* plan, int root);
/// Makes the user namespace and its maps. 0, or -errno and what failed.
long enter_user_namespace(const orchestra::wire::UserNamespace& space, Line<512>& why);
/// Runs hooks one after the other; a failure fails the container.
void run_hooks(const orchestra::wire::Plan* plan, orchestra::wire::Table hooks);
/// Forks, runs one hook, waits with its time limit. 0, or the reason is in `why`.
int run_hook(const orchestra::wire::Plan* plan, const orchestra::wire::HookStep& hook, Line<512>& why);

}  // namespace orch
