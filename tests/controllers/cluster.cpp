// The control plane of the tests: see cluster.hpp.
#include "tests/controllers/cluster.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace orchestra::test {

using namespace controllers;
using namespace std::chrono_literals;

namespace {
EngineOptions with_log() {
  EngineOptions options;
  if (std::getenv("ORC_TEST_LOG") != nullptr) {
    options.log_sink = [](const LogRecord& record) {
      std::fprintf(stderr, "%s\n", format_log_text(record).c_str());
    };
  }
  return options;
}
}  // namespace

Cluster::Cluster(ControllersOptions options)
    : engine(with_log()),
      store(MemoryStore::create(engine)),
      server(engine, store, {}),
      client((server.start().value(), server.client())),
      controllers(engine, client, std::move(options)),
      seen(engine, client) {
  for (const ResourceRef& resource :
       {pods(), deployments(), replica_sets(), namespaces(), services(), nodes(), endpoints(),
        endpoint_slices(), service_accounts(), config_maps()}) {
    seen.informer(resource).on_event([this, resource](const Object&, const Object& now) {
      if (resource == pods() && now) pod_changed(now);
      std::lock_guard lock(mutex_);
      ++changes_;
      changed_.notify_all();
    });
  }
  seen.start().value();
  controllers.on_decision([this](const ReconcileDecision&) {
    std::lock_guard lock(mutex_);
    ++changes_;
    changed_.notify_all();
  });
}

Cluster::~Cluster() {
  controllers.stop();
  seen.stop();
  server.stop();
  store->stop();
  engine.stop();
}

// What a node agent would do, at once. Event thread: answers are not waited
// for.
void Cluster::pod_changed(const Object& now) {
  if (now.deleting()) {
    DeleteOptions gone;
    gone.grace_period_seconds = 0;
    gone.uid = now.uid();
    client.remove("v1", "pods", now.name(), now.ns(), gone).on_ready([](const Result<void>&) {});
    return;
  }
  if (!pods_become_ready || pod_ready(now)) return;
  const std::string time = format_time(engine.clock().now().wall_ns);
  json::value copy = tree(now);
  const std::string ip = "10.244.0." + std::to_string(fnv1a_32(now.name()) % 250 + 1);
  set_at(copy, "/status/phase", json::value("Running"));
  set_at(copy, "/status/podIP", json::value(ip));
  set_at(copy, "/status/podIPs", json::array{{{"ip", ip}}});
  set_condition(array_in(copy, "/status/conditions"), {"Ready", "True", "", ""}, engine.clock().now().wall_ns,
                false);
  WriteOptions status;
  status.subresource = "status";
  client.update(object_from_tree(std::move(copy)), status).on_ready([](const Result<Object>&) {});
}

bool Cluster::eventually(const std::function<bool()>& done) {
  const auto deadline = std::chrono::steady_clock::now() + 60s;
  while (true) {
    std::uint64_t before = 0;
    {
      std::lock_guard lock(mutex_);
      before = changes_;
    }
    if (done()) return true;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    // Coming to rest is no event: what has no event is looked at every 20 ms.
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, 20ms, [&] { return changes_ != before; });
  }
}

void Cluster::create(const std::string& yaml) {
  const auto objects = Object::many_from_yaml(yaml);
  REQUIRE(objects);
  for (const Object& object : *objects) {
    const auto made = client.create(object).wait(60s);
    REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
  }
}

Object Cluster::get(const ResourceRef& resource, const std::string& ns, const std::string& name) {
  return seen.get(resource, ns, name);
}

Result<Object> Cluster::patch(const ResourceRef& resource, const std::string& ns, const std::string& name,
                              const std::string& merge) {
  return client.patch(resource.api_version, resource.resource, name, ns, PatchType::merge, merge).wait(60s);
}

std::vector<Object> Cluster::active_pods(const std::string& ns) {
  std::vector<Object> active;
  for (const Object& pod : seen.list(pods(), ns)) {
    if (pod_active(pod)) active.push_back(pod);
  }
  return active;
}

std::int64_t Cluster::ready_pods(const std::string& ns) {
  const auto active = active_pods(ns);
  return std::count_if(active.begin(), active.end(), pod_ready);
}

}  // namespace orchestra::test
