// Tar: what we write is read back, what GNU tar writes is understood, what is broken is refused.
#include "image/tar.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/fd.hpp"
#include "tests/image/fixtures.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::image;
using namespace orchestra::image::test;
using orchestra::test::TempDir;

namespace {

/// One line per entry, or the error.
std::string show(const std::string& bytes) {
  const auto source = make_memory_source(bytes);
  TarReader tar(*source);
  std::string out;
  while (true) {
    const auto entry = tar.next();
    if (!entry) return out + "!" + entry.error().message();
    if (!*entry) return out;
    out += std::string(1, static_cast<char>((*entry)->type)) + " " + (*entry)->path;
    if (!(*entry)->link.empty()) out += " -> " + (*entry)->link;
    std::string content;
    char buffer[1000];
    while (true) {
      const auto got = tar.read(buffer, sizeof buffer);
      if (!got) return out + "!" + got.error().message();
      if (*got == 0) break;
      content.append(buffer, *got);
    }
    out += " " + std::to_string((*entry)->size) + (content.size() <= 20 ? " " + content : "") + "\n";
  }
}

std::string tar_of(const TempDir& dir, const std::string& options, const std::string& files) {
  const std::string command = "cd '" + dir.path() + "' && tar " + options + " -cf ../out.tar " + files +
                              " 2>/dev/null; mv ../out.tar . ";
  REQUIRE(std::system(command.c_str()) == 0);
  return read_file(dir / "out.tar", 64 << 20).value();
}

}  // namespace

TEST_CASE("what the writer writes the reader reads") {
  TarEntry odd = file_entry("odd");
  odd.uid = 3'000'000'000U;
  odd.mtime_s = -5;
  odd.mtime_ns = 500'000'000;
  odd.xattrs["user.x"] = std::string("a\0\n=b", 5);
  const std::string path = std::string(120, 'd') + "/" + std::string(130, 'f');
  const std::string bytes = TarText()
                                .add(odd, "content")
                                .file(path, "long")
                                .symlink("l", std::string(150, 't'))
                                .directory("d")
                                .finish();
  const auto source = make_memory_source(bytes);
  TarReader tar(*source);
  const TarEntry first = **tar.next();
  CHECK(first.uid == odd.uid);
  CHECK(first.mtime_s == -5);
  CHECK(first.mtime_ns == 500'000'000);
  CHECK(first.xattrs == odd.xattrs);
  CHECK((**tar.next()).path == path);
  CHECK((**tar.next()).link == std::string(150, 't'));
  CHECK((**tar.next()).path == "d/");
  CHECK_FALSE(tar.next()->has_value());
  CHECK(show(TarText().file("a", "1").file("b", "").finish()) == "0 a 1 1\n0 b 0 \n");
}

TEST_CASE("GNU tar's archives are understood in all its formats") {
  if (std::system("command -v tar >/dev/null") != 0) ORC_SKIP("GNU tar formats", "no tar");
  TempDir dir;
  const std::string name(180, 'n');
  REQUIRE(write_file(dir / "a", "content"));
  REQUIRE(write_file(dir / name, "long"));
  std::filesystem::create_symlink(std::string(170, 't'), dir / "link");
  std::filesystem::create_hard_link(dir / "a", dir / "twin");
  {
    // A hole, data, a hole, data.
    const Fd sparse = open_file(dir / "sparse", O_WRONLY | O_CREAT).value();
    REQUIRE(::pwrite(sparse.get(), "middle", 6, 1 << 20) == 6);
    REQUIRE(::pwrite(sparse.get(), "end", 3, 3 << 20) == 3);
  }
  for (const std::string format : {"gnu", "pax", "posix"}) {
    CAPTURE(format);
    const std::string text = show(tar_of(dir, "--format=" + format, "a " + name + " link twin"));
    CHECK(text == "0 a 7 content\n0 " + name + " 4 long\n2 link -> " + std::string(170, 't') +
                      " 0 \n1 twin -> a 0 \n");
  }
  CHECK(show(tar_of(dir, "--format=ustar", "a twin")) == "0 a 7 content\n1 twin -> a 0 \n");
  CHECK(show(tar_of(dir, "--format=v7", "a")) == "0 a 7 content\n");
  for (const std::string form :
       {"--format=gnu -S", "--format=pax -S --sparse-version=0.0", "--format=pax -S --sparse-version=0.1",
        "--format=pax -S --sparse-version=1.0"}) {
    CAPTURE(form);
    const auto source = make_memory_source(tar_of(dir, form, "sparse"));
    TarReader tar(*source);
    const auto entry = tar.next();
    REQUIRE_MESSAGE(entry, (entry ? "" : entry.error().message()));
    CHECK((*entry)->path == "sparse");
    CHECK((*entry)->sparse);
    CHECK((*entry)->size == (3 << 20) + 3);
    std::uint64_t covered = 0;
    for (const auto& extent : (*entry)->extents) covered += extent.size;
    CHECK(covered == tar.data_left());
    CHECK(covered < (1 << 20));
    CHECK_FALSE(tar.next()->has_value());
  }
}

TEST_CASE("damaged archives are refused where they are damaged") {
  const std::string good = TarText().file("a", "1").file("b", std::string(2000, 'x')).finish();
  std::string bytes = good;
  SUBCASE("a wrong checksum") {
    bytes[5] ^= 1;
    CHECK(show(bytes) == "!tar at byte 512: the header's checksum is wrong");
  }
  SUBCASE("cut in data") {
    bytes.resize(1024 + 512 + 1000);
    CHECK(show(bytes).find("cut short") != std::string::npos);
  }
  SUBCASE("cut in a header") {
    bytes.resize(1024 + 100);
    CHECK(show(bytes).find("cut short") != std::string::npos);
  }
  SUBCASE("no end marker is tolerated between entries") {
    bytes.resize(1024);
    CHECK(show(bytes) == "0 a 1 1\n");
  }
  SUBCASE("an unknown type") {
    bytes[156] = 'Q';
    unsigned sum = 0;
    std::memset(bytes.data() + 148, ' ', 8);
    for (int i = 0; i < 512; ++i) sum += static_cast<unsigned char>(bytes[i]);
    std::snprintf(bytes.data() + 148, 8, "%06o", sum);
    CHECK(show(bytes) == "!tar entry a has type 'Q'");
  }
  SUBCASE("names beyond the bounds") {
    CHECK(show(TarText().file(std::string(300, 'n'), "").finish()).find("255 bytes") != std::string::npos);
    std::string deep;
    for (int i = 0; i < 2100; ++i) deep += "d/";
    CHECK(show(TarText().file(deep + "x", "").finish()).find("4096 bytes") != std::string::npos);
  }
  SUBCASE("too many extended attributes") {
    TarEntry entry = file_entry("x");
    entry.xattrs["user.big"] = std::string(70'000, 'x');
    CHECK(show(TarText().add(entry).finish()).find("64 KiB of extended attributes") != std::string::npos);
  }
}
