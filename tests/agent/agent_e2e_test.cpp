// The node agent on real parts: API server, controllers, runtime, images, pod network, in a network namespace
// of its own without uplink. Needs root; at level process too.
#include <algorithm>

#include "tests/agent/test_node.hpp"

using namespace orchestra;
using namespace orchestra::agent_test;
using namespace std::chrono_literals;

namespace {
// Both levels run the same cases.
void life_of_a_pod(RuntimeOptions::Isolation level) {
  TestNode node(level);
  node.create(
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: default}\ndata: {color: "
      "blue}\n");
  node.create(
      "apiVersion: v1\nkind: Secret\nmetadata: {name: keys, namespace: default}\nstringData: {password: "
      "s3cret}\n");
  node.create(pod_yaml(
      "web",
      R"j('echo "$COLOR $IP $(busybox cat /etc/cfg/color)"; trap "exit 3" TERM; busybox sleep 1000 & wait')j",
      "  volumes: [{name: cfg, configMap: {name: settings}}, {name: tmp, emptyDir: {}}]\n",
      "    env: [{name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}, {name: IP, "
      "valueFrom: {fieldRef: {fieldPath: status.podIP}}}]\n"
      "    volumeMounts: [{name: cfg, mountPath: /etc/cfg}, {name: tmp, mountPath: /scratch}]\n"
      "    readinessProbe: {exec: {command: [/bin/busybox, test, -e, /etc/cfg/color]}, periodSeconds: 1}\n"));
  REQUIRE(node.wait_pod("web", ready));
  const Object web = node.pod("web");
  const std::string ip = web.get("/status/podIP").value_or("");
  CHECK_FALSE(ip.empty());
  const std::string line = "blue " + ip + " blue\n";
  CHECK(node.logs_of_size("web", "main", line.size()) == line);
  CHECK(node.logs("web", "main", {.tail_lines = 0}).empty());

  // A changed ConfigMap reaches the volume.
  REQUIRE(
      node.client
          .patch("v1", "configmaps", "settings", "default", PatchType::merge, R"({"data":{"color":"red"}})")
          .wait(60s));
  auto exec = [&](std::vector<std::string> args) {
    return node.runtime->exec(web.uid(), web.uid() + "-main-0", std::move(args), 10s, 4096).wait(20s);
  };
  bool red = false;
  for (int i = 0; i < 600 && !red; ++i) {
    auto color = exec({"/bin/busybox", "cat", "/etc/cfg/color"});
    red = color && color->output == "red";
    if (!red) node.pause(100ms);
  }
  CHECK(red);

  // The agent goes and comes back: same container, no restart.
  const auto pid = node.runtime->status(web.uid(), web.uid() + "-main-0").wait(60s).value().pid;
  node.stop_agent();
  node.start_agent();
  CHECK(node.runtime->status(web.uid(), web.uid() + "-main-0").wait(60s).value().pid == pid);
  REQUIRE(node.wait_pod("web", ready));
  CHECK(node.pod("web").get_int("/status/containerStatuses/0/restartCount") == 0);

  REQUIRE(node.client.remove("v1", "pods", "web", "default").wait(60s));
  CHECK(node.wait_pod("web", [](const Object& pod) { return !pod; }));
}

void ends_and_restarts(RuntimeOptions::Isolation level) {
  TestNode node(level);
  node.create(pod_yaml("done", "'echo bye; exit 0'", "  restartPolicy: Never\n"));
  CHECK(node.wait_pod("done",
                      [](const Object& pod) { return pod && pod.get("/status/phase") == "Succeeded"; }));
  CHECK(node.pod("done").get_int("/status/containerStatuses/0/state/terminated/exitCode") == 0);
  CHECK(node.logs("done", "main") == "bye\n");
  node.create(pod_yaml("broken", "'echo no > /dev/termination-log; exit 7'", "  restartPolicy: Never\n"));
  CHECK(
      node.wait_pod("broken", [](const Object& pod) { return pod && pod.get("/status/phase") == "Failed"; }));
  CHECK(node.pod("broken").get_int("/status/containerStatuses/0/state/terminated/exitCode") == 7);
  CHECK(node.pod("broken").get("/status/containerStatuses/0/state/terminated/message") == "no\n");
  node.create(pod_yaml("loop", "'echo attempt; exit 1'"));
  CHECK(node.wait_pod("loop", [](const Object& pod) {
    return pod && pod.get_int("/status/containerStatuses/0/restartCount").value_or(0) >= 2;
  }));
  CHECK(node.logs("loop", "main", {.previous = true}) == "attempt\n");
  node.create(pod_yaml("liveness", "'busybox sleep 1000'", "",
                       "    livenessProbe: {exec: {command: [/bin/busybox, 'false']}, periodSeconds: 1, "
                       "failureThreshold: 1}\n"));
  CHECK(node.wait_pod("liveness", [](const Object& pod) {
    return pod && pod.get_int("/status/containerStatuses/0/restartCount").value_or(0) >= 1;
  }));
  node.create(pod_yaml("init", "'busybox sleep 1000'",
                       "  initContainers: [{name: first, image: 'box:1', args: ['echo init']}]\n"));
  CHECK(node.wait_pod("init", running));
  CHECK(node.logs("init", "first") == "init\n");
}
}  // namespace

TEST_CASE("a pod lives, adopts a new agent and ends at level full") {
  if (enter_test_host("agent full")) life_of_a_pod(RuntimeOptions::Isolation::full);
}
TEST_CASE("pods end, fail, restart, fail their probes and run init containers at level full") {
  if (enter_test_host("agent ends full")) ends_and_restarts(RuntimeOptions::Isolation::full);
}
TEST_CASE("a pod lives, adopts a new agent and ends at level process") {
  if (enter_test_host("agent process")) life_of_a_pod(RuntimeOptions::Isolation::process);
}
TEST_CASE("pods end, fail, restart, fail their probes and run init containers at level process") {
  if (enter_test_host("agent ends process")) ends_and_restarts(RuntimeOptions::Isolation::process);
}
TEST_CASE("what cannot start says why in status and events") {
  if (!enter_test_host("agent errors")) return;
  TestNode node(RuntimeOptions::Isolation::full);
  node.create(pod_yaml("noimage", "'true'", "", "    imagePullPolicy: Never\n"));
  REQUIRE(
      node.client
          .patch("v1", "pods", "noimage", "default", PatchType::merge, R"({"metadata":{"labels":{"x":"y"}}})")
          .wait(60s));
  node.create(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: missing, namespace: default}\nspec:\n  nodeName: n1\n  "
      "containers: [{name: main, image: 'nothere:1', imagePullPolicy: Never}]\n");
  CHECK(node.wait_pod("missing", [](const Object& pod) {
    return pod && pod.get("/status/containerStatuses/0/state/waiting/reason") == "ErrImageNeverPull";
  }));
  node.create(pod_yaml("noconfig", "'true'", "", "    envFrom: [{configMapRef: {name: absent}}]\n"));
  CHECK(node.wait_pod("noconfig", [](const Object& pod) {
    return pod && pod.get("/status/containerStatuses/0/state/waiting/reason") == "CreateContainerConfigError";
  }));
  CHECK(node.pod("noconfig").get("/status/containerStatuses/0/state/waiting/message") ==
        "configmap \"absent\" not found");
  node.create(pod_yaml("nocommand", "'true'", "", "    command: [/no/such/program]\n"));
  // It counts as a restart, and is tried again less and less often.
  CHECK(node.wait_pod("nocommand", [](const Object& pod) {
    return pod && pod.get("/status/containerStatuses/0/lastState/terminated/reason") == "StartError" &&
           pod.get("/status/containerStatuses/0/lastState/terminated/exitCode") == "128" &&
           pod.get("/status/containerStatuses/0/state/waiting/reason") == "CrashLoopBackOff";
  }));
  node.create(
      pod_yaml("nocommand-once", "'true'", "  restartPolicy: Never\n", "    command: [/no/such/program]\n"));
  CHECK(node.wait_pod("nocommand-once", [](const Object& pod) {
    return pod && pod.get("/status/phase") == "Failed" &&
           pod.get("/status/containerStatuses/0/state/terminated/reason") == "StartError";
  }));
}

TEST_CASE("a claim becomes a folder that outlives its pods, and goes with its claim") {
  if (!enter_test_host("agent claims")) return;
  TestNode node(RuntimeOptions::Isolation::full);
  node.create(
      "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: local}\nprovisioner: "
      "orchestra.dev/local-path\nvolumeBindingMode: WaitForFirstConsumer\nreclaimPolicy: Delete\n");
  node.create(
      "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: default}\nspec: "
      "{storageClassName: local, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}\n");
  const std::string volume =
      "  securityContext: {fsGroup: 4242}\n  volumes: [{name: d, persistentVolumeClaim: {claimName: data}}]\n"
      "  restartPolicy: Never\n";
  const std::string mount =
      "    volumeMounts: [{name: d, mountPath: /data, subPathExpr: $(WHO)}]\n"
      "    env: [{name: WHO, value: me}]\n";
  const auto succeeded = [](const Object& pod) { return pod && pod.get("/status/phase") == "Succeeded"; };
  node.create(pod_yaml("writer", "'echo kept > /data/file; busybox stat -c %g /data/..'", volume, mount));
  REQUIRE(node.wait_pod("writer", succeeded));
  REQUIRE(node.client.remove("v1", "pods", "writer", "default").wait(60s));
  REQUIRE(node.wait_pod("writer", [](const Object& pod) { return !pod; }));
  node.create(pod_yaml("reader", "'busybox cat /data/file'", volume, mount));
  REQUIRE(node.wait_pod("reader", succeeded));
  CHECK(node.logs("reader", "main") == "kept\n");
  const auto volumes = [&] { return node.client.list("v1", "persistentvolumes").wait(60s).value().items; };
  REQUIRE(volumes().size() == 1);
  const std::string folder = volumes()[0].get("/spec/hostPath/path").value_or("");
  CHECK(access((folder + "/me/file").c_str(), R_OK) == 0);
  // In use: the claim stays until its pod is gone, then folder and volume go.
  REQUIRE(node.client.remove("v1", "persistentvolumeclaims", "data", "default").wait(60s));
  REQUIRE(node.client.remove("v1", "pods", "reader", "default").wait(60s));
  for (int i = 0; i < 1200 && !volumes().empty(); ++i) node.pause(50ms);
  CHECK(volumes().empty());
  CHECK(access(folder.c_str(), F_OK) != 0);
}

TEST_CASE("a token volume has a new token at four fifths of its life, whole at every moment") {
  if (!enter_test_host("agent token")) return;
  TestNode node(RuntimeOptions::Isolation::full);
  node.create(
      pod_yaml("holder", "'busybox sleep 1000'",
               "  volumes: [{name: identity, projected: {sources: [{serviceAccountToken: {path: token, "
               "audience: vault, expirationSeconds: 600}}]}}]\n",
               "    volumeMounts: [{name: identity, mountPath: /identity}]\n"));
  REQUIRE(node.wait_pod("holder", ready));
  const std::string path = node.dir / ("pods/" + node.pod("holder").uid() + "/volumes/identity/token");
  const std::string first = read_file(path, 1 << 16).value_or("");
  REQUIRE(std::count(first.begin(), first.end(), '.') == 2);
  // The workers of a namespace look at their volumes whenever a ConfigMap of it changes.
  const auto look = [&](const std::string& name) {
    node.create("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", namespace: default}\n");
    node.pause(500ms);
    return read_file(path, 1 << 16).value_or("");
  };
  CHECK(look("one") == first);
  node.clock.ahead = Duration(400s).count();
  CHECK(look("two") == first);
  node.clock.ahead = Duration(500s).count();
  std::string second;
  for (int tries = 0; tries < 120 && (second.empty() || second == first); ++tries)
    second = look("three-" + std::to_string(tries));
  CHECK(second != first);
  CHECK(std::count(second.begin(), second.end(), '.') == 2);
  CHECK(node.pod("holder").get_int("/status/containerStatuses/0/restartCount") == 0);
}

TEST_CASE("restart counts and back-off go on where they were when the agent is replaced") {
  if (!enter_test_host("agent back-off")) return;
  TestNode node(RuntimeOptions::Isolation::process);
  node.create(pod_yaml("fails", "'exit 1'"));
  const auto restarts = [](const Object& pod) {
    return pod ? pod.get_int("/status/containerStatuses/0/restartCount").value_or(0) : 0;
  };
  REQUIRE(node.wait_pod("fails", [&](const Object& pod) { return restarts(pod) >= 4; }));
  // Attempt and back-off level of the newest container, as its record says.
  const auto newest = [&]() -> std::pair<std::uint32_t, int> {
    std::pair<std::uint32_t, int> out{0, -1};
    const auto pods = node.runtime->list().wait(60s);
    if (!pods) return out;
    for (const PodRecord& pod : *pods) {
      for (const ContainerStatus& one : pod.containers) {
        const auto level = one.annotations.find("orchestra.dev/backoff-level");
        if (one.attempt >= out.first && level != one.annotations.end())
          out = {one.attempt, std::atoi(level->second.c_str())};
      }
    }
    return out;
  };
  node.stop_agent();
  REQUIRE(node.open_runtime());
  const auto before = newest();
  node.runtime.reset();
  CHECK(before.first >= 4);
  CHECK(before.second >= 3);
  node.start_agent();
  REQUIRE(node.wait_pod("fails", [&](const Object& pod) { return restarts(pod) > before.first; }));
  const auto after = newest();
  CHECK(after.first > before.first);
  // Each attempt waits twice as long as the one before: a forgotten level would begin at 0 again.
  CHECK(after.second - before.second == static_cast<int>(after.first - before.first));
}

TEST_CASE("static pods run from files, are mirrored, change and end with their files") {
  if (!enter_test_host("agent static")) return;
  TestNode node(RuntimeOptions::Isolation::full);
  REQUIRE(make_directories(node.dir / "manifests"));
  const auto write = [&](const std::string& script) {
    REQUIRE(replace_file(
        node.dir / "manifests/beacon.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: beacon}\nspec:\n  terminationGracePeriodSeconds: "
        "1\n  containers: [{name: main, image: 'box:1', args: ['" +
            script + "']}]\n",
        0644, false));
  };
  write("echo one; busybox sleep 1000");
  REQUIRE(node.wait_pod("beacon-n1", ready));
  CHECK(node.pod("beacon-n1").annotations().count("kubernetes.io/config.mirror") == 1);
  // Deleting the mirror ends nothing: it comes back, with the same container.
  const std::string container =
      node.pod("beacon-n1").get("/status/containerStatuses/0/containerID").value_or("?");
  const std::string mirror = node.pod("beacon-n1").uid();
  DeleteOptions now;
  now.grace_period_seconds = 0;
  REQUIRE(node.client.remove("v1", "pods", "beacon-n1", "default", now).wait(60s));
  REQUIRE(node.wait_pod("beacon-n1", [&](const Object& pod) { return ready(pod) && pod.uid() != mirror; }));
  CHECK(node.pod("beacon-n1").get("/status/containerStatuses/0/containerID") == container);
  // A file that is broken leaves the pod alone; a changed one replaces it; a removed one ends it.
  REQUIRE(replace_file(node.dir / "manifests/broken.yaml", "kind: {", 0644, false));
  write("echo two; busybox sleep 1000");
  REQUIRE(node.wait_pod("beacon-n1", [&](const Object& pod) {
    return ready(pod) && pod.get("/status/containerStatuses/0/containerID") != container;
  }));
  unlink((node.dir / "manifests/beacon.yaml").c_str());
  CHECK(node.wait_pod("beacon-n1", [](const Object& pod) { return !pod; }));
}

TEST_CASE("an ephemeral container looks around; a failed one tells the end of its log; memory is shared") {
  if (!enter_test_host("agent ephemeral")) return;
  TestNode node(RuntimeOptions::Isolation::full);
  node.create(pod_yaml("web", "'busybox sleep 1000'"));
  REQUIRE(node.wait_pod("web", ready));
  WriteOptions options;
  options.subresource = "ephemeralcontainers";
  auto added =
      node.client
          .patch(
              "v1", "pods", "web", "default", PatchType::strategic,
              R"({"spec":{"ephemeralContainers":[{"name":"debug","image":"box:1","args":["echo hello"]}]}})",
              options)
          .wait(60s);
  REQUIRE_MESSAGE(added, added.error().to_string());
  REQUIRE(node.wait_pod("web", [](const Object& pod) {
    return pod && pod.get_int("/status/ephemeralContainerStatuses/0/state/terminated/exitCode") == 0;
  }));
  CHECK(node.logs("web", "debug") == "hello\n");
  REQUIRE(
      node.client
          .patch(
              "v1", "pods", "web", "default", PatchType::strategic,
              R"({"spec":{"ephemeralContainers":[{"name":"inside","image":"box:1","targetContainerName":"main",
                         "args":["busybox grep -c sleep /proc/1/cmdline"]}]}})",
              options)
          .wait(60s));
  REQUIRE(node.wait_pod("web", [](const Object& pod) {
    return pod && pod.get_int("/status/ephemeralContainerStatuses/1/state/terminated/exitCode") == 0;
  }));
  CHECK(node.logs("web", "inside") == "1\n");
  CHECK(ready(node.pod("web")));

  node.create(pod_yaml("talks", "'echo first; echo last words; exit 3'", "  restartPolicy: Never\n",
                       "    terminationMessagePolicy: FallbackToLogsOnError\n"));
  REQUIRE(
      node.wait_pod("talks", [](const Object& pod) { return pod && pod.get("/status/phase") == "Failed"; }));
  CHECK(node.pod("talks").get("/status/containerStatuses/0/state/terminated/message") ==
        "first\nlast words\n");

  const std::string mount = "    volumeMounts: [{name: m, mountPath: /m}]\n";
  node.create(pod_yaml(
      "shared", "'while ! busybox test -e /m/note; do busybox sleep 0.1; done; busybox cat /m/note'",
      "  restartPolicy: Never\n  volumes: [{name: m, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]\n",
      mount + "  - name: other\n    image: box:1\n    args: ['echo from memory > /m/note']\n" + mount));
  REQUIRE(node.wait_pod("shared",
                        [](const Object& pod) { return pod && pod.get("/status/phase") == "Succeeded"; }));
  CHECK(node.logs("shared", "main") == "from memory\n");

  // The machine goes down: pods end as Failed/Terminated, nothing starts any more.
  REQUIRE(node.agent->drain({.normal = 3s, .critical = 1s}));
  REQUIRE(
      node.wait_pod("web", [](const Object& pod) { return pod && pod.get("/status/phase") == "Failed"; }));
  CHECK(node.pod("web").get("/status/reason") == "Terminated");
}

TEST_CASE(
    "a new agent ends what the one before began to take apart, and keeps the logs of pods that are still "
    "there") {
  if (!enter_test_host("agent sweep")) return;
  TestNode node(RuntimeOptions::Isolation::process);
  node.create(pod_yaml("done", "'echo finished'", "  restartPolicy: Never\n"));
  REQUIRE(node.wait_pod("done", [](const Object& pod) { return pod.get("/status/phase") == "Succeeded"; }));
  const Object done = node.pod("done");
  const std::string folder = node.dir / ("pods/" + done.uid()),
                    logs = node.dir / ("pods-log/default_done_" + done.uid());
  const std::string gone = "11111111-2222-4333-8444-555555555555";
  const auto there = [](const std::string& path) { return access(path.c_str(), F_OK) == 0; };
  const auto goes = [&](const std::string& path) {
    for (int tries = 0; tries < 600 && there(path); ++tries) node.pause(100ms);
    return !there(path);
  };
  REQUIRE(goes(folder));
  node.stop_agent();
  REQUIRE(make_directories(folder + "/volumes/v"));
  REQUIRE(make_directories(node.dir / ("pods/" + gone + "/volumes/v")));
  REQUIRE(make_directories(node.dir / ("pods-log/default_gone_" + gone + "/main")));
  node.start_agent();
  CHECK(goes(folder));
  CHECK(goes(node.dir / ("pods/" + gone)));
  CHECK(goes(node.dir / ("pods-log/default_gone_" + gone)));
  CHECK(node.logs("done", "main") == "finished\n");
  CHECK(node.pod("done").get("/status/phase") == "Succeeded");
  // Its logs go with it, whichever agent saw its end.
  node.stop_agent();
  node.start_agent();
  CHECK(node.logs("done", "main") == "finished\n");
  REQUIRE(node.client.remove("v1", "pods", "done", "default").wait(60s));
  CHECK(goes(logs));
}
