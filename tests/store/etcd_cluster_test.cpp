// EtcdStore on three members of a real etcd that want mutual TLS: who is let in, and what a member's end
// does.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <sstream>
#include <thread>

#include "orchestra/etcd_store.hpp"
#include "tests/store/etcd_server.hpp"
#include "tests/store/support.hpp"
#include "tests/support/certificates.hpp"

namespace orchestra::store::test {
namespace {

using orchestra::test::TestAuthority;

/// Clients by mutual TLS, peers in plain text among themselves.
class EtcdCluster {
 public:
  EtcdCluster(Engine& engine, std::size_t members) : authority_("etcd authority") {
    const auto clients = free_addresses(engine, 2 * members);
    const std::vector<std::string> peers(clients.begin() + static_cast<std::ptrdiff_t>(members),
                                         clients.end());
    std::string list;
    for (std::size_t i = 0; i < members; ++i)
      list += (i == 0 ? "m" : ",m") + std::to_string(i) + "=http://" + peers[i];
    for (std::size_t i = 0; i < members; ++i) {
      const std::string name = "m" + std::to_string(i);
      const std::string url = "https://" + clients[i], peer = "http://" + peers[i];
      const auto pair =
          authority_.issue(name, "IP:" + clients[i].substr(0, clients[i].rfind(':')) + ",IP:127.0.0.1");
      Member made;
      made.url = url;
      made.args = {"etcd",
                   "--name",
                   name,
                   "--data-dir",
                   folder_ / name,
                   "--listen-client-urls",
                   url,
                   "--advertise-client-urls",
                   url,
                   "--listen-peer-urls",
                   peer,
                   "--initial-advertise-peer-urls",
                   peer,
                   "--initial-cluster",
                   list,
                   "--log-level",
                   "error",
                   "--logger",
                   "zap",
                   "--heartbeat-interval",
                   "50",
                   "--election-timeout",
                   "500",
                   "--client-cert-auth",
                   "--trusted-ca-file",
                   write("ca", authority_.ca_pem()),
                   "--cert-file",
                   write(name + ".crt", pair.certificate_pem),
                   "--key-file",
                   write(name + ".key", pair.key_pem)};
      members_.push_back(std::move(made));
    }
    for (std::size_t i = 0; i < members; ++i) start(i);
  }
  ~EtcdCluster() {
    for (std::size_t i = 0; i < members_.size(); ++i) kill(i);
  }
  EtcdCluster(const EtcdCluster&) = delete;
  EtcdCluster& operator=(const EtcdCluster&) = delete;

  void start(std::size_t number) {
    Member& member = members_[number];
    std::vector<char*> argv;
    for (std::string& arg : member.args) argv.push_back(arg.data());
    argv.push_back(nullptr);
    member.pid = ::fork();
    if (member.pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const int log = ::open((folder_ / "log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      if (log < 0 || ::dup2(log, 1) < 0 || ::dup2(log, 2) < 0) ::_exit(126);
      ::execvp("etcd", argv.data());
      ::_exit(127);
    }
    REQUIRE(member.pid > 0);
  }
  void kill(std::size_t number) {
    Member& member = members_[number];
    if (member.pid <= 0) return;
    ::kill(member.pid, SIGKILL);
    ::waitpid(member.pid, nullptr, 0);
    member.pid = 0;
  }
  EtcdStoreOptions options() const {
    EtcdStoreOptions options;
    for (const Member& member : members_) options.endpoints.push_back(member.url);
    const auto pair = authority_.issue("client", "");
    options.ca_pem = authority_.ca_pem();
    options.certificate_pem = pair.certificate_pem;
    options.key_pem = pair.key_pem;
    options.call_deadline = 3s;
    return options;
  }
  /// Waits until they have elected one. Who ended at once is started again: its port was not free yet.
  std::shared_ptr<StateStore> open(Engine& engine) {
    std::shared_ptr<StateStore> store;
    std::string why;
    const bool opened = eventually([&] {
      for (std::size_t i = 0; i < members_.size(); ++i) {
        if (::waitpid(members_[i].pid, nullptr, WNOHANG) == members_[i].pid) start(i);
      }
      auto made = EtcdStore::open(engine, options());
      if (made) store = *made;
      why = made ? "" : made.error().to_string();
      return made.has_value();
    });
    std::ostringstream log;
    log << std::ifstream(folder_ / "log").rdbuf();
    REQUIRE_MESSAGE(opened, why, "; etcd says: ", log.str());
    return store;
  }

 private:
  struct Member {
    std::string url;
    std::vector<std::string> args;
    pid_t pid = 0;
  };
  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }
  TestAuthority authority_;
  orchestra::test::TempDir folder_;
  std::vector<Member> members_;
};

Error refusal(Engine& engine, const EtcdStoreOptions& options) {
  auto opened = EtcdStore::open(engine, options);
  REQUIRE_FALSE(opened.has_value());
  return opened.error();
}

TEST_CASE("an etcd that wants certificates lets in who has one, and nobody else") {
  if (!have_etcd()) ORC_SKIP("etcd by TLS", kNoEtcd);
  Engine engine;
  EtcdCluster etcd(engine, 1);
  auto store = etcd.open(engine);
  auto watch = store->watch({.range = KeyPrefix("k")});
  REQUIRE(watch.has_value());
  put(*store, "k", "sealed");
  CHECK(get(*store, "k") == "sealed");
  auto batch = watch->next(kSoon);
  REQUIRE(batch.has_value());
  CHECK(batch->events.front().kv.value.bytes() == "sealed");
  store->stop();

  auto nameless = etcd.options();
  nameless.certificate_pem.clear();
  nameless.key_pem.clear();
  CHECK(refusal(engine, nameless).is(Error::unavailable));
  const TestAuthority foreign("somebody else");
  auto fooled = etcd.options();
  fooled.ca_pem = foreign.ca_pem();
  const Error refused = refusal(engine, fooled);
  CHECK_MESSAGE(refused.is(Error::unauthenticated), refused.to_string());
  CHECK(refused.message().find("is refused") != std::string::npos);
  auto stranger = etcd.options();
  const auto pair = foreign.issue("client", "");
  stranger.certificate_pem = pair.certificate_pem;
  stranger.key_pem = pair.key_pem;
  CHECK(refusal(engine, stranger).is(Error::unavailable));
  auto plain = etcd.options();
  plain.endpoints.front().replace(0, 8, "http://");
  CHECK(refusal(engine, plain).is(Error::unavailable));  // it hangs up without a word
}

TEST_CASE("three members of an etcd: each may be killed, and writes and watches go on by the others") {
  if (!have_etcd()) ORC_SKIP("three members of an etcd", kNoEtcd);
  Engine engine;
  EtcdCluster etcd(engine, 3);
  auto store = etcd.open(engine);
  auto watch = store->watch({.range = Key("counter"), .want_previous = false});
  REQUIRE(watch.has_value());
  std::atomic<bool> stop{false};
  std::atomic<std::int64_t> acknowledged{0}, unknown{0}, odd{0};
  std::thread writer([&] {
    while (!stop) {
      auto result = store->put("counter", "x").wait(kSoon);
      if (result) {
        ++acknowledged;
      } else if (result.error().is(Error::unknown_outcome)) {
        ++unknown;
      } else {
        if (!result.error().is(Error::unavailable)) ++odd;
        std::this_thread::yield();
      }
    }
  });
  const auto go_on = [&](std::int64_t more) {
    const std::int64_t from = acknowledged;
    return eventually([&] { return acknowledged > from + more; });
  };
  bool all_went_on = go_on(20);
  for (std::size_t member = 0; member < 3 && all_went_on; ++member) {
    etcd.kill(member);
    all_went_on = go_on(20);
    etcd.start(member);
    all_went_on = all_went_on && go_on(20);
  }
  stop = true;
  writer.join();
  CHECK(all_went_on);
  CHECK(odd == 0);
  auto now = store->get("counter").wait(kSoon);
  REQUIRE(now.has_value());
  CHECK(now->kv->version >= acknowledged);
  CHECK(now->kv->version <= acknowledged + unknown);
  // The watch has seen each version once, in order.
  std::int64_t version = 0;
  while (version < now->kv->version) {
    auto batch = watch->next(kSoon);
    REQUIRE(batch.has_value());
    for (const WatchEvent& event : batch->events) REQUIRE(event.kv.version == ++version);
  }
  // One of three is no majority.
  etcd.kill(0);
  etcd.kill(1);
  auto alone = store->put("counter", "y").wait(kSoon);
  REQUIRE_FALSE(alone.has_value());
  CHECK((alone.error().is(Error::unknown_outcome) || alone.error().is(Error::unavailable)));
  store->stop();
}

}  // namespace
}  // namespace orchestra::store::test
