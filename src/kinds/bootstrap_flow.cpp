// Flow control of an empty cluster: priority levels and flow schemas as upstream has them
// (apiserver/pkg/apis/flowcontrol/bootstrap/default.go). They are kept and shown; requests are limited by
// number alone.
#include "apiserver/bootstrap.hpp"
#include "apiserver/text.hpp"

namespace orchestra::apiserver {
namespace {

struct Level {
  const char* name;
  int shares, lendable_percent;
  int queues, hand_size, queue_length;  ///< no queues: what is too much is rejected
};
constexpr Level kLevels[] = {{"catch-all", 5, 0, 0, 0, 0},          {"system", 30, 33, 64, 6, 50},
                             {"node-high", 40, 25, 64, 6, 50},      {"leader-election", 10, 0, 16, 4, 50},
                             {"workload-high", 40, 50, 128, 6, 50}, {"workload-low", 100, 90, 128, 6, 50},
                             {"global-default", 20, 50, 128, 6, 50}};

/// Words between commas.
json::array words(std::string_view text) {
  json::array out;
  for (const std::string& word : split(text, ',')) out.emplace_back(word);
  return out;
}

struct Resources {
  const char *verbs, *groups, *resources;
  bool cluster_scope;
};
constexpr Resources kEverything{"*", "*", "*", true};
constexpr Resources kLeases{"get,create,update", "coordination.k8s.io", "leases", false};

struct Schema {
  const char *name, *level;
  int precedence;
  const char* flows;                      ///< ByUser, ByNamespace, or nothing
  const char *users, *groups, *accounts;  ///< accounts: of kube-system
  std::vector<Resources> resources;
  const char *verbs, *urls;  ///< of what is no resource
};
std::vector<Schema> schemas() {
  constexpr const char* kAll = "system:unauthenticated,system:authenticated";
  return {{"exempt", "exempt", 1, "", "", "system:masters", "", {kEverything}, "*", "*"},
          {"probes", "exempt", 2, "", "", kAll, "", {}, "get", "/healthz,/readyz,/livez"},
          {"system-leader-election",
           "leader-election",
           100,
           "ByUser",
           "system:kube-controller-manager,system:kube-scheduler",
           "",
           "*",
           {kLeases},
           "",
           ""},
          {"endpoint-controller",
           "workload-high",
           150,
           "ByUser",
           "system:kube-controller-manager",
           "",
           "endpoint-controller,endpointslicemirroring-controller",
           {{"get,create,update", "", "endpoints", false}},
           "",
           ""},
          {"workload-leader-election", "leader-election", 200, "ByUser", "", "", "*", {kLeases}, "", ""},
          {"system-node-high",
           "node-high",
           400,
           "ByUser",
           "",
           "system:nodes",
           "",
           {{"*", "", "nodes,nodes/status", true}, {"*", "coordination.k8s.io", "leases", false}},
           "",
           ""},
          {"system-nodes", "system", 500, "ByUser", "", "system:nodes", "", {kEverything}, "*", "*"},
          {"kube-controller-manager",
           "workload-high",
           800,
           "ByNamespace",
           "system:kube-controller-manager",
           "",
           "",
           {kEverything},
           "*",
           "*"},
          {"kube-scheduler",
           "workload-high",
           800,
           "ByNamespace",
           "system:kube-scheduler",
           "",
           "",
           {kEverything},
           "*",
           "*"},
          {"kube-system-service-accounts",
           "workload-high",
           900,
           "ByNamespace",
           "",
           "",
           "*",
           {kEverything},
           "*",
           "*"},
          {"service-accounts",
           "workload-low",
           9000,
           "ByUser",
           "",
           "system:serviceaccounts",
           "",
           {kEverything},
           "*",
           "*"},
          {"global-default", "global-default", 9900, "ByUser", "", kAll, "", {kEverything}, "*", "*"},
          {"catch-all", "catch-all", 10000, "ByUser", "", kAll, "", {kEverything}, "*", "*"}};
}

json::object object(const char* kind, const char* name, json::object spec) {
  json::object annotations{{"apf.kubernetes.io/autoupdate-spec", "true"}};
  return {{"apiVersion", "flowcontrol.apiserver.k8s.io/v1"},
          {"kind", kind},
          {"metadata", json::object{{"name", name}, {"annotations", std::move(annotations)}}},
          {"spec", std::move(spec)}};
}

json::value level_object(const Level& level) {
  json::object response{{"type", "Reject"}};
  if (level.queues > 0) {
    response["type"] = "Queue";
    response["queuing"] = json::object{
        {"queues", level.queues}, {"handSize", level.hand_size}, {"queueLengthLimit", level.queue_length}};
  }
  json::object limited{{"nominalConcurrencyShares", level.shares},
                       {"lendablePercent", level.lendable_percent},
                       {"limitResponse", std::move(response)}};
  return object("PriorityLevelConfiguration", level.name,
                {{"type", "Limited"}, {"limited", std::move(limited)}});
}

json::value schema_object(const Schema& schema) {
  json::object rule;
  json::array subjects;
  const auto add = [&subjects](const char* names, const char* kind, const char* field) {
    if (*names == '\0') return;
    for (const json::value& name : words(names)) {
      json::object who{{"name", name}};
      if (std::string_view(kind) == "ServiceAccount") who["namespace"] = "kube-system";
      subjects.push_back(json::object{{"kind", kind}, {field, std::move(who)}});
    }
  };
  add(schema.users, "User", "user");
  add(schema.groups, "Group", "group");
  add(schema.accounts, "ServiceAccount", "serviceAccount");
  rule["subjects"] = std::move(subjects);
  if (!schema.resources.empty()) {
    json::array rules;
    for (const Resources& one : schema.resources) {
      json::object resource{{"verbs", words(one.verbs)},
                            {"apiGroups", words(one.groups)},
                            {"resources", words(one.resources)},
                            {"namespaces", words("*")}};
      if (one.cluster_scope) resource["clusterScope"] = true;
      rules.push_back(std::move(resource));
    }
    rule["resourceRules"] = std::move(rules);
  }
  if (*schema.verbs != '\0') {
    json::object other{{"verbs", words(schema.verbs)}, {"nonResourceURLs", words(schema.urls)}};
    rule["nonResourceRules"] = json::array{std::move(other)};
  }
  json::object spec{{"priorityLevelConfiguration", json::object{{"name", schema.level}}},
                    {"matchingPrecedence", schema.precedence},
                    {"rules", json::array{std::move(rule)}}};
  if (*schema.flows != '\0') spec["distinguisherMethod"] = json::object{{"type", schema.flows}};
  return object("FlowSchema", schema.name, std::move(spec));
}
}  // namespace

std::vector<json::value> flow_control_objects() {
  std::vector<json::value> out;
  out.push_back(object("PriorityLevelConfiguration", "exempt",
                       {{"type", "Exempt"},
                        {"exempt", json::object{{"nominalConcurrencyShares", 0}, {"lendablePercent", 0}}}}));
  for (const Level& level : kLevels) out.push_back(level_object(level));
  for (const Schema& schema : schemas()) out.push_back(schema_object(schema));
  return out;
}

}  // namespace orchestra::apiserver
