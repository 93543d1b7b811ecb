// What a node asks of a pod that was given to it. By table, and by a worker beside an API server.
#include "node/admission.hpp"

#include "api/object_tree.hpp"
#include "tests/node/fake_parts.hpp"

using namespace orchestra;
using namespace orchestra::node;
using namespace orchestra::node_test;

namespace {

constexpr const char* kLabels = "node(s) didn't match Pod's node affinity/selector";
constexpr const char* kTaints = "node(s) had taints that the pod didn't tolerate";
constexpr const char* kPorts = "node(s) didn't have free ports for the requested pod ports";

std::string required(const std::string& terms) {
  return R"({"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[)" +
         terms + "]}}}}";
}

json::value with_spec(const std::string& spec) { return *parse_json(R"({"spec":)" + spec + "}"); }

std::string reason_of(const std::optional<Refusal>& refused) {
  return refused ? refused->reason + ": " + refused->message : "";
}

Object node_with(const std::string& labels, const std::string& taints = "[]") {
  return FakeNode::object(R"({"apiVersion":"v1","kind":"Node","metadata":{"name":"n1","labels":)" + labels +
                          R"(},"spec":{"taints":)" + taints + "}}");
}

}  // namespace

TEST_CASE("a pod of another system than ours is refused") {
  CHECK_FALSE(refuse_system(*parse_json(R"({"metadata":{"name":"a"},"spec":{}})")));
  CHECK_FALSE(refuse_system(
      *parse_json(R"({"metadata":{"labels":{"kubernetes.io/os":"linux"}},"spec":{"os":{"name":"linux"}}})")));
  CHECK(reason_of(refuse_system(*parse_json(R"({"spec":{"os":{"name":"windows"}}})"))) ==
        "PodOSNotSupported: Failed to admit pod as the OS field doesn't match node OS");
  CHECK(reason_of(refuse_system(*parse_json(
            R"({"metadata":{"labels":{"kubernetes.io/os":"windows"}},"spec":{"os":{"name":"windows"}}})"))) ==
        "PodOSSelectorNodeLabelDoesNotMatch: Failed to admit pod as the `kubernetes.io/os` label doesn't "
        "match node label");
}

TEST_CASE("nodeSelector and required node affinity are asked of the node's labels and name") {
  const Object node = node_with(R"({"zone":"a","cores":"8"})");
  struct Row {
    std::string spec;
    bool taken;
  };
  const auto wanted = [](const char* key, const char* op, const char* values) {
    return required(R"({"matchExpressions":[{"key":")" + std::string(key) + R"(","operator":")" + op +
                    R"(","values":)" + values + "}]}");
  };
  for (const Row& row : {
           Row{"{}", true},
           Row{R"({"nodeSelector":{}})", true},
           Row{R"({"nodeSelector":{"zone":"a"}})", true},
           Row{R"({"nodeSelector":{"zone":"b"}})", false},
           Row{R"({"nodeSelector":{"zone":"a","disk":"ssd"}})", false},
           Row{wanted("zone", "In", R"(["b","a"])"), true},
           Row{wanted("zone", "In", R"(["b"])"), false},
           Row{wanted("zone", "NotIn", R"(["a"])"), false},
           Row{wanted("disk", "NotIn", R"(["a"])"), true},
           Row{wanted("zone", "Exists", "[]"), true},
           Row{wanted("disk", "Exists", "[]"), false},
           Row{wanted("disk", "DoesNotExist", "[]"), true},
           Row{wanted("cores", "Gt", R"(["7"])"), true},
           Row{wanted("cores", "Gt", R"(["8"])"), false},
           Row{wanted("cores", "Lt", R"(["9"])"), true},
           Row{wanted("zone", "Lt", R"(["9"])"), false},
           // The terms are alternatives, what is in one is not; none of them, or an empty one, takes no node.
           Row{required(""), false},
           Row{required("{}"), false},
           Row{required(R"({"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}]})"),
               true},
           Row{required(R"({"matchFields":[{"key":"metadata.name","operator":"In","values":["n2"]}]})"),
               false},
           Row{required(R"({"matchExpressions":[{"key":"disk","operator":"Exists"}]},
                           {"matchExpressions":[{"key":"zone","operator":"Exists"}]})"),
               true},
           Row{required(R"({"matchExpressions":[{"key":"zone","operator":"Exists"},
                                                {"key":"disk","operator":"Exists"}]})"),
               false},
           // What is only preferred is no condition.
           Row{R"({"affinity":{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[
                   {"weight":1,"preference":{"matchExpressions":[{"key":"disk","operator":"Exists"}]}}]}}})",
               true},
       }) {
    CAPTURE(row.spec);
    CHECK(reason_of(refuse_labels(with_spec(row.spec), node)) ==
          (row.taken ? "" : std::string("NodeAffinity: Predicate NodeAffinity failed: ") + kLabels));
  }
}

TEST_CASE("a NoExecute taint keeps out who does not tolerate it, for however short a time he would") {
  const Object node = node_with("{}", R"([{"key":"old","effect":"NoSchedule"},
                                          {"key":"down","value":"yes","effect":"NoExecute"}])");
  const auto refused = [&](const std::string& tolerations) {
    return reason_of(refuse_taints(with_spec(R"({"tolerations":)" + tolerations + "}"), node));
  };
  const std::string no = std::string("TaintToleration: Predicate TaintToleration failed: ") + kTaints;
  CHECK(refused("[]") == no);
  CHECK(refused(R"([{"key":"down","value":"no","effect":"NoExecute"}])") == no);
  CHECK(refused(R"([{"key":"down","operator":"Exists","effect":"NoSchedule"}])") == no);
  CHECK(refused(R"([{"key":"down","value":"yes","effect":"NoExecute","tolerationSeconds":1}])").empty());
  CHECK(refused(R"([{"operator":"Exists"}])").empty());
  CHECK_FALSE(refuse_taints(with_spec("{}"), node_with("{}", R"([{"key":"old","effect":"NoSchedule"}])")));
}

TEST_CASE("a pod that requires an isolated network is refused where it would have none") {
  const auto refused = [](const std::string& wish, const std::string& spec, const std::string& lacks) {
    return reason_of(refuse_network(
        *parse_json(R"({"metadata":{"annotations":{"a":"b")" + wish + R"(}},"spec":)" + spec + "}"), lacks));
  };
  const std::string required = R"(,"orchestra.dev/network-isolation":"required")";
  CHECK(refused(required, "{}", "nothing is enforced") ==
        "NetworkIsolation: orchestra.dev/network-isolation is required: nothing is enforced");
  CHECK(refused(required, R"({"hostNetwork":true})", "") ==
        "NetworkIsolation: orchestra.dev/network-isolation is required: it asks for the machine's network");
  CHECK(refused(required, "{}", "").empty());
  CHECK(refused("", R"({"hostNetwork":true})", "nothing is enforced").empty());
  CHECK(refused(R"(,"orchestra.dev/network-isolation":"best")", "{}", "nothing is enforced").empty());
}

TEST_CASE("host ports are those of containers and sidecars; in the machine's network every port is one") {
  const auto ports = [](const std::string& spec) {
    std::string out;
    for (const PortClaim& each : host_ports_of(with_spec(spec)))
      out += each.protocol + " " + each.address + " " + std::to_string(each.port) + "; ";
    return out;
  };
  CHECK(ports(R"({"containers":[{"ports":[{"containerPort":80}]}]})").empty());
  CHECK(ports(R"({"containers":[{"ports":[{"containerPort":80,"hostPort":8080},
                                          {"containerPort":53,"hostPort":53,"protocol":"UDP","hostIP":"10.0.0.1"}]},
                                {"ports":[{"containerPort":1,"hostPort":2,"hostIP":""}]}]})") ==
        "TCP 0.0.0.0 8080; UDP 10.0.0.1 53; TCP 0.0.0.0 2; ");
  CHECK(
      ports(
          R"({"initContainers":[{"ports":[{"hostPort":1}]},{"restartPolicy":"Always","ports":[{"hostPort":2}]}],
                  "containers":[]})") == "TCP 0.0.0.0 2; ");
  CHECK(ports(R"({"hostNetwork":true,"containers":[{"ports":[{"containerPort":80}]}]})") ==
        "TCP 0.0.0.0 80; ");
}

TEST_CASE("a host port is one pod's alone, on each address and protocol, until the pod is over") {
  Allocations all;
  all.set_capacity({1000, 1000}, 10);
  CHECK(all.claim_ports("a", {{"TCP", "10.0.0.1", 80}, {"UDP", "0.0.0.0", 53}}));
  CHECK(all.claim_ports("a", {{"TCP", "10.0.0.1", 80}, {"UDP", "0.0.0.0", 53}}));
  CHECK(all.claim_ports("other address", {{"TCP", "10.0.0.2", 80}}));
  CHECK(all.claim_ports("other protocol", {{"TCP", "0.0.0.0", 53}}));
  CHECK(all.claim_ports("other port", {{"TCP", "10.0.0.1", 81}}));
  CHECK_FALSE(all.claim_ports("b", {{"TCP", "10.0.0.1", 80}}));
  CHECK_FALSE(all.claim_ports("b", {{"TCP", "0.0.0.0", 80}}));
  CHECK_FALSE(all.claim_ports("b", {{"UDP", "10.0.0.9", 53}}));
  // Who was refused has none of the others that he asked for.
  CHECK_FALSE(all.claim_ports("b", {{"TCP", "0.0.0.0", 99}, {"UDP", "10.0.0.9", 53}}));
  CHECK(all.claim_ports("c", {{"TCP", "0.0.0.0", 99}}));
  all.release("a");
  CHECK(all.claim_ports("b", {{"UDP", "10.0.0.9", 53}}));
  all.adopt("runs already", {}, {{"TCP", "0.0.0.0", 7}});
  CHECK_FALSE(all.claim_ports("d", {{"TCP", "10.0.0.9", 7}}));
}

namespace {

Object assigned(const std::string& name, const std::string& more, const std::string& main = "") {
  return FakeNode::object(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":")" + name +
                          R"(","namespace":"default"},"spec":{"nodeName":"n1",)" +
                          R"("automountServiceAccountToken":false,)" + more +
                          R"("containers":[{"name":"main","image":"box","args":["x"])" + main + "}]}}");
}

std::string port(int number) {
  return R"(,"ports":[{"containerPort":80,"hostPort":)" + std::to_string(number) + "}]";
}

}  // namespace

TEST_CASE("a pod that its node does not take has failed with the reason, and nothing of it was started") {
  FakeNode node(FakeNode::Api::server);
  const Object labelled = node.create(node_with(R"({"zone":"a"})"));
  // What is known here is older than the Node: its labels decide as they are now.
  node.context.know_node(node_with(R"({"zone":"b"})", R"([{"key":"gone","effect":"NoExecute"}])"));
  const Object first = node.create(assigned("first", R"("nodeSelector":{"zone":"a"},)", port(8080)));
  const Object elsewhere = node.create(assigned("elsewhere", R"("nodeSelector":{"zone":"b"},)"));
  const Object same_port = node.create(assigned("same-port", "", port(8080)));
  std::string with_wish = to_json(tree(assigned("insists", "")));
  with_wish.replace(with_wish.find(R"("name":"insists")"), 16,
                    R"("name":"insists","annotations":{"orchestra.dev/network-isolation":"required"})");
  const Object insists = node.create(FakeNode::object(with_wish));
  node.context.options.network_lacks = "nothing is enforced";
  node.worker(first)->wake();
  REQUIRE(node.journal.wait("start " + first.uid() + "-main-0"));
  for (const Object& pod : {elsewhere, same_port, insists}) node.worker(pod)->wake();
  struct Row {
    const Object* pod;
    std::string reason, message;
  };
  for (const Row& row :
       {Row{&elsewhere, "NodeAffinity", std::string("Predicate NodeAffinity failed: ") + kLabels},
        Row{&same_port, "NodePorts", std::string("Predicate NodePorts failed: ") + kPorts},
        Row{&insists, "NetworkIsolation",
            "orchestra.dev/network-isolation is required: nothing is enforced"}}) {
    const std::string name = row.pod->name();
    CAPTURE(name);
    REQUIRE(node.wait_phase(name, "Failed"));
    const Object now = node.pod(name);
    CHECK(now.get("/status/reason") == row.reason);
    CHECK(now.get("/status/message") == "Pod was rejected: " + row.message);
    CHECK(node.journal.count("start " + row.pod->uid() + "-main-0") == 0);
  }
  CHECK(node.pod("first").get("/status/phase") != "Failed");
  // The taint of the Node as it is now keeps others out; the port of a pod that is over is free again.
  const auto tainted = node.context.client
                           .patch("v1", "nodes", "n1", "", PatchType::merge,
                                  R"({"spec":{"taints":[{"key":"down","effect":"NoExecute"}]}})")
                           .wait(60s);
  REQUIRE_MESSAGE(tainted, tainted.error().to_string());
  const Object unwanted = node.create(assigned("unwanted", ""));
  node.worker(unwanted)->wake();
  REQUIRE(node.wait_phase("unwanted", "Failed"));
  CHECK(node.pod("unwanted").get("/status/reason") == "TaintToleration");
  node.workers.front()->removed();
  REQUIRE(node.journal.wait("finished"));
  const Object next =
      node.create(assigned("next", R"("tolerations":[{"key":"down","operator":"Exists"}],)", port(8080)));
  node.worker(next)->wake();
  CHECK(node.journal.wait("start " + next.uid() + "-main-0"));
}
