#include "base/file_lock.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <future>

#include "tests/support/test.hpp"

using namespace orchestra;

namespace {
// A process that took the lock and was killed while a child of it, which has its descriptors, was starting.
// The child lives until `let_go` is closed. Answers the killed one's pid.
pid_t killed_holder(const std::string& path, Fd& let_go) {
  int ends[2], told[2];
  REQUIRE(pipe(ends) == 0);
  REQUIRE(pipe(told) == 0);
  const pid_t holder = fork();
  if (holder == 0) {
    close(ends[1]);
    auto lock = lock_file(path);
    if (!lock || !lock->fd) _exit(1);
    const pid_t child = fork();
    char byte = 1;
    if (child == 0) {
      (void)!read(ends[0], &byte, 1);
      _exit(0);
    }
    (void)!write(told[1], &byte, 1);
    pause();
  }
  close(ends[0]);
  let_go = Fd(ends[1]);
  char byte = 0;
  CHECK(read(told[0], &byte, 1) == 1);
  close(told[0]), close(told[1]);
  kill(holder, SIGKILL);
  CHECK(waitpid(holder, nullptr, 0) == holder);
  return holder;
}
}  // namespace

TEST_CASE("a file lock names who has it, and waits only for a holder that is gone") {
  test::TempDir dir;
  const std::string path = dir / "lock";
  auto first = lock_file(path);
  REQUIRE(first);
  CHECK(first->fd);
  CHECK(read_file(path, 64).value_or("") == std::to_string(getpid()) + "\n");
  auto second = lock_file(path);
  REQUIRE(second);
  CHECK_FALSE(second->fd);
  CHECK(second->holder == std::to_string(getpid()));
  first->fd.reset();
  CHECK(lock_file(path)->fd);

  Fd let_go;
  const pid_t killed = killed_holder(path, let_go);
  auto still = lock_file(path);  // gives up after its second
  REQUIRE(still);
  CHECK_FALSE(still->fd);
  CHECK(still->holder == std::to_string(killed));
  auto later = std::async(std::launch::async, [&] { return lock_file(path); });
  let_go.reset();
  const auto got = later.get();
  REQUIRE(got);
  CHECK(got->fd);
}
