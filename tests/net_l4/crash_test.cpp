// kill -9 at any moment of opening, attaching, detaching and tearing down: the next start converges.
//
// A child process (this program again, running the skipped test case below) goes through the whole life of
// a pod network over and over on a test host; it is killed after a random time. Then the network is opened
// here and must be whole: the pods work, nothing is left that belongs to nobody, teardown leaves nothing.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <thread>

#include "api/pod_attacher.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/service_proxy.hpp"
#include "tests/net_l4/net_lab.hpp"
#include "tests/net_l4/snapshot_objects.hpp"

using namespace orchestra;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {

constexpr int kHostFd = 100, kPodFd = 101, kStartedFd = 102;  // in the child
constexpr const char* kChildTest = "the child that is killed";

PodNetworkOptions network_options(const std::string& data, const NetworkNamespace& host) {
  PodNetworkOptions options;
  options.data_dir = data;
  options.instance = "0a1b2c3d";
  options.pod_cidr = "10.244.1.0/24";
  options.service_cidr = "10.96.0.0/16";
  options.name_space = host;
  options.address_cooldown = Duration::zero();
  if (std::filesystem::exists(data + "/bridge")) options.mode = PodNetworkOptions::Mode::bridge;
  return options;
}

std::shared_ptr<ServiceProxy> make_proxy(Engine& engine, PodNetwork& network, const NetworkNamespace& host) {
  ServiceProxyOptions options;
  options.instance = "0a1b2c3d";
  options.cluster_cidr = "10.244.1.0/24";
  options.service_cidr = "10.96.0.0/16";
  options.node_gateway = network.node_address();
  options.name_space = host;
  options.mode = ServiceProxyOptions::Mode::nftables;
  return ServiceProxy::create(engine, options).value();
}

std::shared_ptr<const NetworkSnapshot> service_to(const std::string& address) {
  return make_snapshot({make_service("web", "10.96.0.10", {{}})}, {make_slice("web", {{address}}, 8080)});
}

/// The child: alive until killed.
class Child {
 public:
  Child(const NetworkNamespace& host, const NetworkNamespace& pod, const std::string& data) {
    auto [read_end, write_end] = make_pipe().value();
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, host.fd()->get(), kHostFd);
    posix_spawn_file_actions_adddup2(&actions, pod.fd()->get(), kPodFd);
    posix_spawn_file_actions_adddup2(&actions, write_end.get(), kStartedFd);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    std::string program = "/proc/self/exe", filter = std::string("-tc=") + kChildTest, all = "-ns";
    std::string folder = "ORC_CRASH_DATA=" + data;
    char* args[] = {program.data(), filter.data(), all.data(), nullptr};
    char* env[] = {folder.data(), nullptr};
    REQUIRE(::posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr, args, env) == 0);
    posix_spawn_file_actions_destroy(&actions);
    write_end.reset();
    char byte = 0;
    REQUIRE(::read(read_end.get(), &byte, 1) == 1);  // it is at work
  }
  ~Child() { kill(); }
  void kill() {
    if (pid_ == 0) return;
    ::kill(pid_, SIGKILL);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    CHECK(WIFSIGNALED(status));  // else it ended by itself: a failure in the child
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
};

}  // namespace

TEST_CASE("the child that is killed" * doctest::skip()) {
  const char* data = std::getenv("ORC_CRASH_DATA");
  REQUIRE(data != nullptr);
  const NetworkNamespace host(std::make_shared<Fd>(kHostFd)), pod(std::make_shared<Fd>(kPodFd));
  Engine engine;
  REQUIRE(write_all(kStartedFd, "x"));
  for (int round = 0;; ++round) {
    auto network = PodNetwork::open(engine, network_options(data, host));
    REQUIRE_MESSAGE(network, (network ? "" : network.error().to_string()));
    auto attacher = (*network)->attacher();
    auto proxy = make_proxy(engine, **network, host);
    for (int i = 0; i < 3; ++i) {
      auto attached = attacher->attach({"uid-a", "d", "a", pod.fd()}).wait(60s);
      REQUIRE_MESSAGE(attached, (attached ? "" : attached.error().to_string()));
      REQUIRE(proxy->apply(service_to(attached->addresses.front())).wait(60s));
      REQUIRE(attacher->detach("uid-a").wait(60s));
    }
    if (round % 2 == 0) {
      REQUIRE(proxy->teardown().wait(60s));
      REQUIRE((*network)->teardown().wait(60s));
    }
  }
}

TEST_CASE("after kill -9 at any moment the next start is whole and its teardown leaves nothing") {
  if (!can_make_namespaces()) {
    ORC_SKIP("after kill -9 at any moment the next start is whole and its teardown leaves nothing",
             "needs root");
  }
  bool bridged = false;
  SUBCASE("routed") {}
  SUBCASE("on a bridge") {
    bridged = true;
    if (!has_bridge_module())
      ORC_SKIP(
          "after kill -9 at any moment the next start is whole and its teardown leaves nothing, on a bridge",
          "the kernel's module br_netfilter is not there");
  }
  auto host = make_host();
  const auto before = machine_state(host);
  const auto forward = sysctl_in(host, "net/ipv4/ip_forward");
  std::mt19937 random(1);
  for (int round = 0; round < 15; ++round) {
    TempDir data;
    if (bridged) write_file(data / "bridge", "").value();
    auto pod = NetworkNamespace::create().value();
    {
      Child child(host, pod, data.path());
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 120'000));  // the moment of death
    }
    CAPTURE(round);
    Engine engine;
    auto network = PodNetwork::open(engine, network_options(data.path(), host));
    REQUIRE_MESSAGE(network, (network ? "" : network.error().to_string()));
    auto attached = (*network)->attacher()->attach({"uid-a", "d", "a", pod.fd()}).wait(60s);
    REQUIRE_MESSAGE(attached, (attached ? "" : attached.error().to_string()));
    CHECK((*network)->attacher()->list().value().size() == 1);
    const std::string address = attached->addresses.front();
    auto proxy = make_proxy(engine, **network, host);
    REQUIRE(proxy->apply(service_to(address)).wait(60s));
    TcpAnswerer answerer(pod, "0.0.0.0", 8080, "a");
    CHECK(ask_tcp(host, address, 8080) == "a");
    CHECK(ask_tcp(host, "10.96.0.10", 80) == "a");
    CHECK(ask_tcp(pod, "10.96.0.10", 80) == "a");
    REQUIRE(proxy->teardown().wait(60s));
    REQUIRE((*network)->teardown().wait(60s));
    CHECK(machine_state(host) == before);
    CHECK(ruleset(host).empty());
    CHECK(sysctl_in(host, "net/ipv4/ip_forward") == forward);
  }
}
