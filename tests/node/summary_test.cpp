// What a node says of itself: summary and metric pages of numbers, and the pages of an agent with real ones.
#include "node/summary.hpp"

#include "node/pages.hpp"
#include "tests/node/fake_parts.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::node;

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

NodeNumbers some_numbers() {
  NodeNumbers out;
  out.node = "n1";
  out.now_ns = 1'800'000'000 * kSecond;
  out.booted_ns = out.now_ns - 3600 * kSecond;
  out.facts.cpu_milli = 2000;
  out.facts.memory_bytes = 1000;
  out.facts.memory_available_bytes = 400;
  out.facts.memory_free_bytes = 300;
  out.facts.disk_bytes = 5000;
  out.facts.disk_free_bytes = 2000;
  out.facts.busy_ns = 7'500'000'000;
  out.facts.pids_max = 99;
  out.facts.pids = 11;
  out.use = NodeUse{"n1", out.now_ns, kSecond, 250'000'000, 600};
  out.links = {{"eth0", 1, 2, 3, 4}, {"wlan0", 5, 6, 7, 8}};
  out.main_link = "eth0";
  PodNumbers pod;
  pod.uid = "u1";
  pod.ns = "shop";
  pod.name = "web";
  pod.started_ns = out.now_ns - 60 * kSecond;
  ContainerNumbers main;
  main.measured.sample = {
      "u1", "shop", "web", "main", "id1", {}, {out.now_ns - kSecond, 2'000'000'000, 80, 50, 3}};
  main.measured.nanocores = 1'000'000;
  main.started_ns = pod.started_ns;
  main.memory_limit = 120;
  main.log_bytes = 40;
  main.image = "box:1";
  ContainerNumbers fresh = main;  // one sample only: no rate yet
  fresh.measured.sample.container = "side";
  fresh.measured.sample.id = "id2";
  fresh.measured.nanocores.reset();
  fresh.memory_limit = 0;
  pod.containers = {main, fresh};
  pod.volumes = {{"cache", 500}};
  pod.links = {{"eth0", 10, 0, 20, 0}};
  out.pods = {pod};
  return out;
}

bool has_line(const std::string& page, const std::string& line) {
  return ("\n" + page).find("\n" + line + "\n") != std::string::npos;
}

}  // namespace

TEST_CASE("the summary has what was measured, and leaves out what is not known") {
  const json::value all = summary(some_numbers(), false);
  CAPTURE(to_pretty_json(all));
  CHECK(string_at(all, "/node/nodeName") == "n1");
  CHECK(string_at(all, "/node/startTime") == "2027-01-15T07:00:00Z");
  CHECK(int_at(all, "/node/cpu/usageNanoCores") == 250'000'000);
  CHECK(int_at(all, "/node/cpu/usageCoreNanoSeconds") == 7'500'000'000);
  CHECK(int_at(all, "/node/memory/availableBytes") == 400);
  CHECK(int_at(all, "/node/memory/workingSetBytes") == 600);
  CHECK(int_at(all, "/node/memory/usageBytes") == 700);
  CHECK(int_at(all, "/node/fs/usedBytes") == 3000);
  CHECK(string_at(all, "/node/network/name") == "eth0");
  CHECK(int_at(all, "/node/network/interfaces/1/txErrors") == 8);
  CHECK(int_at(all, "/node/rlimit/curproc") == 11);
  CHECK(string_at(all, "/pods/0/podRef/namespace") == "shop");
  CHECK(string_at(all, "/pods/0/podRef/uid") == "u1");
  CHECK(int_at(all, "/pods/0/containers/0/cpu/usageNanoCores") == 1'000'000);
  CHECK(int_at(all, "/pods/0/containers/0/memory/availableBytes") == 70);
  CHECK(int_at(all, "/pods/0/containers/0/logs/usedBytes") == 40);
  CHECK(find(all, "/pods/0/containers/0/rootfs") == nullptr);
  CHECK(string_at(all, "/pods/0/containers/1/name") == "side");
  CHECK(find(all, "/pods/0/containers/1/cpu/usageNanoCores") == nullptr);
  CHECK(find(all, "/pods/0/containers/1/memory/availableBytes") == nullptr);
  CHECK(find(all, "/pods/0/cpu/usageNanoCores") == nullptr);  // one of two is no sum
  CHECK(int_at(all, "/pods/0/cpu/usageCoreNanoSeconds") == 4'000'000'000);
  CHECK(int_at(all, "/pods/0/memory/workingSetBytes") == 100);
  CHECK(int_at(all, "/pods/0/network/rxBytes") == 10);
  CHECK(string_at(all, "/pods/0/volume/0/name") == "cache");
  CHECK(int_at(all, "/pods/0/ephemeral-storage/usedBytes") == 580);
  CHECK(int_at(all, "/pods/0/process_stats/process_count") == 6);

  const json::value few = summary(some_numbers(), true);
  CHECK(int_at(few, "/pods/0/containers/0/memory/workingSetBytes") == 50);
  for (const char* absent : {"/node/fs", "/node/network", "/node/runtime", "/pods/0/network",
                             "/pods/0/volume", "/pods/0/ephemeral-storage", "/pods/0/containers/0/logs"}) {
    CHECK_MESSAGE(find(few, absent) == nullptr, absent);
  }
}

TEST_CASE("the metric pages have upstream's names and the times of the samples") {
  const std::string resource = resource_page(some_numbers());
  CAPTURE(resource);
  CHECK(has_line(resource, "node_cpu_usage_seconds_total 7.5 1800000000000"));
  CHECK(has_line(resource, "node_memory_working_set_bytes 600 1800000000000"));
  CHECK(has_line(
      resource,
      R"(container_cpu_usage_seconds_total{container="main",namespace="shop",pod="web"} 2 1799999999000)"));
  CHECK(has_line(
      resource,
      R"(container_memory_working_set_bytes{container="side",namespace="shop",pod="web"} 50 1799999999000)"));
  CHECK(has_line(resource, R"(pod_cpu_usage_seconds_total{namespace="shop",pod="web"} 4 1799999999000)"));
  CHECK(has_line(resource, R"(pod_memory_working_set_bytes{namespace="shop",pod="web"} 100 1799999999000)"));
  CHECK(has_line(resource, "# TYPE container_cpu_usage_seconds_total counter"));
  CHECK(has_line(resource, "scrape_error 0"));
  const std::string container = container_page(some_numbers());
  CAPTURE(container);
  CHECK(has_line(container, "machine_cpu_cores 2"));
  CHECK(has_line(
      container,
      R"(container_memory_usage_bytes{container="main",namespace="shop",pod="web",id="/u1/id1",image="box:1",name="id1"} 80 1799999999000)"));
  CHECK(has_line(
      container,
      R"(container_network_transmit_bytes_total{container="",interface="eth0",namespace="shop",pod="web"} 20 1800000000000)"));
}

TEST_CASE("the kernel's tables of links and routes are read, and what is no such table is nothing") {
  const auto links = parse_net_dev(
      "Inter-|   Receive                                                |  Transmit\n"
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo "
      "colls "
      "carrier compressed\n"
      "    lo:  100 1 0 0 0 0 0 0  100 1 0 0 0 0 0 0\n"
      "  eth0:1234 5 6 0 0 0 0 0 78 9 10 0 0 0 0 0\n"
      " broken: 1 2\n");
  REQUIRE(links.size() == 1);
  CHECK(links[0].name == "eth0");
  CHECK(links[0].rx_bytes == 1234);
  CHECK(links[0].rx_errors == 6);
  CHECK(links[0].tx_bytes == 78);
  CHECK(links[0].tx_errors == 10);
  CHECK(default_link("Iface\tDestination\tGateway\neth1\t0000A8C0\t0\neth0\t00000000\t0101A8C0\n") == "eth0");
  CHECK(default_link("").empty());
}

TEST_CASE("an agent's pages: of this machine, of its pods, of itself; others are not there, by name") {
  node_test::FakeNode node;
  const auto ask = [&](const std::string& path) { return make_page(node.context, {}, path); };
  CHECK(ask("/healthz").body == "ok");
  const NodePage summary = ask("/stats/summary");
  CHECK(summary.content_type == "application/json");
  const auto read = parse_json(summary.body);
  REQUIRE(read);
  CHECK(string_at(*read, "/node/nodeName") == "n1");
  CHECK(int_at(*read, "/node/memory/workingSetBytes") > (1 << 20));
  CHECK(int_at(*read, "/node/cpu/usageCoreNanoSeconds") > 0);
  CHECK(int_at(*read, "/node/fs/capacityBytes") > 0);
  CHECK(ask("/stats/summary?only_cpu_and_memory=true").body.find("\"fs\"") == std::string::npos);
  CHECK(ask("/metrics").body.find("process_resident_memory_bytes ") != std::string::npos);
  CHECK(ask("/metrics/resource").body.find("node_memory_working_set_bytes ") != std::string::npos);
  CHECK(ask("/pods/").body == R"({"kind":"PodList","apiVersion":"v1","metadata":{},"items":[]})");
  const auto configuration = parse_json(ask("/configz").body);
  REQUIRE(configuration);
  CHECK(int_at(*configuration, "/kubeletconfig/maxPods") == 110);
  CHECK(string_at(*configuration, "/kubeletconfig/evictionHard/nodefs.available") == "10%");
  const NodePage none = ask("/run/default/p/c");
  CHECK(none.code == 404);
  CHECK(none.body.find("has no page \"/run/default/p/c\"; it has /healthz, /pods") != std::string::npos);
}
