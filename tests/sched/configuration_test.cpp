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
