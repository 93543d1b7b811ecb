// CRI log reading: joining, tails over rotated files, following.
#include "logs/cri_log.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>

#include "base/fd.hpp"
#include "logs/log_file.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::logs;
using namespace std::chrono_literals;

namespace {
std::string record(int second, const std::string& text, const char* tag = "F",
                   const char* stream = "stdout") {
  char time[64];
  std::snprintf(time, sizeof time, "2026-11-23T10:00:%02d.000000000Z", second);
  return std::string(time) + " " + stream + " " + tag + " " + text + "\n";
}
std::string filtered(const std::string& raw, FilterOptions options, std::size_t step) {
  CriFilter filter(options);
  std::string out;
  for (std::size_t at = 0; at < raw.size(); at += step)
    filter.feed(std::string_view(raw).substr(at, step), out);
  return out;
}
std::string read_all(ByteStream& stream) {
  std::string out;
  while (true) {
    auto chunk = stream.read(4096).wait(60s);
    REQUIRE(chunk);
    if (chunk->empty()) return out;
    out += *chunk;
  }
}
}  // namespace

TEST_CASE("parts are joined per stream, however the bytes are cut") {
  const std::string raw =
      record(1, "one") + record(2, "two-", "P") + record(2, "err", "F", "stderr") + record(3, "three", "F:x");
  for (const std::size_t step : {1u, 3u, 17u, 4096u}) {
    CHECK(filtered(raw, {}, step) == "one\ntwo-err\nthree\n");
    CHECK(filtered(raw, {.since_ns = *parse_time("2026-11-23T10:00:02Z")}, step) == "two-err\nthree\n");
    CHECK(filtered(raw, {.limit_bytes = 6}, step) == "one\ntw");
  }
  CHECK(filtered(record(1, "a") + record(2, "b", "P") + record(3, "c"), {.timestamps = true}, 7) ==
        "2026-11-23T10:00:01.000000000Z a\n2026-11-23T10:00:02.000000000Z bc\n");
}

TEST_CASE("times of CRI records and of users are read") {
  CHECK(parse_time("1970-01-01T00:00:01Z") == 1'000'000'000);
  CHECK(parse_time("1970-01-01T01:00:00.5+01:00") == 500'000'000);
  for (const char* bad :
       {"", "yesterday", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00Zx"}) {
    CHECK_FALSE(parse_time(bad));
  }
}

TEST_CASE("a tail counts whole lines over rotated files") {
  test::TempDir dir;
  REQUIRE(write_file(dir / "0.log.20261123-100000", record(1, "a") + record(2, "b")));
  REQUIRE(write_file(dir / "0.log", record(3, "c1", "P") + record(3, "c2") + record(4, "d")));
  Engine engine;
  struct Row {
    std::int64_t lines;
    const char* text;
  };
  for (const Row& row : {Row{0, ""},
                         {1, "d\n"},
                         {2, "c1c2\nd\n"},
                         {3, "b\nc1c2\nd\n"},
                         {4, "a\nb\nc1c2\nd\n"},
                         {99, "a\nb\nc1c2\nd\n"}}) {
    CAPTURE(row.lines);
    auto stream = open_log_stream(engine, {.live_path = dir / "0.log", .tail_lines = row.lines});
    REQUIRE(stream);
    CHECK(read_all(**stream) == row.text);
  }
}

TEST_CASE(
    "a tail that is not followed is of the moment of the call: no line more, none that is half written") {
  test::TempDir dir;
  const std::string live = dir / "0.log";
  REQUIRE(write_file(live, record(1, "one") + record(2, "two") + record(3, "three").substr(0, 45)));
  Engine engine;
  auto tail = open_log_stream(engine, {.live_path = live, .tail_lines = 2});
  auto all = open_log_stream(engine, {.live_path = live});
  auto rotated_after = open_log_stream(engine, {.live_path = live, .tail_lines = 1});
  REQUIRE(tail);
  REQUIRE(all);
  REQUIRE(rotated_after);
  auto file = open_file(live, O_WRONLY | O_APPEND);
  REQUIRE(file);
  REQUIRE(write_all(file->get(), record(3, "three").substr(45) + record(4, "four")));
  CHECK(read_all(**tail) == "one\ntwo\n");
  CHECK(read_all(**all) == "one\ntwo\n");
  REQUIRE(rename(live.c_str(), (live + ".20261123-100002").c_str()) == 0);
  REQUIRE(write_file(live, record(5, "five")));
  CHECK(read_all(**rotated_after) == "two\n");
}

TEST_CASE("following finds all files of several rotations") {
  test::TempDir dir;
  const std::string live = dir / "0.log";
  REQUIRE(write_file(live, record(1, "one")));
  Engine engine;
  auto stream = open_log_stream(engine, {.live_path = live, .follow = true, .ended = [] { return true; }});
  REQUIRE(stream);
  CHECK((*stream)->read(100).wait(60s).value() == "one\n");
  for (int i = 2; i < 5; ++i) {
    REQUIRE(rename(live.c_str(), (live + ".20261123-10000" + std::to_string(i)).c_str()) == 0);
    REQUIRE(write_file(live, record(i, "line " + std::to_string(i))));
  }
  CHECK(read_all(**stream) == "line 2\nline 3\nline 4\n");
}

TEST_CASE("a long tail crosses read blocks") {
  test::TempDir dir;
  std::string raw, last;
  for (int i = 0; i < 5000; ++i) {
    const std::string line = "line " + std::to_string(i) + " " + std::string(40, 'x');
    raw += record(i % 60, line);
    if (i >= 1000) last += line + "\n";
  }
  REQUIRE(write_file(dir / "0.log", raw));
  Engine engine;
  auto stream = open_log_stream(engine, {.live_path = dir / "0.log", .tail_lines = 4000});
  REQUIRE(stream);
  CHECK(read_all(**stream) == last);
}

TEST_CASE("following survives a rotation and ends when the container has ended") {
  test::TempDir dir;
  const std::string live = dir / "0.log";
  REQUIRE(write_file(live, record(1, "one")));
  Engine engine;
  std::atomic<bool> ended{false};
  auto stream =
      open_log_stream(engine, {.live_path = live, .follow = true, .ended = [&] { return ended.load(); }});
  REQUIRE(stream);
  CHECK((*stream)->read(100).wait(60s).value() == "one\n");
  auto next = (*stream)->read(100);
  auto file = open_file(live, O_WRONLY | O_APPEND);
  REQUIRE(file);
  REQUIRE(write_all(file->get(), record(2, "two")));
  CHECK(next.wait(60s).value() == "two\n");
  REQUIRE(rename(live.c_str(), (dir / "0.log.20261123-100002").c_str()) == 0);
  REQUIRE(write_all(file->get(), record(3, "three")));
  REQUIRE(write_file(live, record(4, "four")));
  std::string rest;
  while (rest.size() < 11) rest += (*stream)->read(100).wait(60s).value();
  CHECK(rest == "three\nfour\n");
  ended = true;
  CHECK((*stream)->read(100).wait(60s).value().empty());
}

TEST_CASE("rotated files are packed but for the newest, and read as before") {
  test::TempDir dir;
  const std::string live = dir / "0.log";
  std::string expected;
  for (int file = 0; file < 4; ++file) {
    std::string text;
    for (int line = 0; line < 500; ++line) {
      text += record(file, "line " + std::to_string(file * 500 + line));
      expected += "line " + std::to_string(file * 500 + line) + "\n";
    }
    REQUIRE(write_file(file == 3 ? live : live + ".20261123-10000" + std::to_string(file), text));
  }
  Engine engine;
  auto before = open_log_stream(engine, {.live_path = live});
  REQUIRE(before);
  std::string early =
      (*before)->read(100).wait(60s).value();  // has the first file open, and the names of all
  CHECK(pack_rotated(live).value() == 2);
  CHECK(pack_rotated(live).value() == 0);
  CHECK(log_files(live) == std::vector<std::string>{live + ".20261123-100000.gz",
                                                    live + ".20261123-100001.gz", live + ".20261123-100002",
                                                    live});
  CHECK(early + read_all(**before) == expected);
  auto after = open_log_stream(engine, {.live_path = live});
  CHECK(read_all(**after) == expected);
  auto tail = open_log_stream(engine, {.live_path = live, .tail_lines = 1200});
  CHECK(read_all(**tail) == expected.substr(expected.find("line 800\n")));
}

TEST_CASE("a packing that was broken off is done again, and packed bytes under a plain name are read") {
  test::TempDir dir;
  const std::string live = dir / "0.log", old = live + ".20261123-100000";
  REQUIRE(write_file(old, record(1, "one")));
  REQUIRE(write_file(live + ".20261123-100001", record(2, "two")));
  REQUIRE(write_file(live, record(3, "three")));
  REQUIRE(write_file(dir / ".packing-0.log.20261123-100000", "half a file"));
  CHECK(log_files(live).size() == 3);
  CHECK(pack_rotated(live).value() == 1);
  REQUIRE(rename((old + ".gz").c_str(), old.c_str()) == 0);  // as between the two renames
  Engine engine;
  auto stream = open_log_stream(engine, {.live_path = live});
  CHECK(read_all(**stream) == "one\ntwo\nthree\n");
  CHECK(pack_rotated(live).value() == 1);
  CHECK(log_files(live).front() == old + ".gz");
}

TEST_CASE("several rotations of one second keep their order, packed or not") {
  test::TempDir dir;
  const std::string live = dir / "0.log", second = live + ".20261123-100000",
                    next = live + ".20261123-100001";
  REQUIRE(write_file(second, record(1, "one")));
  REQUIRE(write_file(second + ".001", record(1, "two")));
  REQUIRE(write_file(second + ".002", record(1, "three")));
  REQUIRE(write_file(live, record(1, "four")));
  // A name that was freed now would be given to the file that is rotated next.
  CHECK(pack_rotated(live).value() == 0);
  REQUIRE(rename(live.c_str(), next.c_str()) == 0);
  REQUIRE(write_file(live, record(2, "five")));
  CHECK(pack_rotated(live).value() == 3);
  CHECK(log_files(live) ==
        std::vector<std::string>{second + ".gz", second + ".001.gz", second + ".002.gz", next, live});
  Engine engine;
  CHECK(read_all(**open_log_stream(engine, {.live_path = live})) == "one\ntwo\nthree\nfour\nfive\n");
}

TEST_CASE("a damaged packed log is an error that names it, not an end") {
  test::TempDir dir;
  const std::string live = dir / "0.log", old = live + ".20261123-100000";
  std::string text;
  for (int line = 0; line < 3000; ++line) text += record(line % 60, "line " + std::to_string(line * 7919));
  REQUIRE(write_file(old, text));
  REQUIRE(write_file(live + ".20261123-100001", record(2, "two")));
  REQUIRE(write_file(live, record(3, "three")));
  REQUIRE(pack_rotated(live).value() == 1);
  struct stat info {};
  REQUIRE(stat((old + ".gz").c_str(), &info) == 0);
  REQUIRE(truncate((old + ".gz").c_str(), info.st_size / 2) == 0);
  Engine engine;
  auto stream = open_log_stream(engine, {.live_path = live});
  REQUIRE(stream);
  auto chunk = (*stream)->read(4096).wait(60s);
  REQUIRE(!chunk);
  CHECK(chunk.error().is(Error::corrupt));
  CHECK(chunk.error().message().find(old) != std::string::npos);
}

TEST_CASE("all containers of a pod are packed") {
  test::TempDir dir;
  for (const char* container : {"web", "db"}) {
    REQUIRE(make_directories(dir / container));
    const std::string live = dir / container + std::string("/1.log");
    for (const char* suffix : {".20261123-100000", ".20261123-100001", ""})
      REQUIRE(write_file(live + suffix, record(1, "one")));
  }
  CHECK(pack_pod(dir.path()).value() == 2);
  CHECK(pack_pod(dir / "nowhere").value() == 0);
}
