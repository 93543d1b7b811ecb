// Against Debian's own tools, both ways: skopeo, umoci and buildah read what we write and write what we read,
// digests kept; and our tar reader gives what GNU tar and bsdtar give.
//
// Each peer that is absent is skipped by name.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "base/fd.hpp"
#include "image/layer_apply.hpp"
#include "image/manifest.hpp"
#include "orchestra/image_builder.hpp"
#include "orchestra/image_store.hpp"
#include "tests/image/fixtures.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::image;
using namespace orchestra::image::test;
using namespace std::chrono_literals;
using orchestra::test::TempDir;
namespace fs = std::filesystem;

namespace {

bool has(const std::string& program) {
  return std::system(("command -v " + program + " >/dev/null 2>&1").c_str()) == 0;
}

struct Peers {
  TempDir dir;
  Engine engine;
  std::shared_ptr<ImageStore> store;
  Peers() { store = ImageStore::open(engine, {.dir = dir / "store"}).value(); }
  /// The command's output must not hide why it failed.
  void run(const std::string& command) {
    const int status = std::system(("cd '" + dir.path() + "' && (" + command + ") >log 2>&1").c_str());
    REQUIRE_MESSAGE(status == 0, command << ": " << read_file(dir / "log", 1 << 16).value_or(""));
  }
  ImageInfo import_sample() {
    const std::vector<std::string> layers{
        TarText().directory("etc").file("etc/a", "1", 0640).symlink("link", "etc/a").finish(),
        TarText().file("etc/.wh.a", "").file("etc/b", "2").hard_link("etc/c", "etc/b").finish()};
    REQUIRE(write_file(dir / "in.tar", docker_archive("sample:1", layers)));
    return store->import(dir / "in.tar").wait(30s).value().images.at(0);
  }
};

/// Every path with type, mode, owner, times, links and content.
std::string describe_tree(const std::string& root, bool owners) {
  std::map<std::string, std::string> lines;
  std::map<ino_t, std::string> first;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    struct stat status {};
    REQUIRE(::lstat(entry.path().c_str(), &status) == 0);
    const std::string path = entry.path().lexically_relative(root);
    std::string line = std::to_string(status.st_mode);
    if (owners) line += " " + std::to_string(status.st_uid) + ":" + std::to_string(status.st_gid);
    if (!S_ISDIR(status.st_mode)) line += " " + std::to_string(status.st_mtim.tv_sec);
    if (S_ISLNK(status.st_mode)) line += " -> " + fs::read_symlink(entry.path()).string();
    if (S_ISREG(status.st_mode)) {
      line += " " + sha256_digest(read_file(entry.path(), 16 << 20).value());
      line += " =" + std::to_string(status.st_nlink);
    }
    if (S_ISCHR(status.st_mode)) line += " dev " + std::to_string(status.st_rdev);
    lines[path] = line;
  }
  std::string out;
  for (const auto& [path, line] : lines) out += path + " " + line + "\n";
  return out;
}

}  // namespace

TEST_CASE("skopeo reads our archives, layouts and the store itself; we read what it writes, same digests") {
  if (!has("skopeo")) ORC_SKIP("interop with skopeo", "skopeo is not installed (apt-get install skopeo)");
  Peers p;
  const ImageInfo image = p.import_sample();
  REQUIRE(p.store->export_to(p.dir / "our.oci", {"sample:1"}).wait(30s));
  REQUIRE(p.store->export_to(p.dir / "our.docker", {"sample:1"}, ImageFormat::docker).wait(30s));
  REQUIRE(p.store->export_to(p.dir / "layout", {"sample:1"}, ImageFormat::layout).wait(30s));
  const std::string skopeo = "skopeo --insecure-policy copy -q ";
  p.run(skopeo + "oci-archive:our.oci:docker.io/library/sample:1 oci:one:x");
  p.run(skopeo + "docker-archive:our.docker:sample:1 oci:two:x");
  p.run(skopeo + "--preserve-digests oci:layout:docker.io/library/sample:1 oci-archive:three.oci:sample:1");
  p.run(skopeo + "oci:store:docker.io/library/sample:1 docker-archive:four.tar:sample:4");
  p.run(skopeo + "--dest-compress-format zstd oci:layout:docker.io/library/sample:1 oci:five:x");
  const auto other = ImageStore::open(p.engine, {.dir = p.dir / "other"}).value();
  ImportOptions named;
  named.name = "back:1";
  for (const char* name : {"one", "two", "three.oci", "four.tar", "five"}) {
    CAPTURE(name);
    const auto back = other->import(p.dir / name, named).wait(30s);
    REQUIRE_MESSAGE(back, (back ? "" : back.error().to_string()));
    // skopeo writes the configuration anew from docker's form only, the manifest where it compresses.
    if (std::string(name) != "two") CHECK(back->images.at(0).id == image.id);
    if (std::string(name) == "three.oci") CHECK(back->images.at(0).digest == image.digest);
    const auto plan = other->prepare_root("back:1", std::string("r-") + name, Isolation::process).wait(30s);
    REQUIRE(plan);
    CHECK(read_file(plan->directory + "/etc/c", 10).value() == "2");
    CHECK_FALSE(fs::exists(plan->directory + "/etc/a"));
  }
}

TEST_CASE("umoci unpacks our layouts to the same tree, and its own layouts import") {
  if (!has("umoci")) ORC_SKIP("interop with umoci", "umoci is not installed (apt-get install umoci)");
  if (::geteuid() != 0) ORC_SKIP("interop with umoci", "needs root");
  Peers p;
  p.import_sample();
  REQUIRE(p.store->export_to(p.dir / "layout", {"sample:1"}, ImageFormat::layout).wait(30s));
  // umoci takes tags of its own grammar only: the name without host and slash.
  const std::string index = read_file(p.dir / "layout/index.json", 1 << 20).value();
  const std::string from = "docker.io/library/sample:1";
  std::string renamed = index;
  renamed.replace(renamed.find(from), from.size(), "one");
  REQUIRE(write_file(p.dir / "layout/index.json", renamed));
  p.run("umoci unpack --image layout:one bundle");
  const auto plan = p.store->prepare_root("sample:1", "ours", Isolation::process).wait(30s).value();
  CHECK(describe_tree(plan.directory, true) == describe_tree(p.dir / "bundle/rootfs", true));
  p.run(
      "echo new > bundle/rootfs/etc/new && rm bundle/rootfs/link && umoci repack --image layout:two bundle");
  const auto other = ImageStore::open(p.engine, {.dir = p.dir / "other"}).value();
  const auto back = other->import(p.dir / "layout").wait(30s);
  REQUIRE_MESSAGE(back, (back ? "" : back.error().to_string()));
  REQUIRE(back->images.size() == 2);
  const auto changed =
      other->prepare_root(back->images[1].digest, "changed", Isolation::process).wait(30s).value();
  CHECK(read_file(changed.directory + "/etc/new", 10).value() == "new\n");
  CHECK_FALSE(fs::exists(fs::symlink_status(changed.directory + "/link")));
}

TEST_CASE("buildah builds the same configuration and tree from the same Dockerfile") {
  if (!has("buildah")) ORC_SKIP("interop with buildah", "buildah is not installed (apt-get install buildah)");
  if (::geteuid() != 0) ORC_SKIP("interop with buildah", "needs root");
  Peers p;
  fs::create_directories(p.dir / "src/sub");
  REQUIRE(write_file(p.dir / "src/a", "a"));
  REQUIRE(write_file(p.dir / "src/sub/b", "b"));
  REQUIRE(
      write_file(p.dir / "src/Dockerfile",
                 "FROM scratch AS one\nCOPY sub /s\nFROM scratch\nARG V=7\nENV V=$V W=\"a b\"\nLABEL l=m\n"
                 "COPY a /d/\nCOPY --from=one /s /from\nCOPY --chown=5:6 --chmod=0751 a /owned\n"
                 "WORKDIR /w/x\nEXPOSE 80 90/udp\nUSER 5\nVOLUME /v\nSTOPSIGNAL SIGINT\n"
                 "ENTRYPOINT [\"/e\"]\nCMD [\"c\"]\n"));
  BuildOptions options;
  options.context = p.dir / "src";
  options.tag = "ours:1";
  const auto built = ImageBuilder(p.store).build(options).wait(60s);
  REQUIRE_MESSAGE(built, (built ? "" : built.error().to_string()));
  const std::string storage =
      "buildah --root '" + (p.dir / "bs") + "' --runroot '" + (p.dir / "br") + "' --storage-driver vfs ";
  p.run(storage + "bud -q --isolation chroot --format oci -t theirs:1 src && " + storage +
        "push -q theirs:1 oci-archive:theirs.oci:theirs:1");
  ImportOptions named;
  named.name = "theirs:1";
  const auto back = p.store->import(p.dir / "theirs.oci", named).wait(30s);
  REQUIRE_MESSAGE(back, (back ? "" : back.error().to_string()));
  const ImageInfo &a = built->image, &b = back->images.at(0);
  // Each has a default PATH of its own for images from scratch.
  for (const char* item : {"V=7", "W=a b"}) {
    CHECK(std::find(a.env.begin(), a.env.end(), item) != a.env.end());
    CHECK(std::find(b.env.begin(), b.env.end(), item) != b.env.end());
  }
  CHECK(a.entrypoint == b.entrypoint);
  CHECK(a.command == b.command);
  CHECK(a.user == b.user);
  CHECK(a.working_directory == b.working_directory);
  CHECK(a.stop_signal == b.stop_signal);
  CHECK(a.exposed_ports == b.exposed_ports);
  CHECK(a.volumes == b.volumes);
  CHECK(a.labels.at("l") == b.labels.at("l"));
  const auto ours = p.store->prepare_root("ours:1", "ours", Isolation::process).wait(30s).value();
  const auto theirs = p.store->prepare_root("theirs:1", "theirs", Isolation::process).wait(30s).value();
  for (const char* path : {"/d/a", "/from/b", "/owned"}) {
    CAPTURE(path);
    struct stat one {
    }, two{};
    REQUIRE(::stat((ours.directory + path).c_str(), &one) == 0);
    REQUIRE(::stat((theirs.directory + path).c_str(), &two) == 0);
    CHECK(one.st_mode == two.st_mode);
    CHECK(one.st_uid == two.st_uid);
    CHECK(one.st_gid == two.st_gid);
  }
  CHECK(fs::is_directory(theirs.directory + "/w/x") == fs::is_directory(ours.directory + "/w/x"));
}

TEST_CASE("GNU tar and bsdtar unpack as we do, whoever packed") {
  Peers p;
  fs::create_directories(p.dir / "tree/sub/deep");
  REQUIRE(write_file(p.dir / "tree/file", std::string(10'000, 'f'), 0640));
  REQUIRE(write_file(p.dir / ("tree/" + std::string(120, 'n')), "long name"));
  REQUIRE(write_file(p.dir / "tree/sub/x", "x", 0755));
  fs::create_hard_link(p.dir / "tree/sub/x", p.dir / "tree/sub/hard");
  fs::create_symlink(std::string(150, 't'), p.dir / "tree/sub/link");
  REQUIRE(::truncate((p.dir / "tree/file").c_str(), 3'000'000) == 0);  // a hole at its end
  REQUIRE(::mkfifo((p.dir / "tree/fifo").c_str(), 0600) == 0);
  std::vector<std::string> packers{"tar --format=gnu -cf", "tar --format=pax -cf",
                                   "tar --sparse --format=pax -cf", "tar --sparse --format=gnu -cf"};
  if (has("bsdtar")) {
    packers.insert(packers.end(), {"bsdtar --format=pax -cf", "bsdtar --format=gnutar -cf"});
  } else {
    orchestra::test::record_skip("interop with bsdtar", "bsdtar is not installed (libarchive-tools)");
  }
  const std::string wanted = describe_tree(p.dir / "tree", true);
  int number = 0;
  for (const std::string& packer : packers) {
    CAPTURE(packer);
    const std::string name = std::to_string(++number);
    p.run(packer + " " + name + ".tar -C tree .");
    fs::create_directory(p.dir / ("ours" + name));
    const Fd target = open_file(p.dir / ("ours" + name), O_RDONLY | O_DIRECTORY).value();
    const auto source = make_file_source(open_file(p.dir / (name + ".tar"), O_RDONLY).value());
    const auto applied = apply_layer(*source, target.get(), LayerStack());
    REQUIRE_MESSAGE(applied, (applied ? "" : applied.error().to_string()));
    CHECK(describe_tree(p.dir / ("ours" + name), true) == wanted);
    fs::create_directory(p.dir / ("peer" + name));
    p.run("tar -xpf " + name + ".tar -C peer" + name);
    CHECK(describe_tree(p.dir / ("peer" + name), true) == wanted);
  }
}
