// The store end to end on a temporary folder: import, names, roots, and what a crash leaves.
#include "orchestra/image_store.hpp"

#include <bzlib.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <lzma.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>

#include "api/image_service.hpp"
#include "base/fd.hpp"
#include "orchestra/engine.hpp"
#include "tests/image/fixtures.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::image::test;
using namespace std::chrono_literals;
using orchestra::test::TempDir;

namespace {

std::string gzip(const std::string& plain) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&stream, plain.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(plain.data()));
  stream.avail_in = static_cast<uInt>(plain.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}
std::string bzip2(std::string plain) {
  std::string out(plain.size() + 1000, '\0');
  auto size = static_cast<unsigned>(out.size());
  REQUIRE(BZ2_bzBuffToBuffCompress(out.data(), &size, plain.data(), static_cast<unsigned>(plain.size()), 9, 0,
                                   0) == BZ_OK);
  return out.substr(0, size);
}
/// `level`: the dictionary of 9 is 64 MiB.
std::string xz(const std::string& plain, std::uint32_t level = 1) {
  std::string out(lzma_stream_buffer_bound(plain.size()), '\0');
  std::size_t size = 0;
  REQUIRE(lzma_easy_buffer_encode(level, LZMA_CHECK_CRC64, nullptr,
                                  reinterpret_cast<const std::uint8_t*>(plain.data()), plain.size(),
                                  reinterpret_cast<std::uint8_t*>(out.data()), &size, out.size()) == LZMA_OK);
  return out.substr(0, size);
}
std::string zstd(const std::string& plain) {
  std::string out(ZSTD_compressBound(plain.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), plain.data(), plain.size(), 3));
  return out;
}

std::string base_layer() {
  return TarText()
      .directory("bin")
      .file("bin/sh", "#!shell", 0755)
      .directory("etc")
      .file("etc/passwd", "root:x:0:0::/root:/bin/sh\nredis:x:100:101::/data:/bin/sh\n")
      .file("etc/group", "root:x:0:\nredis:x:101:\naudio:x:29:redis\n")
      .file("etc/old", "old")
      .finish();
}
std::string top_layer() {
  return TarText().file("etc/.wh.old", "").file("etc/new", "new").file("hello", "world").finish();
}

struct StoreFixture {
  TempDir dir;
  Engine engine;
  std::shared_ptr<ImageStore> open(ImageStoreOptions options = {}) {
    options.dir = dir / "store";
    auto store = ImageStore::open(engine, options);
    REQUIRE_MESSAGE(store, (store ? "" : store.error().to_string()));
    return *store;
  }
  std::string put(const std::string& name, const std::string& bytes) {
    REQUIRE(write_file(dir / name, bytes));
    return dir / name;
  }
};

}  // namespace

TEST_CASE("a docker archive is imported: names, id, configuration and content are there") {
  StoreFixture f;
  const std::vector<std::string> layers{base_layer(), top_layer()};
  const auto store = f.open();
  const std::string archive = docker_archive("shop/web:1", layers);
  const auto report = store->import(f.put("web.tar", archive)).wait(30s);
  REQUIRE_MESSAGE(report, (report ? "" : report.error().to_string()));
  REQUIRE(report->images.size() == 1);
  CHECK(report->images[0].reference == "docker.io/shop/web:1");
  CHECK(report->images[0].id == image::sha256_digest(config_json(layers)));
  CHECK(report->images[0].command == std::vector<std::string>{"/bin/sh"});

  const auto info = store->lookup("shop/web:1").value();
  REQUIRE(info);
  CHECK(info->pinned.starts_with("docker.io/shop/web@sha256:"));
  CHECK(store->lookup(info->id).value());
  CHECK(store->lookup(info->id.substr(7, 12)).value());
  CHECK_FALSE(store->lookup("shop/web:2").value());
  CHECK(store->raw_config("shop/web:1").value() == config_json(layers));
}

TEST_CASE("compressed archives and OCI layouts give the same image") {
  const std::vector<std::string> layers{base_layer(), top_layer()};
  const std::string plain = docker_archive("shop/web:1", layers);
  StoreFixture f;
  const auto store = f.open();
  SUBCASE("gzip") { REQUIRE(store->import(f.put("web.tar.gz", gzip(plain))).wait(30s)); }
  SUBCASE("gzip with two members") {
    const std::string both = gzip(plain.substr(0, 700)) + gzip(plain.substr(700));
    REQUIRE(store->import(f.put("web.tar.gz", both)).wait(30s));
  }
  SUBCASE("zstd with two frames") {
    const std::string both = zstd(plain.substr(0, 700)) + zstd(plain.substr(700));
    REQUIRE(store->import(f.put("web.tar.zst", both)).wait(30s));
  }
  SUBCASE("bzip2 with two streams") {
    const std::string both = bzip2(plain.substr(0, 700)) + bzip2(plain.substr(700));
    REQUIRE(store->import(f.put("web.tar.bz2", both)).wait(30s));
  }
  SUBCASE("xz with two streams") {
    const std::string both = xz(plain.substr(0, 700)) + xz(plain.substr(700), 9);
    REQUIRE(store->import(f.put("web.tar.xz", both)).wait(30s));
  }
  SUBCASE("layers packed by bzip2 and xz in an archive") {
    const std::string packed =
        docker_archive("shop/web:1", {bzip2(layers[0]), xz(layers[1])}, config_json(layers));
    REQUIRE(store->import(f.put("web.tar", packed)).wait(30s));
  }
  SUBCASE("an OCI layout folder") {
    for (const auto& [path, bytes] : oci_layout("shop/web:1", layers)) {
      std::filesystem::create_directories(std::filesystem::path(f.dir / ("layout/" + path)).parent_path());
      f.put("layout/" + path, bytes);
    }
    const auto report = store->import(f.dir / "layout").wait(30s);
    REQUIRE_MESSAGE(report, (report ? "" : report.error().to_string()));
  }
  SUBCASE("an OCI archive") {
    TarText tar;
    for (const auto& [path, bytes] : oci_layout("shop/web:1", layers)) tar.file(path, bytes);
    const auto report = store->import(f.put("oci.tar", tar.finish())).wait(30s);
    REQUIRE_MESSAGE(report, (report ? "" : report.error().to_string()));
  }
  CHECK(store->lookup("shop/web:1").value()->id == image::sha256_digest(config_json(layers)));
  const auto plan = store->prepare_root("shop/web:1", "c1", Isolation::process).wait(30s).value();
  CHECK(content(plan.directory + "/hello") == "world");
  CHECK(content(plan.directory + "/etc/old") == "(missing)");
}

TEST_CASE("a root at level process is a plain folder with the merged layers") {
  StoreFixture f;
  const auto store = f.open();
  REQUIRE(store->import(f.put("a.tar", docker_archive("a", {base_layer(), top_layer()}))).wait(30s));
  const auto plan = store->prepare_root("a", "web-1", Isolation::process).wait(30s).value();
  CHECK(plan.overlay_lower.empty());
  CHECK(content(plan.directory + "/etc/new") == "new");
  CHECK(content(plan.directory + "/bin/sh") == "#!shell");
  CHECK(content(plan.directory + "/etc/old") == "(missing)");
  struct stat status {};
  REQUIRE(::stat((plan.directory + "/bin/sh").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0755);
  CHECK(status.st_mtim.tv_sec == 1'600'000'000);

  SUBCASE("asking again gives the same root, with what was written") {
    REQUIRE(write_file(plan.directory + "/mine", "x"));
    CHECK(store->prepare_root("a", "web-1", Isolation::process).wait(30s).value().directory ==
          plan.directory);
    CHECK(content(plan.directory + "/mine") == "x");
  }
  SUBCASE("another image under the same owner is a conflict") {
    REQUIRE(store->import(f.put("b.tar", docker_archive("b", {top_layer()}))).wait(30s));
    const auto other = store->prepare_root("b", "web-1", Isolation::process).wait(30s);
    REQUIRE_FALSE(other);
    CHECK(other.error().is(Error::conflict));
  }
  SUBCASE("writing into it does not change the image") {
    REQUIRE(write_file(plan.directory + "/hello", "changed"));
    const auto second = store->prepare_root("a", "web-2", Isolation::process).wait(30s).value();
    CHECK(content(second.directory + "/hello") == "world");
  }
  SUBCASE("released, it is gone; twice is fine") {
    CHECK(store->service()->root_owners().value() == std::vector<std::string>{"web-1"});
    REQUIRE(store->release_root("web-1").wait(30s));
    REQUIRE(store->release_root("web-1").wait(30s));
    CHECK(store->service()->root_owners().value().empty());
    CHECK_FALSE(std::filesystem::exists(plan.directory));
  }
}

TEST_CASE("an overlay root really mounts and shows the merged layers") {
  StoreFixture f;
  const auto store = f.open();
  if (const std::string why = store->overlay_problem(); !why.empty()) ORC_SKIP("overlay root", why);
  REQUIRE(store->import(f.put("a.tar", docker_archive("a", {base_layer(), top_layer()}))).wait(30s));
  const auto plan = store->prepare_root("a", "web-1", Isolation::full).wait(30s).value();
  REQUIRE(plan.overlay_lower.size() == 2);

  // A detached mount: nothing appears in the machine's mount table.
  Fd context(static_cast<int>(::syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC)));
  REQUIRE(context);
  std::string lower;
  for (const std::string& name : plan.overlay_lower) {
    lower += (lower.empty() ? "" : ":") + plan.layers_directory + "/" + name;
  }
  for (const auto& [key, value] : {std::pair<const char*, std::string>{"lowerdir", lower},
                                   {"upperdir", plan.overlay_upper},
                                   {"workdir", plan.overlay_work}}) {
    REQUIRE(::syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0) == 0);
  }
  REQUIRE(::syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0);
  const Fd root(static_cast<int>(::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, 0)));
  REQUIRE(root);
  CHECK(::faccessat(root.get(), "etc/old", F_OK, 0) != 0);
  CHECK(::faccessat(root.get(), "etc/new", F_OK, 0) == 0);
  CHECK(::faccessat(root.get(), "bin/sh", X_OK, 0) == 0);
  struct stat status {};
  REQUIRE(::fstat(root.get(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0755);
}

TEST_CASE("users are found in the image's own files") {
  StoreFixture f;
  const auto store = f.open();
  REQUIRE(store->import(f.put("a.tar", docker_archive("a", {base_layer()}))).wait(30s));
  for (const Isolation isolation : {Isolation::full, Isolation::process}) {
    const std::string owner = isolation == Isolation::full ? "full" : "process";
    REQUIRE(store->prepare_root("a", owner, isolation).wait(30s));
    const auto redis = store->service()->resolve_user(owner, "redis").wait(30s).value();
    CHECK(redis.uid == 100);
    CHECK(redis.gid == 101);
    CHECK(redis.groups == std::vector<std::uint32_t>{29});
    CHECK(redis.home == "/data");
    CHECK(store->service()->resolve_user(owner, "").wait(30s).value().home == "/root");
    const auto nobody = store->service()->resolve_user(owner, "mallory").wait(30s);
    REQUIRE_FALSE(nobody);
    CHECK(nobody.error().message() == "user \"mallory\" is not in the image's /etc/passwd");
  }
}

TEST_CASE("a second process on the same folder is refused with the pid of the first") {
  StoreFixture f;
  const auto store = f.open();
  const auto second = ImageStore::open(f.engine, {.dir = f.dir / "store"});
  REQUIRE_FALSE(second);
  CHECK(second.error().is(Error::busy));
  CHECK(second.error().message().find(std::to_string(::getpid())) != std::string::npos);
}

TEST_CASE("a store opened again knows its images, layers and roots, and drops what a crash left") {
  StoreFixture f;
  {
    const auto store = f.open();
    REQUIRE(store->import(f.put("a.tar", docker_archive("a", {base_layer()}))).wait(30s));
    REQUIRE(store->prepare_root("a", "web-1", Isolation::process).wait(30s));
  }
  for (const char* left : {"store/ingest/99", "store/layers/tmp-9", "store/layers/77",
                           "store/snapshots/tmp-x", "store/snapshots/half"}) {
    std::filesystem::create_directories(f.dir / left);
  }
  const auto store = f.open();
  CHECK(store->lookup("a").value());
  CHECK(store->service()->root_owners().value() == std::vector<std::string>{"web-1"});
  for (const char* left : {"store/ingest/99", "store/layers/tmp-9", "store/layers/77",
                           "store/snapshots/tmp-x", "store/snapshots/half"}) {
    CAPTURE(left);
    CHECK_FALSE(std::filesystem::exists(f.dir / left));
  }
}

TEST_CASE("a damaged archive imports nothing and says what is wrong") {
  StoreFixture f;
  const auto store = f.open();
  const std::vector<std::string> layers{base_layer()};
  std::string archive = docker_archive("a", layers);
  std::string wanted;
  SUBCASE("not an image") {
    archive = TarText().file("readme", "hi").finish();
    wanted = "neither index.json nor manifest.json";
  }
  SUBCASE("a layer that is not the one of the configuration") {
    archive = docker_archive("a", {top_layer()}, config_json(layers));
    wanted = "the configuration says " + image::sha256_digest(layers[0]);
  }
  SUBCASE("cut in the middle") {
    archive.resize(archive.size() / 2);
    wanted = "cut short";
  }
  SUBCASE("another architecture") {
    archive = docker_archive("a", layers, config_json(layers, "s390x"));
    wanted = "no image for linux/";
  }
  SUBCASE("not even an archive") {
    archive = std::string(4096, 'x');
    wanted = "checksum";
  }
  SUBCASE("a damaged gzip") {
    archive = gzip(archive);
    archive.resize(archive.size() - 20);
    wanted = "gzip data ends in the middle";
  }
  SUBCASE("a bzip2 that is cut off") {
    archive = bzip2(archive);
    archive.resize(archive.size() - 20);
    wanted = "bzip2 data ends in the middle";
  }
  SUBCASE("a bzip2 with a changed byte") {
    archive = bzip2(archive);
    archive[archive.size() / 2] = static_cast<char>(archive[archive.size() / 2] ^ 0x55);
    wanted = "bzip2 data is damaged";
  }
  SUBCASE("an xz that is cut off") {
    archive = xz(archive);
    archive.resize(archive.size() - 20);
    wanted = "xz data ends in the middle";
  }
  SUBCASE("an xz with a changed byte") {
    archive = xz(archive);
    archive[archive.size() / 2] = static_cast<char>(archive[archive.size() / 2] ^ 0x55);
    wanted = "xz data is damaged";
  }
  SUBCASE("an xz that asks for more memory than anybody should give it") {
    lzma_options_lzma options;
    REQUIRE(!lzma_lzma_preset(&options, 9));
    options.dict_size = 512 << 20;
    const lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, nullptr}};
    std::string out(lzma_stream_buffer_bound(archive.size()), '\0');
    std::size_t size = 0;
    REQUIRE(lzma_stream_buffer_encode(const_cast<lzma_filter*>(filters), LZMA_CHECK_CRC32, nullptr,
                                      reinterpret_cast<const std::uint8_t*>(archive.data()), archive.size(),
                                      reinterpret_cast<std::uint8_t*>(out.data()), &size,
                                      out.size()) == LZMA_OK);
    archive = out.substr(0, size);
    wanted = "more than 128 MiB of memory";
  }
  const auto report = store->import(f.put("a.tar", archive)).wait(30s);
  REQUIRE_FALSE(report);
  CHECK_MESSAGE(report.error().to_string().find(wanted) != std::string::npos, report.error().to_string());
  CHECK(store->list().value().empty());
}

TEST_CASE("preloaded images are imported once, pinned, and a broken file stops nothing") {
  StoreFixture f;
  std::filesystem::create_directories(f.dir / "preload");
  f.put("preload/a.tar", docker_archive("a", {base_layer()}));
  f.put("preload/broken.tar", "this is no archive");
  ImageStoreOptions options;
  options.preload_dirs = {f.dir / "preload", f.dir / "missing"};
  {
    const auto store = f.open(options);
    REQUIRE(store->list().value().size() == 1);
    CHECK(store->lookup("a").value());
  }
  // Not read again: the archive could be gone, as long as the file looks the same.
  const auto before = std::filesystem::last_write_time(f.dir / "preload/a.tar");
  const auto size = std::filesystem::file_size(f.dir / "preload/a.tar");
  f.put("preload/a.tar", std::string(size, 'x'));
  std::filesystem::last_write_time(f.dir / "preload/a.tar", before);
  const auto store = f.open(options);
  CHECK(store->lookup("a").value());
}

TEST_CASE("names are moved by tag and removed without taking roots away") {
  StoreFixture f;
  const auto store = f.open();
  REQUIRE(store->import(f.put("a.tar", docker_archive("a:1", {base_layer()}))).wait(30s));
  REQUIRE(store->prepare_root("a:1", "web-1", Isolation::process).wait(30s));
  REQUIRE(store->tag("a:1", "b:2"));
  CHECK(store->lookup("b:2").value()->names.size() == 2);
  REQUIRE(store->remove("a:1"));
  CHECK_FALSE(store->lookup("a:1").value());
  CHECK(store->lookup("b:2").value());
  REQUIRE(store->remove("b:2"));
  CHECK(store->service()->root_owners().value().size() == 1);
  const auto again = store->remove("b:2");
  REQUIRE_FALSE(again);
  CHECK(again.error().is(Error::not_found));
}

TEST_CASE("the service follows the pull policy") {
  StoreFixture f;
  const auto store = f.open();
  REQUIRE(store->import(f.put("a.tar", docker_archive("a:1", {base_layer()}))).wait(30s));
  const auto service = store->service();
  CHECK(service->ensure({.reference = "a:1", .policy = PullPolicy::if_not_present}).wait(30s));
  CHECK(service->ensure({.reference = "a:1", .policy = PullPolicy::never}).wait(30s));
  const auto never = service->ensure({.reference = "a:2", .policy = PullPolicy::never}).wait(30s);
  REQUIRE_FALSE(never);
  CHECK(never.error().is(Error::not_found));
  const auto bad = service->ensure({.reference = "A:2"}).wait(30s);
  REQUIRE_FALSE(bad);
  CHECK(bad.error().is(Error::invalid));
}
