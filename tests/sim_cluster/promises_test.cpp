// Quotas, budgets and endpoints: each promise is broken here on purpose, and has to be seen.
#include "sim/cluster/promises.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::sim;
using namespace std::chrono_literals;

namespace {

Object object_of(const std::string& yaml) {
  auto object = Object::from_yaml(yaml);
  REQUIRE_MESSAGE(object, (object ? "" : object.error().to_string()));
  return *object;
}
Object pod(const std::string& name, bool ready = true, const std::string& more = "") {
  return object_of(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", namespace: shop, uid: " + name +
      ", labels: {app: web}" + more +
      "}\nspec: {containers: [{name: main, image: web, resources: {requests: {cpu: 600m}}}]}\nstatus: "
      "{phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: '" +
      (ready ? "True" : "False") + "'}]}\n");
}
Object quota(const std::string& hard, const std::string& more = "") {
  return object_of(
      "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q, namespace: shop}\nspec: {hard: {" + hard +
      "}" + more + "}\n");
}
Object budget(const std::string& disrupted) {
  return object_of(
      "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: b, namespace: shop}\nspec: "
      "{minAvailable: 2, "
      "selector: {matchLabels: {app: web}}}\nstatus: {desiredHealthy: 2, disruptedPods: {" +
      disrupted + "}}\n");
}

// What an observer sees: the pods that are there, and what was found broken.
struct Seen {
  std::map<std::string, Object> pods;
  std::vector<std::string> broken;
  Promises promises{Promises::Hooks{[this](const std::string&) {
                                      std::vector<Object> all;
                                      for (const auto& [name, pod] : pods) all.push_back(pod);
                                      return all;
                                    },
                                    [this](const std::string& what, Duration) { broken.push_back(what); }}};
  void put(const Object& pod, Duration at) {
    const Object old = std::exchange(pods[pod.name()], pod);
    promises.pod_changed(old, pod, at);
  }
  void take(const std::string& name, Duration at) {
    const Object old = pods.at(name);
    pods.erase(name);
    promises.pod_changed(old, {}, at);
  }
};

}  // namespace

TEST_CASE("a pod that is made past a quota is seen, and none that is made within it") {
  Seen seen;
  seen.put(pod("a"), 0s);  // before the quota
  seen.promises.quota_changed({}, quota("pods: 3, requests.cpu: 1300m"), 1s);
  seen.put(pod("b"), 10s);
  CHECK(seen.broken.empty());
  seen.put(pod("b", false), 11s);  // not a new one
  CHECK(seen.broken.empty());
  seen.put(pod("c"), 12s);
  REQUIRE(seen.broken.size() == 1);
  CHECK(seen.broken[0] == "pod shop/c was made past the quota q: 1800 of 1300 requests.cpu");
  seen.take("a", 13s);
  seen.take("b", 13s);
  seen.put(pod("d"), 14s);
  CHECK(seen.broken.size() == 1);
  seen.promises.quota_changed({}, quota("pods: 1"), 20s);
  seen.put(pod("e"), 21s);  // decided on what was true just before
  CHECK(seen.broken.size() == 1);
  seen.put(pod("f"), 30s);
  CHECK(seen.broken.back() == "pod shop/f was made past the quota q: 4 of 1 pods");
}

TEST_CASE("quotas with scopes, and those that are gone, are nobody's promise") {
  Seen seen;
  seen.promises.quota_changed({}, quota("pods: 0", ", scopes: [BestEffort]"), 0s);
  seen.put(pod("a"), 10s);
  seen.promises.quota_changed({}, quota("pods: 0"), 20s);
  seen.promises.quota_changed(quota("pods: 0"), {}, 21s);
  seen.put(pod("b"), 30s);
  CHECK(seen.broken.empty());
}

TEST_CASE("an eviction that a budget does not allow is seen") {
  Seen seen;
  for (const char* name : {"a", "b", "c"}) seen.put(pod(name), 0s);
  seen.promises.budget_changed({}, budget(""), 1s);
  seen.promises.budget_changed({}, budget("a: '2026-01-01T00:00:00Z'"), 10s);
  CHECK(seen.broken.empty());
  seen.promises.budget_changed({}, budget("a: '2026-01-01T00:00:00Z', b: '2026-01-01T00:00:00Z'"), 11s);
  REQUIRE(seen.broken.size() == 1);
  CHECK(seen.broken[0] == "the eviction of shop/b leaves 1 healthy pods, and the budget b asks for 2");
}

TEST_CASE("a pod that is lost while another is evicted is no mistake of the eviction, unless it was known") {
  for (const Duration lost : {29s, 10s}) {
    Seen seen;
    for (const char* name : {"a", "b", "c"}) seen.put(pod(name), 0s);
    seen.promises.budget_changed({}, budget(""), 1s);
    seen.put(pod("c", false), lost);
    seen.promises.budget_changed({}, budget("a: '2026-01-01T00:00:00Z'"), 30s);
    CHECK(seen.broken.size() == (lost == 29s ? 0 : 1));
  }
}

TEST_CASE("endpoints that lack a pod that is Ready, or list one that is not") {
  const std::vector<Object> services{
      object_of("apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {selector: "
                "{app: web}}\n"),
      object_of("apiVersion: v1\nkind: Service\nmetadata: {name: own, namespace: shop}\nspec: {}\n")};
  const auto slice = [](const std::string& name, bool ready) {
    return object_of(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-" + name +
        ", namespace: shop, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nendpoints: "
        "[{addresses: [10.0.0.1], conditions: {ready: " +
        (ready ? "true" : "false") + "}, targetRef: {kind: Pod, name: " + name + "}}]\n");
  };
  const std::vector<Object> pods{pod("a"), pod("b", false),
                                 pod("c", true, ", deletionTimestamp: '2026-01-01T00:00:00Z'")};
  CHECK(wrong_endpoints(services, {slice("a", true), slice("b", false)}, pods).empty());
  CHECK(wrong_endpoints(services, {}, pods) ==
        std::vector<std::string>{"the endpoints of Service shop/web lack the pod a"});
  CHECK(wrong_endpoints(services, {slice("a", true), slice("b", true)}, pods) ==
        std::vector<std::string>{"the endpoints of Service shop/web list as ready the pod b"});
  CHECK(wrong_endpoints(services, {slice("a", true), slice("c", true)}, pods).size() == 1);
  CHECK(wrong_endpoints(services, {slice("a", true), slice("gone", true)}, pods).size() == 1);
}
