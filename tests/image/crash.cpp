// kill -9 at any moment: what the next open finds is old or new, whole, and without leftovers.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "base/fd.hpp"
#include "image/store.hpp"
#include "orchestra/env.hpp"
#include "orchestra/image_builder.hpp"
#include "orchestra/image_store.hpp"
#include "tests/image/fixtures.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::image::test;
using namespace std::chrono_literals;
using orchestra::test::TempDir;

namespace {

/// Imports, tags, builds, makes and releases roots without end.
[[noreturn]] void work_until_killed(const TempDir& dir) {
  Engine engine;
  auto store = ImageStore::open(engine, {.dir = dir / "store"});
  if (!store) ::_exit(1);
  for (int i = 0;; ++i) {
    const std::string number = std::to_string(i % 4);
    (void)(*store)->import(dir / (number + ".tar")).wait(10s);
    (void)(*store)->tag("app:" + number, "app:latest");
    (void)(*store)
        ->prepare_root("app:" + number, "root-" + number, i % 2 == 0 ? Isolation::full : Isolation::process)
        .wait(10s);
    BuildOptions build;
    build.context = dir / "src";
    build.tag = "built:1";
    build.no_cache = true;
    (void)ImageBuilder(*store).build(build).wait(10s);
    (void)(*store)->release_root("root-" + number).wait(10s);
    (void)(*store)->remove("app:" + number);
    (void)(*store)->collect({.minimum_age = Duration(0)}).wait(10s);
  }
}

/// Everything that is named can be used; nothing half made is left.
void check_whole(const TempDir& dir) {
  Engine engine;
  const auto opened = ImageStore::open(engine, {.dir = dir / "store"});
  REQUIRE_MESSAGE(opened, (opened ? "" : opened.error().to_string()));
  const auto& store = *opened;
  for (const char* folder : {"store/ingest", "store/layers", "store/snapshots"}) {
    for (const auto& entry : std::filesystem::directory_iterator(dir / folder)) {
      CHECK_FALSE(entry.path().filename().string().starts_with("tmp-"));
    }
  }
  CHECK(std::filesystem::is_empty(dir / "store/ingest"));
  // Every blob is what its name says.
  auto& blobs = store->internal()->blobs();
  for (const std::string& digest : blobs.list().value()) CHECK(blobs.read(digest, 64 << 20));
  int count = 0;
  for (const ImageInfo& image : store->list().value()) {
    CAPTURE(image.reference);
    const std::string owner = "check-" + std::to_string(count++);
    const auto plan = store->prepare_root(image.digest, owner, Isolation::process).wait(30s);
    REQUIRE_MESSAGE(plan, (plan ? "" : plan.error().to_string()));
    CHECK(read_file(plan->directory + "/content", 1 << 20).has_value());
    REQUIRE(store->release_root(owner).wait(30s));
  }
  for (const image::SnapshotRecord& root : store->internal()->snapshots().value()) {
    CHECK(store->release_root(root.owner).wait(30s));
  }
}

}  // namespace

TEST_CASE("a store that was killed at any moment opens again, whole") {
  TempDir dir;
  std::filesystem::create_directories(dir / "src");
  REQUIRE(write_file(dir / "src/Dockerfile", "FROM scratch\nCOPY content /content\nWORKDIR /w\n"));
  REQUIRE(write_file(dir / "src/content", "built"));
  for (int i = 0; i < 4; ++i) {
    const std::string number = std::to_string(i);
    const std::vector<std::string> layers{
        TarText().file("content", std::string(200'000, 'x') + number).finish(),
        TarText().file("top", number).finish()};
    REQUIRE(write_file(dir / (number + ".tar"), docker_archive("app:" + number, layers)));
  }
  for (int round = 0; round < 8; ++round) {
    CAPTURE(round);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) work_until_killed(dir);
    // Somewhere in its work: the moment differs from run to run, the promise does not.
    const auto moment = std::chrono::microseconds(5'000 + real_random().below(150'000));
    timespec pause{0, std::chrono::nanoseconds(moment).count()};
    ::nanosleep(&pause, nullptr);
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    check_whole(dir);
  }
}
