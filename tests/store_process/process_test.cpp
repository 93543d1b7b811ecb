// Three real `orchestra store serve` processes: killed, stopped, restarted, damaged, while clients write and
// read; what the clients saw goes through the checker of the simulator.
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
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {

constexpr Duration kSoon = 60s;
const std::string kProgram = std::string(ORCHESTRA_BINARY_DIR) + "/bin/orchestra";

bool eventually(const std::function<bool()>& condition, Duration limit = 60s) {
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

/// An address that is free, and stays so: on a loopback address of this process alone, which no outgoing connection
/// takes for its own end.
std::string free_address() {
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

  explicit Lab(std::size_t count = 3) {
    for (std::size_t i = 0; i < count; ++i) {
      peers.push_back(free_address());
      clients.push_back(free_address());
    }
    children.resize(count);
    for (std::size_t i = 0; i < count; ++i) start(i);
    auto any = client();
    REQUIRE(eventually([&] { return any->put("ready", "x").wait(kSoon).has_value(); }));
    any->stop();
  }
  std::string name(std::size_t i) const { return std::string(1, static_cast<char>('a' + i)); }
  std::string data(std::size_t i) const { return folder / name(i); }
  void start(std::size_t i) {
    std::string list;
    for (std::size_t k = 0; k < peers.size(); ++k) list += (k ? "," : "") + name(k) + "=" + peers[k];
    children[i] = std::make_unique<Child>(
        std::vector<std::string>{kProgram, "store", "serve", "--data", data(i), "--name", name(i),
                                 "--initial-peers", list, "--listen", clients[i]},
        folder / (name(i) + ".log"));
  }
  std::shared_ptr<StateStore> client(Duration deadline = 10s) {
    auto made = StoreClient::connect(engine, {.endpoints = clients, .call_deadline = deadline});
    REQUIRE(made.has_value());
    return *made;
  }
  std::size_t leader() {
    std::size_t found = children.size();
    REQUIRE(eventually([&] {
      for (std::size_t i = 0; i < children.size(); ++i) {
        auto one = StoreClient::connect(engine, {.endpoints = {clients[i]}, .call_deadline = 500ms});
        if ((*one)->status().role == "leader") found = i;
        (*one)->stop();
      }
      return found < children.size();
    }));
    return found;
  }
  int run(std::vector<std::string> args) {
    args.insert(args.begin(), {kProgram, "store"});
    return Child(args, folder / "command.log").wait();
  }
};

/// Clients that call one after the other until told to stop.
class Load {
 public:
  explicit Load(Lab& lab, int clients = 4) : lab_(lab) {
    for (int i = 0; i < clients; ++i) {
      stores_.push_back(lab.client(5s));
      ++running_;
      call(i, 0);
    }
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

void check(const std::vector<sim::Operation>& history) {
  const std::string wrong = sim::check_linearizable(history);
  CHECK_MESSAGE(wrong.empty(), wrong);
  std::vector<sim::Operation> done;
  for (const auto& op : history) {
    if (op.outcome == sim::Operation::Outcome::done) done.push_back(op);
  }
  const std::string back = sim::check_revisions(done);
  CHECK_MESSAGE(back.empty(), back);
}

}  // namespace

TEST_CASE("kill -9 of the leader under load: writes go on within seconds, and nothing acknowledged is lost") {
  Lab lab;
  Load load(lab);
  REQUIRE(eventually([&] { return load.acknowledged() > 100; }));
  const std::size_t leader = lab.leader();
  const std::int64_t killed = lab.engine.clock().now().steady_ns;
  lab.children[leader]->end(SIGKILL);
  const std::size_t before = load.acknowledged();
  REQUIRE(eventually([&] { return load.acknowledged() > before + 8; }, 10s));
  MESSAGE("fail-over: ", (load.last_acknowledged_ns() - killed) / 1'000'000, " ms until nine more writes");
  lab.start(leader);
  const std::size_t again = load.acknowledged();
  REQUIRE(eventually([&] { return load.acknowledged() > again + 100; }));
  check(load.finish());
}

TEST_CASE("a leader that is stopped for two seconds serves nothing old when it goes on") {
  Lab lab;
  Load load(lab);
  REQUIRE(eventually([&] { return load.acknowledged() > 50; }));
  const std::size_t leader = lab.leader();
  lab.children[leader]->signal(SIGSTOP);
  const std::int64_t until = lab.engine.clock().now().steady_ns + 2'000'000'000;
  REQUIRE(eventually([&] { return lab.engine.clock().now().steady_ns > until; }));
  const std::size_t before = load.acknowledged();
  lab.children[leader]->signal(SIGCONT);
  REQUIRE(eventually([&] { return load.acknowledged() > before + 100; }));
  check(load.finish());
}

TEST_CASE("all three killed at once come back with everything, and end cleanly on SIGTERM") {
  Lab lab;
  auto client = lab.client(30s);
  for (int i = 0; i < 50; ++i) REQUIRE(client->put("k" + std::to_string(i), "v").wait(kSoon).has_value());
  for (auto& child : lab.children) child->end(SIGKILL);
  for (std::size_t i = 0; i < 3; ++i) lab.start(i);
  auto all = client->range(KeyPrefix("k")).wait(kSoon);
  REQUIRE(all.has_value());
  CHECK(all->count == 50);
  client->stop();
  for (auto& child : lab.children) CHECK(child->end(SIGTERM) == 0);
  CHECK(lab.run({"check", "--data", lab.data(0)}) == 0);
}

TEST_CASE("a corrupted segment is refused with file and offset, and the others go on without that peer") {
  Lab lab;
  auto client = lab.client(30s);
  for (int i = 0; i < 50; ++i) REQUIRE(client->put("k" + std::to_string(i), "v").wait(kSoon).has_value());
  const std::size_t victim = (lab.leader() + 1) % 3;
  CHECK(lab.children[victim]->end(SIGTERM) == 0);
  {
    std::fstream segment(lab.data(victim) + "/store/log-00000001.seg",
                         std::ios::in | std::ios::out | std::ios::binary);
    REQUIRE(segment.good());
    segment.seekp(700);
    segment.write("XXXX", 4);
  }
  CHECK(lab.run({"check", "--data", lab.data(victim)}) == 9);
  lab.start(victim);
  CHECK(lab.children[victim]->wait() == 9);
  std::ifstream log(lab.folder / (lab.name(victim) + ".log"));
  const std::string text((std::istreambuf_iterator<char>(log)), {});
  CHECK(text.find("log-00000001.seg is damaged at offset") != std::string::npos);
  CHECK(client->put("after", "v").wait(kSoon).has_value());
  client->stop();
}

TEST_CASE("members and leases from the command line, against any peer") {
  Lab lab;
  const std::string endpoint = lab.clients[1];
  CHECK(lab.run({"put", "a", "1", "--endpoint", endpoint}) == 0);
  CHECK(lab.run({"get", "a", "--endpoint", lab.clients[2]}) == 0);
  CHECK(lab.run({"get", "none", "--endpoint", endpoint}) == 3);
  CHECK(lab.run({"put", "a", "2", "--if-revision", "0", "--endpoint", endpoint}) == 4);
  CHECK(lab.run({"members", "list", "--endpoint", endpoint}) == 0);
  CHECK(lab.run({"members", "promote", "77", "--endpoint", endpoint}) == 3);
  CHECK(lab.run({"lease", "grant", "60s", "--endpoint", endpoint}) == 0);
  CHECK(lab.run({"lease", "list", "--endpoint", endpoint}) == 0);
  CHECK(lab.run({"status", "--endpoint", endpoint}) == 0);
  CHECK(lab.run({"snapshot", "save", lab.folder / "saved", "--endpoint", endpoint}) == 0);
  CHECK(lab.run({"get", "a", "--endpoint", "127.0.0.1:1", "--timeout", "1s"}) == 5);
}
