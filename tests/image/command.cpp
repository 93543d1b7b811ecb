// `orchestra image ...` as a program would call it, on its own store and on one that a running process owns.
#include "image/command.hpp"

#include <cstdlib>
#include <filesystem>

#include "base/control.hpp"
#include "base/fd.hpp"
#include "tests/image/fixtures.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;
using orchestra::test::TempDir;

namespace {

struct Run {
  int status = 0;
  std::string out, err;
};

Run run(const std::vector<std::string>& args) {
  Run result;
  char *out = nullptr, *err = nullptr;
  std::size_t out_size = 0, err_size = 0;
  std::FILE* out_file = ::open_memstream(&out, &out_size);
  std::FILE* err_file = ::open_memstream(&err, &err_size);
  result.status = run_image_command(args, out_file, err_file);
  std::fclose(out_file);
  std::fclose(err_file);
  result.out.assign(out, out_size);
  result.err.assign(err, err_size);
  std::free(out);
  std::free(err);
  return result;
}

struct CommandFixture {
  TempDir dir;
  std::string store = dir / "data/images";
  CommandFixture() {
    std::filesystem::create_directories(dir / "src");
    REQUIRE(write_file(
        dir / "src/Dockerfile",
        "FROM scratch\nARG VERSION=0\nCOPY hello /hello\nENV VERSION=$VERSION\nCMD [\"/hello\"]\n"));
    REQUIRE(write_file(dir / "src/hello", "hello"));
  }
  Run image(std::vector<std::string> args) const {
    args.insert(args.begin() + 1, {"--store", store});
    return run(args);
  }
};

}  // namespace

TEST_CASE("image build, ls, inspect, tag, export, rm, import, gc do what they say") {
  CommandFixture f;
  const Run built = f.image({"build", "-t", "shop/web:1", "--build-arg", "VERSION=7", f.dir / "src"});
  REQUIRE_MESSAGE(built.status == 0, built.err);
  CHECK(built.out.starts_with("shop/web:1 sha256:"));
  CHECK(built.err.find("[3/5] COPY hello /hello") != std::string::npos);
  CHECK(f.image({"tag", "shop/web:1", "shop/web:stable"}).status == 0);
  const Run list = f.image({"ls"});
  CHECK(list.out.find("shop/web:1 ") != std::string::npos);
  CHECK(list.out.find("shop/web:stable ") != std::string::npos);
  CHECK(f.image({"ls", "--json"}).out.starts_with("[{"));
  CHECK(f.image({"inspect", "shop/web:1"}).out.find("VERSION=7") != std::string::npos);
  CHECK(f.image({"inspect", "--raw", "shop/web:1"}).out.starts_with("{\"schemaVersion\":2"));

  for (const char* format : {"docker", "oci"}) {
    CAPTURE(format);
    const std::string archive = f.dir / (std::string(format) + ".tar");
    const Run exported =
        f.image({"export", "--format", format, "-o", archive, "shop/web:1", "shop/web:stable"});
    REQUIRE_MESSAGE(exported.status == 0, exported.err);
    const std::string first = read_file(archive, 1 << 20).value();
    REQUIRE(f.image({"export", "--format", format, "-o", archive, "shop/web:1", "shop/web:stable"}).status ==
            0);
    CHECK(read_file(archive, 1 << 20).value() == first);
  }
  const std::string id = f.image({"inspect", "shop/web:1"}).out;
  CHECK(f.image({"rm", "shop/web:1", "shop/web:stable"}).status == 0);
  CHECK(f.image({"ls"}).out.find("shop") == std::string::npos);
  for (const char* archive : {"docker.tar", "oci.tar"}) {
    CAPTURE(archive);
    const Run imported = f.image({"import", f.dir / archive});
    REQUIRE_MESSAGE(imported.status == 0, imported.err);
    CHECK(f.image({"inspect", "shop/web:stable"}).status == 0);
    CHECK(f.image({"rm", "shop/web:1", "shop/web:stable"}).status == 0);
  }
  CHECK(f.image({"gc", "--dry-run"}).out.find("would free") != std::string::npos);
}

TEST_CASE("exit statuses and messages tell what went wrong") {
  CommandFixture f;
  CHECK(run({}).status == 2);
  CHECK(run({"--help"}).status == 0);
  CHECK(run({"frobnicate"}).status == 2);
  CHECK(f.image({"ls", "--nope"}).err.find("unknown flag --nope") != std::string::npos);
  CHECK(f.image({"inspect"}).status == 2);
  CHECK(f.image({"inspect", "missing:1"}).status == 3);
  CHECK(f.image({"rm", "missing:1"}).status == 3);
  CHECK(f.image({"import", f.dir / "missing.tar"}).status == 3);
  const Run failed = f.image({"build", "-f", f.dir / "src/hello", f.dir / "src"});
  CHECK(failed.status == 2);
  CHECK(failed.err.find("hello: line 1: unknown instruction HELLO") != std::string::npos);
}

TEST_CASE("a store that a running process owns is asked through its control socket") {
  CommandFixture f;
  Engine engine;
  std::filesystem::create_directories(f.dir / "data");
  const auto store = ImageStore::open(engine, {.dir = f.store}).value();
  SUBCASE("without a socket the error names the owner") {
    const Run refused = f.image({"ls"});
    CHECK(refused.status == 4);
    CHECK(refused.err.find(std::to_string(::getpid())) != std::string::npos);
  }
  SUBCASE("with one everything works") {
    ControlServer server(engine, f.dir / "data/control.sock");
    register_image_ops(server, store);
    REQUIRE(server.start());
    const Run built = f.image({"build", "-t", "shop/web:1", f.dir / "src"});
    REQUIRE_MESSAGE(built.status == 0, built.err);
    CHECK(built.err.find("COPY hello") != std::string::npos);
    CHECK(f.image({"ls"}).out.find("shop/web:1") != std::string::npos);
    CHECK(store->lookup("shop/web:1").value());
    const Run missing = f.image({"inspect", "missing:1"});
    CHECK(missing.status == 3);
    CHECK(missing.err.find("no image \"missing:1\"") != std::string::npos);
    server.stop();
  }
}

TEST_CASE("the collector removes what nothing needs and nothing else") {
  CommandFixture f;
  Engine engine;
  const auto store = ImageStore::open(engine, {.dir = f.store}).value();
  const auto put = [&](const std::string& name, const std::string& content) {
    const std::string layer = image::test::TarText().file("content", content).finish();
    REQUIRE(write_file(f.dir / "a.tar", image::test::docker_archive(name, {layer})));
    REQUIRE(store->import(f.dir / "a.tar").wait(30s));
  };
  put("keep:1", "keep");
  put("used:1", "used");
  put("gone:1", "gone");
  const auto plan = store->prepare_root("used:1", "web-1", Isolation::full).wait(30s).value();
  const std::string gone = store->lookup("gone:1").value()->digest;
  REQUIRE(store->remove("used:1"));
  REQUIRE(store->remove("gone:1"));
  CollectOptions options;
  SUBCASE("young content stays") { CHECK(store->collect(options).wait(30s)->removed.empty()); }
  SUBCASE("old content goes, but for names and roots") {
    options.minimum_age = Duration(0);
    options.dry_run = true;
    const auto dry = store->collect(options).wait(30s).value();
    CHECK(dry.bytes > 0);
    CHECK(store->collect(options).wait(30s)->removed.size() == dry.removed.size());
    options.dry_run = false;
    const auto report = store->collect(options).wait(30s).value();
    CHECK(std::find(report.removed.begin(), report.removed.end(), gone) != report.removed.end());
    CHECK(store->collect(options).wait(30s)->removed.empty());
    CHECK(store->prepare_root("keep:1", "web-2", Isolation::process).wait(30s));
    for (const std::string& lower : plan.overlay_lower) {
      CHECK(std::filesystem::exists(plan.layers_directory + "/" + lower + "/content"));
    }
  }
  SUBCASE("with a byte limit whole images go, but never those with roots") {
    options.minimum_age = Duration(0);
    options.bytes_max = 0;
    const auto report = store->collect(options).wait(30s).value();
    CHECK(std::find(report.removed.begin(), report.removed.end(), "docker.io/library/keep:1") !=
          report.removed.end());
    CHECK_FALSE(store->lookup("keep:1").value());
    CHECK(store->service());
  }
}
