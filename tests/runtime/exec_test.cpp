// exec, exec streams, terminals and attach.
#include "tests/runtime/support.hpp"

namespace orchestra::test {
namespace {

struct Collected {
  std::string out, err;
  int exit_code = -99;
  std::optional<Error> failure;
};
/// Reads until the exit, or until `stop` holds for what came so far.
Collected collect(ProcessStream& stream, std::function<bool(const Collected&)> stop = {}) {
  Collected all;
  while (!stop || !stop(all)) {
    auto chunk = stream.read().wait(60s);
    if (!chunk) {
      all.failure = chunk.error();
      return all;
    }
    if (chunk->channel == ProcessChunk::Channel::standard_output) all.out += chunk->bytes;
    if (chunk->channel == ProcessChunk::Channel::standard_error) all.err += chunk->bytes;
    if (chunk->channel != ProcessChunk::Channel::exit) continue;
    all.exit_code = chunk->exit_code;
    all.failure = chunk->failure;
    return all;
  }
  return all;
}
}  // namespace

TEST_CASE("exec runs beside the main process, in the same namespaces, with its code and output") {
  ORC_NEEDS_FULL_CONTAINERS("exec");
  RuntimeHouse house;
  house.pod();
  house.start(house.config("c1", {"sleep", "1000"}));
  int code = 0;
  CHECK(house.exec("c1", {"sh", "-c", "cat /proc/1/comm; hostname; echo bad >&2; exit 4"}, &code) ==
        "sleep\nweb\nbad\n");
  CHECK(code == 4);
  CHECK(house.exec("c1", {"/bin/none"}, &code).find("/bin/none") != std::string::npos);
  CHECK(code == 127);
  CHECK_FALSE(house.exec("c1", {"/etc/passwd"}, &code).empty());
  CHECK(code == 126);
  CHECK(house.exec("c1", {"grep", "-E", "CapEff|Seccomp:", "/proc/self/status"}).find("00000000a80425fb") !=
        std::string::npos);
}

TEST_CASE("exec output is cut at its bound, and a command past its deadline is killed") {
  ORC_NEEDS_FULL_CONTAINERS("exec bounds");
  RuntimeHouse house;
  house.pod();
  house.start(house.config("c1", {"sleep", "1000"}));
  const auto cut = house.runtime().exec("pod-1", "c1", {"seq", "1", "100000"}, 10s, 1000).wait(60s);
  REQUIRE(cut.has_value());
  CHECK(cut->truncated);
  CHECK(cut->output.size() == 1000);
  const auto late = house.runtime().exec("pod-1", "c1", {"sleep", "777"}, 100ms, 1000).wait(60s);
  REQUIRE_FALSE(late.has_value());
  CHECK(late.error().is(Error::deadline_exceeded));
  CHECK(eventually([&] { return house.exec("c1", {"ps"}).find("sleep 777") == std::string::npos; }));
}

TEST_CASE("an exec stream carries stdin, stdout and stderr apart, and the exit code last") {
  ORC_NEEDS_FULL_CONTAINERS("exec stream");
  RuntimeHouse house;
  house.pod();
  house.start(house.config("c1", {"sleep", "1000"}));
  ExecOptions options;
  options.command = {"sh", "-c", "cat /dev/stdin; echo err >&2; exit 9"};
  options.in = true;
  auto stream = house.runtime().exec_stream("pod-1", "c1", options).wait(30s);
  REQUIRE_MESSAGE(stream.has_value(), (stream ? "" : stream.error().to_string()));
  const std::string big(300'000, 'x');
  auto written = (*stream)->write_stdin(big);
  (*stream)->close_stdin();
  const Collected all = collect(**stream);
  CHECK(written.wait(30s).has_value());
  CHECK(all.out == big);
  CHECK(all.err == "err\n");
  CHECK(all.exit_code == 9);
  CHECK_FALSE(all.failure.has_value());
  options.command = {"/bin/none"};
  auto missing = house.runtime().exec_stream("pod-1", "c1", options).wait(30s);
  REQUIRE(missing.has_value());
  const Collected none = collect(**missing);
  CHECK(none.exit_code == 127);
  CHECK(none.failure.has_value());
}

TEST_CASE("closing an exec stream ends its process") {
  ORC_NEEDS_FULL_CONTAINERS("exec close");
  RuntimeHouse house;
  house.pod();
  house.start(house.config("c1", {"sleep", "1000"}));
  ExecOptions options;
  options.command = {"sh", "-c", "echo up; sleep 778"};
  auto stream = house.runtime().exec_stream("pod-1", "c1", options).wait(30s);
  REQUIRE(stream.has_value());
  collect(**stream, [](const Collected& c) { return !c.out.empty(); });
  (*stream)->close();
  CHECK(eventually([&] { return house.exec("c1", {"ps"}).find("sleep 778") == std::string::npos; }));
}

TEST_CASE("a terminal echoes, has the size it was given, and follows a resize") {
  ORC_NEEDS_FULL_CONTAINERS("terminal");
  RuntimeHouse house;
  house.pod();
  house.start(house.config("c1", {"sleep", "1000"}));
  ExecOptions options;
  options.command = {"sh", "-c", "test -t 0 && echo tty; read x; stty size; exit 2"};
  options.in = options.tty = true;
  auto stream = house.runtime().exec_stream("pod-1", "c1", options).wait(30s);
  REQUIRE_MESSAGE(stream.has_value(), (stream ? "" : stream.error().to_string()));
  collect(**stream, [](const Collected& c) { return c.out.find("tty") != std::string::npos; });
  (*stream)->resize(133, 43);
  CHECK((*stream)->write_stdin("go\n").wait(30s).has_value());
  const Collected all = collect(**stream);
  CHECK(all.out.find("43 133") != std::string::npos);
  CHECK(all.exit_code == 2);
}

TEST_CASE("attach feeds stdin of the main process and sees its output; two clients see the same") {
  ORC_NEEDS_FULL_CONTAINERS("attach");
  RuntimeHouse house;
  house.pod();
  ContainerConfig config =
      house.config("c1", {"sh", "-c", "while read line; do echo got $line; done; echo bye; exit 5"});
  config.in = config.in_once = true;
  house.start(config);
  auto writer = house.runtime().attach("pod-1", "c1", {.command = {}, .in = true}).wait(30s);
  auto reader = house.runtime().attach("pod-1", "c1", {}).wait(30s);
  REQUIRE(writer.has_value());
  REQUIRE(reader.has_value());
  CHECK((*writer)->write_stdin("one\ntwo\n").wait(30s).has_value());
  (*writer)->close_stdin();
  const Collected first = collect(**writer), second = collect(**reader);
  CHECK(first.out == "got one\ngot two\nbye\n");
  CHECK(second.out == first.out);
  CHECK(first.exit_code == 5);
  CHECK(log_contents(house.path("logs/c1.log")) == "stdout F got one\nstdout F got two\nstdout F bye\n");
}

TEST_CASE("a container with a terminal logs what it prints, and attach resizes it") {
  ORC_NEEDS_FULL_CONTAINERS("main terminal");
  RuntimeHouse house;
  house.pod();
  ContainerConfig config =
      house.config("c1", {"sh", "-c", "test -t 1 && echo is-tty; read x; stty size; exit 6"});
  config.in = config.tty = true;
  house.start(config);
  auto stream = house.runtime().attach("pod-1", "c1", {.command = {}, .in = true, .tty = true}).wait(30s);
  REQUIRE_MESSAGE(stream.has_value(), (stream ? "" : stream.error().to_string()));
  (*stream)->resize(99, 33);
  CHECK((*stream)->write_stdin("x\n").wait(30s).has_value());
  const Collected all = collect(**stream);
  CHECK(all.out.find("33 99") != std::string::npos);
  CHECK(all.exit_code == 6);
  CHECK(log_contents(house.path("logs/c1.log")).find("F is-tty") != std::string::npos);
}

}  // namespace orchestra::test
