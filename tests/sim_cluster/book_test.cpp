// The invariants: each is broken here on purpose, and has to be seen.
#include "sim/cluster/book.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::sim;
using namespace std::chrono_literals;

namespace {

struct NoView final : View {
  const ObjectCache* cache(const ResourceRef&) const override { return nullptr; }
};

Object object_of(const std::string& yaml) {
  auto object = Object::from_yaml(yaml);
  REQUIRE_MESSAGE(object, (object ? "" : object.error().to_string()));
  return *object;
}
Object node(const std::string& name) {
  return object_of(
      "apiVersion: v1\nkind: Node\nmetadata: {name: " + name + ", uid: " + name +
      "}\nstatus: {allocatable: {cpu: 1, memory: 1Gi, pods: '3'}, conditions: [{type: Ready, status: "
      "'True'}]}\n");
}
Object pod(const std::string& name, const std::string& on, const std::string& more = "") {
  return object_of(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", namespace: default, uid: " + name + more +
      "}\nspec: {" + (on.empty() ? std::string() : "nodeName: " + on + ", ") +
      "containers: [{name: main, image: web, ports: [{containerPort: 80, hostPort: 80}], resources: "
      "{requests: {cpu: 600m}}}]}\nstatus: {phase: Pending}\n");
}
constexpr const char* kOwned =
    ", ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: r, uid: r, controller: true}]";
Object replica_set(int replicas) {
  return object_of(
      "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: r, namespace: default, uid: r}\nspec: "
      "{replicas: " +
      std::to_string(replicas) + "}\n");
}
bool saw(const Book& book, const std::string& what) {
  return std::any_of(book.violations().begin(), book.violations().end(),
                     [&](const std::string& line) { return line.find(what) != std::string::npos; });
}

}  // namespace

TEST_CASE("a pod that is bound twice, or to a node that is not there") {
  const NoView view;
  Book book(view);
  book.node_changed({}, node("a"), 0s);
  book.node_changed({}, node("b"), 0s);
  book.pod_changed({}, pod("x", "a"), 1s);
  CHECK(book.violations().empty());
  book.pod_changed(pod("x", "a"), pod("x", "b"), 2s);
  CHECK(saw(book, "00:00:02.000 pod default/x was bound twice: to a, then to b"));
  book.pod_changed({}, pod("y", "c"), 3s);
  CHECK(saw(book, "bound to c, which is not there"));
}

TEST_CASE("a node that is given more than it has, and a host port that two have") {
  const NoView view;
  Book book(view);
  book.node_changed({}, node("a"), 0s);
  book.pod_changed({}, pod("x", "a"), 1s);
  CHECK(book.violations().empty());
  book.pod_changed({}, pod("y", "a"), 2s);
  CHECK(saw(book, "node a was given more cpu than it has (1200 of 1000)"));
  CHECK(saw(book, "have the host port 80"));
}

TEST_CASE("what a pod had is free when it is gone") {
  const NoView view;
  Book book(view);
  book.node_changed({}, node("a"), 0s);
  book.pod_changed({}, pod("x", "a"), 1s);
  book.pod_changed(pod("x", "a"), {}, 2s);
  book.pod_changed({}, pod("y", "a"), 3s);
  CHECK(book.violations().empty());
}

TEST_CASE("a ReplicaSet that has more pods than it may") {
  const NoView view;
  Book book(view);
  book.owner_changed({}, replica_set(2), 0s);
  for (const char* name : {"x", "y"}) book.pod_changed({}, pod(name, "", kOwned), 10s);
  CHECK(book.violations().empty());
  book.pod_changed({}, pod("z", "", kOwned), 20s);
  CHECK(saw(book, "ReplicaSet default/r has 3 pods, and may have 2"));
}

TEST_CASE("what was decided just before a scale-down is no mistake") {
  const NoView view;
  Book book(view);
  book.owner_changed({}, replica_set(3), 0s);
  book.owner_changed(replica_set(3), replica_set(1), 10s);
  for (const char* name : {"x", "y", "z"}) book.pod_changed({}, pod(name, "", kOwned), 11s);
  CHECK(book.violations().empty());
}

TEST_CASE("an object that is written over and over") {
  const NoView view;
  Book book(view);
  for (int i = 0; i < 119; ++i) book.written(replica_set(0), 30s);
  CHECK(book.violations().empty());
  book.written(replica_set(0), 31s);
  CHECK(saw(book, "was written 120 times within a minute"));
  for (int i = 0; i < 500; ++i) book.written(replica_set(0), 32s);
  CHECK(book.violations().size() == 1);
}

TEST_CASE("a workload may be written as often as its replicas come and go") {
  const NoView view;
  Book book(view);
  for (int i = 0; i < 119; ++i) book.written(replica_set(1), 30s);
  for (int i = 0; i < 1120; ++i) book.written(replica_set(i < 100 ? 500 : 0), 31s);
  CHECK(saw(book, "was written 1120 times within a minute"));
  CHECK(book.violations().size() == 1);
}
