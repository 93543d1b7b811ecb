// orchestra-bench store: the store in process, on the disk that TMPDIR (or /var/tmp) lies on.
//
// Clients of the concurrent measurements are chains of callbacks, each with one call in flight, so that the
// numbers are the store's and not a thread scheduler's. Keys of 22 bytes, values of 256, durability `sync`.
#include <arpa/inet.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "bench/bench.hpp"
#include "bench/etcd_peer.hpp"
#include "orchestra/env.hpp"
#include "orchestra/raft_store.hpp"
#include "orchestra/store_client.hpp"
#include "sim/store_sim.hpp"

namespace orchestra::bench {
namespace {

using namespace std::chrono_literals;
constexpr Duration kWait = std::chrono::seconds(60);

struct Folder {
  std::string path;
  Folder() {
    const char* base = std::getenv("TMPDIR");
    path = std::string(base != nullptr ? base : "/var/tmp") + "/orc-bench-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) std::perror("mkdtemp");
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

std::string key_of(std::uint64_t number) {  // 22 bytes
  std::string key = "/bench/key/00000000000";
  for (std::size_t at = key.size(); number != 0; number /= 10)
    key[--at] = static_cast<char>('0' + number % 10);
  return key;
}
const std::string& value_256() {
  static const std::string value(256, 'v');
  return value;
}

/// Addresses that nobody else takes: on a loopback address of this process alone. A port of 127.0.0.1 that is
/// free now may be the own end of an outgoing connection a moment later, and then a peer can never listen
/// there.
std::vector<std::string> free_addresses(std::size_t count) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr =
      htonl(0x7F400000u | (static_cast<std::uint32_t>(::getpid()) & 0x3FFFFF));  // 127.64.0.0/10
  std::vector<int> sockets;
  std::vector<std::string> addresses;
  for (std::size_t i = 0; i < count; ++i) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof at;
    at.sin_port = 0;
    if (::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0 ||
        ::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) != 0)
      std::perror("orchestra-bench: bind");
    char text[INET_ADDRSTRLEN] = {};
    ::inet_ntop(AF_INET, &at.sin_addr, text, sizeof text);
    addresses.push_back(std::string(text) + ":" + std::to_string(ntohs(at.sin_port)));
    sockets.push_back(fd);
  }
  for (const int fd : sockets) ::close(fd);
  return addresses;
}

/// Asks until it holds; false after `limit`: what is measured then is absent, not late.
template <class Condition>
bool eventually(Duration limit, Condition condition) {
  const std::int64_t until = now_ns() + limit.count();
  while (!condition()) {
    if (now_ns() > until) return false;
    ::usleep(2000);
  }
  return true;
}

StoreLimits by_hand() {
  StoreLimits limits;
  limits.history_age = Duration::zero();
  limits.history_bytes_max = Bytes{8ull << 30};
  return limits;
}
std::shared_ptr<StateStore> open_store(Engine& engine, const std::string& folder) {
  RaftStoreOptions options;
  options.data_dir = folder;
  options.limits = by_hand();
  auto store = RaftStore::open(engine, options);
  if (!store) {
    std::fprintf(stderr, "orchestra-bench: %s\n", store.error().to_string().c_str());
    std::exit(1);
  }
  return *store;
}

double per_second(std::uint64_t count, std::int64_t nanoseconds) {
  return static_cast<double>(count) * 1e9 / static_cast<double>(nanoseconds);
}

std::uint64_t rss_bytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  file >> size >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

/// `clients` chains that call `once(client, n, next)` again and again until the time is over.
struct Load {
  double per_s = 0;
  double cpu_us = 0;
};
template <class Once>
Load run_load(int clients, std::int64_t for_ns, Once once) {
  struct State {
    std::atomic<std::uint64_t> done{0};
    std::atomic<int> running{0};
    std::atomic<bool> over{false};
    std::mutex mutex;
    std::condition_variable ended;
  } state;
  std::function<void(int, std::uint64_t)> next = [&](int client, std::uint64_t n) {
    if (state.over) {
      std::lock_guard lock(state.mutex);
      --state.running;
      state.ended.notify_all();
      return;
    }
    once(client, n, [&, client, n] {
      ++state.done;
      next(client, n + 1);
    });
  };
  const std::int64_t began = now_ns();
  const std::int64_t cpu = cpu_ns();
  state.running = clients;
  for (int client = 0; client < clients; ++client) next(client, 0);
  ::usleep(static_cast<useconds_t>(for_ns / 1000));
  const std::uint64_t done = state.done;
  const double seconds = static_cast<double>(now_ns() - began) / 1e9;
  const double cpu_used = static_cast<double>(cpu_ns() - cpu) / 1e3;
  state.over = true;
  std::unique_lock lock(state.mutex);
  state.ended.wait(lock, [&] { return state.running == 0; });
  return {static_cast<double>(done) / seconds,
          cpu_used / static_cast<double>(std::max<std::uint64_t>(1, done))};
}

/// The disk alone: 4 KiB written and synced in place in a file that was written before.
double probe_sync(const std::string& folder, int rounds) {
  auto file = real_disk().open(folder + "/probe", Disk::Open::create_new);
  const std::string block(4096, 'p');
  for (int i = 0; i < 64; ++i) (void)(*file)->write_at(static_cast<std::uint64_t>(i) * 4096, block);
  (void)(*file)->sync();
  std::vector<double> took;
  for (int i = 0; i < rounds; ++i) {
    const std::int64_t began = now_ns();
    (void)(*file)->write_at(static_cast<std::uint64_t>(i % 64) * 4096, block);
    (void)(*file)->sync();
    took.push_back(static_cast<double>(now_ns() - began) / 1000);
  }
  return percentile(took, 0.5);
}

void measure_one_client(const Options& options, Report& report) {
  Folder folder;
  Engine engine;
  const std::int64_t began = now_ns();
  auto store = open_store(engine, folder.path + "/s");
  (void)store->put("first", "x").wait(kWait);
  report.add({"open_empty_ms",
              static_cast<double>(now_ns() - began) / 1e6,
              "ms",
              20,
              "<=",
              {},
              "to the first write acknowledged"});
  const int rounds = options.quick ? 500 : 4000;
  std::vector<double> took;
  double sync = probe_sync(folder.path, rounds / 2);
  for (int i = 0; i < rounds; ++i) {
    const std::int64_t at = now_ns();
    (void)store->put(key_of(static_cast<std::uint64_t>(i)), value_256()).wait(kWait);
    took.push_back(static_cast<double>(now_ns() - at) / 1000);
  }
  std::filesystem::remove(folder.path + "/probe");
  sync = std::min(sync, probe_sync(folder.path, rounds / 2));
  const double p50 = percentile(took, 0.5);
  report.add({"disk_sync_p50_us",
              sync,
              "us",
              {},
              "<=",
              {},
              "4 KiB in place, fdatasync; before and after the puts, the better"});
  report.add({"put_1c_p50_us", p50, "us", {}});
  report.add({"put_1c_p99_us", percentile(took, 0.99), "us", {}});
  report.add({"ratio_put_1c_to_sync", p50 / sync, "", 1.5, "<="});
  store->stop();
}

void measure_many_clients(const Options& options, Report& report) {
  Folder folder;
  Engine engine;
  auto store = open_store(engine, folder.path + "/s");
  const std::int64_t time = options.quick ? 2'000'000'000 : 6'000'000'000;
  for (const int clients : {64, 512, 2048}) {
    const Load load = run_load(clients, time / 2, [&](int client, std::uint64_t n, auto next) {
      store->put(key_of(static_cast<std::uint64_t>(client) * 1000 + n % 1000), value_256())
          .on_ready([next](Result<WriteResult>) { next(); });
    });
    report.add({"put_" + std::to_string(clients) + "c_inproc_per_s", load.per_s, "1/s", {}, ">="});
    if (clients == 512) report.add({"cpu_us_per_put_512c", load.cpu_us, "us", {}});
  }
  std::vector<Revision> at(64, 0);
  const Load cas = run_load(64, time / 2, [&](int client, std::uint64_t, auto next) {
    const auto slot = static_cast<std::size_t>(client);
    store->put("/bench/cas/" + std::to_string(client), value_256(), {.if_mod_revision = at[slot]})
        .on_ready([next, &at, slot](Result<WriteResult> done) {
          if (done) at[slot] = done->revision;
          next();
        });
  });
  report.add({"cas_64c_per_s", cas.per_s, "1/s", {}, ">="});
  store->stop();
}

void measure_reads(const Options& options, Report& report) {
  Engine engine;
  auto store = MemoryStore::create(engine, {.limits = by_hand()});
  const std::uint64_t keys = 100'000;
  for (std::uint64_t i = 0; i < keys; ++i) (void)store->put(key_of(i), value_256()).wait(kWait);
  const std::uint64_t gets = options.quick ? 300'000 : 2'000'000;
  std::vector<std::string> names;
  for (std::uint64_t i = 0; i < 4096; ++i) names.push_back(key_of(i * 7919 % keys));
  std::int64_t began = cpu_ns();
  std::uint64_t found = 0;
  for (std::uint64_t i = 0; i < gets; ++i) {
    found += store->get(names[i % names.size()]).wait(kWait)->kv.has_value() ? 1 : 0;
  }
  const char* note = "per second of CPU time";
  report.add({"get_inproc_per_s_core", per_second(found, cpu_ns() - began), "1/s", 1e6, ">=", {}, note});
  const std::uint64_t ranges = options.quick ? 5'000 : 50'000;
  std::uint64_t rows = 0;
  began = cpu_ns();
  for (std::uint64_t i = 0; i < ranges; ++i) {
    const auto page =
        store->range({.begin = names[i % names.size()], .to_the_end = true}, {.limit = 100}).wait(kWait);
    rows += page->items.size();
  }
  report.add({"rows_per_s",
              per_second(rows, cpu_ns() - began),
              "1/s",
              5e6,
              ">=",
              {},
              "ranges of 100 rows; per second of CPU time"});
  store->stop();
}

void measure_watches(const Options& options, Report& report) {
  Engine engine;
  auto store = MemoryStore::create(engine, {.limits = by_hand()});
  constexpr std::size_t kWatchers = 1000;
  const int puts = options.quick ? 300 : 2000;
  std::vector<Watch> watches;
  for (std::size_t i = 0; i < kWatchers; ++i) {
    watches.push_back(std::move(*store->watch({.range = KeyPrefix("/bench/"), .want_previous = false})));
  }
  const std::int64_t cpu = cpu_ns();
  const std::int64_t began = now_ns();
  std::uint64_t delivered = 0;
  for (int i = 0; i < puts; ++i) {
    (void)store->put(key_of(static_cast<std::uint64_t>(i)), value_256()).wait(kWait);
    for (Watch& watch : watches) {
      while (auto batch = watch.poll()) delivered += batch->events.size();
    }
  }
  const auto took = static_cast<double>(now_ns() - began);
  report.add({"watch_1000_deliveries_per_s",
              static_cast<double>(delivered) * 1e9 / took,
              "1/s",
              1e6,
              ">=",
              {},
              "polled after each put"});
  report.add({"cpu_us_per_delivery",
              static_cast<double>(cpu_ns() - cpu) / 1000 / static_cast<double>(delivered), "us", 0.3, "<="});

  std::atomic<std::size_t> left{kWatchers};
  std::mutex mutex;
  std::condition_variable all;
  for (Watch& watch : watches) {
    watch.notify([&] {
      if (--left == 0) {
        std::lock_guard lock(mutex);
        all.notify_all();
      }
    });
  }
  const std::int64_t one = now_ns();
  (void)store->put("/bench/last", "x").wait(kWait);
  {
    std::unique_lock lock(mutex);
    all.wait(lock, [&] { return left == 0; });
  }
  for (Watch& watch : watches) (void)watch.poll();
  report.add({"watch_1000_one_put_ms",
              static_cast<double>(now_ns() - one) / 1e6,
              "ms",
              20,
              "<=",
              {},
              "one put until all 1,000 have read it"});
  store->stop();
}

struct SizeResult {
  double rss_per_key = 0, snapshot_ms = 0, restart_ms = 0, put_max_ms = 0;
};

/// Fills a store, compacts, saves a snapshot while writing, and opens it again.
SizeResult fill_and_restart(const std::string& path, std::uint64_t keys) {
  SizeResult result;
  const std::uint64_t before = rss_bytes();
  Engine engine;
  auto store = open_store(engine, path);
  for (std::uint64_t done = 0; done < keys;) {
    std::vector<Pending<WriteResult>> batch;
    for (; batch.size() < 2048 && done < keys; ++done) batch.push_back(store->put(key_of(done), value_256()));
    for (auto& pending : batch) (void)pending.wait(kWait);
    (void)store->compact(store->revision()).wait(kWait);
  }
  result.rss_per_key = static_cast<double>(rss_bytes() - before) / static_cast<double>(keys);
  const std::int64_t began = now_ns();
  auto saved = store->save_snapshot([](std::string_view) { return Result<void>(); });
  while (!saved.is_ready()) {
    const std::int64_t one = now_ns();
    (void)store->put("/bench/during", value_256()).wait(kWait);
    result.put_max_ms = std::max(result.put_max_ms, static_cast<double>(now_ns() - one) / 1e6);
  }
  result.snapshot_ms = static_cast<double>(now_ns() - began) / 1e6;
  store->stop();
  store.reset();
  const std::int64_t again = now_ns();
  store = open_store(engine, path);
  result.restart_ms = static_cast<double>(now_ns() - again) / 1e6;
  store->stop();
  return result;
}

/// In a process of its own, so that memory which earlier measurements left free does not count.
SizeResult measure_in_child(std::uint64_t keys) {
  Folder folder;
  SizeResult result;
  int ends[2];
  if (::pipe(ends) != 0) return result;
  const pid_t child = ::fork();
  if (child == 0) {
    result = fill_and_restart(folder.path + "/s", keys);
    ::_exit(::write(ends[1], &result, sizeof result) == sizeof result ? 0 : 1);
  }
  ::close(ends[1]);
  if (::read(ends[0], &result, sizeof result) != sizeof result)
    std::fprintf(stderr, "orchestra-bench: a child failed\n");
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  return result;
}

void measure_size(const Options& options, Report& report) {
  std::vector<std::uint64_t> sizes{10'000, 100'000};
  if (!options.quick) sizes.push_back(1'000'000);
  for (const std::uint64_t keys : sizes) {
    const bool last = keys == 1'000'000;
    const std::string name = last ? "1m" : std::to_string(keys / 1000) + "k";
    const auto goal = [&](double value) { return last ? std::optional<double>(value) : std::nullopt; };
    const SizeResult result = measure_in_child(keys);
    report.add({"rss_bytes_per_key_" + name,
                result.rss_per_key,
                "B",
                goal(380),
                "<=",
                {},
                "22 B + 256 B, with all of the store"});
    report.add({"snapshot_" + name + "_ms",
                result.snapshot_ms,
                "ms",
                goal(700),
                "<=",
                {},
                "encoding and SHA-256, without the disk"});
    report.add(
        {"put_max_ms_during_snapshot_" + name, result.put_max_ms, "ms", goal(5), "<=", {}, "with its sync"});
    report.add({"restart_" + name + "_ms", result.restart_ms, "ms", goal(1500), "<="});
  }
}

/// 512 calls under way over the loopback: server and client have an engine each.
void measure_tcp(const Options& options, Report& report) {
  Folder folder;
  Engine engine, near;
  auto store = open_store(engine, folder.path + "/s");
  StoreServer server(engine, store, {.listen = "127.0.0.1:0"});
  if (!server.start()) return;
  auto client = StoreClient::connect(near, {.endpoints = {server.address()}});
  (void)(*client)->put("first", "x").wait(kWait);
  const std::int64_t time = options.quick ? 1'500'000'000 : 4'000'000'000;
  const Load load = run_load(512, time, [&](int slot, std::uint64_t n, auto next) {
    (*client)
        ->put(key_of(static_cast<std::uint64_t>(slot) * 1000 + n % 1000), value_256())
        .on_ready([next](Result<WriteResult>) { next(); });
  });
  report.add({"put_512c_tcp_per_s", load.per_s, "1/s", {}, ">=", {}, "client and server in one process"});
  (*client)->stop();
  server.stop();
  store->stop();
}

/// Three peers in this process over the loopback, each with its engine, log and folder on one disk.
void measure_peers(const Options& options, Report& report) {
  Folder folder;
  std::vector<std::unique_ptr<Engine>> engines;
  std::vector<std::string> list = free_addresses(3);
  for (std::size_t i = 0; i < list.size(); ++i)
    list[i] = std::string(1, static_cast<char>('a' + i)) + "=" + list[i];
  std::vector<std::shared_ptr<StateStore>> stores;
  for (const std::string& peer : list) {
    engines.push_back(std::make_unique<Engine>());
    RaftStoreOptions open;
    open.name = peer.substr(0, 1);
    open.data_dir = folder.path + "/" + open.name;
    open.initial_peers = list;
    open.limits = by_hand();
    auto opened = RaftStore::open(*engines.back(), open);
    if (!opened) {
      std::fprintf(stderr, "orchestra-bench: %s\n", opened.error().to_string().c_str());
      return;
    }
    stores.push_back(*opened);
  }
  StateStore* leader = nullptr;
  const bool led = eventually(10s, [&] {
    (void)stores[0]->put("first", "x").wait(kWait);
    for (auto& store : stores) {
      if (store->status().role == "leader") leader = store.get();
    }
    return leader != nullptr;
  });
  if (!led) {
    report.add({"put_512c_3peers_per_s", {}, "1/s", {}, ">=", {}, "three peers found no leader within 10 s"});
    return;
  }
  std::vector<double> took;
  for (int i = 0; i < (options.quick ? 300 : 2000); ++i) {
    const std::int64_t at = now_ns();
    (void)leader->put(key_of(static_cast<std::uint64_t>(i)), value_256()).wait(kWait);
    took.push_back(static_cast<double>(now_ns() - at) / 1000);
  }
  report.add({"put_1c_3peers_p50_us", percentile(took, 0.5), "us", 400, "<=", {}, "three logs on one disk"});
  // Taking turns with an etcd of three members on the same disk.
  EtcdPeer etcd(folder.path, free_addresses(3));
  std::string trouble = etcd.trouble();
  const std::int64_t slice = options.quick ? 700'000'000 : 3'000'000'000;
  const int rounds = options.quick ? 1 : 2;
  double per_s = 0, cpu_us = 0, theirs = 0, their_one = 0;
  for (int round = 0; round < rounds; ++round) {
    EtcdPeer::Load before, one, after;
    if (trouble.empty()) before = etcd.put(512, slice);
    const Load load = run_load(512, slice, [&](int slot, std::uint64_t n, auto next) {
      leader->put(key_of(static_cast<std::uint64_t>(slot) * 1000 + n % 1000), value_256())
          .on_ready([next](Result<WriteResult>) { next(); });
    });
    per_s += load.per_s / rounds;
    cpu_us += load.cpu_us / rounds;
    if (trouble.empty()) one = etcd.put(1, slice / 2);
    if (trouble.empty()) after = etcd.put(512, slice);
    for (const EtcdPeer::Load* each : {&before, &one, &after}) {
      if (!each->trouble.empty()) trouble = each->trouble;
    }
    theirs += (before.per_s + after.per_s) / 2 / rounds;
    their_one += one.p50_us / rounds;
  }
  report.add({"put_512c_3peers_per_s", per_s, "1/s", {}, ">=", {}, "through the leader, in process"});
  report.add({"cpu_us_per_put_3peers", cpu_us, "us", 25, "<=", {}, "over all three"});
  const auto ratio = [&](const char* name, double value, const char* op, double goal, double peer) {
    if (!trouble.empty()) return report.add({name, {}, "", goal, op, {}, trouble});
    report.add({name, value, "", goal, op, Peer{"etcd", etcd.version(), peer},
                "three members on the same disk, taking turns; through the fastest member, gRPC"});
  };
  const double own_one = percentile(took, 0.5);
  ratio("ratio_put_512c_3peers", per_s / theirs, ">=", 5, theirs);
  ratio("ratio_put_1c_3peers_latency", own_one / their_one, "<=", 0.5, their_one);
  for (auto& store : stores) store->stop();
}

/// Real processes: kill -9 of the leader until the first write that another one acknowledges.
void measure_failover(const Options& options, Report& report) {
  char self[4096];
  const ssize_t length = ::readlink("/proc/self/exe", self, sizeof self - 1);
  std::string program(self, length > 0 ? static_cast<std::size_t>(length) : 0);
  program = program.substr(0, program.rfind('/')) + "/orchestra";
  if (::access(program.c_str(), X_OK) != 0) {
    report.add({"failover_ms_p50", {}, "ms", 1000, "<=", {}, "the program orchestra is not beside this one"});
    return;
  }
  for (const bool fast : {false, true}) {
    Folder folder;
    Engine engine;
    const std::vector<std::string> addresses = free_addresses(6);
    const std::string list = "a=" + addresses[0] + ",b=" + addresses[1] + ",c=" + addresses[2];
    std::vector<pid_t> children(3, 0);
    const auto start = [&](std::size_t i) {
      children[i] = ::fork();
      if (children[i] != 0) return;
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const std::string name(1, static_cast<char>('a' + i)), data = folder.path + "/" + name;
      if (std::freopen("/dev/null", "w", stdout) == nullptr) ::_exit(1);
      ::execl(program.c_str(), program.c_str(), "store", "serve", "--data", data.c_str(), "--name",
              name.c_str(), "--initial-peers", list.c_str(), "--listen", addresses[3 + i].c_str(),
              fast ? "--lan-fast" : nullptr, nullptr);
      ::_exit(127);
    };
    for (std::size_t i = 0; i < 3; ++i) start(i);
    auto client = *StoreClient::connect(
        engine, {.endpoints = {addresses[3], addresses[4], addresses[5]}, .call_deadline = 5s});
    std::vector<double> took;
    const int rounds = options.quick ? 2 : 9;
    std::string trouble;
    for (int round = 0; round < rounds && trouble.empty(); ++round) {
      std::size_t leader = 3;
      const bool led = eventually(10s, [&] {
        if (!client->put("k", std::to_string(round)).wait(kWait)) return false;
        for (std::size_t i = 0; i < 3; ++i) {
          auto one = *StoreClient::connect(engine, {.endpoints = {addresses[3 + i]}, .call_deadline = 1s});
          if (one->status().role == "leader") leader = i;
          one->stop();
        }
        return leader != 3;
      });
      if (!led) {
        trouble = "; round " + std::to_string(round) + " found no leader within 10 s";
        break;
      }
      ::usleep(700'000);
      auto other = *StoreClient::connect(
          engine, {.endpoints = {addresses[3 + (leader + 1) % 3]}, .call_deadline = 5s});
      (void)other->get("k").wait(kWait);
      const std::int64_t killed = now_ns();
      ::kill(children[leader], SIGKILL);
      const bool wrote =
          eventually(10s, [&] { return other->put("after", std::to_string(round)).wait(kWait).has_value(); });
      if (wrote) {
        took.push_back(static_cast<double>(now_ns() - killed) / 1e6);
      } else {
        trouble = "; round " + std::to_string(round) + " acknowledged nothing within 10 s";
      }
      other->stop();
      ::waitpid(children[leader], nullptr, 0);
      start(leader);
    }
    report.add({fast ? "failover_lan_fast_ms_p50" : "failover_ms_p50",
                took.empty() ? std::optional<double>() : percentile(took, 0.5),
                "ms",
                fast ? 300.0 : 1000.0,
                "<=",
                {},
                std::to_string(took.size()) + " times kill -9 of the leader of three processes" + trouble});
    client->stop();
    for (const pid_t child : children) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
  }
}

void measure_simulator(const Options& options, Report& report) {
  double simulated = 0;
  const std::int64_t began = cpu_ns();
  for (std::uint64_t seed = 1; seed <= (options.quick ? 3u : 20u); ++seed) {
    sim::StoreSimOptions run;
    run.seed = seed;
    (void)sim::run_store_sim(run);
    simulated += 48;  // 20 s of faults, 20 s of healing, 8 s of checking
  }
  report.add({"sim_seconds_per_s_core",
              simulated * 1e9 / static_cast<double>(cpu_ns() - began),
              "",
              1000,
              ">=",
              {},
              "three peers, faults on, four clients, every check after every event"});
}

/// Ours and etcd take turns on one disk: 512 puts under way in process, then over TCP, and one after the
/// other.
void measure_beside_etcd(const Options& options, Report& report) {
  Folder folder;
  EtcdPeer etcd(folder.path);
  Engine engine, near;
  auto store = open_store(engine, folder.path + "/s");
  StoreServer server(engine, store, {.listen = free_addresses(1).front()});
  if (!server.start()) return;
  auto client = *StoreClient::connect(near, {.endpoints = {server.address()}});
  (void)client->put("first", "x").wait(kWait);
  const auto load_of = [&](StateStore& target, std::int64_t time) {
    return run_load(512, time, [&](int slot, std::uint64_t n, auto next) {
      target.put(key_of(static_cast<std::uint64_t>(slot) * 1000 + n % 1000), value_256())
          .on_ready([next](Result<WriteResult>) { next(); });
    });
  };
  const std::int64_t slice = options.quick ? 500'000'000 : 3'000'000'000;
  const int rounds = options.quick ? 1 : 3;
  std::string trouble = etcd.trouble();
  double inproc = 0, tcp = 0, theirs = 0, their_cpu = 0, ours_one = 0, their_one = 0;
  for (int round = 0; round < rounds && trouble.empty(); ++round) {
    const EtcdPeer::Load before = etcd.put(512, slice);
    inproc += load_of(*store, slice).per_s / rounds;
    tcp += load_of(*client, slice).per_s / rounds;
    const EtcdPeer::Load one = etcd.put(1, slice / 2);
    std::vector<double> took;
    for (const std::int64_t until = now_ns() + slice / 2; now_ns() < until;) {
      const std::int64_t at = now_ns();
      (void)store->put(key_of(took.size() % 1000), value_256()).wait(kWait);
      took.push_back(static_cast<double>(now_ns() - at) / 1000);
    }
    const EtcdPeer::Load after = etcd.put(512, slice);
    for (const EtcdPeer::Load* each : {&before, &one, &after}) {
      if (!each->trouble.empty()) trouble = each->trouble;
    }
    theirs += (before.per_s + after.per_s) / 2 / rounds;
    their_cpu += (before.cpu_us + after.cpu_us) / 2 / rounds;
    their_one += one.p50_us / rounds;
    ours_one += percentile(took, 0.5) / rounds;
  }
  const auto add = [&](const std::string& name, double value, const std::string& unit,
                       std::optional<double> goal, double peer, const std::string& note) {
    if (!trouble.empty()) return report.add({name, {}, unit, goal, ">=", {}, trouble});
    report.add({name, value, unit, goal, ">=", Peer{"etcd", etcd.version(), peer}, note});
  };
  const std::string turns = "taking turns on one disk; etcd through gRPC on a unix socket";
  add("ratio_put_512c_inproc", inproc / theirs, "", 10, theirs, turns);
  add("ratio_put_512c_tcp", tcp / theirs, "", 5, theirs, turns);
  add("ratio_put_1c_latency", their_one / ours_one, "", {}, their_one,
      "p50 of etcd by that of one client in process");
  add("etcd_cpu_us_per_put_512c", their_cpu, "us", {}, their_cpu, "of the server");
  client->stop();
  server.stop();
  store->stop();
}

void run_store(const Options& options, Report& report) {
  measure_size(options, report);  // first: it forks, while this process has one thread
  measure_one_client(options, report);
  measure_many_clients(options, report);
  measure_reads(options, report);
  measure_watches(options, report);
  measure_tcp(options, report);
  measure_peers(options, report);
  measure_failover(options, report);
  measure_simulator(options, report);
  measure_beside_etcd(options, report);
}

const bool store_registered = register_area("store", run_store);

}  // namespace
}  // namespace orchestra::bench
