// NodeAgent: registers the Node, renews its lease, follows the pods of this node and keeps one PodWorker
// for each UID. A pod of the same name but another UID waits until the old one has ended.
#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>

#include "api/meta.hpp"
#include "api/object_tree.hpp"
#include "node/node_status.hpp"
#include "node/pod_worker.hpp"
#include "node/streams.hpp"

namespace orchestra {

using namespace std::chrono_literals;
using node::AgentContext;
using node::PodWorker;

namespace {
constexpr Duration kApiDeadline = 10s;
constexpr Duration kLeasePeriod = 10s;
constexpr int kLeaseSeconds = 40;
constexpr Duration kStatusPeriod = 60s;

/// Takes a pod off the machine whose object is gone.
void context_remove(AgentContext& context, const std::string& uid, const PodSandboxConfig& config) {
  (void)context.parts.runtime->remove_pod(uid).wait(120s);
  (void)context.parts.network->detach(uid).wait(30s);
  if (auto owners = context.parts.images->root_owners()) {
    for (const std::string& owner : *owners) {
      if (owner.compare(0, uid.size(), uid) == 0) (void)context.parts.images->release_root(owner).wait(60s);
    }
  }
  (void)context.parts.runtime->make_removable(context.pod_directory(uid)).wait(60s);
  (void)remove_tree(context.pod_directory(uid));
  (void)remove_tree(context.log_directory(config.ns, config.name, uid));
}
}  // namespace

struct NodeAgent::Impl : node::WorkerDirectory, std::enable_shared_from_this<NodeAgent::Impl> {
  Impl(Engine& engine, Client client, NodeAgentParts parts, NodeAgentOptions options)
      : context(engine, std::move(client), std::move(parts), std::move(options)) {}

  Result<void> start();
  void stop();
  Result<void> register_node();
  void renew_lease();
  void post_status();
  void on_pod(const Object& old, const Object& now);
  void add_worker(const Object& pod);
  void finished(const std::string& uid);
  void repeat(Duration period, void (Impl::*task)());
  std::shared_ptr<PodWorker> worker_of(const std::string& ns, const std::string& name) override;
  std::shared_ptr<PodWorker> worker_of_uid(const std::string& uid) override;

  AgentContext context;
  std::shared_ptr<node::Streams> streams;
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, std::shared_ptr<PodWorker>> workers;  // by uid
  std::map<std::string, PodRecord> records;                   // adopted from the runtime, not yet claimed
  std::map<std::string, Object> waiting;                      // "ns/name" -> pod whose predecessor still ends
  std::vector<Engine::TimerId> timers;
  bool running = false, stopped = false, ending = false;
};

std::shared_ptr<PodWorker> NodeAgent::Impl::worker_of(const std::string& ns, const std::string& name) {
  std::lock_guard lock(mutex);
  for (const auto& [uid, worker] : workers) {
    const Object pod = worker->pod();
    if (pod.ns() == ns && pod.name() == name) return worker;
  }
  return nullptr;
}

std::shared_ptr<PodWorker> NodeAgent::Impl::worker_of_uid(const std::string& uid) {
  std::lock_guard lock(mutex);
  const auto it = workers.find(uid);
  return it == workers.end() ? nullptr : it->second;
}

Result<void> NodeAgent::Impl::register_node() {
  const auto facts = node::read_machine(context.options.data_dir);
  context.cpu_milli = facts.cpu_milli;
  context.memory_bytes = facts.memory_bytes;
  const auto& name = context.options.node_name;
  const json::value node = node::make_node(context.options, facts);
  auto object = Object::from_json(to_json(node));
  if (!object) return object.error();
  auto made = context.client.create(*object).wait(kApiDeadline);
  if (!made && !made.error().is(Error::already_exists))
    return made.error().with_context("registering node " + name);
  if (!made) {
    const json::value patch =
        json::object{{"metadata", json::object{{"labels", *find(node, "/metadata/labels")}}},
                     {"spec", *find(node, "/spec")}};
    auto patched =
        context.client.patch("v1", "nodes", name, "", PatchType::merge, to_json(patch)).wait(kApiDeadline);
    if (!patched) return patched.error().with_context("updating node " + name);
  }
  return {};
}

void NodeAgent::Impl::renew_lease() {
  const std::string& name = context.options.node_name;
  const std::string now = api::format_micro_time(context.engine.clock().now().wall_ns);
  const json::value patch = json::object{
      {"spec",
       json::object{{"renewTime", now}, {"holderIdentity", name}, {"leaseDurationSeconds", kLeaseSeconds}}}};
  auto patched = context.client
                     .patch("coordination.k8s.io/v1", "leases", name, "kube-node-lease", PatchType::merge,
                            to_json(patch))
                     .wait(kApiDeadline);
  if (patched || !patched.error().is(Error::not_found)) return;
  json::object owner{{"apiVersion", "v1"}, {"kind", "Node"}, {"name", name}};
  auto node = context.client.get("v1", "nodes", name).wait(kApiDeadline);
  if (node) owner["uid"] = node->uid();
  json::value lease =
      json::object{{"apiVersion", "coordination.k8s.io/v1"},
                   {"kind", "Lease"},
                   {"metadata", json::object{{"name", name}, {"namespace", "kube-node-lease"}}},
                   {"spec", *find(patch, "/spec")}};
  if (node) set_at(lease, "/metadata/ownerReferences", json::array{owner});
  if (auto object = Object::from_json(to_json(lease)))
    (void)context.client.create(*object).wait(kApiDeadline);
}

void NodeAgent::Impl::post_status() {
  const std::string& name = context.options.node_name;
  auto node = context.client.get("v1", "nodes", name).wait(kApiDeadline);
  if (!node) {
    if (node.error().is(Error::not_found)) (void)register_node();
    return;
  }
  std::vector<ImageInfo> images;
  if (auto list = context.parts.images->list()) images = *list;
  const json::value status = node::node_status(context.options, node::read_machine(context.options.data_dir),
                                               context.parts.network->node_address(), images, tree(*node),
                                               context.engine.clock().now());
  const json::value patch = json::object{{"status", status}};
  WriteOptions options;
  options.subresource = "status";
  auto written = context.client.patch("v1", "nodes", name, "", PatchType::merge, to_json(patch), options)
                     .wait(kApiDeadline);
  if (!written) {
    context.engine.log(LogLevel::warning, "node", "could not post the node's status",
                       {{"error", written.error().to_string()}});
  }
}

void NodeAgent::Impl::repeat(Duration period, void (Impl::*task)()) {
  std::lock_guard lock(mutex);
  if (stopped) return;
  if (timers.size() > 64) timers.erase(timers.begin(), timers.begin() + 32);
  timers.push_back(context.engine.after(period, [weak = weak_from_this(), period, task] {
    auto self = weak.lock();
    if (!self) return;
    auto queued = self->context.engine.post_blocking([weak, period, task] {
      auto again = weak.lock();
      if (!again) return;
      ((*again).*task)();
      again->repeat(period, task);
    });
    if (!queued) self->repeat(period, task);
  }));
}

Result<void> NodeAgent::Impl::start() {
  ORC_TRY(register_node());
  auto adopted = context.parts.runtime->list().wait(60s);
  if (!adopted) return adopted.error().with_context("listing the containers that run");
  for (PodRecord& record : *adopted) records.emplace(record.config.uid, std::move(record));
  renew_lease();
  post_status();
  running = true;
  for (auto start_informer : {+[](AgentContext& c) { return c.config_maps.start(); },
                              +[](AgentContext& c) { return c.secrets.start(); },
                              +[](AgentContext& c) { return c.services.start(); }}) {
    ORC_TRY(start_informer(context));
  }
  ORC_TRY(context.config_maps.wait_synced().wait(30s));
  ORC_TRY(context.secrets.wait_synced().wait(30s));
  ORC_TRY(context.services.wait_synced().wait(30s));
  const auto touch = [weak = weak_from_this()](const std::string& ns) {
    // A changed ConfigMap or Secret reaches the volumes of the pods of its namespace.
    auto self = weak.lock();
    if (!self) return;
    std::vector<std::shared_ptr<PodWorker>> all;
    {
      std::lock_guard lock(self->mutex);
      for (const auto& [uid, worker] : self->workers) all.push_back(worker);
    }
    for (const auto& worker : all) {
      if (worker->pod().ns() == ns) worker->wake();
    }
  };
  context.config_maps.on_event(
      [touch](const Object& old, const Object& now) { touch(now ? now.ns() : old.ns()); });
  context.secrets.on_event(
      [touch](const Object& old, const Object& now) { touch(now ? now.ns() : old.ns()); });
  context.pods.on_event([weak = weak_from_this()](const Object& old, const Object& now) {
    if (auto self = weak.lock()) self->on_pod(old, now);
  });
  ORC_TRY(context.pods.start());
  ORC_TRY(context.pods.wait_synced().wait(30s));
  // What runs here but is not wanted any more ends now: its object went while we were away.
  std::map<std::string, PodRecord> orphans;
  {
    std::lock_guard lock(mutex);
    orphans.swap(records);
  }
  for (const auto& [uid, record] : orphans) {
    auto removed = context.engine.run_blocking(
        [self = shared_from_this(), uid = uid, config = record.config]() -> Result<void> {
          context_remove(self->context, uid, config);
          return {};
        });
    removed.on_ready([](Result<void>) {});
  }
  repeat(kLeasePeriod, &Impl::renew_lease);
  repeat(kStatusPeriod, &Impl::post_status);
  return {};
}

void NodeAgent::Impl::on_pod(const Object& old, const Object& now) {
  const Object& pod = now ? now : old;
  std::shared_ptr<PodWorker> worker;
  {
    std::lock_guard lock(mutex);
    if (stopped || ending) return;
    const auto it = workers.find(pod.uid());
    if (it != workers.end()) worker = it->second;
    if (old && now && old.uid() != now.uid()) {
      // Deleted and made again under one name within one event.
      if (const auto before = workers.find(old.uid()); before != workers.end()) before->second->removed();
    }
  }
  if (!now) {
    if (worker) worker->removed();
    return;
  }
  if (worker) return worker->update(now);
  add_worker(now);
}

void NodeAgent::Impl::add_worker(const Object& pod) {
  const std::string phase = string_at(tree(pod), "/status/phase");
  const bool final = phase == "Succeeded" || phase == "Failed";
  std::shared_ptr<PodWorker> worker;
  {
    std::lock_guard lock(mutex);
    if (stopped || ending) return;
    const std::string key = pod.ns() + "/" + pod.name();
    for (const auto& [uid, other] : workers) {
      const Object before = other->pod();
      if (before.ns() == pod.ns() && before.name() == pod.name() && uid != pod.uid()) {
        waiting[key] = pod;
        return;
      }
    }
    const auto record = records.find(pod.uid());
    if (final && !pod.deleting() && record == records.end()) return;  // nothing of it is here
    worker = std::make_shared<PodWorker>(context, pod, [weak = weak_from_this(), uid = pod.uid()] {
      if (auto self = weak.lock()) self->finished(uid);
    });
    if (record != records.end()) {
      worker->adopt(record->second);
      records.erase(record);
    }
    workers.emplace(pod.uid(), worker);
  }
  worker->wake();
}

void NodeAgent::Impl::finished(const std::string& uid) {
  Object next;
  {
    std::lock_guard lock(mutex);
    const auto it = workers.find(uid);
    if (it == workers.end()) return;
    const Object pod = it->second->pod();
    workers.erase(it);
    const auto successor = waiting.find(pod.ns() + "/" + pod.name());
    if (successor != waiting.end()) {
      next = successor->second;
      waiting.erase(successor);
    }
    changed.notify_all();
  }
  if (!next) return;
  const Object current = context.pods.get(next.ns(), next.name());
  if (current && current.uid() == next.uid()) add_worker(current);
}

void NodeAgent::Impl::stop() {
  std::map<std::string, std::shared_ptr<PodWorker>> all;
  {
    std::lock_guard lock(mutex);
    if (stopped) return;
    stopped = true;
    for (const Engine::TimerId timer : timers) context.engine.cancel_timer(timer);
    all = workers;
  }
  context.pods.stop();
  context.config_maps.stop();
  context.secrets.stop();
  context.services.stop();
  for (const auto& [uid, worker] : all) worker->stop();
}

NodeAgent::NodeAgent(Engine& engine, Client client, NodeAgentParts parts, NodeAgentOptions options)
    : impl_(std::make_shared<Impl>(engine, std::move(client), std::move(parts), std::move(options))) {
  impl_->streams = std::make_shared<node::Streams>(impl_->context, impl_);
}
NodeAgent::~NodeAgent() { stop(); }

Result<void> NodeAgent::start() { return impl_->start(); }
void NodeAgent::stop() { impl_->stop(); }
std::shared_ptr<PodStreams> NodeAgent::streams() { return impl_->streams; }

Result<void> NodeAgent::remove_all_pods(Duration deadline) {
  std::map<std::string, std::shared_ptr<PodWorker>> all;
  {
    std::lock_guard lock(impl_->mutex);
    impl_->ending = true;
    all = impl_->workers;
  }
  for (const auto& [uid, worker] : all) worker->force_end();
  std::unique_lock lock(impl_->mutex);
  if (impl_->changed.wait_for(lock, deadline, [&] { return impl_->workers.empty(); })) return {};
  return Error(Error::deadline_exceeded, "node",
               std::to_string(impl_->workers.size()) + " pods have not ended in time");
}

}  // namespace orchestra
