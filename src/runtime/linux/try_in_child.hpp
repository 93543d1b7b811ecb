#pragma once
// Tries something that changes a process (unshare, chroot, seccomp) in a child that ends at once.
namespace orchestra::runtime {

/// What `attempt(argument)` answers (0, or an errno) when run in a child of its own. The child shares the
/// memory but nothing else, and the host sees neither SIGCHLD nor a child to wait for. `attempt` may only
/// make system calls. EAGAIN if no child could be made.
int try_in_child(int (*attempt)(long), long argument);

}  // namespace orchestra::runtime
