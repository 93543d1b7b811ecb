// Pods with a user namespace of their own (spec.hostUsers: false) on real parts, and /proc without masks.
#include <fstream>
#include <sstream>

#include "tests/agent/test_node.hpp"

using namespace orchestra;
using namespace orchestra::agent_test;

namespace {

/// Who the machine says that a container's process is.
std::uint64_t user_of(TestNode& node, const Object& pod, const std::string& container) {
  const auto status = node.runtime->status(pod.uid(), pod.uid() + "-" + container + "-0").wait(60s);
  REQUIRE_MESSAGE(status, status.error().to_string());
  std::ifstream file("/proc/" + std::to_string(status->pid) + "/status");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with("Uid:\t")) return std::strtoull(line.c_str() + 5, nullptr, 10);
  }
  return 0;
}

std::string inside(TestNode& node, const Object& pod, const std::string& script) {
  auto ran =
      node.runtime->exec(pod.uid(), pod.uid() + "-main-0", {"/bin/sh", "-c", script}, 30s, 4096).wait(60s);
  return ran ? ran->output : "error: " + ran.error().to_string();
}

}  // namespace

TEST_CASE("hostUsers: false: root inside, ids of its own outside, volumes and image with the right owners") {
  if (!enter_test_host("agent hostUsers")) return;
  TestNode node(RuntimeOptions::Isolation::full);
  node.create(
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: default}\n"
      "data: {color: blue}\n");
  const auto yaml = [](const std::string& name) {
    return pod_yaml(name, R"j('busybox cat /etc/cfg/color > /scratch/copy; echo up; busybox sleep 1000')j",
                    "  hostUsers: false\n"
                    "  volumes: [{name: cfg, configMap: {name: settings, defaultMode: 0400}},\n"
                    "            {name: tmp, emptyDir: {}}, {name: mem, emptyDir: {medium: Memory}}]\n",
                    "    securityContext: {procMount: Unmasked}\n"
                    "    volumeMounts: [{name: cfg, mountPath: /etc/cfg}, {name: tmp, mountPath: /scratch},\n"
                    "                   {name: mem, mountPath: /mem}]\n"
                    "  - name: user\n    image: box:1\n    args: ['busybox id -u > /mem/who; busybox sleep "
                    "1000']\n"
                    "    securityContext: {runAsUser: 1000}\n"
                    "    volumeMounts: [{name: mem, mountPath: /mem}]\n");
  };
  node.create(yaml("one"));
  node.create(yaml("two"));
  for (const char* name : {"one", "two"}) REQUIRE(node.wait_pod(name, ready));
  const Object one = node.pod("one"), two = node.pod("two");
  REQUIRE(node.logs_of_size("one", "main", 3) == "up\n");
  CHECK(inside(node, one, "busybox id -u; busybox cat /scratch/copy") == "0\nblue");
  CHECK(inside(node, one, "busybox stat -L -c %u:%a /etc/cfg/color /scratch/copy /bin/busybox /etc/hosts") ==
        "0:400\n0:644\n0:755\n0:644\n");
  std::string who;
  for (int tries = 0; tries < 600 && who != "1000\n1000\n"; ++tries) {
    if (tries != 0) node.pause(100ms);
    who = inside(node, one, "busybox cat /mem/who; busybox stat -c %u /mem/who");
  }
  CHECK(who == "1000\n1000\n");
  // Outside: 65536 ids for each pod, none of them anybody else's.
  const std::uint64_t first = user_of(node, one, "main"), other = user_of(node, two, "main");
  CHECK(first >= 65536);
  CHECK(first % 65536 == 0);
  CHECK(other >= 65536);
  CHECK(other % 65536 == 0);
  CHECK(first != other);
  CHECK(user_of(node, one, "user") == first + 1000);
  // /proc as it is; ports below 1024 as for any root.
  CHECK(inside(node, one, "busybox grep -c ' /proc/' /proc/self/mountinfo") == "0\n");
  CHECK(inside(node, one, "busybox cat /proc/sys/net/ipv4/ip_unprivileged_port_start") == "0\n");

  // A new agent knows whose ids are taken; those of a pod that is gone are free.
  node.stop_agent();
  node.start_agent();
  for (const char* name : {"one", "two"}) REQUIRE(node.wait_pod(name, ready));
  node.create(yaml("three"));
  REQUIRE(node.wait_pod("three", ready));
  const std::uint64_t third = user_of(node, node.pod("three"), "main");
  CHECK(third != first);
  CHECK(third != other);
  REQUIRE(node.client.remove("v1", "pods", "one", "default").wait(60s));
  REQUIRE(node.wait_pod("one", [](const Object& pod) { return !pod; }));
  node.create(yaml("four"));
  REQUIRE(node.wait_pod("four", ready));
  CHECK(user_of(node, node.pod("four"), "main") == first);
}

TEST_CASE("ids that a pod with a user namespace does not have, and levels without one, are named in events") {
  if (!enter_test_host("agent hostUsers refusals")) return;
  for (const auto level : {RuntimeOptions::Isolation::full, RuntimeOptions::Isolation::process}) {
    TestNode node(level);
    const bool full = level == RuntimeOptions::Isolation::full;
    node.create(pod_yaml("far", "'busybox sleep 1000'", "  hostUsers: false\n",
                         "    securityContext: {runAsUser: 70000}\n"));
    const std::string wanted = full ? "user or group 70000 is not there: with hostUsers: false"
                                    : "a user namespace of its own needs isolation level full";
    bool told = false;
    for (int tries = 0; tries < 600 && !told; ++tries) {
      if (tries != 0) node.pause(100ms);
      const Object pod = node.pod("far");
      told = pod.get("/status/containerStatuses/0/state/waiting/message").value_or("").find(wanted) !=
             std::string::npos;
      auto events = node.client.list("v1", "events").wait(60s);
      for (const Object& event : events ? events->items : std::vector<Object>())
        told = told || event.get("/message").value_or("").find(wanted) != std::string::npos;
    }
    CHECK(told);
  }
}
