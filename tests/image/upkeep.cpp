// Keeping the disk clean without losing what is needed: the kubelet's policy, ages, pins, a full disk; and
// looking at a store as it lies.
#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>

#include "base/fd.hpp"
#include "image/collect.hpp"
#include "image/policy.hpp"
#include "image/store.hpp"
#include "orchestra/env.hpp"
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

struct Upkeep {
  TempDir dir;
  Engine engine;
  std::vector<ImageEvent> events;
  std::shared_ptr<ImageStore> store;
  Upkeep() {
    ImageStoreOptions options;
    options.dir = dir / "store";
    options.on_event = [this](const ImageEvent& event) { events.push_back(event); };
    store = ImageStore::open(engine, options).value();
  }
  void import(const std::string& name, bool pinned = false) {
    const std::string tar = TarText().file(name, std::string(100'000, name[0]) + name).finish();
    REQUIRE(write_file(dir / "image.tar", docker_archive(name + ":1", {tar})));
    ImportOptions options;
    options.pinned = pinned;
    REQUIRE(store->import(dir / "image.tar", options).wait(30s));
  }
  /// As if it was last used `hours` ago.
  void age(const std::string& name, int hours) {
    const auto image = store->lookup(name + ":1").value();
    const std::int64_t then = engine.clock().now().wall_ns / 1'000'000'000 - hours * 3600;
    const timespec times[2] = {{then, 0}, {then, 0}};
    REQUIRE(::utimensat(AT_FDCWD, store->internal()->blobs().path_of(image->digest).c_str(), times, 0) == 0);
  }
  std::string left() {
    std::string out;
    for (const ImageInfo& image : store->list().value())
      out += image.reference.substr(image.reference.rfind('/') + 1) + " ";
    return out;
  }
};

}  // namespace

TEST_CASE("how much has to go, by the kubelet's rule") {
  CollectPolicy policy;
  CHECK(bytes_to_free({1000, 500}, policy) == 0);
  CHECK(bytes_to_free({1000, 160}, policy) == 0);   // 84 %
  CHECK(bytes_to_free({1000, 151}, policy) == 49);  // 85 %, in whole numbers
  CHECK(bytes_to_free({1000, 150}, policy) == 50);
  CHECK(bytes_to_free({1000, 0}, policy) == 200);
  CHECK(bytes_to_free({0, 0}, policy) == 0);
  policy.high_percent = policy.low_percent = 100;
  CHECK(bytes_to_free({1000, 0}, policy) == 0);
}

TEST_CASE("the least recently used image goes first; pinned, used and young ones stay") {
  Upkeep f;
  for (const char* name : {"old", "older", "used", "young"}) f.import(name);
  f.import("pinned", true);
  for (const char* name : {"used", "pinned"}) f.age(name, 100);
  f.age("older", 50);
  f.age("old", 20);
  REQUIRE(f.store->prepare_root("used:1", "root", Isolation::process).wait(30s));
  f.age("used", 100);
  CollectPolicy policy;
  policy.high_percent = policy.low_percent = 100;
  SUBCASE("by size: until it fits") {
    policy.bytes_max = store_bytes(*f.store->internal()).value() - 1000;
    REQUIRE(f.store->collect_by(policy).wait(30s));
    CHECK(f.left() == "old:1 used:1 young:1 pinned:1 ");
  }
  SUBCASE("by size: all that may go") {
    policy.bytes_max = 1;
    REQUIRE(f.store->collect_by(policy).wait(30s));
    CHECK(f.left() == "used:1 young:1 pinned:1 ");
  }
  SUBCASE("by age") {
    policy.maximum_age = 30h;
    REQUIRE(f.store->collect_by(policy).wait(30s));
    CHECK(f.left() == "old:1 used:1 young:1 pinned:1 ");
  }
  SUBCASE("a disk that stays full is told once, as an error and an event") {
    policy.high_percent = policy.low_percent = 0;
    const auto done = f.store->collect_by(policy).wait(30s);
    REQUIRE_FALSE(done);
    CHECK(done.error().is(Error::no_space));
    CHECK(done.error().detail<CollectReport>() != nullptr);
    REQUIRE_FALSE(f.events.empty());
    CHECK(f.events.back().reason == "FreeDiskSpaceFailed");
    CHECK(f.left() == "used:1 young:1 pinned:1 ");
  }
  SUBCASE("limits the wrong way round are refused") {
    policy.low_percent = 90;
    policy.high_percent = 80;
    CHECK(f.store->collect_by(policy).wait(30s).error().is(Error::invalid));
  }
}

TEST_CASE("a store that collects by itself does so every period") {
  TempDir dir;
  Engine engine;
  std::atomic<int> told{0};
  ImageStoreOptions options;
  options.dir = dir / "store";
  options.collect.automatic = true;
  options.collect.period = 1s;
  options.collect.minimum_age = Duration(0);
  options.collect.high_percent = options.collect.low_percent = 100;
  options.on_event = [&told](const ImageEvent& event) { told += event.reason == "ImagesCollected" ? 1 : 0; };
  const auto store = ImageStore::open(engine, options).value();
  REQUIRE(store->internal()->blobs().put("left over"));
  const std::int64_t end = engine.clock().now().steady_ns + 30'000'000'000;
  while (told == 0 && engine.clock().now().steady_ns < end) {
    Promise<void> soon;
    engine.after(20ms, [soon] { soon.set(Result<void>()); });
    REQUIRE(soon.pending().wait(60s));
  }
  CHECK(told == 1);
  CHECK(store->internal()->blobs().list()->empty());
}

TEST_CASE("verify names what is damaged and only that") {
  Upkeep f;
  f.import("good");
  f.import("bad");
  CHECK(f.store->verify().wait(30s)->problems.empty());
  const auto image = f.store->internal()->load(f.store->lookup("bad:1").value()->digest).value();
  const std::string blob = f.store->internal()->blobs().path_of(image->manifest.layers[0].digest);
  const std::string bytes = read_file(blob, 1 << 20).value();
  REQUIRE(write_file(blob, bytes.substr(0, bytes.size() - 512)));
  fs::remove(f.store->internal()->layer_path(1) + "/good");
  const auto report = f.store->verify().wait(30s).value();
  REQUIRE(report.problems.size() == 3);
  CHECK(report.problems[0].find("blob sha256:") == 0);
  CHECK(report.problems[1].find("layer 1 ") == 0);
  CHECK(report.problems[2].find("docker.io/library/bad:1: its layer") == 0);
}

TEST_CASE("usage and diff of a root show what was written into it") {
  Upkeep f;
  f.import("base");
  const auto plan = f.store->prepare_root("base:1", "root", Isolation::process).wait(30s).value();
  REQUIRE(write_file(plan.directory + "/new", "new"));
  fs::remove(plan.directory + "/base");
  const auto usage = f.store->usage("root").wait(30s).value();
  CHECK(usage.inodes == 1);
  const auto digest = f.store->diff_to("root", f.dir / "diff.tar").wait(30s);
  REQUIRE_MESSAGE(digest, (digest ? "" : digest.error().to_string()));
  const auto source = make_file_source(open_file(f.dir / "diff.tar", O_RDONLY).value());
  TarReader tar(*source);
  std::string names;
  while (const auto entry = tar.next().value()) names += entry->path + " ";
  CHECK(names == ".wh.base new ");
}

TEST_CASE("a root file system is imported as one layer, from a folder and from a tar") {
  Upkeep f;
  fs::create_directories(f.dir / "tree/etc");
  REQUIRE(write_file(f.dir / "tree/etc/name", "n"));
  REQUIRE(write_file(f.dir / "tree.tar", TarText().directory("etc").file("etc/name", "n").finish()));
  for (const char* path : {"tree", "tree.tar"}) {
    ImportOptions options;
    options.name = std::string("made/") + path + ":1";
    options.root_file_system = true;
    const auto report = f.store->import(f.dir / path, options).wait(30s);
    REQUIRE_MESSAGE(report, (report ? "" : report.error().to_string()));
    const auto plan = f.store->prepare_root(options.name, path, Isolation::process).wait(30s).value();
    CHECK(read_file(plan.directory + "/etc/name", 10).value() == "n");
  }
}

TEST_CASE("a layout folder is extended by each export and read by import") {
  Upkeep f;
  f.import("one");
  f.import("two");
  const std::string folder = f.dir / "layout";
  REQUIRE(f.store->export_to(folder, {"one:1"}, ImageFormat::layout).wait(30s));
  REQUIRE(f.store->export_to(folder, {"two:1"}, ImageFormat::layout).wait(30s));
  REQUIRE(f.store->export_to(folder, {"one:1"}, ImageFormat::layout).wait(30s));
  const auto other = ImageStore::open(f.engine, {.dir = f.dir / "other"}).value();
  const auto imported = other->import(folder).wait(30s);
  REQUIRE_MESSAGE(imported, (imported ? "" : imported.error().to_string()));
  CHECK(imported->images.size() == 2);
  CHECK(other->lookup("one:1").value()->digest == f.store->lookup("one:1").value()->digest);
}
