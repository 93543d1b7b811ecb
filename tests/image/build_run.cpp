// RUN by the real runtime: what the quickstart's Dockerfiles do, with overlay roots and with plain copies.
#include <unistd.h>

#include <filesystem>

#include "base/fd.hpp"
#include "orchestra/image_builder.hpp"
#include "runtime/pod_runtime_factory.hpp"
#include "tests/image/fixtures.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;
using orchestra::image::test::content;
using orchestra::test::TempDir;

TEST_CASE("RUN steps run in containers of the runtime and become layers") {
  if (::geteuid() != 0) ORC_SKIP("RUN in containers", "needs root");
  if (::access("/bin/busybox", X_OK) != 0) ORC_SKIP("RUN in containers", "no /bin/busybox (busybox-static)");
  TempDir dir;
  Engine engine;
  using Level = RuntimeOptions::Isolation;
  for (const auto& [level, isolation, name] : {std::tuple{Level::full, Isolation::full, "full"},
                                               std::tuple{Level::process, Isolation::process, "process"}}) {
    CAPTURE(name);
    RuntimeOptions options;
    options.state_dir = dir / (std::string("state-") + name);
    options.data_dir = dir / "data";
    options.isolation = level;
    options.instance = "build" + std::to_string(::getpid());
    auto runner = make_step_runner(engine, options);
    if (!runner) {
      orchestra::test::record_skip(std::string("RUN at level ") + name, runner.error().to_string());
      continue;
    }
    const auto store = ImageStore::open(engine, {.dir = dir / (std::string("store-") + name)}).value();
    std::filesystem::create_directories(dir / "src");
    std::filesystem::copy_file("/bin/busybox", dir / "src/busybox",
                               std::filesystem::copy_options::overwrite_existing);
    REQUIRE(write_file(dir / "src/keep", "keep"));
    REQUIRE(
        write_file(dir / "src/Dockerfile",
                   "FROM scratch\n"
                   "COPY busybox /bin/busybox\n"
                   "RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n"
                   "COPY keep /files/a\n"
                   "COPY keep /files/b\n"
                   "ARG WORD=hello\n"
                   "RUN mkdir -p /data /etc && chmod 1777 /data && rm /files/b && echo $WORD > /data/word\n"
                   "RUN echo 'app:x:77:78::/data:/bin/sh' > /etc/passwd\n"
                   "USER app\n"
                   "WORKDIR /data\n"
                   "RUN id -u > who && pwd > where\n"));
    std::string log;
    BuildOptions build;
    build.context = dir / "src";
    build.tag = "run:1";
    build.isolation = isolation;
    build.progress = [&log](const std::string& line) { log += line + "\n"; };
    const auto built = ImageBuilder(store, *runner).build(build).wait(120s);
    REQUIRE_MESSAGE(built, (built ? "" : built.error().to_string() + "\n" + log));
    const auto plan = store->prepare_root("run:1", "look", Isolation::process).wait(30s).value();
    const std::string& root = plan.directory;
    CHECK(std::filesystem::read_symlink(root + "/bin/sh") == "/bin/busybox");
    CHECK(content(root + "/files/a") == "keep");
    CHECK(content(root + "/files/b") == "(missing)");
    CHECK(content(root + "/data/word") == "hello\n");
    CHECK(content(root + "/data/who") == "77\n");
    CHECK(content(root + "/data/where") == "/data\n");
    CHECK_FALSE(std::filesystem::exists(root + "/proc"));
    CHECK_FALSE(std::filesystem::exists(root + "/dev"));
    CHECK((std::filesystem::status(root + "/data").permissions() & std::filesystem::perms::sticky_bit) !=
          std::filesystem::perms::none);

    const auto again = ImageBuilder(store, *runner).build(build).wait(120s);
    REQUIRE(again);
    CHECK(again->image.id == built->image.id);

    REQUIRE(write_file(dir / "src/Dockerfile", "FROM run:1\nRUN echo about to fail; exit 7\n"));
    const auto failed = ImageBuilder(store, *runner).build(build).wait(120s);
    REQUIRE_FALSE(failed);
    CHECK(failed.error().message().find("Dockerfile:2: RUN echo about to fail; exit 7") != std::string::npos);
    CHECK(failed.error().message().find("ended with status 7") != std::string::npos);
    REQUIRE(failed.error().detail<BuildFailure>());
    CHECK(failed.error().detail<BuildFailure>()->output == "about to fail\n");
    for (const auto& entry :
         std::filesystem::directory_iterator(dir / (std::string("store-") + name + "/snapshots"))) {
      CHECK_FALSE(entry.path().filename().string().starts_with("tmp-"));
    }
  }
}
