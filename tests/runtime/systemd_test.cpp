// Groups that systemd owns: the D-Bus codec against bytes of other programs, names, limits and annotations by
// table, and a scripted manager for what a real one says rarely. The real one: tests/e2e/systemd.sh.
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <thread>

#include "runtime/systemd/scope_holder.hpp"
#include "runtime/systemd/systemd.hpp"
#include "tests/runtime/support.hpp"

namespace orchestra::runtime {
namespace {
using namespace std::chrono_literals;

std::string bytes(std::initializer_list<int> all) {
  std::string out;
  for (const int value : all) out += static_cast<char>(value);
  return out;
}

/// What dbus-send writes for: dbus-send --system --dest=a.b --print-reply /c a.b.M string:hi (its first
/// serial is 2).
const std::string kKnownCall = bytes({'l', 1, 0, 1, 7, 0, 0, 0, 2, 0, 0, 0, 0x48, 0, 0, 0}) +
                               bytes({1, 1, 'o', 0, 2, 0, 0, 0, '/', 'c', 0, 0, 0, 0, 0, 0}) +
                               bytes({2, 1, 's', 0, 3, 0, 0, 0, 'a', '.', 'b', 0, 0, 0, 0, 0}) +
                               bytes({3, 1, 's', 0, 1, 0, 0, 0, 'M', 0, 0, 0, 0, 0, 0, 0}) +
                               bytes({6, 1, 's', 0, 3, 0, 0, 0, 'a', '.', 'b', 0, 0, 0, 0, 0}) +
                               bytes({8, 1, 'g', 0, 1, 's', 0, 0}) + bytes({2, 0, 0, 0, 'h', 'i', 0});

DbusMessage known_call() {
  DbusMessage call;
  call.serial = 2;
  call.path = "/c";
  call.interface = call.destination = "a.b";
  call.member = "M";
  call.signature = "s";
  DbusWriter body;
  body.text("hi");
  call.body = body.bytes();
  return call;
}

TEST_CASE("dbus: a message is written and read as the specification draws it") {
  std::string written = encode_dbus(known_call());
  // Our array of fields ends without padding; the length says 0x47.
  std::string expected = kKnownCall;
  expected[12] = 0x47;
  CHECK(written == expected);
  std::string two = written + written.substr(0, written.size() - 1);
  auto first = take_dbus(two);
  REQUIRE_MESSAGE(first, first.error().to_string());
  REQUIRE(first->has_value());
  CHECK((*first)->path == "/c");
  CHECK((*first)->interface == "a.b");
  CHECK((*first)->member == "M");
  CHECK((*first)->destination == "a.b");
  CHECK((*first)->reader().text() == "hi");
  CHECK(two.size() == written.size() - 1);
  auto second = take_dbus(two);  // one byte is missing
  REQUIRE(second);
  CHECK(!second->has_value());
  CHECK(two.size() == written.size() - 1);
}

TEST_CASE("dbus: big-endian answers are read too") {
  std::string answer = bytes({'B', 2, 0, 1, 0, 0, 0, 8, 0, 0, 1, 0, 0, 0, 0, 15}) +
                       bytes({5, 1, 'u', 0, 0, 0, 0, 7, 8, 1, 'g', 0, 1, 'u', 0, 0}) +
                       bytes({0, 0, 0, 9, 0, 0, 0, 0});
  auto message = take_dbus(answer);
  REQUIRE_MESSAGE(message, message.error().to_string());
  REQUIRE(message->has_value());
  CHECK((*message)->kind == DbusMessage::Kind::answer);
  CHECK((*message)->serial == 256);
  CHECK((*message)->answer_to == 7);
  CHECK((*message)->reader().u32() == 9);
}

TEST_CASE("dbus: values are skipped by their type") {
  DbusWriter out;
  out.byte(1);
  const auto dictionary = out.begin_array(8);  // a{sv}
  out.align(8);
  out.text("key");
  out.signature("(tay)");
  out.align(8);
  out.u64(3);
  const auto inner = out.begin_array(1);
  out.byte(5);
  out.end_array(inner);
  out.end_array(dictionary);
  out.text("after");
  DbusReader reader(out.bytes(), false);
  reader.skip("y");
  reader.skip("a{sv}");
  CHECK(reader.text() == "after");
  CHECK(reader.at_end());
  CHECK(!reader.failed());
  DbusReader variant(out.bytes(), false);
  variant.skip("y");
  (void)variant.u32();
  variant.align(8);
  (void)variant.text();
  variant.skip("v");
  CHECK(variant.text() == "after");
  for (const char* type : {"", "a", "(", "(s", "{", "z", "v"}) {
    CAPTURE(type);
    DbusReader bad(std::string_view("\xff\xff\xff\xff", 4), false);
    bad.skip(type);
    CHECK(bad.failed());
  }
}

TEST_CASE("dbus: what is no message is refused with the reason") {
  struct Case {
    const char* what;
    std::string bytes;
    const char* reason;
  };
  const std::string good = encode_dbus(known_call());
  const auto with = [&](std::size_t at, int value) {
    std::string changed = good;
    changed[at] = static_cast<char>(value);
    return changed;
  };
  for (const Case& c :
       {Case{"order", with(0, 'x'), "unknown byte order 120"},
        Case{"version", with(3, 2), "protocol version 2"},
        Case{"huge body", with(7, 0x7f), "at most 1048576 are taken"},
        Case{"huge fields", with(15, 0x7f), "at most 1048576 are taken"},
        Case{"text longer than the fields", with(20, 0x7f), "the header of message 2 is damaged"},
        Case{"no end of a text", with(26, 'x'), "the header of message 2 is damaged"}}) {
    CAPTURE(c.what);
    std::string buffer = c.bytes;
    auto taken = take_dbus(buffer);
    REQUIRE(!taken);
    CHECK(taken.error().is(Error::corrupt));
    CHECK(taken.error().message().find(c.reason) != std::string::npos);
  }
}

TEST_CASE("systemd: slice:prefix:name") {
  struct Case {
    const char *path, *slice, *unit;
    bool user = false;
  };
  for (const Case& c :
       {Case{"", "system.slice", "orchestra-web.scope"}, Case{"", "user.slice", "orchestra-web.scope", true},
        Case{"machine.slice:libpod:4f", "machine.slice", "libpod-4f.scope"},
        Case{":libpod:4f", "system.slice", "libpod-4f.scope"}, Case{"a-b.slice::x", "a-b.slice", "x.scope"},
        Case{"-.slice:p:x", "-.slice", "p-x.scope"},
        Case{"machine.slice:libpod:pod.slice", "machine.slice", "pod.slice"}}) {
    CAPTURE(c.path);
    auto unit = parse_systemd_path(c.path, "web", c.user);
    REQUIRE_MESSAGE(unit, unit.error().to_string());
    CHECK(unit->slice == c.slice);
    CHECK(unit->unit == c.unit);
  }
  for (const auto& [path, reason] : {std::pair("/kubepods/web", "three parts"),
                                     {"a.slice:b", "three parts"},
                                     {"a.slice:b:c:d", "three parts"},
                                     {"a:b:c", "no name of a slice"},
                                     {"-a.slice:b:c", "no name of a slice"},
                                     {"a--b.slice:b:c", "no name of a slice"},
                                     {"a/../b.slice:b:c", "no name of a slice"},
                                     {".slice:b:c", "no name of a slice"},
                                     {"a.slice:b/..:c", "no name of a unit"},
                                     {"a.slice:b:", "no name of a unit"}}) {
    CAPTURE(path);
    auto unit = parse_systemd_path(path, "web", false);
    REQUIRE(!unit);
    CHECK(unit.error().is(Error::invalid));
    CHECK(unit.error().message().find(reason) != std::string::npos);
    CHECK(unit.error().message().find("slice:prefix:name") != std::string::npos);
  }
}

std::string print(const std::vector<SystemdProperty>& all) {
  std::string out;
  for (const auto& p : all) {
    out += (out.empty() ? "" : " ") + p.name + "=" + p.type + ":";
    if (p.type == "ay") {
      for (const char c : p.text) out += std::to_string(static_cast<unsigned char>(c)) + ",";
    } else {
      out += p.type == "s" ? p.text : std::to_string(static_cast<std::int64_t>(p.number));
    }
  }
  return out;
}

TEST_CASE("systemd: limits as properties") {
  ContainerSpec::Resources r;
  CHECK(print(systemd_limits(r, true)).empty());
  r.memory_limit = 1 << 20;
  r.memory_reservation = 1 << 19;
  r.memory_swap = 3 << 20;
  r.cpu_shares = 1024;
  r.cpu_quota = 15'000;
  r.cpu_period = 100'000;
  r.pids_limit = 10;
  r.cpuset_cpus = "0-2,9";
  r.cpuset_mems = "0";
  CHECK(print(systemd_limits(r, true)) ==
        "MemoryMax=t:1048576 MemoryLow=t:524288 MemorySwapMax=t:2097152 CPUWeight=t:100 "
        "CPUQuotaPeriodUSec=t:100000 CPUQuotaPerSecUSec=t:150000 TasksMax=t:10 "
        "AllowedCPUs=ay:7,2, AllowedMemoryNodes=ay:1,");
  CHECK(print(systemd_limits(r, false)) ==
        "MemoryLimit=t:1048576 CPUShares=t:1024 CPUQuotaPeriodUSec=t:100000 CPUQuotaPerSecUSec=t:150000 "
        "TasksMax=t:10");
  ContainerSpec::Resources none;
  none.memory_limit = none.memory_swap = none.cpu_quota = none.pids_limit = -1;
  CHECK(
      print(systemd_limits(none, true)) ==
      "MemoryMax=t:-1 MemorySwapMax=t:-1 CPUQuotaPeriodUSec=t:100000 CPUQuotaPerSecUSec=t:-1 TasksMax=t:-1");
  none = {};
  none.cpu_quota = 1'001;  // rounded up to what systemd can keep
  none.cpu_period = 100'000;
  CHECK(print(systemd_limits(none, true)) == "CPUQuotaPeriodUSec=t:100000 CPUQuotaPerSecUSec=t:20000");
}

TEST_CASE("systemd: properties by annotation") {
  for (const auto& [name, value, printed] :
       {std::tuple("TimeoutStopUSec", "uint64 5000000", "TimeoutStopUSec=t:5000000"),
        {"TimeoutStopSec", "5", "TimeoutStopUSec=t:5000000"},
        {"CollectMode", "'inactive-or-failed'", "CollectMode=s:inactive-or-failed"},
        {"Delegate", "true", "Delegate=b:1"},
        {"OOMScoreAdjust", "-5", "OOMScoreAdjust=i:-5"},
        {"CPUWeight", "uint64 50", "CPUWeight=t:50"}}) {
    CAPTURE(name);
    auto all = systemd_annotations({{"org.systemd.property." + std::string(name), value}, {"other", "x"}});
    REQUIRE_MESSAGE(all, all.error().to_string());
    CHECK(print(*all) == printed);
  }
  for (const auto& [name, value] : {std::pair("CollectMode", "inactive"),
                                    {"CollectMode", "'a'b'"},
                                    {"x/y", "true"},
                                    {"CPUWeight", ""},
                                    {"CPUWeight", "uint64 5x"}}) {
    CAPTURE(name);
    CAPTURE(value);
    auto all = systemd_annotations({{"org.systemd.property." + std::string(name), value}});
    REQUIRE(!all);
    CHECK(all.error().message().find("org.systemd.property." + std::string(name)) != std::string::npos);
  }
}

/// One connection of a manager that answers each call by `answer`, which also may send signals.
class ScriptedManager {
 public:
  using Answer = std::function<std::vector<DbusMessage>(const DbusMessage& call)>;
  ScriptedManager(std::string socket, std::string greeting, Answer answer)
      : greeting_(std::move(greeting)), answer_(std::move(answer)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket.copy(address.sun_path, sizeof address.sun_path - 1);
    listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(listen(listener_.get(), 4) == 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~ScriptedManager() {
    shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }

 private:
  void serve() {
    const Fd peer(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    std::string received;
    char block[4096];
    bool greeted = false, begun = false;
    while (peer) {
      const ssize_t got = recv(peer.get(), block, sizeof block, 0);
      if (got <= 0) return;
      received.append(block, static_cast<std::size_t>(got));
      if (!greeted && received.find("\r\n") != std::string::npos) {
        received.erase(0, received.find("\r\n") + 2);
        (void)!send(peer.get(), greeting_.data(), greeting_.size(), MSG_NOSIGNAL);
        greeted = true;
      }
      if (greeted && !begun && received.starts_with("BEGIN\r\n")) {
        received.erase(0, 7);
        begun = true;
      }
      while (begun) {
        auto call = take_dbus(received);
        if (!call || !call->has_value()) break;
        for (DbusMessage& message : answer_(**call)) {
          if (message.kind != DbusMessage::Kind::signal) message.answer_to = (*call)->serial;
          message.serial = ++serial_;
          const std::string out = encode_dbus(message);
          for (std::size_t at = 0; at < out.size(); at += 7)  // in pieces, as streams come
            (void)!send(peer.get(), out.data() + at, std::min<std::size_t>(7, out.size() - at), MSG_NOSIGNAL);
        }
      }
    }
  }
  const std::string greeting_;
  const Answer answer_;
  Fd listener_;
  std::uint32_t serial_ = 0;
  std::thread thread_;
};

DbusMessage with_text(DbusMessage::Kind kind, const char* signature,
                      std::initializer_list<const char*> texts) {
  DbusMessage message;
  message.kind = kind;
  message.signature = signature;
  DbusWriter body;
  if (*signature == 'u') body.u32(1);
  if (*signature == 'v') body.signature("s");
  for (const char* text : texts) body.text(text);
  message.body = body.bytes();
  return message;
}
DbusMessage job_removed(const char* job, const char* result) {
  DbusMessage signal = with_text(DbusMessage::Kind::signal, "uoss", {job, "web.scope", result});
  signal.path = "/org/freedesktop/systemd1";
  signal.interface = "org.freedesktop.systemd1.Manager";
  signal.member = "JobRemoved";
  return signal;
}

struct ManagerRun {
  std::vector<std::string> calls;
  Result<std::string> group = Error(Error::internal, "test", "did not run");
};
ManagerRun run_against(const char* refusal, const char* job_result,
                       const std::string& greeting = "OK 0123456789abcdef\r\n",
                       const char* group = "/machine.slice/web.scope") {
  const test::TempDir dir;
  ManagerRun run;
  const std::string path = dir.path() + "/manager";
  bool refused = false;
  ScriptedManager manager(path, greeting, [&](const DbusMessage& call) -> std::vector<DbusMessage> {
    run.calls.push_back(call.member);
    const auto answer = DbusMessage::Kind::answer;
    if (call.member == "StartTransientUnit") {
      if (refusal != nullptr && (!refused || std::string_view(refusal).ends_with("Denied"))) {
        refused = true;
        DbusMessage error = with_text(DbusMessage::Kind::error, "s", {"it is there"});
        error.error_name = refusal;
        return {error};
      }
      // The job may be over before its call is answered, and other jobs end as well.
      return {job_removed("/job/2", "failed"), job_removed("/job/1", job_result),
              with_text(answer, "o", {"/job/1"})};
    }
    if (call.member == "GetUnit") return {with_text(answer, "o", {"/unit/1"})};
    if (call.member == "Get") return {with_text(answer, "v", {group})};
    DbusMessage done;
    done.kind = answer;
    return {done};
  });
  // A bus by this name: Hello, AddMatch and Subscribe come first.
  setenv("DBUS_SESSION_BUS_ADDRESS", ("unix:path=" + path + ",guid=1").c_str(), 1);
  setenv("XDG_RUNTIME_DIR", dir.path().c_str(), 1);
  auto systemd = Systemd::open(true);
  unsetenv("DBUS_SESSION_BUS_ADDRESS");
  unsetenv("XDG_RUNTIME_DIR");
  if (!systemd) {
    run.group = systemd.error();
    return run;
  }
  run.group = systemd->start({"machine.slice", "web.scope"}, 1, "web", {});
  return run;
}

TEST_CASE("systemd: a scope is there when its own job is done") {
  const ManagerRun run = run_against(nullptr, "done");
  REQUIRE_MESSAGE(run.group, run.group.error().to_string());
  CHECK(*run.group == "/machine.slice/web.scope");
  CHECK(run.calls ==
        std::vector<std::string>{"Hello", "AddMatch", "Subscribe", "StartTransientUnit", "GetUnit", "Get"});
}

TEST_CASE("systemd: a failed unit of the name is put away, once") {
  const ManagerRun run = run_against("org.freedesktop.systemd1.UnitExists", "done");
  REQUIRE_MESSAGE(run.group, run.group.error().to_string());
  CHECK(run.calls == std::vector<std::string>{"Hello", "AddMatch", "Subscribe", "StartTransientUnit",
                                              "ResetFailedUnit", "StartTransientUnit", "GetUnit", "Get"});
}

TEST_CASE("systemd: refusals and failed jobs are told") {
  const ManagerRun refused = run_against("org.freedesktop.DBus.Error.AccessDenied", "done");
  REQUIRE(!refused.group);
  CHECK(refused.group.error().is(Error::denied));
  CHECK(refused.group.error().message() == "systemd refused web.scope: StartTransientUnit: it is there");
  const ManagerRun failed = run_against(nullptr, "failed");
  REQUIRE(!failed.group);
  CHECK(failed.group.error().message() ==
        "systemd did not start web.scope: its job ended as \"failed\"; see journalctl -u web.scope");
  const ManagerRun outside = run_against(nullptr, "done", "OK 01\r\n", "/../../etc");
  REQUIRE(!outside.group);
  CHECK(outside.group.error().is(Error::corrupt));
}

TEST_CASE("systemd: a peer that lets nobody in, or is not there") {
  const ManagerRun denied = run_against(nullptr, "done", "REJECTED EXTERNAL\r\n");
  REQUIRE(!denied.group);
  CHECK(denied.group.error().message().find("does not let uid") != std::string::npos);
  CHECK(denied.group.error().message().find("use --cgroup-manager cgroupfs") != std::string::npos);
  CHECK(denied.calls.empty());
}

TEST_CASE("systemd: the child that holds a scope open goes with its holder") {
  int pid = 0;
  {
    auto holder = ScopeHolder::start();
    REQUIRE_MESSAGE(holder, holder.error().to_string());
    pid = (*holder)->pid();
    CHECK(kill(pid, 0) == 0);
  }
  CHECK(kill(pid, 0) != 0);
}

}  // namespace
}  // namespace orchestra::runtime
