// `orchestra oci`: the life cycle and its errors, in the words that callers match.
#include <fcntl.h>

#include "base/fd.hpp"
#include "orchestra/container_spec.hpp"
#include "orchestra/runtime.hpp"
#include "runtime/oci/oci_arguments.hpp"
#include "tests/runtime/support.hpp"

namespace orchestra::test {
namespace {

/// A bundle and a state root of its own; runs commands and keeps what they print.
class OciHouse {
 public:
  OciHouse() {
    make_root(folder_ / "bundle/rootfs");
    spec = ContainerSpec::example();
    spec.process->terminal = false;
    spec.process->env = {"PATH=/bin"};
    spec.cgroups_path = "/orchestra-" + mark_ + "/c";
    spec.resources.pids_limit = 100;
  }
  ~OciHouse() {
    for (const char* id : {"c", "c2", "c3"}) run({"delete", "--force", id});
    for (const auto& hierarchy : fs::directory_iterator("/sys/fs/cgroup")) {
      std::error_code ignored;
      fs::remove(hierarchy.path() / ("orchestra-" + mark_), ignored);  // the parent was asked for by us
    }
    std::error_code ignored;
    fs::remove("/sys/fs/cgroup/orchestra-" + mark_, ignored);  // v2
    CHECK_MESSAGE(Leftovers::now("orchestra-" + mark_).empty(), Leftovers::now("orchestra-" + mark_));
  }
  /// {exit status, stdout, stderr}
  struct Outcome {
    int status = 0;
    std::string out, err;
  };
  Outcome run(std::vector<std::string> args) {
    write_file(folder_ / "bundle/config.json", spec.to_json()).value();
    std::vector<std::string> all{"--root", folder_ / "state"};
    all.insert(all.end(), args.begin(), args.end());
    const std::string out = folder_ / "out", err = folder_ / "err";
    Outcome outcome;
    {
      const Fd input = open_file("/dev/null", O_RDONLY).value();
      const Fd output = open_file(out, O_WRONLY | O_CREAT | O_TRUNC).value();
      const Fd error = open_file(err, O_WRONLY | O_CREAT | O_TRUNC).value();
      outcome.status = run_oci_command(all, input.get(), output.get(), error.get());
    }
    outcome.out = slurp(out);
    outcome.err = slurp(err);
    return outcome;
  }
  std::string bundle() const { return folder_ / "bundle"; }
  std::string path(const std::string& name) const { return folder_ / name; }
  bool status_is(const std::string& id, const std::string& status) {
    return run({"state", id}).out.find("\"status\": \"" + status + "\"") != std::string::npos;
  }
  ContainerSpec spec;

 private:
  TempDir folder_;
  std::string mark_ = "ocitest" + std::to_string(getpid());
};
}  // namespace

TEST_CASE("oci run: the container's output and exit status are those of the command") {
  ORC_NEEDS_FULL_CONTAINERS("oci run");
  OciHouse house;
  house.spec.process->args = {"sh", "-c", "echo out; hostname; cat /proc/1/comm; echo err >&2; exit 9"};
  const auto done = house.run({"run", "-b", house.bundle(), "c"});
  CHECK(done.status == 9);
  CHECK(done.out == "out\norchestra\nsh\n");
  CHECK(done.err == "err\n");
  CHECK(house.run({"state", "c"}).err.find("does not exist") != std::string::npos);
}

TEST_CASE("oci create, start, kill, delete walk through created, running, stopped") {
  ORC_NEEDS_FULL_CONTAINERS("oci life cycle");
  OciHouse house;
  house.spec.process->args = {"sleep", "1000"};
  const auto created = house.run({"create", "-b", house.bundle(), "--pid-file", house.path("pid"), "c"});
  REQUIRE_MESSAGE(created.status == 0, created.err);
  CHECK(house.status_is("c", "created"));
  CHECK(fs::exists("/proc/" + slurp(house.path("pid"))));
  CHECK(house.run({"create", "-b", house.bundle(), "c"}).err.find("already exists") != std::string::npos);
  CHECK(house.run({"start", "c"}).status == 0);
  CHECK(house.status_is("c", "running"));
  CHECK(house.run({"start", "c"}).status == 1);
  CHECK(house.run({"delete", "c"}).status == 1);
  CHECK(house.run({"list", "-q"}).out == "c\n");
  const auto inside = house.run({"exec", "-e", "X=1", "c", "sh", "-c", "echo $X; cat /proc/1/comm; exit 5"});
  CHECK(inside.status == 5);
  CHECK(inside.out == "1\nsleep\n");
  CHECK(house.run({"exec", "c", "no-such-program"}).err.find("executable file not found in $PATH") !=
        std::string::npos);
  CHECK(house.run({"exec", "c", "/etc/passwd"}).err.find("permission denied") != std::string::npos);
  CHECK(house.run({"pause", "c"}).status == 0);
  CHECK(house.status_is("c", "paused"));
  CHECK(house.run({"exec", "c", "true"}).status == 1);
  CHECK(house.run({"resume", "c"}).status == 0);
  CHECK(house.run({"kill", "c", "sigkill"}).status == 0);
  CHECK(eventually([&] { return house.status_is("c", "stopped"); }));
  CHECK(house.run({"kill", "c", "TERM"}).err.find("container not running") != std::string::npos);
  CHECK(house.run({"delete", "c"}).status == 0);
  CHECK(house.run({"delete", "c"}).err.find("does not exist") != std::string::npos);
  CHECK(house.run({"delete", "--force", "c"}).status == 0);
}

TEST_CASE("oci create fails before any effect when program, root or configuration is wrong") {
  ORC_NEEDS_FULL_CONTAINERS("oci bad input");
  OciHouse house;
  house.spec.process->args = {"no-such-program"};
  CHECK(house.run({"create", "-b", house.bundle(), "c"}).err.find("executable file not found in $PATH") !=
        std::string::npos);
  house.spec.process->args = {"/no/such"};
  CHECK(house.run({"create", "-b", house.bundle(), "c"}).err.find("no such file or directory") !=
        std::string::npos);
  house.spec.process->args = {"true"};
  house.spec.root_path = "nowhere";
  CHECK(house.run({"create", "-b", house.bundle(), "c"}).err.find("nowhere") != std::string::npos);
  house.spec.root_path = "rootfs";
  house.spec.mounts.push_back({"/../x", "tmpfs", "tmpfs", {}});
  CHECK(house.run({"create", "-b", house.bundle(), "c"}).status == 1);
  CHECK(house.run({"create", "-b", "/no/bundle", "c"}).status == 1);
  CHECK(house.run({"create", "-b", house.bundle(), "../x"}).status == 1);
  CHECK(house.run({"list", "-q"}).out.empty());
}

TEST_CASE("oci hooks run in order, with the state on stdin; a failing one fails the create") {
  ORC_NEEDS_FULL_CONTAINERS("oci hooks");
  OciHouse house;
  const std::string log = house.path("hooks");
  const auto hook = [&](const std::string& name) {
    return ContainerSpec::Hook{"/bin/sh",
                               {"sh", "-c", "echo " + name + " >> " + log + "; cat >> " + log},
                               {"PATH=/bin:/usr/bin"},
                               5};
  };
  house.spec.process->args = {"true"};
  house.spec.hooks.prestart = {hook("prestart")};
  house.spec.hooks.create_runtime = {hook("createRuntime")};
  house.spec.hooks.create_container = {hook("createContainer")};
  house.spec.hooks.poststart = {hook("poststart")};
  house.spec.hooks.poststop = {hook("poststop")};
  CHECK(house.run({"run", "-b", house.bundle(), "c"}).status == 0);
  const std::string seen = slurp(log);
  std::size_t at = 0;
  for (const char* name : {"prestart", "createRuntime", "createContainer", "poststart", "poststop"}) {
    at = seen.find(std::string(name) + "\n{\"ociVersion\"", at);
    CHECK_MESSAGE(at != std::string::npos, name);
  }
  house.spec.hooks.create_runtime = {{"/bin/false", {}, {}, 5}};
  const auto failed = house.run({"create", "-b", house.bundle(), "c2"});
  CHECK(failed.status == 1);
  CHECK(failed.err.find("/bin/false") != std::string::npos);
}

TEST_CASE("oci spec writes a config.json that is read back; features name what is there") {
  OciHouse house;
  const auto spec = ContainerSpec::from_json(house.spec.to_json());
  REQUIRE_MESSAGE(spec.has_value(), (spec ? "" : spec.error().to_string()));
  CHECK(spec->to_json() == house.spec.to_json());
  const auto features = house.run({"features"});
  CHECK(features.status == 0);
  CHECK(features.out.find("\"CAP_SYS_ADMIN\"") != std::string::npos);
}

TEST_CASE("signals are taken by number and by name, ids only when they are names") {
  CHECK(runtime::parse_signal("9").value() == 9);
  CHECK(runtime::parse_signal("KILL").value() == 9);
  CHECK(runtime::parse_signal("sigterm").value() == 15);
  CHECK(runtime::parse_signal("SIGRTMIN+3").value() == 37);
  CHECK_FALSE(runtime::parse_signal("WHATEVER").has_value());
  CHECK_FALSE(runtime::parse_signal("65").has_value());
  for (const char* good : {"a", "A-b_c+1.x", "0"}) CHECK(runtime::check_container_id(good).has_value());
  for (const char* bad : {"", ".", "..", ".a", "a/b", "a b", "ä"})
    CHECK_FALSE(runtime::check_container_id(bad).has_value());
  CHECK_FALSE(runtime::check_container_id(std::string(256, 'a')).has_value());
}

}  // namespace orchestra::test
