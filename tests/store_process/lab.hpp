#pragma once
// Real `orchestra store serve` processes of a test, and clients that load them: what they see is a history
// for the checker of the simulator.
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <mutex>
#include <thread>

#include "orchestra/env.hpp"
#include "orchestra/store_client.hpp"
#include "sim/history.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/test.hpp"

namespace orchestra::test {

using namespace std::chrono_literals;

constexpr Duration kSoon = 60s;
inline const std::string kProgram = std::string(ORCHESTRA_BINARY_DIR) + "/bin/orchestra";

inline bool eventually(const std::function<bool()>& condition, Duration limit = 60s) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    const Promise<> nobody;
    (void)nobody.pending().wait(2ms);
  }
  return true;
}

/// A child of this test; its output goes to a file.
class Child {
 public:
  Child(const std::vector<std::string>& args, const std::string& output) {
    std::vector<char*> raw;
    for (const std::string& arg : args) raw.push_back(const_cast<char*>(arg.c_str()));
    raw.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    const int out = ::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(out, 1);
    ::dup2(out, 2);
    ::execv(raw[0], raw.data());
    ::_exit(127);
  }
  ~Child() { end(SIGKILL); }
  Child(const Child&) = delete;
  void signal(int number) { ::kill(pid_, number); }
  /// Its exit status; 128 + the signal that ended it.
  int end(int number) {
    if (pid_ <= 0) return -1;
    ::kill(pid_, number);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }

 private:
  pid_t pid_ = 0;
};

/// An address that is free, and stays so: on a loopback address of this process alone, which no outgoing
/// connection takes for its own end.
inline std::string free_address() {
  const auto id = static_cast<std::uint32_t>(::getpid());
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(0x7F400000u | (id & 0x3FFFFF));  // 127.64.0.0/10
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  socklen_t size = sizeof at;
  REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
  REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) == 0);
  ::close(fd);
  char text[INET_ADDRSTRLEN] = {};
  ::inet_ntop(AF_INET, &at.sin_addr, text, sizeof text);
  return std::string(text) + ":" + std::to_string(ntohs(at.sin_port));
}

struct Lab {
  orchestra::test::TempDir folder;
  Engine engine;
  std::vector<std::string> peers, clients;
  std::vector<std::unique_ptr<Child>> children;
  std::size_t founders = 0;
  std::vector<std::string> serve_flags, client_flags;  ///< to every process of that kind
  StoreTls tls;                                        ///< of clients in this process
  bool idle = false;                                   ///< nobody is started yet

  /// `setup` may set the flags, once the addresses are known.
  explicit Lab(std::size_t count = 3, const std::function<void(Lab&)>& setup = {}) {
    for (std::size_t i = 0; i < count; ++i) {
      peers.push_back(free_address());
      clients.push_back(free_address());
    }
    founders = count;
    children.resize(count);
    if (setup) setup(*this);
    if (idle) return;
    for (std::size_t i = 0; i < count; ++i) start(i);
    auto any = client();
    REQUIRE(eventually([&] { return any->put("ready", "x").wait(kSoon).has_value(); }));
    any->stop();
  }
  std::string name(std::size_t i) const { return std::string(1, static_cast<char>('a' + i)); }
  std::string data(std::size_t i) const { return folder / name(i); }
  void start(std::size_t i) {
    std::string list;
    for (std::size_t k = 0; k < founders; ++k) list += (k ? "," : "") + name(k) + "=" + peers[k];
    std::vector<std::string> args{kProgram, "store", "serve",    "--data",  data(i),
                                  "--name", name(i), "--listen", clients[i]};
    if (i < founders) {
      args.insert(args.end(), {"--initial-peers", list});
    } else {
      args.insert(args.end(), {"--join", peers[0] + "," + peers[1], "--peer-listen", peers[i]});
    }
    args.insert(args.end(), serve_flags.begin(), serve_flags.end());
    children[i] = std::make_unique<Child>(args, folder / (name(i) + ".log"));
  }
  /// The peer address of one more, which is not started yet.
  std::string add_machine() {
    peers.push_back(free_address());
    clients.push_back(free_address());
    children.emplace_back();
    return peers.back();
  }
  /// A further peer, added as a learner by the command line; its id.
  std::string join_learner() {
    const std::size_t i = peers.size();
    add_machine();
    REQUIRE(run({"members", "add", name(i), peers[i], "--learner", "--endpoint",
                 clients[0] + "," + clients[1]}) == 0);
    start(i);
    return id_of(name(i));
  }
  std::string id_of(const std::string& wanted) {
    auto any = client();
    const auto all = dynamic_cast<StoreMembers&>(*any).members().wait(kSoon);
    REQUIRE(all.has_value());
    std::string id;
    for (const StoreMember& member : *all) {
      if (member.name == wanted) id = std::to_string(member.id);
    }
    any->stop();
    return id;
  }
  std::shared_ptr<StateStore> client(Duration deadline = 10s) {
    auto made = StoreClient::connect(engine, {.endpoints = clients, .call_deadline = deadline, .tls = tls});
    REQUIRE(made.has_value());
    return *made;
  }
  std::size_t leader() {
    std::size_t found = children.size();
    REQUIRE(eventually([&] {
      for (std::size_t i = 0; i < children.size(); ++i) {
        auto one =
            StoreClient::connect(engine, {.endpoints = {clients[i]}, .call_deadline = 500ms, .tls = tls});
        if ((*one)->status().role == "leader") found = i;
        (*one)->stop();
      }
      return found < children.size();
    }));
    return found;
  }
  int run(std::vector<std::string> args) {
    args.insert(args.begin(), {kProgram, "store"});
    args.insert(args.end(), client_flags.begin(), client_flags.end());
    return Child(args, folder / "command.log").wait();
  }
};

/// Clients that call one after the other until told to stop.
class Load {
 public:
  explicit Load(Lab& lab, int clients = 4) : lab_(lab) {
    for (int i = 0; i < clients; ++i) stores_.push_back(lab.client(5s));
    running_ = clients;
    for (int i = 0; i < clients; ++i) call(i, 0);
  }
  std::vector<sim::Operation> finish() {
    over_ = true;
    REQUIRE(eventually([&] { return running_ == 0; }));
    for (auto& store : stores_) store->stop();
    std::lock_guard lock(mutex_);
    return history_;
  }
  std::size_t acknowledged() const { return acknowledged_; }
  std::int64_t last_acknowledged_ns() const { return last_ns_; }

 private:
  std::int64_t now() { return lab_.engine.clock().now().steady_ns; }
  void call(int client, int number) {
    if (over_) {
      --running_;
      return;
    }
    sim::Operation op;
    op.client = client;
    op.key = "k" + std::to_string(number % 3);
    op.called = now();
    StateStore& store = *stores_[static_cast<std::size_t>(client)];
    if (number % 3 == 2) {
      op.type = sim::Operation::Type::read;
      store.get(op.key).on_ready([this, op, client, number](Result<GetResult> got) mutable {
        op.returned = now();
        if (got) {
          op.value = got->kv ? std::string(got->kv->value.bytes()) : "";
          op.revision = got->revision;
          note(op);
        }
        next(client, number);
      });
      return;
    }
    op.type = sim::Operation::Type::write;
    op.value = std::to_string(client) + "." + std::to_string(number);
    store.put(op.key, op.value).on_ready([this, op, client, number](Result<WriteResult> put) mutable {
      op.returned = now();
      if (put) {
        op.revision = put->revision;
        ++acknowledged_;
        last_ns_ = op.returned;
        note(op);
      } else if (!put.error().is(Error::unavailable)) {
        op.outcome = sim::Operation::Outcome::unknown;
        note(op);
      }
      next(client, number);
    });
  }
  void next(int client, int number) {
    // A pause keeps the history at a size that the checker can search.
    lab_.engine.after(5ms, [this, client, number] { call(client, number + 1); });
  }
  void note(const sim::Operation& op) {
    std::lock_guard lock(mutex_);
    history_.push_back(op);
  }
  Lab& lab_;
  std::vector<std::shared_ptr<StateStore>> stores_;
  std::atomic<bool> over_{false};
  std::atomic<int> running_{0};
  std::atomic<std::size_t> acknowledged_{0};
  std::atomic<std::int64_t> last_ns_{0};
  std::mutex mutex_;
  std::vector<sim::Operation> history_;
};

inline void check(const std::vector<sim::Operation>& history) {
  const std::string wrong = sim::check_linearizable(history);
  CHECK_MESSAGE(wrong.empty(), wrong);
  std::vector<sim::Operation> done;
  for (const auto& op : history) {
    if (op.outcome == sim::Operation::Outcome::done) done.push_back(op);
  }
  const std::string back = sim::check_revisions(done);
  CHECK_MESSAGE(back.empty(), back);
}

}  // namespace orchestra::test
