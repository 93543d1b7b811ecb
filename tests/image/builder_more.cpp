// Builds beyond the basics: heredocs, mounts, links, parents, outputs, several platforms, reproducible bytes,
// stages beside each other, and what the cache says about its misses.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <mutex>

#include "base/fd.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "image/store.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/image_builder.hpp"
#include "tests/image/build_fixture.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::image::test;
using namespace std::chrono_literals;
using orchestra::test::TempDir;
namespace fs = std::filesystem;

namespace {

const StepMount* mount_at(const StepRequest& request, const std::string& target) {
  for (const StepMount& mount : request.mounts) {
    if (mount.target == target) return &mount;
  }
  return nullptr;
}

}  // namespace

TEST_CASE("heredocs: files of COPY are expanded unless quoted, RUN gets script or shell text") {
  BuildFixture f;
  std::vector<std::vector<std::string>> seen;
  std::string script;
  f.runner = std::make_shared<FakeRunner>([&](const StepRequest& request) {
    seen.push_back(request.args);
    if (const StepMount* mount = mount_at(request, "/dev/orchestra-script")) script = content(mount->source);
    return 0;
  });
  const auto built = f.build(
      "FROM scratch\nENV WHO=me\nCOPY <<A <<\"B\" /files/\nfor $WHO \"quoted\" \\$x\nA\nfor $WHO\nB\n"
      "RUN <<EOF\necho one\necho two\nEOF\nRUN cat <<EOF > /x\nhello\nEOF\nRUN "
      "<<EOF\n#!/bin/other\nbody\nEOF\n");
  REQUIRE_MESSAGE(built, why(built));
  const std::string root = f.root(*built);
  CHECK(content(root + "/files/A") == "for me \"quoted\" $x\n");
  CHECK(content(root + "/files/B") == "for $WHO\n");
  REQUIRE(seen.size() == 3);
  CHECK(seen[0] == std::vector<std::string>{"/bin/sh", "-c", "echo one\necho two\n"});
  CHECK(seen[1] == std::vector<std::string>{"/bin/sh", "-c", "cat <<EOF > /x\nhello\nEOF"});
  CHECK(seen[2] == std::vector<std::string>{"/dev/orchestra-script"});
  CHECK(script == "#!/bin/other\nbody\n");
}

TEST_CASE("mounts: caches stay, secrets and binds are seen, and nothing of them is in the layer") {
  BuildFixture f;
  f.put("in/data", "bound");
  std::string secret = "s3cret";
  REQUIRE(write_file(f.dir / "secret", secret));
  f.runner = std::make_shared<FakeRunner>([&](const StepRequest& request) {
    const std::string& root = request.root_directory;
    // A runtime makes the places it mounts on.
    for (const char* place : {"/cache", "/bound", "/tmpfs", "/run/secrets"})
      fs::create_directories(root + place);
    REQUIRE(write_file(root + "/run/secrets/key", ""));
    const StepMount* cache = mount_at(request, "/cache");
    REQUIRE(cache != nullptr);
    const std::string counter = cache->source + "/count";
    REQUIRE(write_file(counter, content(counter) == "(missing)" ? "1" : content(counter) + "1"));
    CHECK(content(mount_at(request, "/bound")->source + "/data") == "bound");
    CHECK(mount_at(request, "/bound")->read_only);
    CHECK(content(mount_at(request, "/run/secrets/key")->source) == secret);
    CHECK(std::find(request.env.begin(), request.env.end(), "KEY=" + secret) != request.env.end());
    CHECK(fs::is_empty(mount_at(request, "/tmpfs")->source));
    REQUIRE(write_file(root + "/made", content(counter)));
    return 0;
  });
  BuildOptions options;
  options.secrets = {{"key", f.dir / "secret"}};
  const std::string run =
      "RUN --mount=type=cache,target=/cache,sharing=locked --mount=type=bind,source=in,target=/bound "
      "--mount=type=tmpfs,target=/tmpfs --mount=type=secret,id=key --mount=type=secret,id=key,env=KEY make ";
  const auto built = f.build("FROM scratch\n" + run + "1\n" + run + "2\n", options);
  REQUIRE_MESSAGE(built, why(built));
  const std::string root = f.root(*built);
  CHECK(content(root + "/made") == "11");
  for (const char* place : {"/cache", "/bound", "/tmpfs", "/run"}) CHECK_FALSE(fs::exists(root + place));
  CHECK(f.store->raw_config(built->image.digest)->find("s3cret") == std::string::npos);
  CHECK(content(f.dir / "store/build-cache.json").find("s3cret") == std::string::npos);
  // Another secret is no reason to run again; another file of the bind is.
  secret = "other!";
  REQUIRE(write_file(f.dir / "secret", secret));
  CHECK(f.build("FROM scratch\n" + run + "1\n" + run + "2\n", options)->cached == 2);
  f.put("in/data", "bound");
  f.put("in/more", "x");
  CHECK(f.build("FROM scratch\n" + run + "1\n", options)->cached == 0);
}

TEST_CASE("COPY --link, --parents and --exclude") {
  BuildFixture f;
  f.put("a/b/c.txt", "c");
  f.put("a/b/skip.log", "l");
  f.put("a/d/e.txt", "e");
  const auto built = f.build(
      "FROM scratch\nCOPY --parents a/b/c.txt ./a/./d/e.txt /parents/\nCOPY --exclude=*.log --exclude=d a/b "
      "/excluded/\nCOPY --link a/b/c.txt /linked/c\n");
  REQUIRE_MESSAGE(built, why(built));
  const std::string root = f.root(*built);
  CHECK(content(root + "/parents/a/b/c.txt") == "c");
  CHECK(content(root + "/parents/d/e.txt") == "e");
  CHECK(content(root + "/excluded/c.txt") == "c");
  CHECK_FALSE(fs::exists(root + "/excluded/skip.log"));
  CHECK(content(root + "/linked/c") == "c");
}

TEST_CASE("ADD fetches URLs and repositories; a checksum that differs is an error") {
  BuildFixture f(true);
  auto server =
      HttpServer::start(f.engine, {.listen = "127.0.0.1:0"}, [](HttpServerRequest request, auto responder) {
        responder->respond(request.target == "/d/file" ? 200 : 404, {}, "fetched");
      }).value();
  const std::string url = "http://" + server->address() + "/d/file";
  const std::string digest = image::sha256_digest("fetched");
  const auto built =
      f.build("FROM scratch\nADD --checksum=" + digest + " " + url + " /in/\nADD " + url + " /as/name\n");
  REQUIRE_MESSAGE(built, why(built));
  const std::string root = f.root(*built);
  CHECK(content(root + "/in/file") == "fetched");
  CHECK(content(root + "/as/name") == "fetched");
  const auto wrong =
      f.build("FROM scratch\nADD --checksum=" + image::sha256_digest("x") + " " + url + " /\n");
  REQUIRE_FALSE(wrong);
  CHECK(wrong.error().is(Error::corrupt));
  CHECK_FALSE(f.build("FROM scratch\nADD " + url + "-none /\n"));
  server->stop(0ms);
  if (std::system("git --version >/dev/null 2>&1") != 0) ORC_SKIP("ADD of a repository", "no git");
  const std::string repository = f.dir / "there.git";
  REQUIRE(std::system(("git init -q '" + repository + "' && cd '" + repository +
                       "' && mkdir sub && echo x > sub/f && git add . && git -c user.name=a -c "
                       "user.email=a@b commit -q -m m")
                          .c_str()) == 0);
  const auto cloned = f.build("FROM scratch\nADD file://" + repository + "#HEAD:sub /repo/\n");
  REQUIRE_MESSAGE(cloned, why(cloned));
  CHECK(content(f.root(*cloned) + "/repo/f") == "x\n");
}

TEST_CASE("SOURCE_DATE_EPOCH: two builds of files with other times give one digest") {
  const auto digest = [](int offset) {
    BuildFixture f;
    f.put("x/a", "a");
    f.put("b", "b");
    const timespec times[2] = {{1'700'000'000 + offset, 5}, {1'700'000'000 + offset, 7}};
    REQUIRE(::utimensat(AT_FDCWD, (f.dir / "src/b").c_str(), times, 0) == 0);
    REQUIRE(::utimensat(AT_FDCWD, (f.dir / "src/x/a").c_str(), times, 0) == 0);
    BuildOptions options;
    options.source_date_epoch = 1'600'000'000;
    const auto built = f.build("FROM scratch\nARG SOURCE_DATE_EPOCH\nCOPY . /d\nWORKDIR /w\n", options);
    REQUIRE_MESSAGE(built, why(built));
    CHECK(f.store->raw_config(built->image.digest)->find("\"created\":\"2020-09-13T12:26:40Z\"") !=
          std::string::npos);
    return built->image.digest;
  };
  CHECK(digest(0) == digest(1000));
}

TEST_CASE("several platforms become one index; labels, annotations and outputs are written") {
  BuildFixture f;
  f.put("a", "a");
  BuildOptions options;
  options.platforms = {"linux/amd64", "linux/arm64", "linux/riscv64"};
  options.labels = {{"made.by", "test"}};
  options.annotations = {{"org.example.note", "n"}};
  options.outputs = {{"tar", f.dir / "root.tar"}, {"local", f.dir / "tree"}, {"oci", f.dir / "all.oci"}};
  const auto built =
      f.build("FROM scratch\nARG TARGETARCH\nCOPY a /a\nENV ARCH=$TARGETARCH\nLABEL x=y\n", options);
  REQUIRE_MESSAGE(built, why(built));
  CHECK(built->image.architecture == image::host_platform().architecture);
  CHECK(built->image.labels.at("made.by") == "test");
  const auto record = f.store->internal()->find_name("docker.io/test/image:1");
  REQUIRE(record);
  REQUIRE(record->whole_index);
  const auto index =
      image::parse_index(f.store->internal()->blobs().read(record->index, 1 << 20).value()).value();
  REQUIRE(index.manifests.size() == 3);
  CHECK(index.manifests[1].platform->architecture == "arm64");
  CHECK(index.annotations.at("org.example.note") == "n");
  CHECK(content(f.dir / "tree/a") == "a");
  CHECK(fs::file_size(f.dir / "root.tar") > 512);
  const auto other = ImageStore::open(f.engine, {.dir = f.dir / "other"}).value();
  const auto imported = other->import(f.dir / "all.oci").wait(30s);
  REQUIRE_MESSAGE(imported, (imported ? "" : imported.error().to_string()));
  CHECK(imported->images.at(0).digest == built->image.digest);
  f.runner = std::make_shared<FakeRunner>([](const StepRequest&) { return 0; });
  options.platforms = {"linux/s390x"};
  options.outputs = {};
  const auto foreign = f.build("FROM scratch\nRUN x\n", options);
  REQUIRE_FALSE(foreign);
  CHECK(foreign.error().message().find("RUN for linux/s390x on a machine of") != std::string::npos);
}

TEST_CASE("independent stages run at the same time") {
  BuildFixture f;
  std::mutex mutex;
  std::condition_variable both;
  int inside = 0;
  f.runner = std::make_shared<FakeRunner>([&](const StepRequest& request) {
    std::unique_lock lock(mutex);
    ++inside;
    both.notify_all();
    const bool met = both.wait_for(lock, 20s, [&] { return inside == 2; });
    REQUIRE(write_file(request.root_directory + "/out-" + request.args.back(), "x"));
    return met ? 0 : 9;
  });
  const auto built = f.build(
      "FROM scratch AS one\nRUN 1\nFROM scratch AS two\nRUN 2\nFROM scratch\nCOPY --from=one /out-1 /\nCOPY "
      "--from=two /out-2 /\n");
  REQUIRE_MESSAGE(built, why(built));
  const std::string root = f.root(*built);
  CHECK(content(root + "/out-1") == "x");
  CHECK(content(root + "/out-2") == "x");
}

TEST_CASE("--explain names the part of the key that differs; a cache goes to another store and back") {
  BuildFixture f;
  f.put("a", "a");
  f.runner = std::make_shared<FakeRunner>([](const StepRequest& request) {
    REQUIRE(write_file(request.root_directory + "/ran", "r"));
    return 0;
  });
  BuildOptions options;
  options.explain = true;
  options.cache_to = f.dir / "cache";
  const std::string text = "FROM scratch\nARG V=1\nCOPY a /a\nRUN x\n";
  REQUIRE(f.build(text, options));
  CHECK(f.log.find("this step was not built before") != std::string::npos);
  options.build_args = {{"V", "2"}};
  REQUIRE(f.build(text, options));
  CHECK_MESSAGE(f.log.find("not from the cache: the value of V changed") != std::string::npos, f.log);
  f.put("a", "other");
  REQUIRE(f.build(text, options));
  CHECK_MESSAGE(f.log.find("not from the cache: the files changed") != std::string::npos, f.log);
  CHECK_MESSAGE(f.log.find("not from the cache: the step before it changed") != std::string::npos, f.log);

  BuildFixture other;
  other.runner = f.runner;
  other.put("a", "other");
  BuildOptions from;
  from.cache_from = {f.dir / "cache"};
  from.build_args = {{"V", "2"}};
  const auto built = other.build(text, from);
  REQUIRE_MESSAGE(built, why(built));
  CHECK(built->cached == 2);
  CHECK(content(other.root(*built) + "/ran") == "r");
}
