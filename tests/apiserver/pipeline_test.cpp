// The generic engine in process: what clients see of create, get, list, update, patch, delete and watch.
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/support/test.hpp"

#include <atomic>
#include <mutex>
#include <thread>

using namespace orchestra;
using namespace std::chrono_literals;

namespace {
struct Cluster {
  Engine engine;
  std::shared_ptr<StateStore> store = MemoryStore::create(engine);
  ApiServer server;
  Client client;
  explicit Cluster(ApiServerOptions options = {}) : server(engine, store, std::move(options)) {
    const auto started = server.start();
    REQUIRE_MESSAGE(started, (started ? "" : started.error().to_string()));
    client = server.client();
    // The one ConfigMap that every namespace is born with: lists here count their own.
    (void)client.remove("v1", "configmaps", "kube-root-ca.crt", "default").wait(30s);
  }
  Object create(const std::string& yaml, WriteOptions options = {}) {
    auto object = Object::from_yaml(yaml);
    REQUIRE(object);
    auto made = client.create(*object, options).wait(30s);
    REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
    return *made;
  }
  std::string refusal(const std::string& yaml) {
    auto object = Object::from_yaml(yaml);
    REQUIRE(object);
    auto made = client.create(*object).wait(30s);
    REQUIRE_FALSE(made);
    REQUIRE(made.error().detail<Status>() != nullptr);
    return std::to_string(made.error().detail<Status>()->code) + " " + made.error().detail<Status>()->message;
  }
};

const char* const kMap =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: default}\ndata: {a: \"1\"}\n";
const char* const kPod =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\n"
    "spec: {containers: [{name: main, image: busybox}]}\n";

std::vector<ObjectChange> wait_changes(ObjectWatch& watch, std::size_t count) {
  std::vector<ObjectChange> all;
  while (all.size() < count) {
    auto some = watch.next(30s);
    if (!some) break;
    for (auto& change : *some) {
      if (change.type != ObjectChange::Type::bookmark) all.push_back(std::move(change));
    }
  }
  return all;
}
}  // namespace

TEST_CASE("an empty server has the namespaces and the service that every cluster has") {
  Cluster cluster;
  auto namespaces = cluster.client.list("v1", "namespaces").wait(30s);
  REQUIRE(namespaces);
  std::string names;
  for (const Object& item : namespaces->items) names += item.name() + " ";
  CHECK(names == "default kube-node-lease kube-public kube-system ");
  auto service = cluster.client.get("v1", "services", "kubernetes", "default").wait(30s);
  REQUIRE(service);
  CHECK(service->get("/spec/clusterIP") == "10.96.0.1");
}

TEST_CASE("a created object has what the server sets, and is read back the same") {
  Cluster cluster;
  const Object made = cluster.create(kMap);
  CHECK(made.uid().size() == 36);
  CHECK_FALSE(made.resource_version().empty());
  CHECK(made.get("/metadata/creationTimestamp"));
  auto got = cluster.client.get("v1", "configmaps", "c", "default").wait(30s);
  REQUIRE(got);
  CHECK(*got == made);
}

TEST_CASE("errors carry the words of upstream") {
  Cluster cluster;
  cluster.create(kMap);
  CHECK(cluster.refusal(kMap) == "409 configmaps \"c\" already exists");
  CHECK(cluster.refusal("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: nowhere}\n") ==
        "404 namespaces \"nowhere\" not found");
  auto missing = cluster.client.get("apps/v1", "deployments", "d", "default").wait(30s);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().is(Error::not_found));
  CHECK(missing.error().detail<Status>()->message == "deployments.apps \"d\" not found");
}

TEST_CASE("an update with a stale resourceVersion is refused and changes nothing") {
  Cluster cluster;
  const Object first = cluster.create(kMap);
  const Object second = cluster.client.update(*first.with("/data/a", "\"2\"")).wait(30s).value();
  CHECK(second.get("/data/a") == "2");
  auto stale = cluster.client.update(*first.with("/data/a", "\"3\"")).wait(30s);
  REQUIRE_FALSE(stale);
  CHECK(stale.error().is(Error::conflict));
  CHECK(stale.error().detail<Status>()->message ==
        "Operation cannot be fulfilled on configmaps \"c\": the object has been modified; please apply your "
        "changes to "
        "the latest version and try again");
}

TEST_CASE("a write that changes nothing keeps the resourceVersion") {
  Cluster cluster;
  const Object made = cluster.create(kMap);
  CHECK(cluster.client.update(made).wait(30s).value().resource_version() == made.resource_version());
}

TEST_CASE("generateName gives a free name") {
  Cluster cluster;
  const Object made =
      cluster.create("apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: job-, namespace: default}\n");
  CHECK(made.name().size() == 9);
  CHECK(made.name().starts_with("job-"));
}

TEST_CASE("a dry run answers like a write and writes nothing") {
  Cluster cluster;
  cluster.create(kMap, {.dry_run = true});
  CHECK_FALSE(cluster.client.get("v1", "configmaps", "c", "default").wait(30s));
}

TEST_CASE("pods get a service account, a priority and the default tolerations") {
  Cluster cluster;
  const Object pod = cluster.create(kPod);
  CHECK(pod.get("/spec/serviceAccountName") == "default");
  CHECK(pod.get_int("/spec/priority") == 0);
  CHECK(pod.get_int("/spec/tolerations/0/tolerationSeconds") == 300);
  CHECK(pod.get("/status/phase") == "Pending");
}

TEST_CASE("binding sets the node once") {
  Cluster cluster;
  cluster.create(kPod);
  const auto bind = [&](const char* node) {
    ApiRequest request{
        .verb = "create", .resource = "pods", .subresource = "binding", .ns = "default", .name = "p"};
    request.body =
        std::string(
            R"({"apiVersion":"v1","kind":"Binding","metadata":{"name":"p"},"target":{"kind":"Node","name":")") +
        node + "\"}}";
    return cluster.client.request(request).wait(30s);
  };
  CHECK(bind("n1"));
  CHECK(cluster.client.get("v1", "pods", "p", "default").wait(30s)->get("/spec/nodeName") == "n1");
  auto second = bind("n2");
  REQUIRE_FALSE(second);
  CHECK(second.error().is(Error::conflict));
}

TEST_CASE("deleting a bound pod is graceful, may be shortened, and ends with the last word of its node") {
  Cluster cluster;
  cluster.create(kPod);
  ApiRequest request{
      .verb = "create", .resource = "pods", .subresource = "binding", .ns = "default", .name = "p"};
  request.body =
      R"({"apiVersion":"v1","kind":"Binding","metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}})";
  REQUIRE(cluster.client.request(request).wait(30s));
  REQUIRE(cluster.client.remove("v1", "pods", "p", "default").wait(30s));
  const Object marked = cluster.client.get("v1", "pods", "p", "default").wait(30s).value();
  CHECK(marked.deleting());
  CHECK(marked.get_int("/metadata/deletionGracePeriodSeconds") == 30);
  REQUIRE(cluster.client.remove("v1", "pods", "p", "default", {.grace_period_seconds = 5}).wait(30s));
  CHECK(cluster.client.get("v1", "pods", "p", "default")
            .wait(30s)
            ->get_int("/metadata/deletionGracePeriodSeconds") == 5);
  REQUIRE(cluster.client.remove("v1", "pods", "p", "default", {.grace_period_seconds = 0}).wait(30s));
  CHECK_FALSE(cluster.client.get("v1", "pods", "p", "default").wait(30s));
}

TEST_CASE("finalizers hold an object until the last one goes") {
  Cluster cluster;
  const Object made = cluster.create(
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, namespace: default, finalizers: "
      "[example.org/hold]}\n");
  REQUIRE(cluster.client.remove("v1", "configmaps", "held", "default").wait(30s));
  Object marked = cluster.client.get("v1", "configmaps", "held", "default").wait(30s).value();
  CHECK(marked.deleting());
  CHECK(cluster.client.update(*marked.with("/metadata/finalizers", "[]")).wait(30s));
  CHECK_FALSE(cluster.client.get("v1", "configmaps", "held", "default").wait(30s));
}

TEST_CASE("foreground deletion leaves the object to the garbage collector") {
  Cluster cluster;
  cluster.create(kMap);
  REQUIRE(cluster.client.remove("v1", "configmaps", "c", "default", {.propagation = "Foreground"}).wait(30s));
  const Object marked = cluster.client.get("v1", "configmaps", "c", "default").wait(30s).value();
  CHECK(marked.deleting());
  CHECK(marked.finalizers() == std::vector<std::string>{"foregroundDeletion"});
}

TEST_CASE("a precondition on the uid protects the next object of the same name") {
  Cluster cluster;
  cluster.create(kMap);
  auto removed = cluster.client.remove("v1", "configmaps", "c", "default", {.uid = "other"}).wait(30s);
  REQUIRE_FALSE(removed);
  CHECK(removed.error().is(Error::conflict));
}

TEST_CASE("namespaces of the system cannot be deleted, others end through their finalizer") {
  Cluster cluster;
  auto kept = cluster.client.remove("v1", "namespaces", "default").wait(30s);
  REQUIRE_FALSE(kept);
  CHECK(kept.error().is(Error::denied));
  cluster.create("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
  REQUIRE(cluster.client.remove("v1", "namespaces", "shop").wait(30s));
  const Object ending = cluster.client.get("v1", "namespaces", "shop").wait(30s).value();
  CHECK(ending.get("/status/phase") == "Terminating");
  CHECK(cluster.refusal("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: late, namespace: shop}\n")
            .starts_with("403"));
  ApiRequest finalize{.verb = "update", .resource = "namespaces", .subresource = "finalize", .name = "shop"};
  finalize.object = *ending.with("/spec/finalizers", "[]");
  REQUIRE(cluster.client.request(finalize).wait(30s));
  CHECK_FALSE(cluster.client.get("v1", "namespaces", "shop").wait(30s));
}

TEST_CASE("lists are in key order, selected by labels and fields, and paged at one revision") {
  Cluster cluster;
  for (int i = 0; i < 5; ++i) {
    cluster.create("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m" + std::to_string(i) +
                   ", namespace: default, labels: {odd: \"" + std::to_string(i % 2) + "\"}}\n");
  }
  auto odd = cluster.client.list("v1", "configmaps", {.ns = "default", .labels = "odd=1"}).wait(30s);
  REQUIRE(odd);
  CHECK(odd->items.size() == 2);
  auto one = cluster.client.list("v1", "configmaps", {.fields = "metadata.name=m3"}).wait(30s);
  REQUIRE(one);
  CHECK(one->items.size() == 1);
  auto page = cluster.client.list("v1", "configmaps", {.ns = "default", .limit = 2}).wait(30s);
  REQUIRE(page);
  CHECK(page->items.size() == 2);
  REQUIRE_FALSE(page->continue_token.empty());
  cluster.client.remove("v1", "configmaps", "m4", "default").wait(30s).value();
  auto rest =
      cluster.client
          .list("v1", "configmaps", {.ns = "default", .limit = 10, .continue_token = page->continue_token})
          .wait(30s);
  REQUIRE(rest);
  CHECK(rest->items.size() == 3);  // m4 still belongs to the first page's revision
  CHECK(rest->resource_version == page->resource_version);
}

TEST_CASE("a watch begins with what exists and goes on without a gap") {
  Cluster cluster;
  cluster.create(kMap);
  auto watch = cluster.client.watch("v1", "configmaps", {.ns = "default"});
  REQUIRE(watch);
  const Object made = cluster.client.get("v1", "configmaps", "c", "default").wait(30s).value();
  cluster.client.update(*made.with("/data/a", "\"2\"")).wait(30s).value();
  cluster.client.remove("v1", "configmaps", "c", "default").wait(30s).value();
  const auto changes = wait_changes(*watch, 3);
  REQUIRE(changes.size() == 3);
  CHECK(changes[0].type == ObjectChange::Type::added);
  CHECK(changes[1].type == ObjectChange::Type::modified);
  CHECK(changes[2].type == ObjectChange::Type::removed);
  CHECK(changes[2].object.get("/data/a") == "2");
  CHECK(std::stoll(changes[2].object.resource_version()) > std::stoll(changes[1].object.resource_version()));
}

TEST_CASE("an object that leaves a watch's selector is removed, one that enters is added") {
  Cluster cluster;
  const Object made = cluster.create(
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: default, labels: {app: a}}\n");
  auto watch = cluster.client.watch(
      "v1", "configmaps", {.ns = "default", .labels = "app=a", .resource_version = made.resource_version()});
  REQUIRE(watch);
  const Object other = cluster.client.update(*made.with("/metadata/labels/app", "\"b\"")).wait(30s).value();
  cluster.client.update(*other.with("/metadata/labels/app", "\"a\"")).wait(30s).value();
  const auto changes = wait_changes(*watch, 2);
  REQUIRE(changes.size() == 2);
  CHECK(changes[0].type == ObjectChange::Type::removed);
  CHECK(changes[0].object.labels().at("app") == "a");
  CHECK(changes[0].object.resource_version() == other.resource_version());
  CHECK(changes[1].type == ObjectChange::Type::added);
}

TEST_CASE("services get addresses and ports that nobody else has, and give them back") {
  Cluster cluster;
  const std::string service =
      "apiVersion: v1\nkind: Service\nmetadata: {name: NAME, namespace: default}\n"
      "spec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}\n";
  const auto named = [&](const char* name) {
    std::string text = service;
    return text.replace(text.find("NAME"), 4, name);
  };
  const Object made = cluster.create(named("a"));
  CHECK(made.get("/spec/clusterIP")->starts_with("10.96."));
  CHECK(cluster.refusal(named("b")) ==
        "422 Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is "
        "already allocated");
  cluster.client.remove("v1", "services", "a", "default").wait(30s).value();
  CHECK(cluster.create(named("b")).get_int("/spec/ports/0/nodePort") == 30080);
}

TEST_CASE("a batch is one revision, with an answer for each request") {
  Cluster cluster;
  std::vector<ApiRequest> requests;
  for (int i = 0; i < 3; ++i) {
    ApiRequest request{.verb = "create", .resource = "configmaps", .ns = "default"};
    request.object = Object::from_yaml("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b" +
                                       std::to_string(i == 2 ? 0 : i) + "}\n")
                         .value();
    requests.push_back(std::move(request));
  }
  auto results = cluster.client.batch(std::move(requests)).wait(30s);
  REQUIRE(results);
  REQUIRE(results->size() == 3);
  REQUIRE((*results)[0]);
  REQUIRE((*results)[1]);
  CHECK((*results)[0]->resource_version() == (*results)[1]->resource_version());
  REQUIRE_FALSE((*results)[2]);
  CHECK((*results)[2].error().is(Error::already_exists));
}

TEST_CASE("writers that race lose no increment") {
  Cluster cluster;
  cluster.create(
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: counter, namespace: default}\ndata: {count: "
      "\"0\"}\n");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int done = 0; done < 50;) {
        auto got = cluster.client.get("v1", "configmaps", "counter", "default").wait(30s);
        const int n = std::stoi(*got->get("/data/count"));
        if (cluster.client.update(*got->with("/data/count", "\"" + std::to_string(n + 1) + "\"")).wait(30s))
          ++done;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(cluster.client.get("v1", "configmaps", "counter", "default").wait(30s)->get("/data/count") == "200");
}

TEST_CASE("a user without rights reads why") {
  Cluster cluster;
  const Client jane = cluster.server.client_as("jane");
  auto got = jane.get("v1", "pods", "p", "default").wait(30s);
  REQUIRE_FALSE(got);
  CHECK(got.error().detail<Status>()->message ==
        "pods \"p\" is forbidden: User \"jane\" cannot get resource \"pods\" in API group \"\" in the "
        "namespace "
        "\"default\"");
}

TEST_CASE("reviews answer with the rules that requests meet, and are not stored") {
  Cluster cluster;
  const std::string yaml =
      "apiVersion: authorization.k8s.io/v1\nkind: SelfSubjectAccessReview\n"
      "spec: {resourceAttributes: {verb: create, resource: pods, namespace: default}}\n";
  CHECK(cluster.create(yaml).get_bool("/status/allowed") == true);
  auto janes = cluster.server.client_as("jane").create(Object::from_yaml(yaml).value()).wait(30s);
  REQUIRE(janes);
  CHECK(janes->get_bool("/status/allowed") == false);
  CHECK(janes->get("/status/reason")->find("cannot create resource") != std::string::npos);
}

TEST_CASE("events expire: they are written under a lease of the store") {
  Cluster cluster;
  cluster.create(
      "apiVersion: v1\nkind: Event\nmetadata: {name: e, namespace: default}\nreason: Test\nmessage: hello\n"
      "involvedObject: {kind: Pod, namespace: default, name: p}\ntype: Normal\n");
  const auto range = cluster.store->range(KeyPrefix("/orchestra/objects/core/events/")).wait(30s);
  REQUIRE(range);
  REQUIRE(range->items.size() == 1);
  REQUIRE(range->items[0].lease != 0);
  const auto lease = cluster.store->lease_time_to_live(range->items[0].lease).wait(30s);
  REQUIRE(lease);
  CHECK(lease->ttl >= std::chrono::hours(1));
}

TEST_CASE("a write behind a fence fails once the election's key has changed hands") {
  Cluster cluster;
  const Revision first = cluster.store->put("/elections/test", "me").wait(30s)->revision;
  WriteOptions options;
  options.fence = "/elections/test=" + std::to_string(first);
  cluster.create(kMap, options);
  REQUIRE(cluster.store->remove(Key("/elections/test")).wait(30s));
  REQUIRE(cluster.store->put("/elections/test", "other").wait(30s));
  auto late =
      cluster.client
          .patch("v1", "configmaps", "c", "default", PatchType::merge, R"({"data":{"a":"9"}})", options)
          .wait(30s);
  REQUIRE_FALSE(late);
  CHECK(late.error().is(Error::conflict));
  CHECK(cluster.client.get("v1", "configmaps", "c", "default").wait(30s)->get("/data/a") == "1");
}

TEST_CASE("a Service of both families takes an address of each range and gives back what it does not keep") {
  ApiServerOptions options;
  options.service_cidr = "10.96.0.0/16,fd00:10:96::/126";
  Cluster cluster(options);
  const auto text = [](const std::string& name, const std::string& spec) {
    return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name +
           ", namespace: default}\nspec: {ports: [{port: 80}]" + spec + "}\n";
  };
  const auto taken = [&](const std::string& address) {
    return cluster.store->get("/orchestra/allocations/clusterips/" + address)
        .wait(30s)
        .value()
        .kv.has_value();
  };
  CHECK(cluster.client.get("v1", "services", "kubernetes", "default").wait(30s)->get("/spec/clusterIPs/0") ==
        "10.96.0.1");
  const Object both = cluster.create(text("both", ", ipFamilyPolicy: PreferDualStack"));
  CHECK(both.get("/spec/clusterIPs/0") == both.get("/spec/clusterIP"));
  const std::string four = *both.get("/spec/clusterIPs/0"), six = *both.get("/spec/clusterIPs/1");
  CHECK(four.starts_with("10.96."));
  CHECK((six == "fd00:10:96::2" || six == "fd00:10:96::3"));  // the first is never chosen
  CHECK(taken(four));
  CHECK(taken(six));
  const std::string other = six == "fd00:10:96::2" ? "fd00:10:96::3" : "fd00:10:96::2";
  CHECK(cluster.create(text("six", ", ipFamilies: [IPv6]")).get("/spec/clusterIP") == other);
  CHECK(cluster.refusal(text("third", ", ipFamilies: [IPv6]")).find("range fd00:10:96::/126 is full") !=
        std::string::npos);
  CHECK(cluster.refusal(text("same", ", clusterIP: 'fd00:10:96:0::2'"))
            .find("provided IP is already allocated") != std::string::npos);
  CHECK(cluster.refusal(text("far", ", clusterIP: 'fd00::2'"))
            .find("not in the valid range. The range of valid IPs is fd00:10:96::/126") != std::string::npos);
  const auto patch = [&](const std::string& name, const std::string& spec) {
    return cluster.client
        .patch("v1", "services", name, "default", PatchType::merge, "{\"spec\":" + spec + "}")
        .wait(30s);
  };
  const auto primary =
      patch("both", R"({"clusterIP":"10.96.0.77","clusterIPs":["10.96.0.77",")" + six + R"("]})");
  REQUIRE_FALSE(primary);
  CHECK(primary.error().message().find("may not change once set") != std::string::npos);
  const auto lowered = patch("both", R"({"ipFamilyPolicy":"SingleStack"})");
  REQUIRE_MESSAGE(lowered, (lowered ? "" : lowered.error().to_string()));
  CHECK(lowered->get("/spec/clusterIP") == four);
  CHECK_FALSE(lowered->get("/spec/clusterIPs/1"));
  CHECK_FALSE(lowered->get("/spec/ipFamilies/1"));
  CHECK_FALSE(taken(six));
  const auto raised = patch("both", R"({"ipFamilyPolicy":"RequireDualStack"})");
  REQUIRE_MESSAGE(raised, (raised ? "" : raised.error().to_string()));
  CHECK(raised->get("/spec/clusterIPs/1") == six);
  const auto external = patch("both", R"({"type":"ExternalName","externalName":"a.example","ports":null})");
  REQUIRE_MESSAGE(external, (external ? "" : external.error().to_string()));
  CHECK_FALSE(external->get("/spec/clusterIPs/0"));
  CHECK_FALSE(taken(four));
  CHECK_FALSE(taken(six));
  cluster.client.remove("v1", "services", "six", "default").wait(30s).value();
  CHECK_FALSE(taken(other));
}

TEST_CASE("ranges of Services that the server cannot use are refused") {
  for (const char* bad : {"fd00:10:96::/64", "fd00::/112,fd01::/112", "10.96.0.0/16,10.97.0.0/16",
                          "10.96.0.0/16,fd00:10:96::/64", "10.96.0.0/31", "10.96.0.0/16,",
                          "10.96.0.0/16,fd00::/112,fd01::/112", "10.96.0.0/1x"}) {
    Engine engine;
    ApiServerOptions options;
    options.service_cidr = bad;
    ApiServer server(engine, MemoryStore::create(engine), options);
    const auto refused = server.start();
    REQUIRE_FALSE_MESSAGE(refused, bad);
    CHECK(refused.error().is(Error::invalid));
  }
}

TEST_CASE("a thousand clients increment one object, and none of them in vain") {
  Cluster cluster;
  cluster.create(
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: counter, namespace: default}\ndata: {count: "
      "\"0\"}\n");
  constexpr int kThreads = 8, kClients = 125;
  std::vector<std::thread> threads;
  std::atomic<int> lost{0};
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      // Its clients take turns, so that each holds a version that the others have left behind.
      std::vector<Client> clients;
      for (int i = 0; i < kClients; ++i)
        clients.push_back(
            cluster.server.client_as("c" + std::to_string(t * kClients + i), {"system:masters"}));
      std::vector<std::size_t> left;
      for (std::size_t i = 0; i < clients.size(); ++i) left.push_back(i);
      while (!left.empty()) {
        std::vector<std::pair<std::size_t, Object>> read;
        for (std::size_t i = 0; i < std::min<std::size_t>(left.size(), 5); ++i)
          read.emplace_back(left[i],
                            clients[left[i]].get("v1", "configmaps", "counter", "default").wait(30s).value());
        for (const auto& [client, object] : read) {
          const int count = std::stoi(*object.get("/data/count"));
          if (clients[client]
                  .update(*object.with("/data/count", "\"" + std::to_string(count + 1) + "\""))
                  .wait(30s))
            std::erase(left, client);
          else
            ++lost;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(cluster.client.get("v1", "configmaps", "counter", "default").wait(30s)->get("/data/count") == "1000");
  CHECK(lost > 0);  // else nobody raced
}

TEST_CASE("patches that race are all applied, without a conflict") {
  Cluster cluster;
  cluster.create(kMap);
  std::vector<std::thread> threads;
  std::atomic<int> refused{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string key = "k" + std::to_string(t) + "-" + std::to_string(i);
        if (!cluster.client
                 .patch("v1", "configmaps", "c", "default", PatchType::merge,
                        R"({"data":{")" + key + R"(":"x"}})")
                 .wait(30s))
          ++refused;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(refused == 0);
  const Object all = cluster.client.get("v1", "configmaps", "c", "default").wait(30s).value();
  for (int t = 0; t < 8; ++t) {
    for (int i = 0; i < 50; ++i)
      CHECK(all.get("/data/k" + std::to_string(t) + "-" + std::to_string(i)) == "x");
  }
}

TEST_CASE("writers that race share the node ports and addresses there are, each once") {
  ApiServerOptions options;
  options.node_port_min = 30000;
  options.node_port_max = 30039;
  Cluster cluster(options);
  std::mutex mutex;
  std::vector<std::int64_t> ports;
  std::vector<std::string> addresses, refusals;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 8; ++i) {
        auto object = Object::from_yaml(
            "apiVersion: v1\nkind: Service\nmetadata: {name: s" + std::to_string(t) + "-" +
            std::to_string(i) + ", namespace: default}\nspec: {type: NodePort, ports: [{port: 80}]}\n");
        auto made = cluster.client.create(*object).wait(30s);
        std::lock_guard lock(mutex);
        if (made) {
          ports.push_back(made->get_int("/spec/ports/0/nodePort").value_or(0));
          addresses.push_back(made->get("/spec/clusterIP").value_or(""));
        } else {
          refusals.push_back(made.error().detail<Status>()->message);
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(ports.size() == 40);
  CHECK(refusals.size() == 24);
  for (const std::string& refusal : refusals)
    CHECK(refusal.find("failed to allocate a nodePort: range is full") != std::string::npos);
  std::sort(ports.begin(), ports.end());
  for (std::size_t i = 0; i < ports.size(); ++i) CHECK(ports[i] == 30000 + static_cast<std::int64_t>(i));
  std::sort(addresses.begin(), addresses.end());
  CHECK(std::adjacent_find(addresses.begin(), addresses.end()) == addresses.end());
}

TEST_CASE("readers in this process see no managedFields") {
  Cluster cluster;
  CHECK_FALSE(cluster.create(kMap).get("/metadata/managedFields"));
  CHECK_FALSE(
      cluster.client.get("v1", "configmaps", "c", "default").wait(30s)->get("/metadata/managedFields"));
  const auto listed = cluster.client.list("v1", "configmaps", {.ns = "default"}).wait(30s);
  REQUIRE(listed);
  for (const Object& one : listed->items) CHECK_FALSE(one.get("/metadata/managedFields"));
}
