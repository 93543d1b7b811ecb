// Which nodes pods are routed to, and what could not be done is tried again.
#include <condition_variable>
#include <mutex>

#include "cluster/peer_routes.hpp"
#include "orchestra/env.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::cluster;
using namespace std::chrono_literals;

namespace {

Object known_node(const std::string& name, const std::string& ranges, const std::string& addresses) {
  auto object = Object::from_json(R"({"apiVersion":"v1","kind":"Node","metadata":{"name":")" + name +
                                  R"(","uid":")" + name + R"("},"spec":{"podCIDRs":[)" + ranges +
                                  R"(]},"status":{"addresses":[)" + addresses + "]}}");
  REQUIRE_MESSAGE(object, (object ? "" : object.error().to_string()));
  return *object;
}
std::string address(const std::string& text) { return R"({"type":"InternalIP","address":")" + text + "\"}"; }

/// Answers what it is told to, and counts.
class FakeNetwork final : public PodNetwork {
 public:
  std::shared_ptr<PodAttacher> attacher() override { return nullptr; }
  Pending<std::size_t> reconcile(std::set<std::string>) override {
    return Result<std::size_t>(std::size_t{0});
  }
  Pending<std::vector<std::string>> set_peers(std::vector<PodNetworkPeer>, bool) override {
    std::lock_guard lock(mutex_);
    ++calls_;
    changed_.notify_all();
    if (failures_ == 0) return Result<std::vector<std::string>>(std::vector<std::string>{});
    if (--failures_ % 2 == 0) return Error(Error::io, "test", "the kernel said no");
    return Result<std::vector<std::string>>(std::vector<std::string>{"node b: no way"});
  }
  std::string node_address() const override { return {}; }
  std::vector<MachineChange> machine_changes() const override { return {}; }
  Pending<void> teardown() override { return Result<void>(); }

  void fail(int times) {
    std::lock_guard lock(mutex_);
    failures_ = times;
  }
  int calls() {
    std::lock_guard lock(mutex_);
    return calls_;
  }
  bool wait_for_calls(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 30s, [&] { return calls_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int calls_ = 0, failures_ = 0;
};

}  // namespace

TEST_CASE("peers are the other nodes; one without an address or a range is not known completely yet") {
  NetworkInputs inputs;
  inputs.nodes.synced = true;
  inputs.nodes.objects = {
      known_node("a", R"("10.244.1.0/24")", address("192.0.2.1")),
      known_node("b", R"("10.244.2.0/24","fd00::/120")", address("fd00::2") + "," + address("192.0.2.2")),
      known_node("c", R"("10.244.3.0/24")", "")};
  const PeerList known = peers_of(*NetworkSnapshot::build(inputs), "a");
  const std::vector<PodNetworkPeer> peers{{"b", "192.0.2.2", "10.244.2.0/24"}, {"c", "", "10.244.3.0/24"}};
  CHECK(known.peers == peers);
  CHECK(known.complete);
  inputs.nodes.objects.push_back(known_node("d", "", address("192.0.2.4")));
  const PeerList more = peers_of(*NetworkSnapshot::build(inputs), "a");
  CHECK(more.peers == peers);
  CHECK_FALSE(more.complete);
}

TEST_CASE("the second name server of a pod is that of the next ready node, around the end of the names") {
  const auto second = [](const std::string& own, const std::vector<std::pair<std::string, bool>>& nodes,
                         bool six_first = false) {
    NetworkInputs inputs;
    inputs.nodes.synced = true;
    for (const auto& [name, ready] : nodes) {
      const std::string number = std::to_string(name[0] - 'a');
      const std::string four = "\"10.244." + number + ".0/24\"", six = "\"fd00::" + number + "00/120\"";
      inputs.nodes.objects.push_back(known_node(name, six_first ? six + "," + four : four + "," + six,
                                                R"(],"conditions":[{"type":"Ready","status":")" +
                                                    std::string(ready ? "True" : "Unknown") + R"("})"));
    }
    return second_name_server(*NetworkSnapshot::build(inputs), own);
  };
  CHECK(second("a", {{"a", true}, {"b", true}, {"c", true}}) == "10.244.1.1");
  CHECK(second("a", {{"a", true}, {"b", true}, {"c", true}}, true) == "fd00::101");
  CHECK(second("b", {{"a", true}, {"b", true}, {"c", true}}) == "10.244.2.1");
  CHECK(second("c", {{"a", true}, {"b", true}, {"c", true}}) == "10.244.0.1");
  CHECK(second("a", {{"a", true}, {"b", false}, {"c", true}}) == "10.244.2.1");
  CHECK(second("a", {{"a", true}, {"b", false}}).empty());
  CHECK(second("a", {{"a", true}}).empty());
}

TEST_CASE(
    "routes that could not be made are tried again without a change, and those that are there are not") {
  Engine engine;
  auto network = std::make_shared<FakeNetwork>();
  std::mutex mutex;
  std::vector<std::string> problems;
  auto routes = std::make_shared<PeerRoutes>(engine, network, 1ms, [&](const std::string& problem) {
    std::lock_guard lock(mutex);
    problems.push_back(problem);
  });
  network->fail(3);  // an error, a problem, an error
  const PeerList wanted{{{"b", "192.0.2.2", "10.244.2.0/24"}}, true};
  routes->apply(wanted);
  CHECK(network->wait_for_calls(4));
  routes->apply(wanted);
  CHECK(network->calls() == 4);
  routes->apply({wanted.peers, false});
  CHECK(network->calls() == 5);
  routes->stop();
  routes->apply(wanted);
  CHECK(network->calls() == 5);
  std::lock_guard lock(mutex);
  CHECK(problems == std::vector<std::string>{"node b: no way"});
}
