// Builds from Dockerfiles, with a step runner that plays the shell where RUN is meant.
#include "orchestra/image_builder.hpp"

#include <sys/stat.h>

#include <filesystem>

#include "base/fd.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "orchestra/engine.hpp"
#include "tests/image/build_fixture.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::image::test;
using namespace std::chrono_literals;
using orchestra::test::TempDir;

TEST_CASE("an image is built from scratch: files, configuration, name") {
  BuildFixture f;
  f.put("app/main", "#!binary", 0755);
  f.put("app/data.txt", "data");
  const auto built = f.build(
      "FROM scratch\n"
      "ARG PORT=8080\n"
      "ENV NAME=shop PORT=$PORT\n"
      "WORKDIR /srv\n"
      "COPY app/ bin/\n"
      "EXPOSE $PORT 9000-9001/udp\n"
      "USER 1000:50\n"
      "LABEL a=1 b=\"two words\"\n"
      "VOLUME /data\n"
      "STOPSIGNAL SIGINT\n"
      "HEALTHCHECK --interval=30s --retries=2 CMD [\"bin/main\", \"check\"]\n"
      "ENTRYPOINT [\"/srv/bin/main\"]\n"
      "CMD [\"serve\", \"--port\"]\n");
  REQUIRE_MESSAGE(built, why(built));
  CHECK(built->reference == "docker.io/test/image:1");
  const ImageInfo& image = built->image;
  CHECK(image.entrypoint == std::vector<std::string>{"/srv/bin/main"});
  CHECK(image.command == std::vector<std::string>{"serve", "--port"});
  CHECK(image.env ==
        std::vector<std::string>{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                 "NAME=shop", "PORT=8080"});
  CHECK(image.user == "1000:50");
  CHECK(image.working_directory == "/srv");
  CHECK(image.exposed_ports == std::vector<std::string>{"8080/tcp", "9000/udp", "9001/udp"});
  CHECK(image.volumes == std::vector<std::string>{"/data"});
  CHECK(image.labels.at("b") == "two words");
  CHECK(image.stop_signal == "SIGINT");
  CHECK(int_at(f.config(*built), "/config/Healthcheck/Interval") == 30'000'000'000);

  const std::string root = f.root(*built);
  CHECK(content(root + "/srv/bin/data.txt") == "data");
  struct stat status {};
  REQUIRE(::stat((root + "/srv/bin/main").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0755);
  CHECK(status.st_uid == 0);
}

TEST_CASE("the same inputs give the same image, from the cache") {
  BuildFixture f;
  f.put("a", "1");
  const std::string text = "FROM scratch\nCOPY a /a\nWORKDIR /w\n";
  const auto first = f.build(text);
  REQUIRE_MESSAGE(first, why(first));
  CHECK(first->cached == 0);
  const auto second = f.build(text);
  CHECK(second->cached == 2);
  CHECK(second->image.id == first->image.id);
  CHECK(second->image.digest == first->image.digest);

  SUBCASE("a new modification time is no change") {
    std::filesystem::last_write_time(f.dir / "src/a", std::filesystem::file_time_type::clock::now());
    CHECK(f.build(text)->cached == 2);
  }
  SUBCASE("new content is one, also for all that follows") {
    f.put("a", "2");
    const auto third = f.build(text);
    CHECK(third->cached == 0);
    CHECK(content(f.root(*third) + "/a") == "2");
  }
  SUBCASE("a new mode is one") {
    f.put("a", "1", 0755);
    CHECK(f.build(text)->cached == 0);
  }
  SUBCASE("without the cache all is done again") {
    BuildOptions options;
    options.no_cache = true;
    CHECK(f.build(text, options)->cached == 0);
  }
}

TEST_CASE("stages: only those that are needed run, COPY --from takes files over") {
  BuildFixture f;
  f.put("a", "a");
  const auto built = f.build(
      "ARG BASE=scratch\n"
      "FROM $BASE AS one\n"
      "COPY a /deep/er/a\n"
      "FROM missing/image AS unused\n"
      "RUN false\n"
      "FROM one AS two\n"
      "COPY a /b\n"
      "FROM scratch\n"
      "COPY --from=two /deep /deep2\n"
      "COPY --from=0 /deep/er/a /c\n");
  REQUIRE_MESSAGE(built, why(built));
  const std::string root = f.root(*built);
  CHECK(content(root + "/deep2/er/a") == "a");
  CHECK(content(root + "/c") == "a");
  CHECK_FALSE(std::filesystem::exists(root + "/b"));

  BuildOptions options;
  options.target = "one";
  const auto target = f.build("FROM scratch AS one\nCOPY a /1\nFROM scratch AS two\nCOPY a /2\n", options);
  REQUIRE_MESSAGE(target, why(target));
  CHECK(content(f.root(*target) + "/1") == "a");
}

TEST_CASE("COPY: directories give their content, links stay links, the destination decides the name") {
  BuildFixture f;
  f.put("dir/x", "x");
  f.put("dir/sub/y", "y");
  f.put("one", "1");
  f.put("two", "2");
  std::filesystem::create_symlink("x", f.dir / "src/dir/link");
  const auto built = f.build(
      "FROM scratch\n"
      "COPY dir /d\n"
      "COPY one /renamed\n"
      "COPY one two /many/\n"
      "COPY one /d\n"
      "COPY t* /glob/\n"
      "COPY --chown=7:8 --chmod=0600 one /owned\n"
      "COPY [\"one\", \"/a b/\"]\n");
  REQUIRE_MESSAGE(built, why(built));
  const std::string root = f.root(*built);
  CHECK(content(root + "/d/x") == "x");
  CHECK(content(root + "/d/sub/y") == "y");
  CHECK(std::filesystem::read_symlink(root + "/d/link") == "x");
  CHECK(content(root + "/renamed") == "1");
  CHECK(content(root + "/many/two") == "2");
  CHECK(content(root + "/d/one") == "1");
  CHECK(content(root + "/glob/two") == "2");
  CHECK(content(root + "/a b/one") == "1");
  struct stat status {};
  REQUIRE(::stat((root + "/owned").c_str(), &status) == 0);
  CHECK(status.st_uid == 7);
  CHECK(status.st_gid == 8);
  CHECK((status.st_mode & 07777) == 0600);
}

TEST_CASE("COPY goes through links in the image and never replaces them") {
  BuildFixture f;
  f.put("tree/lib/new.so", "new");
  const std::string layer = image::test::TarText()
                                .directory("usr")
                                .directory("usr/lib")
                                .file("usr/lib/old.so", "old")
                                .symlink("lib", "usr/lib")
                                .symlink("out", "../../../../tmp")
                                .finish();
  REQUIRE(write_file(f.dir / "base.tar", image::test::docker_archive("base:1", {layer})));
  REQUIRE(f.store->import(f.dir / "base.tar").wait(30s));
  const auto built = f.build("FROM base:1\nCOPY tree/ /\nCOPY tree/lib/new.so /out/x\n");
  REQUIRE_MESSAGE(built, why(built));
  const std::string root = f.root(*built);
  CHECK(content(root + "/usr/lib/new.so") == "new");
  CHECK(content(root + "/usr/lib/old.so") == "old");
  CHECK(std::filesystem::is_symlink(root + "/lib"));
  CHECK(content(root + "/tmp/x") == "new");
}

TEST_CASE(".dockerignore keeps files out of the build") {
  BuildFixture f;
  f.put("keep", "1");
  f.put("secret.key", "s");
  f.put("logs/a.log", "x");
  f.put("logs/b.txt", "y");
  f.put(".dockerignore", "*.key\nlogs\n!logs/b.txt\n");
  const auto built = f.build("FROM scratch\nCOPY . /all/\n");
  REQUIRE_MESSAGE(built, why(built));
  const std::string root = f.root(*built);
  CHECK(content(root + "/all/keep") == "1");
  CHECK(content(root + "/all/logs/b.txt") == "y");
  CHECK_FALSE(std::filesystem::exists(root + "/all/secret.key"));
  CHECK_FALSE(std::filesystem::exists(root + "/all/logs/a.log"));
  const auto hidden = f.build("FROM scratch\nCOPY secret.key /\n");
  REQUIRE_FALSE(hidden);
  CHECK(hidden.error().message().find("excluded by .dockerignore") != std::string::npos);
}

TEST_CASE("ADD unpacks local archives") {
  BuildFixture f;
  f.put("files.tar", image::test::TarText().directory("d").file("d/x", "x").finish());
  f.put("plain", "p");
  const auto built = f.build("FROM scratch\nADD files.tar /into/\nADD plain /into/\n");
  REQUIRE_MESSAGE(built, why(built));
  const std::string root = f.root(*built);
  CHECK(content(root + "/into/d/x") == "x");
  CHECK(content(root + "/into/plain") == "p");
}

TEST_CASE("a base image's configuration is kept and built upon") {
  BuildFixture f;
  const std::string layer = image::test::TarText().file("base", "b").finish();
  const std::string config = image::test::config_json(
      {layer}, "",
      "{\"Env\":[\"A=1\",\"PATH=/bin\"],\"Cmd\":[\"old\"],\"Entrypoint\":[\"/init\"],\"Custom\":true,"
      "\"OnBuild\":[\"ENV TRIGGERED=yes\"]}");
  REQUIRE(write_file(f.dir / "base.tar", image::test::docker_archive("base:1", {layer}, config)));
  REQUIRE(f.store->import(f.dir / "base.tar").wait(30s));
  const auto built = f.build("FROM base:1\nENV A=2 OLD=$A\nENTRYPOINT [\"/new\"]\n");
  REQUIRE_MESSAGE(built, why(built));
  CHECK(built->image.env == std::vector<std::string>{"A=2", "PATH=/bin", "TRIGGERED=yes", "OLD=1"});
  CHECK(built->image.entrypoint == std::vector<std::string>{"/new"});
  CHECK(built->image.command.empty());
  CHECK(bool_at(f.config(*built), "/config/Custom"));
  CHECK(content(f.root(*built) + "/base") == "b");
}

TEST_CASE("RUN: what a step wrote, changed and removed is its layer") {
  BuildFixture f;
  f.put("a", "a");
  f.put("gone", "g");
  f.runner = std::make_shared<FakeRunner>([](const StepRequest& request) {
    const std::string& root = request.root_directory;
    CHECK(request.args == std::vector<std::string>{"/bin/sh", "-c", "make it"});
    CHECK(request.cwd == "/w");
    CHECK(std::find(request.env.begin(), request.env.end(), "V=1") != request.env.end());
    REQUIRE(write_file(root + "/w/made", "made"));
    REQUIRE(write_file(root + "/a", "changed"));
    std::filesystem::remove(root + "/gone");
    std::filesystem::create_directories(root + "/proc/1");
    std::filesystem::create_hard_link(root + "/w/made", root + "/w/twin");
    return 0;
  });
  const std::string text = "FROM scratch\nARG V=1\nCOPY a gone /\nWORKDIR /w\nRUN make it\n";
  const auto built = f.build(text);
  REQUIRE_MESSAGE(built, why(built));
  const std::string root = f.root(*built);
  CHECK(content(root + "/w/made") == "made");
  CHECK(content(root + "/a") == "changed");
  CHECK_FALSE(std::filesystem::exists(root + "/gone"));
  CHECK_FALSE(std::filesystem::exists(root + "/proc"));
  CHECK(std::filesystem::hard_link_count(root + "/w/twin") == 2);
  CHECK(f.build(text)->cached == 3);
  CHECK(f.runner->runs == 1);
  BuildOptions options;
  options.build_args = {{"V", "1"}, {"HTTP_PROXY", "http://proxy.invalid"}};
  CHECK(f.build(text, options)->cached == 3);
  CHECK(std::filesystem::is_empty(f.dir / "store/snapshots") == false);  // the roots that this test looked at
  for (const auto& entry : std::filesystem::directory_iterator(f.dir / "store/snapshots")) {
    CHECK_FALSE(entry.path().filename().string().starts_with("tmp-"));
  }
}

TEST_CASE("errors name file, line and instruction") {
  BuildFixture f;
  f.put("a", "a");
  f.runner = std::make_shared<FakeRunner>([](const StepRequest&) { return 3; });
  struct Row {
    const char* text;
    const char* want;
    int line;
  };
  const Row rows[] = {
      {"FROM scratch\n\nCOPY missing /\n", "Dockerfile:3: COPY missing /: no \"missing\" in the context", 3},
      {"FROM scratch\nCOPY ../a /\n", "leads out of the context", 2},
      {"FROM scratch\nCOPY a a /x\n", "need a destination that ends with /", 2},
      {"FROM scratch\nRUN x\n", "Dockerfile:2: RUN x: the command ended with status 3", 2},
      {"FROM scratch\nCOPY --chown=nobody a /\n", "user \"nobody\" is not in the image's /etc/passwd", 2},
      {"FROM scratch\nCOPY --chmod=rwx a /\n", "is not octal", 2},
      {"FROM scratch\nEXPOSE http\n", "EXPOSE \"http\" is not PORT", 2},
      {"FROM $NOTHING\n", "the base image is empty", 1},
      {"FROM scratch\nADD http://example.invalid/x /\n", "without an HTTP client", 2},
      {"FROM scratch\nADD git://example.invalid/x.git /\n", "without a way to start git", 2},
      {"FROM scratch\nRUN --security=insecure x\n", "steps run in the sandbox only", 2},
      {"FROM scratch\nRUN --network=host x\n", "--network=host was not allowed", 2},
      {"FROM scratch\nRUN --mount=type=secret,id=k,required x\n", "the secret \"k\" was not given", 2},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const auto built = f.build(row.text);
    REQUIRE_FALSE(built);
    CHECK_MESSAGE(built.error().message().find(row.want) != std::string::npos, built.error().message());
    const auto* failure = built.error().detail<BuildFailure>();
    REQUIRE(failure);
    CHECK(failure->line == row.line);
  }
  const auto several = f.build("FROM scratch\nCOPY a b /x\n");
  REQUIRE_FALSE(several);
  BuildOptions options;
  options.target = "nope";
  const auto target = f.build("FROM scratch AS one\n", options);
  REQUIRE_FALSE(target);
  CHECK(target.error().message().find("no stage \"nope\"; it has: one") != std::string::npos);
  f.runner = nullptr;
  const auto no_runner = f.build("FROM scratch\nRUN y\n");
  REQUIRE_FALSE(no_runner);
  CHECK(no_runner.error().is(Error::unsupported));
  CHECK(f.store->list().value().empty());
}
