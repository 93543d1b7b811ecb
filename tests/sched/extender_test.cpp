// What scheduler extenders are told, and what is understood of their answers.
#include "sched/extender.hpp"

#include "base/json.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::sched;

namespace {

Object object(const std::string& yaml) {
  auto parsed = Object::from_yaml(yaml);
  REQUIRE(parsed);
  return *parsed;
}
Object pod_asking(const std::string& resources) {
  return object(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: d, uid: u}\nspec: {containers: [{name: a, "
      "resources: " +
      resources + "}]}\n");
}
const std::vector<std::string> kNodes{"a", "b", "c"};

}  // namespace

TEST_CASE("an extender is told names, or whole nodes, as its configuration says") {
  const Object pod = pod_asking("{}");
  const auto node = [](const std::string& name) {
    return name == "b" ? Object() : object("apiVersion: v1\nkind: Node\nmetadata: {name: " + name + "}\n");
  };
  SchedulerExtender extender;
  json::value whole = parse_json(extender_args(extender, pod, kNodes, node)).value();
  CHECK(string_at(whole, "/Pod/metadata/name") == "p");
  CHECK(array_at(whole, "/Nodes/items")->size() == 2);  // one is gone meanwhile
  CHECK(string_at(whole, "/Nodes/items/1/metadata/name") == "c");
  CHECK(find(whole, "/NodeNames")->is_null());
  extender.node_cache_capable = true;
  const json::value names = parse_json(extender_args(extender, pod, kNodes, node)).value();
  CHECK(find(names, "/Nodes")->is_null());
  CHECK(to_json(*find(names, "/NodeNames")) == R"(["a","b","c"])");
}

TEST_CASE("only pods that name a managed resource are shown to an extender") {
  SchedulerExtender extender;
  CHECK(is_interested(extender, pod_asking("{}")));
  extender.managed_resources = {"example.com/gpu"};
  CHECK_FALSE(is_interested(extender, pod_asking("{requests: {cpu: 1}}")));
  CHECK(is_interested(extender, pod_asking("{requests: {example.com/gpu: 1}}")));
  CHECK(is_interested(extender, pod_asking("{limits: {example.com/gpu: 1}}")));
}

TEST_CASE("what an extender refuses has its reasons; whom it does not mention it refuses") {
  SchedulerExtender extender;
  extender.url = "http://x";
  extender.node_cache_capable = true;
  auto verdict =
      read_verdict(extender, R"({"NodeNames":["c"],"FailedNodes":{"a":"no licence"},"Error":""})", kNodes);
  REQUIRE(verdict);
  CHECK(verdict->left == std::vector<std::string>{"c"});
  CHECK(verdict->refused == std::map<std::string, std::string>{
                                {"a", "no licence"}, {"b", "node(s) were refused by the extender http://x"}});
  // Whole nodes, keys in the case that older extenders write.
  extender.node_cache_capable = false;
  verdict = read_verdict(
      extender,
      R"({"nodes":{"items":[{"metadata":{"name":"a"}}]},"nodenames":null,"failedAndUnresolvableNodes":{"b":"never"}})",
      kNodes);
  REQUIRE(verdict);
  CHECK(verdict->left == std::vector<std::string>{"a"});
  CHECK(verdict->refused.at("b") == "never");
  // Nothing at all: upstream takes it as a refusal of all.
  CHECK(read_verdict(extender, "{}", kNodes)->left.empty());
}

TEST_CASE("nonsense of an extender is an error, never a verdict") {
  SchedulerExtender extender;
  extender.node_cache_capable = true;
  for (const char* answer : {"", "nonsense", "[]", "7", R"({"Error":"it broke"})",
                             R"({"NodeNames":["elsewhere"]})", R"({"NodeNames":"a"})", R"({"NodeNames":[7]})",
                             R"({"FailedNodes":["a"]})", R"({"FailedNodes":{"a":7}})"}) {
    CAPTURE(answer);
    CHECK_FALSE(read_verdict(extender, answer, kNodes));
  }
  CHECK(read_verdict(extender, R"({"Error":"it broke"})", kNodes).error().message() == "it broke");
  for (const char* answer : {"", "{}", R"([{"Host":"a","Score":11}])", R"([{"Host":"a","Score":-1}])",
                             R"([{"Host":"a","Score":"x"}])", R"([{"Host":7}])"}) {
    CAPTURE(answer);
    CHECK_FALSE(read_priorities(answer, kNodes));
  }
  const auto scores = read_priorities(R"([{"Host":"b","Score":10},{"host":"z","score":1}])", kNodes);
  REQUIRE(scores);
  CHECK(*scores == std::map<std::string, std::int64_t>{{"a", 0}, {"b", 10}, {"c", 0}});
  CHECK(read_binding("{}"));
  CHECK(read_binding(R"({"Error":"taken"})").error().message() == "taken");
  CHECK_FALSE(read_binding("nonsense"));
}
