#include "net/podnet/in_namespace.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "base/fd.hpp"

namespace orchestra {
namespace net {

namespace {

/// A handle on the namespace that the thread is in already: entering it would need a privilege for nothing.
bool is_current(const Fd& name_space) {
  struct stat wanted {
  }, current{};
  return ::fstat(name_space.get(), &wanted) == 0 && ::stat("/proc/thread-self/ns/net", &current) == 0 &&
         wanted.st_dev == current.st_dev && wanted.st_ino == current.st_ino;
}

}  // namespace

Result<void> in_namespace(const NetworkNamespace& name_space, const std::function<Result<void>()>& work) {
  if (name_space.is_own() || is_current(*name_space.fd())) return work();
  Result<void> answer;
  std::thread helper([&] {
    if (::setns(name_space.fd()->get(), CLONE_NEWNET) != 0) {
      answer = system_error("net", "setns", "network namespace", errno);
      return;
    }
    answer = work();
  });
  helper.join();
  return answer;
}

}  // namespace net

Result<NetworkNamespace> NetworkNamespace::open(const std::string& path) {
  auto fd = open_file(path, O_RDONLY);
  if (!fd) return fd.error().with_context("network namespace");
  return NetworkNamespace(std::make_shared<Fd>(std::move(fd).value()));
}

Result<NetworkNamespace> NetworkNamespace::create() {
  Result<Fd> fd = Error(Error::internal, "net", "the namespace helper did not run");
  std::thread helper([&] {
    if (::unshare(CLONE_NEWNET) != 0) {
      fd = system_error("net", "unshare(CLONE_NEWNET)", "network namespace", errno);
      return;
    }
    fd = open_file("/proc/thread-self/ns/net", O_RDONLY);
  });
  helper.join();
  if (!fd) return fd.error();
  return NetworkNamespace(std::make_shared<Fd>(std::move(fd).value()));
}

}  // namespace orchestra
