// A policy that cannot be enforced is reported with the pods that it was meant for.
#include "net/policy/unenforced.hpp"
#include "tests/net_l4/snapshot_objects.hpp"

using namespace orchestra;
using namespace orchestra::net;
using namespace orchestra::test;

namespace {
std::vector<UnenforcedPolicy> report(const std::string& selector) {
  const auto pod = [](const std::string& ns, const std::string& name, const std::string& app,
                      const char* phase) {
    return from_text(R"({"kind":"Pod","metadata":{"name":")" + name + R"(","namespace":")" + ns +
                     R"(","labels":{"app":")" + app + R"("}},"spec":{},"status":{"phase":")" + phase +
                     R"("}})");
  };
  NetworkInputs inputs;
  inputs.pods = {{pod("d", "web", "web", "Running"), pod("d", "db", "db", "Running"),
                  pod("d", "old", "web", "Failed"), pod("other", "web", "web", "Running")},
                 true};
  inputs.network_policies = {{from_text(R"({"kind":"NetworkPolicy","metadata":{"name":"p","namespace":"d"},
                                "spec":{"podSelector":)" +
                                        selector + "}}")},
                             true};
  return unenforced_policies(*NetworkSnapshot::build(inputs));
}
std::string selected(const std::string& selector) {
  std::string out;
  const auto reports = report(selector);
  for (const auto& pod : reports.at(0).pods) out += pod.to_string() + " ";
  return out;
}
}  // namespace

TEST_CASE("every policy is reported with the unfinished pods of its namespace that it selects") {
  CHECK(report("{}").at(0).report.reason == "NetworkPolicyNotEnforced");
  CHECK(report("{}").at(0).report.message ==
        "this network does not enforce policies: 2 selected pods stay open to all traffic");
  CHECK(selected("{}") == "d/db d/web ");
  CHECK(selected(R"({"matchLabels":{"app":"web"}})") == "d/web ");
  CHECK(selected(R"({"matchExpressions":[{"key":"app","operator":"NotIn","values":["web"]}]})") == "d/db ");
  CHECK(selected(R"({"matchExpressions":[{"key":"app","operator":"In","values":["web","db"]}]})") ==
        "d/db d/web ");
  CHECK(selected(R"({"matchExpressions":[{"key":"app","operator":"DoesNotExist"}]})").empty());
}
