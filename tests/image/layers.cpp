// Unpacking layers: the rules of image-spec layer.md, and what hostile archives try.
//
// Hostile cases have a canary beside the target: whatever the archive says, the canary stays as it is and
// nothing appears outside.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>

#include "image/file_copy.hpp"
#include "image/layer_apply.hpp"
#include "tests/image/fixtures.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::image;
using namespace orchestra::image::test;
using orchestra::test::TempDir;
namespace fs = std::filesystem;

namespace {

/// A stack that grows layer by layer, as an image is unpacked.
struct Stack {
  TempDir dir;
  std::vector<std::string> top_first;

  Stack() {
    fs::create_directory(dir / "outside");
    REQUIRE(write_file(dir / "outside/canary", "alive"));
  }
  Result<ApplyReport> apply(const std::string& tar, const ApplyOptions& options = {}) {
    const std::string path = dir / ("layer" + std::to_string(top_first.size()));
    fs::create_directory(path);
    const Fd target = open_file(path, O_RDONLY | O_DIRECTORY).value();
    const LayerStack lower = LayerStack::open(top_first).value();
    const auto source = make_memory_source(tar);
    auto report = apply_layer(*source, target.get(), lower, options);
    if (report) top_first.insert(top_first.begin(), path);
    return report;
  }
  void good(TarText& tar) {
    const auto report = apply(tar.finish());
    REQUIRE_MESSAGE(report, (report ? "" : report.error().to_string()));
  }
  std::string bad(TarText& tar) {
    const auto report = apply(tar.finish());
    REQUIRE_FALSE(report);
    return report.error().message();
  }
  /// The merged view as a plain folder.
  std::string merged() {
    static int count = 0;
    const std::string path = dir / ("merged" + std::to_string(++count));
    fs::create_directory(path);
    const Fd target = open_file(path, O_RDONLY | O_DIRECTORY).value();
    const auto copied = copy_stack(LayerStack::open(top_first).value(), target.get());
    REQUIRE_MESSAGE(copied, (copied ? "" : copied.error().to_string()));
    return path;
  }
  bool outside_is_untouched() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir / "outside"))
      names.push_back(entry.path().filename());
    return names == std::vector<std::string>{"canary"} &&
           read_file(dir / "outside/canary", 100).value() == "alive";
  }
};

struct stat status_of(const std::string& path) {
  struct stat status {};
  ::lstat(path.c_str(), &status);
  return status;
}

}  // namespace

TEST_CASE("whiteouts hide what lower layers have, wherever they stand") {
  Stack s;
  s.good(TarText().directory("d").file("d/old", "1").file("d/keep", "2").file("gone", "3"));
  s.good(TarText().file("new", "4").file(".wh.gone", "").file("d/.wh.old", "").file("d/.wh.never", ""));
  const std::string root = s.merged();
  CHECK(content(root + "/gone") == "(missing)");
  CHECK(content(root + "/d/old") == "(missing)");
  CHECK(content(root + "/d/keep") == "2");
  CHECK(content(root + "/new") == "4");
  CHECK(is_whiteout(status_of(s.top_first[0] + "/gone")));
  CHECK_FALSE(fs::exists(s.top_first[0] + "/d/never"));
}

TEST_CASE("a whiteout beside an entry of the same name and layer") {
  Stack s;
  s.good(TarText().directory("a").file("a/lower", "1").file("b", "1"));
  s.good(TarText().directory("a").file("a/upper", "2").file(".wh.a", "").file("b", "2").file(".wh.b", ""));
  const std::string root = s.merged();
  CHECK(content(root + "/a/lower") == "(missing)");
  CHECK(content(root + "/a/upper") == "2");
  CHECK(content(root + "/b") == "2");
}

TEST_CASE("an opaque marker hides lower siblings and no others") {
  Stack s;
  s.good(TarText().directory("d").file("d/one", "1").directory("d/sub").file("d/sub/x", "x"));
  s.good(TarText().directory("d").file("d/two", "2").file("d/.wh..wh..opq", ""));
  const std::string root = s.merged();
  CHECK(content(root + "/d/one") == "(missing)");
  CHECK(content(root + "/d/sub/x") == "(missing)");
  CHECK(content(root + "/d/two") == "2");
}

TEST_CASE("markers never reach the result; a whiteout of nothing is an error") {
  Stack s;
  s.good(TarText().file("x", "x"));
  s.good(TarText().file(".wh..wh.plnk", "").file(".wh..wh.aufs", "").directory(".wh.x").file(".wh.x/y", "y"));
  for (const auto& entry : fs::recursive_directory_iterator(s.merged())) {
    CHECK_FALSE(entry.path().filename().string().starts_with(".wh."));
  }
  CHECK(s.bad(TarText().file(".wh.", "")).find("whiteout of nothing") != std::string::npos);
  CHECK(s.bad(TarText().file("d/.wh..", "")).find("whiteout of nothing") != std::string::npos);
  CHECK(s.bad(TarText().file("d/.wh...", "")).find("whiteout of nothing") != std::string::npos);
}

TEST_CASE("a directory over a directory keeps content, every other clash replaces") {
  Stack s;
  s.good(TarText().directory("d").file("d/x", "x").file("f", "f").directory("t").file("t/x", "x"));
  s.good(TarText().directory("d", 0700).directory("f").file("f/in", "in").file("t", "file"));
  const std::string root = s.merged();
  CHECK(content(root + "/d/x") == "x");
  CHECK((status_of(root + "/d").st_mode & 07777) == 0700);
  CHECK(content(root + "/f/in") == "in");
  CHECK(content(root + "/t") == "file");
}

TEST_CASE("inside of one layer the last entry of a path wins") {
  Stack s;
  s.good(TarText()
             .file("a", "1")
             .file("a", "2")
             .directory("b")
             .file("b/x", "x")
             .file("b", "file")
             .directory("c", 0700)
             .directory("c", 0750));
  const std::string root = s.merged();
  CHECK(content(root + "/a") == "2");
  CHECK(content(root + "/b") == "file");
  CHECK((status_of(root + "/c").st_mode & 07777) == 0750);
}

TEST_CASE("missing parents look as below, or are 0755 root") {
  Stack s;
  TarEntry parent = directory_entry("d", 0711);
  parent.uid = parent.gid = ::geteuid() == 0 ? 12 : ::geteuid();
  s.good(TarText().add(parent));
  s.good(TarText().file("d/x", "x").file("fresh/deep/y", "y"));
  const std::string root = s.merged();
  CHECK((status_of(root + "/d").st_mode & 07777) == 0711);
  CHECK(status_of(root + "/d").st_uid == parent.uid);
  CHECK(status_of(root + "/d").st_mtim.tv_sec == 1'600'000'000);
  CHECK((status_of(root + "/fresh/deep").st_mode & 07777) == 0755);
}

TEST_CASE("links on the way are followed inside the image: in the layer, and in those below") {
  Stack s;
  s.good(
      TarText().directory("usr").directory("usr/lib").file("usr/lib/old", "old").symlink("lib", "usr/lib"));
  s.good(TarText().file("lib/new", "new").symlink("abs", "/usr").file("abs/lib/more", "more"));
  const std::string root = s.merged();
  CHECK(content(root + "/usr/lib/old") == "old");
  CHECK(content(root + "/usr/lib/new") == "new");
  CHECK(content(root + "/usr/lib/more") == "more");
  CHECK(fs::is_symlink(root + "/lib"));
}

TEST_CASE("hard links: in the layer, to a lower layer, and never to nothing or a directory") {
  Stack s;
  s.good(TarText().file("a", "a", 04755).hard_link("b", "a"));
  s.good(TarText().hard_link("c", "a").file("plain", "p"));
  const std::string root = s.merged();
  CHECK(status_of(root + "/c").st_nlink >= 2);
  CHECK(content(root + "/c") == "a");
  CHECK((status_of(root + "/a").st_mode & 07777) == 04755);
  CHECK(s.bad(TarText().hard_link("x", "missing")).find("does not exist") != std::string::npos);
  CHECK(s.bad(TarText().directory("d").hard_link("x", "d")).find("to a directory") != std::string::npos);
  CHECK(s.bad(TarText().hard_link("x", "x")).find("to itself") != std::string::npos);
}

TEST_CASE("attributes survive: owner, setuid, capabilities, times") {
  if (::geteuid() != 0) ORC_SKIP("attributes of layers", "needs root");
  Stack s;
  TarEntry entry = file_entry("ping", 04755);
  entry.uid = 5;
  entry.gid = 6;
  entry.mtime_ns = 250'000'000;
  entry.xattrs["security.capability"] = std::string("\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  entry.xattrs["user.note"] = "n";
  entry.xattrs["trusted.overlay.opaque"] = "y";
  entry.xattrs["user.overlay.redirect"] = "/etc";
  TarEntry directory = directory_entry("d");
  directory.xattrs["trusted.overlay.opaque"] = "y";
  s.good(TarText().directory("d").file("d/lower", "1"));
  s.good(TarText().add(entry, "x").add(directory).file("d/x", "x"));
  const std::string root = s.merged();
  const struct stat status = status_of(root + "/ping");
  CHECK(status.st_uid == 5);
  CHECK(status.st_gid == 6);
  CHECK((status.st_mode & 07777) == 04755);
  CHECK(status.st_mtim.tv_nsec == 250'000'000);
  char value[64];
  CHECK(::getxattr((root + "/ping").c_str(), "security.capability", value, sizeof value) == 20);
  // Markers of overlayfs cannot be forged by an archive.
  CHECK(::getxattr((s.top_first[0] + "/ping").c_str(), "user.overlay.redirect", value, sizeof value) < 0);
  CHECK(content(root + "/d/lower") == "1");
}

TEST_CASE("hostile: names that lead out (path traversal, CVE-2018-15664 and kin)") {
  Stack s;
  CHECK(s.bad(TarText().file("../outside/evil", "x")).find("holds \"..\"") != std::string::npos);
  CHECK(s.bad(TarText().file("a/../../outside/evil", "x")).find("holds \"..\"") != std::string::npos);
  CHECK(s.bad(TarText().directory("..")).find("holds \"..\"") != std::string::npos);
  CHECK(s.bad(TarText().hard_link("x", "../outside/canary")).find("holds \"..\"") != std::string::npos);
  s.good(TarText().file("/etc/absolute", "in").file("//x///y", "z").file("./dot", "d"));
  const std::string root = s.merged();
  CHECK(content(root + "/etc/absolute") == "in");
  CHECK(content(root + "/x/y") == "z");
  CHECK(s.outside_is_untouched());
}

TEST_CASE("hostile: a link to the outside, then a write through it (CVE-2021-29136, CVE-2019-14271)") {
  Stack s;
  const std::string outside = s.dir / "outside";
  SUBCASE("in one layer, absolute") {
    s.good(TarText().symlink("evil", outside).file("evil/canary", "dead"));
  }
  SUBCASE("in one layer, relative") {
    s.good(TarText().symlink("evil", "../outside").file("evil/canary", "dead"));
  }
  SUBCASE("across layers") {
    s.good(TarText().symlink("evil", "../outside"));
    s.good(TarText().file("evil/canary", "dead").file("evil/.wh.canary", ""));
  }
  SUBCASE("over the link itself") {
    s.good(TarText().symlink("canary", outside + "/canary").file("canary", "dead"));
  }
  SUBCASE("a chain of links") {
    s.good(TarText()
               .symlink("a", "b")
               .symlink("b", "c")
               .symlink("c", "../../..")
               .file("a/outside/canary", "dead"));
  }
  SUBCASE("directory attributes through a link") {
    s.good(TarText().symlink("evil", outside).directory("evil", 0777));
    CHECK((status_of(outside).st_mode & 0777) != 0777);
  }
  SUBCASE("opaque through a link") {
    s.good(TarText().symlink("evil", "../outside"));
    s.good(TarText().file("evil/.wh..wh..opq", ""));
  }
  CHECK(s.outside_is_untouched());
}

TEST_CASE("hostile: the root as something else than a directory (CVE-2021-29136)") {
  Stack s;
  CHECK(s.bad(TarText().symlink(".", "/")).find("only a directory") != std::string::npos);
  CHECK(s.bad(TarText().symlink("/", "/")).find("only a directory") != std::string::npos);
  CHECK(s.bad(TarText().file("./", "x")).find("") != std::string::npos);
  s.good(TarText().directory(".", 0711).file("x", "x"));
  CHECK((status_of(s.merged()).st_mode & 0777) == 0711);
}

TEST_CASE("hostile: hard links to files of the machine (CVE-2024-9676 and kin)") {
  Stack s;
  CHECK(s.bad(TarText().hard_link("x", s.dir / "outside/canary")).find("does not exist") !=
        std::string::npos);
  CHECK(s.bad(TarText().symlink("evil", s.dir / "outside").hard_link("x", "evil/canary"))
            .find("does not exist") != std::string::npos);
  // A link to a link is a link to the link itself.
  s.good(TarText().symlink("evil", s.dir / "outside/canary").hard_link("x", "evil").file("x", "new"));
  CHECK(s.outside_is_untouched());
}

TEST_CASE("hostile: a passwd that is a link to a large or special file outside (CVE-2024-9676)") {
  Stack s;
  s.good(TarText().directory("etc").symlink("etc/passwd", "/../../../../../../../../dev/zero"));
  const LayerStack stack = LayerStack::open(s.top_first).value();
  CHECK_FALSE(stack.read_file("etc/passwd", 1000).value());
  s.good(TarText().symlink("etc/passwd", "loop").symlink("etc/loop", "passwd"));
  CHECK_FALSE(LayerStack::open(s.top_first).value().read_file("etc/passwd", 1000));
  s.good(TarText().file("etc/passwd", std::string(2000, 'x')));
  CHECK(LayerStack::open(s.top_first).value().read_file("etc/passwd", 1000).error().is(Error::too_large));
}

TEST_CASE("hostile: devices that give access to the machine are left out and reported") {
  if (::geteuid() != 0) ORC_SKIP("devices in layers", "needs root");
  Stack s;
  TarEntry disk = file_entry("disk", 0666);
  disk.type = TarType::block_device;
  disk.device_major = 8;
  TarEntry memory = file_entry("mem", 0666);
  memory.type = TarType::character_device;
  memory.device_major = memory.device_minor = 1;
  TarEntry null = memory;
  null.path = "null";
  null.device_minor = 3;
  TarEntry forged = memory;  // 0:0 would be a whiteout
  forged.path = "x";
  forged.device_major = forged.device_minor = 0;
  s.good(TarText().file("x", "x"));
  const auto report = s.apply(TarText().add(disk).add(memory).add(null).add(forged).finish());
  REQUIRE(report);
  CHECK(report->skipped.size() == 3);
  CHECK(report->skipped[0] == "device disk 8:0 left out");
  const std::string root = s.merged();
  CHECK_FALSE(fs::exists(root + "/disk"));
  CHECK_FALSE(fs::exists(root + "/mem"));
  CHECK(S_ISCHR(status_of(root + "/null").st_mode));
  CHECK(content(root + "/x") == "x");
}

TEST_CASE("hostile: bombs end at their bounds") {
  Stack s;
  ApplyOptions options;
  options.bytes_max = 1000;
  options.depth_max = 10;
  options.tar.entries_max = 5;
  const auto message = [&](TarText& tar) {
    const auto report = s.apply(tar.finish(), options);
    return report ? std::string("(unpacked)") : report.error().message();
  };
  CHECK(message(TarText().file("a", std::string(600, 'x')).file("b", std::string(600, 'x')))
            .find("more than 1000") != std::string::npos);
  std::string deep = "d";
  for (int i = 0; i < 20; ++i) deep += "/d";
  CHECK(message(TarText().file(deep, "x")).find("deeper than 10") != std::string::npos);
  TarText many;
  for (int i = 0; i < 10; ++i) many.file("f" + std::to_string(i), "");
  CHECK(message(many).find("more than 5 entries") != std::string::npos);
  CHECK(message(TarText().symlink("a", "a").file("a/x", "x")).find("symbolic links") != std::string::npos);
  CHECK(message(TarText().symlink("a", "b/x").symlink("b", "a/x").file("a/y", "x")).find("links") !=
        std::string::npos);
  CHECK(s.outside_is_untouched());
}
