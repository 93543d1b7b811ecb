// NodeAgent: registers the Node, renews its lease, follows the pods of this node and keeps one PodWorker
// for each UID. A pod of the same name but another UID waits until the old one has ended.
#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>

#include "api/meta.hpp"
#include "api/object_tree.hpp"
#include "base/fd.hpp"
#include "logs/log_file.hpp"
#include "node/claims.hpp"
#include "node/eviction.hpp"
#include "node/node_status.hpp"
#include "node/pod_worker.hpp"
#include "node/shutdown.hpp"
#include "node/static_pods.hpp"
#include "node/statistics.hpp"
#include "node/streams.hpp"
#include "node/tunnel.hpp"
#include "node/volumes.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra {

using namespace std::chrono_literals;
using node::AgentContext;
using node::PodWorker;

namespace {
constexpr const char* kAgentId = "orchestra.dev/agent-id";  // annotation of the lease
constexpr Duration kApiDeadline = 10s;
constexpr Duration kLeasePeriod = 10s;
constexpr int kLeaseSeconds = 40;
constexpr Duration kRenewedWithin = kLeasePeriod + 5s, kLookAgain = 500ms;
constexpr Duration kStatusPeriod = 60s;
constexpr Duration kManifestPeriod = 1s;
constexpr Duration kShutdownSlack = 5s;  // for taking a pod apart after its grace
constexpr Duration kImagesDeadline = 120s;
constexpr Duration kHardEvictionGrace = 1s;  // immediateEvictionGracePeriodSeconds

constexpr std::size_t kUidBytes = 36;
constexpr std::size_t kSubidBytesMax = 1 << 20;

bool is_there(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

/// Takes a pod off the machine whose object is gone.
void context_remove(AgentContext& context, const std::string& uid, const PodSandboxConfig& config) {
  if (context.parts.runtime->remove_pod(uid).wait(120s)) context.user_ranges.release(uid);
  (void)context.parts.network->detach(uid).wait(30s);
  if (auto owners = context.parts.images->root_owners()) {
    for (const std::string& owner : *owners) {
      if (owner.compare(0, uid.size(), uid) == 0) (void)context.parts.images->release_root(owner).wait(60s);
    }
  }
  node::unmount_volumes(context.pod_directory(uid) + "/volumes");
  (void)context.parts.runtime->make_removable(context.pod_directory(uid)).wait(60s);
  (void)remove_tree(context.pod_directory(uid));
  (void)remove_tree(context.log_directory(config.ns, config.name, uid));
}
}  // namespace

struct NodeAgent::Impl : node::WorkerDirectory, std::enable_shared_from_this<NodeAgent::Impl> {
  Impl(Engine& engine, Client client, NodeAgentParts parts, NodeAgentOptions options)
      : context(engine, std::move(client), std::move(parts), std::move(options)),
        pressure(context.options.eviction.condition_stays) {}

  Result<void> start();
  void stop();
  Result<void> follow_api();
  void end_orphans();
  void sweep_folders(const std::map<std::string, PodRecord>& orphans);
  void say_shutting_down();
  Result<void> check_name_is_free();
  Result<void> register_node();
  void renew_lease();
  void post_status();
  void on_pod(const Object& old, const Object& now);
  void add_worker(const Object& pod);
  void finished(const std::string& uid);
  void measure();
  std::vector<NodeUse> node_use();
  std::vector<node::Shortage> short_now(const node::MachineFacts& facts, bool& hard);
  void relieve(const std::vector<node::Shortage>& shortages, bool hard);
  bool free_images(const std::vector<node::Shortage>& shortages);
  void check_local_storage(const std::shared_ptr<PodWorker>& worker);
  void look_at_manifests();
  void tend_mirror(const Object& pod);
  void repeat(Duration period, void (Impl::*task)());
  std::shared_ptr<PodWorker> worker_of(const std::string& ns, const std::string& name) override;
  std::shared_ptr<PodWorker> worker_of_uid(const std::string& uid) override;
  node::PageSources page_sources() override;

  AgentContext context;
  std::shared_ptr<node::Streams> streams;
  std::vector<std::shared_ptr<node::TunnelClient>>
      tunnels;  // of an agent away from its API servers: one to each
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, std::shared_ptr<PodWorker>> workers;  // by uid
  std::map<std::string, PodRecord> records;                   // adopted from the runtime, not yet claimed
  std::map<std::string, Object> waiting;                      // "ns/name" -> pod whose predecessor still ends
  node::Statistics statistics;
  node::PressureMemory pressure;  // under mutex
  node::SoftShortages soft;       // of measure(), as the next
  bool told_pressure = false;
  struct MachineUse {
    std::int64_t at_ns = 0, window_ns = 0, nanocores = 0, working_set = 0;
    std::uint64_t busy_ns = 0;
  } machine_use;  // under mutex
  std::optional<node::ManifestFolder> manifests;
  std::map<std::string, Object> statics;  // by uid: pods of files
  std::vector<Engine::TimerId> timers;
  std::size_t orphans_left = 0;  // that are being removed
  bool running = false, stopped = false, ending = false;
  bool draining = false;  // no pod starts any more
  bool api_away = false;  // the last lease was not renewed
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

node::PageSources NodeAgent::Impl::page_sources() {
  node::PageSources out;
  const std::vector<NodeUse> use = node_use();
  if (!use.empty()) out.use = use.front();
  out.containers = statistics.containers();
  std::lock_guard lock(mutex);
  for (const auto& [uid, worker] : workers) out.workers.push_back(worker);
  return out;
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
  if (made) {
    context.node_uid = made->uid();
    context.know_node(*made);
  } else {
    const json::value patch =
        json::object{{"metadata", json::object{{"labels", *find(node, "/metadata/labels")}}},
                     {"spec", *find(node, "/spec")}};
    auto patched =
        context.client.patch("v1", "nodes", name, "", PatchType::merge, to_json(patch)).wait(kApiDeadline);
    if (!patched) return patched.error().with_context("updating node " + name);
    context.node_uid = patched->uid();
    context.know_node(*patched);
  }
  return {};
}

void NodeAgent::Impl::renew_lease() {
  const std::string& name = context.options.node_name;
  const std::string now = api::format_micro_time(context.engine.clock().now().wall_ns);
  json::value patch = json::object{
      {"spec",
       json::object{{"renewTime", now}, {"holderIdentity", name}, {"leaseDurationSeconds", kLeaseSeconds}}}};
  if (!context.options.agent_id.empty())
    set_at(patch, "/metadata/annotations", json::object{{kAgentId, context.options.agent_id}});
  auto patched = context.client
                     .patch("coordination.k8s.io/v1", "leases", name, "kube-node-lease", PatchType::merge,
                            to_json(patch))
                     .wait(kApiDeadline);
  bool returned = false;
  {
    std::lock_guard lock(mutex);
    const bool away = !patched && !patched.error().is(Error::not_found);
    returned = api_away && !away;
    api_away = away;
  }
  if (returned) post_status();  // others may think that we are gone
  if (patched || !patched.error().is(Error::not_found)) return;
  json::object owner{{"apiVersion", "v1"}, {"kind", "Node"}, {"name", name}};
  auto node = context.client.get("v1", "nodes", name).wait(kApiDeadline);
  if (node) owner["uid"] = node->uid();
  json::value lease =
      json::object{{"apiVersion", "coordination.k8s.io/v1"},
                   {"kind", "Lease"},
                   {"metadata", json::object{{"name", name}, {"namespace", "kube-node-lease"}}},
                   {"spec", *find(patch, "/spec")}};
  if (const json::value* marks = find(patch, "/metadata/annotations"))
    set_at(lease, "/metadata/annotations", *marks);
  if (node) set_at(lease, "/metadata/ownerReferences", json::array{owner});
  if (auto object = Object::from_json(to_json(lease)))
    (void)context.client.create(*object).wait(kApiDeadline);
}

void NodeAgent::Impl::post_status() {
  {
    std::lock_guard lock(mutex);
    if (draining) return;  // the last word was that it is shutting down
  }
  const std::string& name = context.options.node_name;
  auto node = context.client.get("v1", "nodes", name).wait(kApiDeadline);
  if (!node) {
    if (node.error().is(Error::not_found)) (void)register_node();
    return;
  }
  context.know_node(*node);
  std::vector<ImageInfo> images;
  if (auto list = context.parts.images->list()) images = *list;
  node::PressureMemory pressed;
  {
    std::lock_guard lock(mutex);
    pressed = pressure;
  }
  node::MachineFacts facts = node::read_machine(context.options.data_dir);
  if (context.parts.network) facts.network_trouble = context.parts.network->trouble();
  const json::value status = node::node_status(context.options, facts, context.host_ip(), images, pressed,
                                               tree(*node), context.engine.clock().now());
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

namespace {
bool is_address(const std::string& text) {
  in6_addr any{};
  return inet_pton(AF_INET, text.c_str(), &any) == 1 || inet_pton(AF_INET6, text.c_str(), &any) == 1;
}
}  // namespace

Result<void> NodeAgent::Impl::start() {
  const auto& folder = context.options.manifest_dir;
  if (!folder.empty()) manifests.emplace(folder, context.options.node_name);
  if (!context.client && !manifests)
    return Error(Error::invalid, "node", "an agent needs a client, a manifest_dir, or both");
  if (const std::string& own = context.options.node_ip; !own.empty() && !is_address(own)) {
    return Error(
        Error::invalid, "node",
        "the node's address \"" + own + "\" is not an IP address, which statuses of pods have to tell");
  }
  const auto facts = node::read_machine(context.options.data_dir);
  context.cpu_milli = facts.cpu_milli;
  context.memory_bytes = facts.memory_bytes;
  // As the Node tells it to the scheduler.
  context.allocations.set_capacity(
      {facts.cpu_milli / 1000 * 1000, node::allocatable_memory(context.options, facts)},
      context.options.pods_max);
  context.know_node(object_from_tree(node::make_node(context.options, facts)));
  if (context.client) {
    ORC_TRY(check_name_is_free());
    ORC_TRY(register_node());
  }
  auto adopted = context.parts.runtime->list().wait(60s);
  if (!adopted) return adopted.error().with_context("listing the containers that run");
  for (const char* file : {"/etc/subuid", "/etc/subgid"})
    context.user_ranges.keep_away_from(read_file(file, kSubidBytesMax).value_or(""));
  for (PodRecord& record : *adopted) {
    context.user_ranges.adopt(record.config.uid, record.config.first_user_id);
    records.emplace(record.config.uid, std::move(record));
  }
  running = true;
  if (context.client) ORC_TRY(follow_api());
  if (manifests) look_at_manifests();
  // What runs here but is not wanted any more ends now: its object went while we were away.
  end_orphans();
  if (context.client) {
    repeat(kLeasePeriod, &Impl::renew_lease);
    repeat(kStatusPeriod, &Impl::post_status);
  }
  if (manifests) repeat(kManifestPeriod, &Impl::look_at_manifests);
  repeat(context.options.eviction.period, &Impl::measure);
  for (const auto& tunnel : tunnels) tunnel->start();
  return {};
}

// Two agents of one name would each end what the other starts. The time in the lease is by the other's clock:
// one that is long ago, or to come, is looked at for longer than its holder would take to renew it.
Result<void> NodeAgent::Impl::check_name_is_free() {
  if (context.options.agent_id.empty()) return {};
  const std::string& name = context.options.node_name;
  const auto busy = [&](const std::string& how) {
    return Error(Error::busy, "node",
                 "another agent is node " + name + " and " + how +
                     "; choose another name with --node-name, or end the other agent and wait " +
                     std::to_string(kLeaseSeconds) + " s");
  };
  const std::int64_t end = context.engine.clock().now().steady_ns + kRenewedWithin.count();
  std::optional<std::string> first;
  while (true) {
    auto lease =
        context.client.get("coordination.k8s.io/v1", "leases", name, "kube-node-lease").wait(kApiDeadline);
    if (!lease) return lease.error().is(Error::not_found) ? Result<void>() : Result<void>(lease.error());
    const auto holder = lease->annotations().find(kAgentId);
    if (holder == lease->annotations().end() || holder->second == context.options.agent_id) return {};
    const std::string told = string_at(tree(*lease), "/spec/renewTime");
    const auto renewed = api::parse_time(told);
    if (!renewed) return {};
    const Now now = context.engine.clock().now();
    const std::int64_t age = (now.wall_ns - *renewed) / 1'000'000'000;
    if (std::abs(age) <= kLeaseSeconds) return busy("renewed its lease " + std::to_string(age) + " s ago");
    if (told != first.value_or(told)) return busy("renews its lease, by a clock that is not ours");
    if (now.steady_ns >= end) return {};
    first = told;
    const Promise<> nobody;
    (void)nobody.pending().wait(kLookAgain);
  }
}

// Node, lease and informers; pods of the API get their workers from here on.
Result<void> NodeAgent::Impl::follow_api() {
  renew_lease();
  post_status();
  const auto wake = [weak = weak_from_this()](const std::string& ns) {
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
  const auto touch = [wake](const Object& old, const Object& now) { wake(now ? now.ns() : old.ns()); };
  context.config_maps.on_event(touch);
  context.secrets.on_event(touch);
  for (auto start_informer : {+[](AgentContext& c) { return c.config_maps.start(); },
                              +[](AgentContext& c) { return c.secrets.start(); },
                              +[](AgentContext& c) { return c.services.start(); },
                              +[](AgentContext& c) { return c.claims.start(); },
                              +[](AgentContext& c) { return c.volumes.start(); }}) {
    ORC_TRY(start_informer(context));
  }
  ORC_TRY(context.config_maps.wait_synced().wait(30s));
  ORC_TRY(context.secrets.wait_synced().wait(30s));
  ORC_TRY(context.services.wait_synced().wait(30s));
  ORC_TRY(context.claims.wait_synced().wait(30s));
  ORC_TRY(context.volumes.wait_synced().wait(30s));
  // A claim that was just bound lets its pod go on; a released folder of this node goes.
  context.claims.on_event([wake](const Object& old, const Object& now) {
    if (now && (!old || string_at(tree(old), "/status/phase") != string_at(tree(now), "/status/phase")))
      wake(now.ns());
  });
  context.volumes.on_event([weak = weak_from_this()](const Object&, const Object& now) {
    auto self = weak.lock();
    if (!self || !now || !node::reclaims_here(now, self->context.options.node_name)) return;
    (void)self->context.engine.post_blocking([weak, now] {
      auto again = weak.lock();
      if (!again) return;
      if (auto done = node::reclaim(again->context, now); !done) {
        again->context.engine.log(LogLevel::warning, "node", "could not remove a released volume",
                                  {{"error", done.error().to_string()}});
      }
    });
  });
  context.pods.on_event([weak = weak_from_this()](const Object& old, const Object& now) {
    if (auto self = weak.lock()) self->on_pod(old, now);
  });
  ORC_TRY(context.pods.start());
  ORC_TRY(context.pods.wait_synced().wait(30s));
  return {};
}

void NodeAgent::Impl::end_orphans() {
  std::map<std::string, PodRecord> orphans;
  {
    std::lock_guard lock(mutex);
    orphans.swap(records);
  }
  {
    std::lock_guard lock(mutex);
    orphans_left += orphans.size();
  }
  sweep_folders(orphans);
  for (const auto& [uid, record] : orphans) {
    auto removed = context.engine.run_blocking(
        [self = shared_from_this(), uid = uid, config = record.config]() -> Result<void> {
          context_remove(self->context, uid, config);
          return {};
        });
    removed.on_ready([self = shared_from_this()](Result<void>) {
      std::lock_guard lock(self->mutex);
      --self->orphans_left;
      self->changed.notify_all();
    });
  }
}

// Folders and logs of pods whose objects went while no agent was here, and whose records went before.
void NodeAgent::Impl::sweep_folders(const std::map<std::string, PodRecord>& orphans) {
  const auto nobodys = [&](const std::string& uid) {
    if (uid.size() != kUidBytes || orphans.count(uid) != 0) return false;
    std::lock_guard lock(mutex);
    return workers.count(uid) == 0;
  };
  Disk& disk = context.engine.disk();
  for (const std::string& uid :
       disk.list(context.options.data_dir + "/pods").value_or(std::vector<std::string>())) {
    if (nobodys(uid)) context_remove(context, uid, {});
  }
  const std::string logs = context.options.data_dir + "/pods-log";
  for (const std::string& name : disk.list(logs).value_or(std::vector<std::string>())) {  // NAMESPACE_POD_UID
    const std::size_t cut = name.rfind('_');
    if (cut != std::string::npos && nobodys(name.substr(cut + 1))) (void)remove_tree(logs + "/" + name);
  }
}

void NodeAgent::Impl::say_shutting_down() {
  const std::string now = api::format_time(context.engine.clock().now().wall_ns);
  const json::value patch = json::object{
      {"status", json::object{{"conditions", json::array{json::object{{"type", "Ready"},
                                                                      {"status", "False"},
                                                                      {"reason", "KubeletNotReady"},
                                                                      {"message", "node is shutting down"},
                                                                      {"lastHeartbeatTime", now},
                                                                      {"lastTransitionTime", now}}}}}}};
  WriteOptions options;
  options.subresource = "status";
  (void)context.client
      .patch("v1", "nodes", context.options.node_name, "", PatchType::strategic, to_json(patch), options)
      .wait(kApiDeadline);
}

void NodeAgent::Impl::on_pod(const Object& old, const Object& now) {
  const Object& pod = now ? now : old;
  if (node::is_mirror(pod)) return;  // of a pod of ours from a file; the API does not decide on it
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

// One pass: what every container uses, what the machine has left, and what follows from that.
void NodeAgent::Impl::measure() {
  std::vector<std::shared_ptr<PodWorker>> all;
  {
    std::lock_guard lock(mutex);
    if (stopped || ending) return;
    for (const auto& [uid, worker] : workers) all.push_back(worker);
  }
  std::vector<node::ContainerSample> samples;
  for (const auto& worker : all) {
    const Object pod = worker->pod();
    for (const auto& [name, id] : worker->running()) {
      auto usage = context.parts.runtime->usage(pod.uid(), id).wait(kApiDeadline);
      if (!usage) continue;  // it ended meanwhile, or nothing counts here
      samples.push_back({pod.uid(), pod.ns(), pod.name(), name, id, pod.labels(), *usage});
    }
    check_local_storage(worker);
    auto packed = logs::pack_pod(context.log_directory(pod.ns(), pod.name(), pod.uid()));
    if (!packed) context.engine.log(LogLevel::warning, "node", packed.error().to_string());
  }
  statistics.pass(std::move(samples));
  const node::MachineFacts facts = node::read_machine(context.options.data_dir);
  bool hard = false;
  const std::vector<node::Shortage> lasting = short_now(facts, hard);
  const Now now = context.engine.clock().now();
  {
    std::lock_guard lock(mutex);
    const std::int64_t window = now.wall_ns - machine_use.at_ns;
    if (machine_use.at_ns != 0 && window > 0 && facts.busy_ns >= machine_use.busy_ns) {
      machine_use.window_ns = window;
      machine_use.nanocores = static_cast<std::int64_t>(
          static_cast<double>(facts.busy_ns - machine_use.busy_ns) * 1e9 / static_cast<double>(window));
    }
    machine_use.at_ns = now.wall_ns;
    machine_use.busy_ns = facts.busy_ns;
    machine_use.working_set = facts.memory_bytes - facts.memory_available_bytes;
  }
  for (const auto& tunnel : tunnels) tunnel->send_statistics({statistics.pods({}), node_use()});
  context.config_maps.forget_unused();
  context.secrets.forget_unused();
  if (!lasting.empty()) relieve(lasting, hard);
}

// The shortages that pods have to go for; the Node tells of everything that is short, at once.
std::vector<node::Shortage> NodeAgent::Impl::short_now(const node::MachineFacts& facts, bool& hard) {
  const EvictionOptions& options = context.options.eviction;
  const node::PressureSignals signals = node::signals_of(facts);
  std::vector<node::Shortage> out = node::shortages(signals, options.hard);
  const std::vector<node::Shortage> early = node::shortages(signals, options.soft);
  const std::int64_t now = context.engine.clock().now().steady_ns;
  hard = !out.empty();
  bool pressed = false;
  {
    std::lock_guard lock(mutex);
    pressure.note(out, now);
    pressure.note(early, now);
    for (const char* condition : {"MemoryPressure", "DiskPressure", "PIDPressure"})
      pressed = pressed || pressure.holds(condition, now);
  }
  if (context.client && (pressed || told_pressure)) post_status();
  told_pressure = pressed;
  for (const node::Shortage& each : soft.lasting(early, now, options.soft_grace)) out.push_back(each);
  return out;
}

// Where the disk is short unused images go first. True: that was enough.
bool NodeAgent::Impl::free_images(const std::vector<node::Shortage>& shortages) {
  const bool disk = std::any_of(shortages.begin(), shortages.end(), [](const node::Shortage& each) {
    return std::string_view(each.condition()) == "DiskPressure";
  });
  if (!disk) return false;
  auto freed =
      context.parts.images->free_unused(context.options.eviction.image_age_min).wait(kImagesDeadline);
  if (!freed || *freed == 0) return false;
  context.engine.log(LogLevel::info, "node", "the disk is short: unused images were removed",
                     {{"bytes", std::to_string(*freed)}});
  const node::PressureSignals signals = node::signals_of(node::read_machine(context.options.data_dir));
  return node::shortages(signals, context.options.eviction.hard).empty() &&
         node::shortages(signals, context.options.eviction.soft).empty();
}

std::vector<NodeUse> NodeAgent::Impl::node_use() {
  std::lock_guard lock(mutex);
  const MachineUse& use = machine_use;
  if (use.window_ns == 0) return {};
  return {{context.options.node_name, use.at_ns, use.window_ns, use.nanocores, use.working_set}};
}

// One pod a round, for the first resource that is short.
void NodeAgent::Impl::relieve(const std::vector<node::Shortage>& shortages, bool hard) {
  if (free_images(shortages)) return;
  std::vector<std::shared_ptr<PodWorker>> all;
  {
    std::lock_guard lock(mutex);
    for (const auto& [uid, worker] : workers) all.push_back(worker);
  }
  // One pod a round, and the next only when it has given back what it used.
  if (std::any_of(all.begin(), all.end(), [](const auto& worker) { return worker->evicting(); })) return;
  std::vector<node::EvictionCandidate> pods;
  const node::Shortage& shortage = shortages.front();
  const bool memory = shortage.kind == node::Shortage::Kind::memory;
  for (const auto& worker : all) {
    const Object pod = worker->pod();
    const json::value& object = tree(pod);
    node::EvictionCandidate candidate{pod.uid(), pod.ns() + "/" + pod.name()};
    candidate.exempt =
        node::eviction_exempt(object) || pod.deleting() || worker->evicted() || worker->running().empty();
    candidate.priority = int_at(object, "/spec/priority");
    candidate.request = node::requested(object, memory ? "memory" : "ephemeral-storage");
    if (memory) {
      const auto rates = statistics.pod(pod.uid());
      if (rates) candidate.usage = rates->working_set;
      if (rates) {
        for (const ContainerUse& each : rates->containers) {
          if (each.working_set <= candidate.container_usage) continue;
          candidate.container_usage = each.working_set;
          candidate.main_container = each.container;
        }
      }
    } else {
      candidate.usage = node::folder_bytes(context.pod_directory(pod.uid())) +
                        node::folder_bytes(context.log_directory(pod.ns(), pod.name(), pod.uid()));
    }
    pods.push_back(std::move(candidate));
  }
  const auto victim = node::choose_victim(pods);
  if (!victim) {
    context.engine.log(LogLevel::warning, "node", "the node is short and no pod may be evicted",
                       {{"resource", shortage.resource()}});
    return;
  }
  const Duration grace = hard ? kHardEvictionGrace : context.options.eviction.soft_pod_grace_max;
  for (const auto& worker : all) {
    if (worker->pod().uid() == pods[*victim].uid)
      worker->evict(node::eviction_message(shortage, pods[*victim]), grace);
  }
}

// emptyDir volumes on disk beyond their sizeLimit end their pod.
void NodeAgent::Impl::check_local_storage(const std::shared_ptr<PodWorker>& worker) {
  const Object pod = worker->pod();
  const json::array* volumes = array_at(tree(pod), "/spec/volumes");
  if (volumes == nullptr || pod.deleting() || worker->evicted() || node::eviction_exempt(tree(pod))) return;
  for (const json::value& volume : *volumes) {
    const std::string text = string_at(volume, "/emptyDir/sizeLimit");
    if (text.empty() || string_at(volume, "/emptyDir/medium") == "Memory") continue;
    const auto limit = Quantity::parse(text);
    if (!limit || limit->sign() <= 0) continue;
    const std::string name = string_at(volume, "/name");
    if (node::folder_bytes(context.pod_directory(pod.uid()) + "/volumes/" + name) > limit->value())
      worker->evict("Usage of EmptyDir volume \"" + name + "\" exceeds the limit \"" + text + "\". ",
                    kHardEvictionGrace);
  }
}

// Starts pods of new files, ends those whose file is gone, and keeps their mirrors in the API.
void NodeAgent::Impl::look_at_manifests() {
  node::ManifestFolder::Change change = manifests->look();
  const Object self_object = *Object::from_json(to_json(json::value(json::object{
      {"kind", "Node"},
      {"metadata", {{"name", context.options.node_name}, {"uid", context.options.node_name}}}})));
  for (const std::string& problem : change.problems) {
    context.engine.log(LogLevel::warning, "node", "a static pod was not taken", {{"error", problem}});
    context.event(self_object, "Warning", "InvalidStaticPod", problem);
  }
  std::vector<Object> fresh;
  std::vector<std::pair<Object, std::shared_ptr<PodWorker>>> gone;
  {
    std::lock_guard lock(mutex);
    if (stopped || ending) return;
    std::map<std::string, Object> next;
    for (const Object& pod : change.now) {
      if (statics.count(pod.uid()) == 0) fresh.push_back(pod);
      next.emplace(pod.uid(), pod);
    }
    for (const auto& [uid, pod] : statics) {
      if (next.count(uid) != 0) continue;
      const auto worker = workers.find(uid);
      gone.emplace_back(pod, worker == workers.end() ? nullptr : worker->second);
    }
    statics = std::move(next);
  }
  for (const auto& [pod, worker] : gone) {
    if (worker) worker->removed();
    if (!context.client) continue;
    const Object mirror = context.pods.get(pod.ns(), pod.name());
    if (!mirror || !node::is_mirror(mirror)) continue;
    DeleteOptions options;
    options.grace_period_seconds = 0;
    options.uid = mirror.uid();
    (void)context.client.remove("v1", "pods", mirror.name(), mirror.ns(), options).wait(kApiDeadline);
  }
  for (const Object& pod : fresh) add_worker(pod);
  for (const Object& pod : change.now) tend_mirror(pod);
}

void NodeAgent::Impl::tend_mirror(const Object& pod) {
  if (!context.client) return;
  const Object mirror = context.pods.get(pod.ns(), pod.name());
  const std::string& hash = pod.annotations().at(node::kConfigHash);
  if (mirror) {
    const auto marked = mirror.annotations().find(node::kConfigMirror);
    if (marked != mirror.annotations().end() && marked->second == hash && !mirror.deleting()) return;
    if (marked == mirror.annotations().end()) return;  // an ordinary pod has the name
    DeleteOptions options;
    options.grace_period_seconds = 0;
    options.uid = mirror.uid();
    (void)context.client.remove("v1", "pods", mirror.name(), mirror.ns(), options).wait(kApiDeadline);
  }
  auto made = context.client.create(node::mirror_of(pod, context.options.node_name, context.node_uid))
                  .wait(kApiDeadline);
  if (!made && !made.error().is(Error::already_exists)) {
    context.engine.log(LogLevel::warning, "node", "could not mirror a static pod",
                       {{"pod", pod.ns() + "/" + pod.name()}, {"error", made.error().to_string()}});
    return;
  }
  std::shared_ptr<PodWorker> worker = worker_of_uid(pod.uid());
  if (worker) worker->mirrored();  // a new mirror has no status yet
}

void NodeAgent::Impl::add_worker(const Object& pod) {
  const std::string phase = string_at(tree(pod), "/status/phase");
  const bool final = phase == "Succeeded" || phase == "Failed";
  std::shared_ptr<PodWorker> worker;
  {
    std::lock_guard lock(mutex);
    if (stopped || ending || draining) return;
    const std::string key = pod.ns() + "/" + pod.name();
    for (const auto& [uid, other] : workers) {
      const Object before = other->pod();
      if (before.ns() == pod.ns() && before.name() == pod.name() && uid != pod.uid()) {
        waiting[key] = pod;
        return;
      }
    }
    const auto record = records.find(pod.uid());
    const bool ended = final && record == records.end();
    const bool folder = ended && is_there(context.pod_directory(pod.uid()));
    const bool logs = ended && is_there(context.log_directory(pod.ns(), pod.name(), pod.uid()));
    if (ended && !pod.deleting() && !folder && !logs) return;  // nothing of it is here
    worker = std::make_shared<PodWorker>(context, pod, [weak = weak_from_this(), uid = pod.uid()] {
      if (auto self = weak.lock()) self->finished(uid);
    });
    if (record != records.end()) {
      worker->adopt(record->second);
      records.erase(record);
    } else if (ended && !folder) {
      worker->only_logs_left();  // the folder goes last
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
  if (node::is_static(next)) {
    bool wanted;
    {
      std::lock_guard lock(mutex);
      wanted = statics.count(next.uid()) != 0;
    }
    if (wanted) add_worker(next);
    return;
  }
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
  for (const auto& tunnel : tunnels) tunnel->stop();
  context.pods.stop();
  context.config_maps.stop();
  context.secrets.stop();
  context.services.stop();
  context.claims.stop();
  context.volumes.stop();
  for (const auto& [uid, worker] : all) worker->stop();
}

NodeAgent::NodeAgent(Engine& engine, Client client, NodeAgentParts parts, NodeAgentOptions options)
    : impl_(std::make_shared<Impl>(engine, std::move(client), std::move(parts), std::move(options))) {
  impl_->streams = std::make_shared<node::Streams>(impl_->context, impl_);
  const NodeAgentOptions& own = impl_->context.options;
  if (!own.remote) return;
  std::vector<std::string> servers{own.remote->server};
  servers.insert(servers.end(), own.remote->more_servers.begin(), own.remote->more_servers.end());
  for (const std::string& server : servers) {
    RemoteClientOptions one = *own.remote;
    one.server = server;
    impl_->tunnels.push_back(std::make_shared<node::TunnelClient>(engine, impl_->context.parts.http, one,
                                                                  own.node_name, impl_->streams));
  }
}
NodeAgent::~NodeAgent() { stop(); }

Result<void> NodeAgent::start() { return impl_->start(); }
void NodeAgent::stop() { impl_->stop(); }
bool NodeAgent::connected() const {
  return std::any_of(impl_->tunnels.begin(), impl_->tunnels.end(),
                     [](const auto& tunnel) { return tunnel->connected(); });
}
std::shared_ptr<PodStreams> NodeAgent::streams() { return impl_->streams; }

namespace {

/// Weak: an API server that serves these numbers is what the agent's own client stands on.
class AgentMetrics final : public MetricsSource {
 public:
  explicit AgentMetrics(std::weak_ptr<NodeAgent::Impl> agent) : agent_(std::move(agent)) {}
  std::vector<PodUse> pods(const std::string& ns) const override {
    const auto agent = agent_.lock();
    return agent ? agent->statistics.pods(ns) : std::vector<PodUse>();
  }
  std::vector<NodeUse> nodes() const override {
    const auto agent = agent_.lock();
    return agent ? agent->node_use() : std::vector<NodeUse>();
  }

 private:
  std::weak_ptr<NodeAgent::Impl> agent_;
};

}  // namespace

std::shared_ptr<MetricsSource> NodeAgent::metrics() const { return std::make_shared<AgentMetrics>(impl_); }

Result<void> NodeAgent::drain(DrainOptions options) {
  const std::vector<ShutdownPhase> phases = node::shutdown_phases(options);
  std::vector<std::vector<std::shared_ptr<PodWorker>>> groups(phases.size());
  {
    std::lock_guard lock(impl_->mutex);
    impl_->draining = true;
    for (const auto& [uid, worker] : impl_->workers) {
      const std::int64_t priority = int_at(tree(worker->pod()), "/spec/priority");
      groups[node::shutdown_phase_of(phases, priority)].push_back(worker);
    }
  }
  if (impl_->context.client) impl_->say_shutting_down();
  std::size_t left = 0;
  for (std::size_t phase = 0; phase < phases.size(); ++phase) {
    const auto& pods = groups[phase];
    const Duration grace = phases[phase].grace;
    for (const auto& worker : pods) worker->shut_down(grace);
    const auto at_rest = [&pods] {
      return std::all_of(pods.begin(), pods.end(), [](const auto& worker) { return worker->at_rest(); });
    };
    std::unique_lock lock(impl_->mutex);
    const std::int64_t end = impl_->context.engine.clock().now().steady_ns + (grace + kShutdownSlack).count();
    while (!at_rest() && impl_->context.engine.clock().now().steady_ns < end)
      (void)impl_->changed.wait_for(lock, 50ms);
    left += static_cast<std::size_t>(
        std::count_if(pods.begin(), pods.end(), [](const auto& worker) { return !worker->at_rest(); }));
  }
  if (left == 0) return {};
  return Error(Error::deadline_exceeded, "node", std::to_string(left) + " pods have not ended in time");
}

Result<void> NodeAgent::remove_all_pods(Duration deadline) {
  std::map<std::string, std::shared_ptr<PodWorker>> all;
  {
    std::lock_guard lock(impl_->mutex);
    impl_->ending = true;
    all = impl_->workers;
  }
  for (const auto& [uid, worker] : all) worker->force_end();
  std::unique_lock lock(impl_->mutex);
  if (impl_->changed.wait_for(lock, deadline,
                              [&] { return impl_->workers.empty() && impl_->orphans_left == 0; }))
    return {};
  return Error(Error::deadline_exceeded, "node",
               std::to_string(impl_->workers.size() + impl_->orphans_left) + " pods have not ended in time");
}

}  // namespace orchestra
