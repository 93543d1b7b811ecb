// KubeSchedulerConfiguration: what is understood, and that nothing else is silently taken.
#include "orchestra/scheduler.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

namespace {
const std::string kHead = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";

std::string problem(const std::string& rest) {
  const auto parsed = SchedulerConfiguration::parse(kHead + rest, {"Cheapest"});
  return parsed ? "" : parsed.error().message();
}
}  // namespace

TEST_CASE("a configuration names extenders, and what cannot be kept of them is refused with its path") {
  const auto parsed = SchedulerConfiguration::parse(kHead + R"(
profiles: [{schedulerName: one}, {schedulerName: two}]
extenders:
- urlPrefix: http://127.0.0.1:8888/scheduler/
  filterVerb: filter
  prioritizeVerb: prioritize
  weight: 5
  httpTimeout: 200ms
  nodeCacheCapable: true
  ignorable: true
  managedResources: [{name: example.com/license, ignoredByScheduler: true}, {name: example.com/gpu}]
- urlPrefix: https://binder.example.com
  bindVerb: bind
  tlsConfig: {serverName: binder, caData: Y2E=}
)");
  REQUIRE_MESSAGE(parsed, (parsed ? "" : parsed.error().message()));
  REQUIRE(parsed->extenders.size() == 2);
  const SchedulerExtender& first = parsed->extenders[0];
  CHECK(first.url == "http://127.0.0.1:8888/scheduler");
  CHECK(first.filter_verb == "filter");
  CHECK(first.weight == 5);
  CHECK(first.timeout == std::chrono::milliseconds(200));
  CHECK(first.node_cache_capable);
  CHECK(first.ignorable);
  CHECK(first.managed_resources == std::set<std::string>{"example.com/license", "example.com/gpu"});
  for (const SchedulingProfile& profile : parsed->profiles)
    CHECK(profile.ignored_resources == std::set<std::string>{"example.com/license"});
  const SchedulerExtender& second = parsed->extenders[1];
  CHECK(second.timeout == std::chrono::seconds(5));
  CHECK(second.ca_pem == "ca");
  CHECK_FALSE(second.insecure);

  const auto wrong = [](const std::string& entry) { return problem("extenders: [{" + entry + "}]\n"); };
  CHECK(wrong("filterVerb: f").find("extenders[0].urlPrefix: must begin with http:// or https://") == 0);
  CHECK(wrong("urlPrefix: http://x, filter: f").find("extenders[0].filter: is not known") == 0);
  CHECK(wrong("urlPrefix: http://x, prioritizeVerb: p").find("extenders[0].weight: must be 1..") == 0);
  CHECK(wrong("urlPrefix: http://x, preemptVerb: p").find("extenders[0].preemptVerb: ") == 0);
  CHECK(wrong("urlPrefix: http://x, httpTimeout: soon").find("extenders[0].httpTimeout: ") == 0);
  CHECK(wrong("urlPrefix: http://x, managedResources: [{name: cpu}]")
            .find("extenders[0].managedResources[0].name: \"cpu\" is no extended resource") == 0);
  CHECK(wrong("urlPrefix: https://x, tlsConfig: {caFile: /ca}").find("extenders[0].tlsConfig.caFile: ") == 0);
  CHECK(problem("extenders: [{urlPrefix: http://x, bindVerb: b}, {urlPrefix: http://y, bindVerb: b}]\n") ==
        "extenders[1].bindVerb: only one extender may bind");
}

TEST_CASE("a configuration sets profiles, weights, arguments and back-off") {
  const auto parsed = SchedulerConfiguration::parse(kHead + R"(
podInitialBackoffSeconds: 2
podMaxBackoffSeconds: 20
percentageOfNodesToScore: 10
parallelism: 8
profiles:
- schedulerName: default-scheduler
- schedulerName: packer
  plugins:
    multiPoint:
      enabled: [{name: Cheapest, weight: 7}]
    score:
      disabled: [{name: "*"}]
      enabled: [{name: NodeResourcesFit, weight: 5}, {name: Cheapest, weight: 7}]
    filter:
      disabled: [{name: NodePorts}]
  pluginConfig:
  - name: NodeResourcesFit
    args:
      ignoredResources: [example.com/license]
      scoringStrategy:
        type: MostAllocated
        resources: [{name: cpu, weight: 3}, {name: memory, weight: 1}]
  - name: PodTopologySpread
    args:
      defaultingType: List
      defaultConstraints: [{maxSkew: 1, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]
  - name: InterPodAffinity
    args: {hardPodAffinityWeight: 5}
)",
                                                    {"Cheapest"});
  REQUIRE_MESSAGE(parsed, (parsed ? "" : parsed.error().message()));
  CHECK(parsed->backoff_min == std::chrono::seconds(2));
  CHECK(parsed->backoff_max == std::chrono::seconds(20));
  REQUIRE(parsed->profiles.size() == 2);
  SchedulingProfile defaults;
  CHECK(parsed->profiles[0] == defaults);
  const SchedulingProfile& packer = parsed->profiles[1];
  CHECK(packer.name == "packer");
  CHECK(packer.fit == SchedulingProfile::Fit::most_allocated);
  CHECK(packer.fit_resources.at(0) == std::pair<std::string, std::int64_t>("cpu", 3));
  CHECK(packer.fit_weight == 5);
  CHECK(packer.taint_weight == 0);
  CHECK(packer.balanced_weight == 0);
  CHECK(packer.plugin_weights.at("Cheapest") == 7);
  CHECK(packer.disabled_filters == std::set<std::string>{"NodePorts"});
  CHECK(packer.ignored_resources.contains("example.com/license"));
  CHECK(packer.default_constraints.at(0).topology_key == "rack");
  CHECK(packer.default_constraints.at(0).hard);
  CHECK_FALSE(packer.system_defaulted);
  CHECK(packer.hard_pod_affinity_weight == 5);
}

TEST_CASE("how long a placed pod waits for its volumes is what the longest of the profiles says") {
  const std::string head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
  const auto read = SchedulerConfiguration::parse(
      head +
      "profiles:\n"
      "- {schedulerName: a, pluginConfig: [{name: VolumeBinding, args: {bindTimeoutSeconds: 30}}]}\n"
      "- {schedulerName: b, pluginConfig: [{name: VolumeBinding, args: {bindTimeoutSeconds: 20}}]}\n");
  REQUIRE(read);
  CHECK(read->volume_deadline == std::chrono::seconds(30));
  CHECK_FALSE(SchedulerConfiguration::parse(head)->volume_deadline);
}

TEST_CASE("what is not understood is refused with its path") {
  CHECK(problem("profiles: [{schedulerName: a}, {schedulerName: a}]") ==
        "profiles[1].schedulerName: \"a\" stands there twice");
  CHECK(problem("profiles: [{plugins: {filter: {enabled: [{name: Nonsense}]}}}]") ==
        "profiles[0].plugins.filter.enabled[0].name: there is no plugin \"Nonsense\"");
  CHECK(problem("profiles: [{plugins: {score: {enabled: [{name: NodeAffinity, weight: -1}]}}}]") ==
        "profiles[0].plugins.score.enabled[0].weight: -1 is outside of 0..1000000");
  CHECK(problem("profiles: [{plugins: {scores: {}}}]") == "profiles[0].plugins.scores: is not known");
  CHECK(problem("podInitialBackofSeconds: 1") ==
        "KubeSchedulerConfiguration.podInitialBackofSeconds: is not known");
  CHECK(problem("podMaxBackoffSeconds: 0") == "podMaxBackoffSeconds: is outside of 1..86400");
  CHECK(
      problem(
          "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: Best}}}]}]") ==
      "profiles[0].pluginConfig[0].args.scoringStrategy.type: \"Best\" is no strategy");
  CHECK(problem("profiles: [{pluginConfig: [{name: VolumeBinding, args: {shape: []}}]}]") ==
        "profiles[0].pluginConfig[0].args.shape: is not known");
  CHECK(problem("profiles: [{pluginConfig: [{name: VolumeBinding, args: {bindTimeoutSeconds: -1}}]}]") ==
        "profiles[0].pluginConfig[0].args.bindTimeoutSeconds: is outside of 0..86400");
  CHECK_FALSE(SchedulerConfiguration::parse("kind: Pod\napiVersion: v1\n"));
  CHECK_FALSE(SchedulerConfiguration::parse(": ["));
}

TEST_CASE("the strategies of a profile pack, spread and follow a shape") {
  SchedulingSnapshot snapshot;
  for (const auto& [name, used] : {std::pair("empty", 0), std::pair("half", 2000), std::pair("most", 3000)}) {
    NodeShape node;
    node.name = name;
    node.allocatable = {{"cpu", 4000}, {"memory", 8LL << 30}, {"pods", 10}};
    snapshot.set_node(node);
    PodShape there;
    there.ns = "d";
    there.name = there.uid = std::string("on-") + name;
    there.requests["cpu"] = used;
    there.score_millicores = used;
    snapshot.assume(there, name);
  }
  PodShape pod;
  pod.ns = "d";
  pod.name = pod.uid = "pod";
  pod.requests["cpu"] = 100;
  pod.score_millicores = 100;
  SchedulingProfile profile;
  profile.balanced_weight = 0;
  profile.fit_resources = {{"cpu", 1}};
  PlaceOptions how;
  how.profile = &profile;
  CHECK(place(snapshot, pod, how).placement()->node == "empty");
  profile.fit = SchedulingProfile::Fit::most_allocated;
  CHECK(place(snapshot, pod, how).placement()->node == "most");
  profile.fit = SchedulingProfile::Fit::requested_to_capacity_ratio;
  profile.fit_shape = {{0, 0}, {50, 10}, {100, 0}};
  CHECK(place(snapshot, pod, how).placement()->node == "half");
  profile.disabled_filters.insert("NodeResourcesFit");
  pod.requests["cpu"] = 100000;
  CHECK(place(snapshot, pod, how).placement() != nullptr);
}
