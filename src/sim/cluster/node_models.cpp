#include "sim/cluster/node_models.hpp"

#include <algorithm>
#include <cmath>

#include "base/json.hpp"
#include "controllers/common/pods.hpp"

namespace orchestra::sim {

using namespace controllers;

namespace {

constexpr std::size_t kBatch = 256;
constexpr std::size_t kHeartbeatBuckets = 10;
constexpr const char* kLeases = "kube-node-lease";
constexpr Duration kLeaseAgeMax = std::chrono::seconds(40);  // a node counts as gone after 50
constexpr Duration kRetry = std::chrono::seconds(1);
// Agents look around, then write: all of them at the same tenth of a second, so that the control plane meets
// what changed together, as it does when it is busy.
constexpr Duration kWriteEvery = std::chrono::milliseconds(100);
constexpr Duration kBackoffMax = std::chrono::minutes(5);

json::object taint_of(const std::string& text) {
  const auto colon = text.rfind(':');
  const std::string left = text.substr(0, colon);
  const auto equals = left.find('=');
  json::object taint{{"key", left.substr(0, equals)}, {"effect", text.substr(colon + 1)}};
  if (equals != std::string::npos) taint["value"] = left.substr(equals + 1);
  return taint;
}

ApiRequest patch_of(const std::string& api_version, const std::string& resource, const std::string& ns,
                    const std::string& name, const char* type, std::string body) {
  ApiRequest request;
  request.verb = "patch";
  request.api_version = api_version;
  request.resource = resource;
  request.ns = ns;
  request.name = name;
  request.content_type = type;
  request.body = std::move(body);
  return request;
}
constexpr const char* kMerge = "application/merge-patch+json";
constexpr const char* kStrategic = "application/strategic-merge-patch+json";

}  // namespace

NodeModels::NodeModels(Engine& engine, std::vector<Client> clients, const SimScenario& scenario,
                       ModelEvents events)
    : engine_(engine),
      clients_(std::move(clients)),
      scenario_(scenario),
      events_(std::move(events)),
      random_(scenario.seed ^ 0x40DE5),
      wall_ahead_ns_(engine.clock().now().wall_ns - engine.clock().now().steady_ns) {
  for (const SimNodes& shape : scenario.nodes) {
    for (std::size_t i = 0; i < shape.count; ++i) {
      Node& node = nodes_.emplace_back();
      node.name = shape.exact_name ? shape.name : shape.name + "-" + std::to_string(i);
      node.shape = &shape;
      if (!shape.zones.empty()) node.zone = shape.zones[i % shape.zones.size()];
      const std::size_t index = nodes_.size() - 1;
      node.address = "172." + std::to_string(16 + index / 65536) + "." + std::to_string(index / 256 % 256) +
                     "." + std::to_string(index % 256);
      by_name_[node.name] = index;
    }
  }
  alive_ = nodes_.size();
}

// By the node's own clock, which may be set: the machine of the control plane has another.
std::int64_t NodeModels::wall_of(const Node& node, std::int64_t steady_ns) const {
  return steady_ns + wall_ahead_ns_ + node.clock_ahead_ns;
}

bool NodeModels::step_clock(const std::string& name, Duration by) {
  Node* node = find(name);
  if (node == nullptr) return false;
  node->clock_ahead_ns += by.count();
  return true;
}

bool NodeModels::well_for(const std::string& name, Duration time) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return false;
  const Node& node = nodes_[found->second];
  return reachable(node) && steady() - node.reachable_since_ns >= time.count();
}

Duration NodeModels::draw(const SimRange& range) {
  const auto width = static_cast<std::uint64_t>((range.most - range.least).count());
  return range.least + Duration(static_cast<std::int64_t>(width == 0 ? 0 : random_.below(width + 1)));
}

NodeModels::Node* NodeModels::find(const std::string& name) {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &nodes_[found->second];
}

bool NodeModels::is_alive(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found != by_name_.end() && nodes_[found->second].power;
}

bool NodeModels::serving(const std::string& uid) const {
  const auto found = runs_.find(uid);
  return found != runs_.end() && found->second.serving;
}

std::vector<std::string> NodeModels::in_zone(const std::string& zone) const {
  std::vector<std::string> names;
  for (const Node& node : nodes_) {
    if (node.zone == zone) names.push_back(node.name);
  }
  return names;
}

std::string NodeModels::draw_alive() {
  if (alive_ == 0) return {};
  std::size_t left = random_.below(alive_);
  for (const Node& node : nodes_) {
    if (node.power && left-- == 0) return node.name;
  }
  return {};
}

// ---- nodes ----

json::object NodeModels::node_object(const Node& node) const {
  json::object labels{
      {"kubernetes.io/hostname", node.name}, {"kubernetes.io/os", "linux"}, {"kubernetes.io/arch", "amd64"}};
  if (!node.zone.empty()) labels["topology.kubernetes.io/zone"] = node.zone;
  for (const auto& [key, value] : node.shape->labels) labels[key] = value;
  json::object spec;
  if (!node.shape->taints.empty()) {
    json::array taints;
    for (const std::string& taint : node.shape->taints) taints.push_back(taint_of(taint));
    spec["taints"] = std::move(taints);
  }
  return {{"apiVersion", "v1"},
          {"kind", "Node"},
          {"metadata", {{"name", node.name}, {"labels", std::move(labels)}}},
          {"spec", std::move(spec)}};
}

std::string NodeModels::node_status(const Node& node) const {
  json::object amounts{{"cpu", node.shape->cpu},
                       {"memory", node.shape->memory},
                       {"ephemeral-storage", "100Gi"},
                       {"pods", std::to_string(node.shape->pods)}};
  for (const auto& [name, amount] : node.shape->resources) amounts[name] = amount;
  const std::string now = format_time(wall_of(node, steady()));
  json::object address{{"type", "InternalIP"}, {"address", node.address}};
  json::object ready{{"type", "Ready"},          {"status", "True"},
                     {"reason", "KubeletReady"}, {"message", "the model is ready"},
                     {"lastHeartbeatTime", now}, {"lastTransitionTime", now}};
  return to_json(json::object{{"status",
                               {{"capacity", amounts},
                                {"allocatable", amounts},
                                {"addresses", json::array{std::move(address)}},
                                {"conditions", json::array{std::move(ready)}}}}});
}

void NodeModels::write_node_status(const Node& node) {
  ApiRequest request = patch_of("v1", "nodes", "", node.name, kStrategic, node_status(node));
  request.subresource = "status";
  write({std::move(request), {}, by_name_.at(node.name)});
}

void NodeModels::register_node(Node& node) {
  ApiRequest create;
  create.verb = "create";
  create.resource = "nodes";
  create.body = to_json(node_object(node));
  write({std::move(create), {}, by_name_.at(node.name)});
  write_node_status(node);
  ApiRequest lease;
  lease.verb = "create";
  lease.api_version = "coordination.k8s.io/v1";
  lease.resource = "leases";
  lease.ns = kLeases;
  lease.body = to_json(json::object{{"apiVersion", lease.api_version},
                                    {"kind", "Lease"},
                                    {"metadata", {{"name", node.name}, {"namespace", kLeases}}},
                                    {"spec",
                                     {{"holderIdentity", node.name},
                                      {"leaseDurationSeconds", 40},
                                      {"renewTime", format_micro_time(wall_of(node, steady()))}}}});
  write({std::move(lease), {}, by_name_.at(node.name)});
}

Result<void> NodeModels::start(const ObjectCache& pods) {
  pods_ = &pods;
  for (Node& node : nodes_) {
    register_node(node);
    node.beat_ns = node.told_ns = steady();
  }
  engine_.after(scenario_.model.heartbeat, [this] { heartbeat(0); });
  return {};
}

// A tenth of the nodes at a time, in one batch: thousands of timers less.
void NodeModels::heartbeat(std::size_t bucket) {
  engine_.after(scenario_.model.heartbeat / kHeartbeatBuckets,
                [this, bucket] { heartbeat((bucket + 1) % kHeartbeatBuckets); });
  const std::int64_t now = steady();
  // What the next renewal will be in time for need not be written now.
  const std::int64_t due = now + (scenario_.model.heartbeat - kLeaseAgeMax).count();
  for (std::size_t i = bucket; i < nodes_.size(); i += kHeartbeatBuckets) {
    if (!reachable(nodes_[i])) continue;
    nodes_[i].beat_ns = now;
    if (vouches()) continue;
    if (scenario_.model.every_renewal || nodes_[i].told_ns < due) renew(i, now);
  }
  if (!vouches()) return;
  const std::int64_t into = engine_.clock().now().steady_ns % kWriteEvery.count();
  engine_.after(kWriteEvery - Duration(into), [this, bucket, now] { vouch(bucket, now); });
}

// The moment at which these heartbeats would have been written.
void NodeModels::vouch(std::size_t bucket, std::int64_t beat_ns) {
  const std::int64_t now = steady();
  for (std::size_t i = bucket; i < nodes_.size(); i += kHeartbeatBuckets) {
    if (nodes_[i].beat_ns == beat_ns) nodes_[i].heard_ns = now;
  }
}

std::optional<std::int64_t> NodeModels::heard(const std::string& name) const {
  const auto index = by_name_.find(name);
  if (!vouches() || index == by_name_.end() || nodes_[index->second].heard_ns == 0) return std::nullopt;
  return nodes_[index->second].heard_ns;
}

// What the lease is to say of the node's last heartbeat.
void NodeModels::renew(std::size_t index, std::int64_t beat_ns) {
  Node& node = nodes_[index];
  node.told_ns = beat_ns;
  write({patch_of("coordination.k8s.io/v1", "leases", kLeases, node.name, kMerge,
                  R"({"spec":{"renewTime":")" + format_micro_time(wall_of(node, beat_ns)) + R"("}})"),
         {},
         index});
}

// It will say nothing more: its lease shows the heartbeat that was the last one, as if all had been written.
void NodeModels::fall_silent(const Node& node) {
  if (!vouches() && node.told_ns != node.beat_ns) renew(by_name_.at(node.name), node.beat_ns);
}

bool NodeModels::kill(const std::string& name) {
  Node* node = find(name);
  if (node == nullptr || !node->power) return false;
  if (node->connected) fall_silent(*node);
  node->power = false;
  node->epoch = ++epochs_;
  --alive_;
  for (const std::string& uid : node->pods) {
    Run& run = runs_.at(uid);
    run.epoch = ++epochs_;
    set_serving(run);
    if (run.state != Run::State::ended && run.state != Run::State::stopping) events_.lost(run.pod);
  }
  return true;
}

bool NodeModels::boot(const std::string& name) {
  Node* node = find(name);
  if (node == nullptr) return false;
  (void)kill(name);
  const std::size_t index = by_name_.at(name);
  engine_.after(draw(scenario_.model.boot), [this, index, epoch = node->epoch] {
    Node& up = nodes_[index];
    if (up.power || up.epoch != epoch) return;
    up.power = true;
    up.reachable_since_ns = steady();
    ++alive_;
    // Its containers are gone.
    const std::set<std::string> known = up.pods;
    for (const std::string& uid : known) {
      Run& run = runs_.at(uid);
      if (run.state == Run::State::ended) continue;
      const std::int64_t restarts = run.restarts + 1;
      const Object pod = run.pod;
      forget(uid);
      begin(pod, index);
      runs_.at(uid).restarts = restarts;
    }
    if (up.connected) resync(up);
  });
  return true;
}

bool NodeModels::connect(const std::string& name, bool connected) {
  Node* node = find(name);
  if (node == nullptr || node->connected == connected) return false;
  if (!connected && node->power) fall_silent(*node);
  node->connected = connected;
  node->reachable_since_ns = steady();
  for (const std::string& uid : node->pods) set_serving(runs_.at(uid));
  if (connected && node->power) resync(*node);
  return true;
}

bool NodeModels::slow_probes(const std::string& name, bool slow) {
  Node* node = find(name);
  if (node == nullptr || node->slow_probes == slow) return false;
  node->slow_probes = slow;
  for (const std::string& uid : node->pods) {
    const Run& run = runs_.at(uid);
    if (run.state == Run::State::ready) write_status(uid, run);
  }
  return true;
}

bool NodeModels::announce(const std::string& name) {
  Node* node = find(name);
  if (node == nullptr) return false;
  if (!reachable(*node)) return true;  // nor does it register when it is back: upstream's kubelet neither
  register_node(*node);
  node->told_ns = 0;
  return true;
}

// What a kubelet does when it reaches the API again: everything is compared.
void NodeModels::resync(Node& node) {
  write_node_status(node);
  std::set<std::string> gone = node.pods;
  for (const Object& pod : pods_->find(ObjectCache::kNode, node.name)) {
    gone.erase(pod.uid());
    if (runs_.contains(pod.uid())) write_status(pod.uid(), runs_.at(pod.uid()));
    pod_changed({}, pod);
  }
  for (const std::string& uid : gone) forget(uid);
}

// ---- pods ----

void NodeModels::pod_changed(const Object& old, const Object& now) {
  const Object& pod = now ? now : old;
  const std::string name = string_at(tree(pod), "/spec/nodeName");
  if (name.empty()) return;
  const auto index = by_name_.find(name);
  if (index == by_name_.end() || !reachable(nodes_[index->second])) return;
  const auto known = runs_.find(pod.uid());
  if (!now) {
    if (known != runs_.end()) forget(pod.uid());
    return;
  }
  if (known == runs_.end()) {
    if (pod_terminal(pod) && !pod.deleting()) return;
    begin(pod, index->second);
  } else {
    known->second.pod = pod;
  }
  Run& run = runs_.at(pod.uid());
  if (pod.deleting() && run.state != Run::State::stopping) stop(pod.uid(), run);
}

void NodeModels::later(const std::string& uid, Run& run, Duration delay,
                       void (NodeModels::*step)(const std::string&, Run&)) {
  engine_.after(delay, [this, uid, epoch = run.epoch, step] {
    const auto found = runs_.find(uid);
    if (found != runs_.end() && found->second.epoch == epoch) (this->*step)(uid, found->second);
  });
}

void NodeModels::begin(const Object& pod, std::size_t index) {
  Node& node = nodes_[index];
  Run& run = runs_[pod.uid()];
  run.pod = pod;
  run.node = index;
  run.epoch = ++epochs_;
  run.created_wall_ns = wall_of(node, steady());
  run.address = "10." + std::to_string(64 + index / 256) + "." + std::to_string(index % 256) + "." +
                std::to_string(1 + node.next_address++ % 254);
  node.pods.insert(pod.uid());
  fetch(pod.uid(), run);
}

// Its images, then its start. An image that was on its way when the registry went down comes all the same.
void NodeModels::fetch(const std::string& uid, Run& run) {
  Node& node = nodes_[run.node];
  const json::array* containers = array_at(tree(run.pod), "/spec/containers");
  const bool missing = containers != nullptr &&
                       std::any_of(containers->begin(), containers->end(), [&](const json::value& container) {
                         return !node.images.contains(string_at(container, "/image"));
                       });
  run.pull_failed = missing && !registry_up_;
  if (run.pull_failed) {
    write_status(uid, run);
    later(uid, run, run.pull_backoff, &NodeModels::fetch);
    run.pull_backoff = std::min(run.pull_backoff * 2, kBackoffMax);
    return;
  }
  Duration delay = draw(scenario_.model.start);
  if (containers != nullptr) {
    for (const json::value& container : *containers) {
      if (node.images.insert(string_at(container, "/image")).second) delay += draw(scenario_.model.pull);
    }
  }
  later(uid, run, delay, &NodeModels::started);
}

void NodeModels::started(const std::string& uid, Run& run) {
  run.state = Run::State::running;
  run.started_ns = steady();
  run.started_wall_ns = wall_of(nodes_[run.node], run.started_ns);
  if (string_at(tree(run.pod), "/spec/restartPolicy", "Always") != "Always") {
    later(uid, run, draw(scenario_.model.run), &NodeModels::came_to_end);
  } else if (scenario_.model.crashes_per_hour > 0) {
    // Exponential: a container does not age.
    const double drawn = static_cast<double>(random_.below(1u << 30) + 1) / static_cast<double>(1u << 30);
    const double hours = -std::log(drawn) / scenario_.model.crashes_per_hour;
    if (hours < 24 * 365)
      later(uid, run, Duration(static_cast<std::int64_t>(hours * 3600e9)), &NodeModels::crash);
  }
  later(uid, run, draw(scenario_.model.ready), &NodeModels::became_ready);
  write_status(uid, run);
}

void NodeModels::became_ready(const std::string& uid, Run& run) {
  if (run.state != Run::State::running) return;
  run.state = Run::State::ready;
  set_serving(run);
  write_status(uid, run);
}

void NodeModels::came_to_end(const std::string& uid, Run& run) {
  run.failed = static_cast<double>(random_.below(1'000'000)) < scenario_.model.fail * 1e6;
  if (run.failed && string_at(tree(run.pod), "/spec/restartPolicy") == "OnFailure") return fall(uid, run);
  run.state = Run::State::ended;
  run.epoch = ++epochs_;
  set_serving(run);
  write_status(uid, run);
}

void NodeModels::crash(const std::string& uid, Run& run) { fall(uid, run); }

// The container ended and is started again after its back-off.
void NodeModels::fall(const std::string& uid, Run& run) {
  events_.crashed(run.pod);
  run.state = Run::State::waiting;
  run.epoch = ++epochs_;
  ++run.restarts;
  set_serving(run);
  write_status(uid, run);
  const auto up_for = Duration(steady() - run.started_ns);
  if (up_for > std::chrono::minutes(10)) run.backoff = std::chrono::seconds(10);
  later(uid, run, run.backoff, &NodeModels::started);
  run.backoff = std::min(run.backoff * 2, kBackoffMax);
}

void NodeModels::stop(const std::string& uid, Run& run) {
  const bool over = run.state == Run::State::ended;
  run.state = Run::State::stopping;
  run.epoch = ++epochs_;
  set_serving(run);
  const auto grace = std::chrono::seconds(int_at(tree(run.pod), "/metadata/deletionGracePeriodSeconds", 30));
  const Duration takes = over ? Duration::zero() : std::min<Duration>(draw(scenario_.model.stop), grace);
  later(uid, run, takes, &NodeModels::stopped);
}

void NodeModels::stopped(const std::string& uid, Run& run) {
  const Node& node = nodes_[run.node];
  if (!reachable(node)) return;  // resync() will see that the object is still there
  ApiRequest request;
  request.verb = "delete";
  request.resource = "pods";
  request.ns = run.pod.ns();
  request.name = run.pod.name();
  request.body = to_json(json::object{{"gracePeriodSeconds", 0}, {"preconditions", {{"uid", uid}}}});
  write({std::move(request), uid, run.node});
}

void NodeModels::forget(const std::string& uid) {
  const auto found = runs_.find(uid);
  if (found == runs_.end()) return;
  Run& run = found->second;
  run.state = Run::State::stopping;
  set_serving(run);
  nodes_[run.node].pods.erase(uid);
  runs_.erase(found);
}

void NodeModels::set_serving(Run& run) {
  const bool now = run.state == Run::State::ready && reachable(nodes_[run.node]);
  if (std::exchange(run.serving, now) != now) events_.serving(run.pod, now);
}

std::string NodeModels::status_of(const Run& run) const {
  using State = Run::State;
  const bool up = run.state == State::running || run.state == State::ready;
  const bool ready = run.state == State::ready && !nodes_[run.node].slow_probes;
  const std::string since = format_time(wall_of(nodes_[run.node], steady()));
  const std::string start = format_time(run.started_wall_ns);
  json::object state;
  if (up) {
    state["running"] = json::object{{"startedAt", start}};
  } else if (run.state == State::ended) {
    state["terminated"] = json::object{{"exitCode", run.failed ? 1 : 0},
                                       {"reason", run.failed ? "Error" : "Completed"},
                                       {"startedAt", start},
                                       {"finishedAt", since}};
  } else {
    state["waiting"] = json::object{{"reason", run.pull_failed    ? "ImagePullBackOff"
                                               : run.restarts > 0 ? "CrashLoopBackOff"
                                                                  : "ContainerCreating"}};
  }
  json::array containers;
  if (const json::array* specified = array_at(tree(run.pod), "/spec/containers")) {
    for (const json::value& container : *specified) {
      const std::string image = string_at(container, "/image");
      containers.push_back(json::object{{"name", string_at(container, "/name")},
                                        {"image", image},
                                        {"imageID", image},
                                        {"ready", ready},
                                        {"started", up},
                                        {"restartCount", run.restarts},
                                        {"state", state}});
    }
  }
  json::array conditions;
  for (const char* type : {"Initialized", "ContainersReady", "Ready"}) {
    const bool holds = ready || std::string_view(type) == "Initialized";
    conditions.push_back(
        json::object{{"type", type}, {"status", holds ? "True" : "False"}, {"lastTransitionTime", since}});
  }
  const char* phase = run.state == State::ended ? (run.failed ? "Failed" : "Succeeded")
                      : up || run.restarts > 0  ? "Running"
                                                : "Pending";
  return to_json(json::object{{"metadata", {{"uid", run.pod.uid()}}},
                              {"status",
                               {{"phase", phase},
                                {"hostIP", nodes_[run.node].address},
                                {"podIP", run.address},
                                {"podIPs", json::array{json::object{{"ip", run.address}}}},
                                {"startTime", format_time(run.created_wall_ns)},
                                {"conditions", std::move(conditions)},
                                {"containerStatuses", std::move(containers)}}}});
}

void NodeModels::write_status(const std::string& uid, const Run& run) {
  if (!reachable(nodes_[run.node])) return;  // resync() tells it
  ApiRequest request = patch_of("v1", "pods", run.pod.ns(), run.pod.name(), kStrategic, status_of(run));
  request.subresource = "status";
  write({std::move(request), uid, run.node});
}

// ---- writes ----

void NodeModels::write(Write one) {
  one.request.want_object = true;  // nobody prints or parses the answer
  writes_.push_back(std::move(one));
  if (std::exchange(flushing_, true)) return;
  const std::int64_t into = engine_.clock().now().steady_ns % kWriteEvery.count();
  engine_.after(kWriteEvery - Duration(into), [this] {
    flushing_ = false;
    flush();
  });
}

void NodeModels::flush() {
  std::vector<std::vector<Write>> by_client(clients_.size());
  for (Write& each : std::exchange(writes_, {})) {
    std::vector<Write>& writes = by_client[each.node % clients_.size()];
    writes.push_back(std::move(each));
    if (writes.size() == kBatch) send(clients_[each.node % clients_.size()], std::exchange(writes, {}));
  }
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    if (!by_client[i].empty()) send(clients_[i], std::move(by_client[i]));
  }
}

void NodeModels::send(const Client& client, std::vector<Write> writes) {
  std::vector<ApiRequest> requests;
  requests.reserve(writes.size());
  for (const Write& each : writes) requests.push_back(each.request);
  const auto kept = std::make_shared<std::vector<Write>>(std::move(writes));
  client.batch(std::move(requests)).on_ready([this, kept](const Result<std::vector<Result<Object>>>& done) {
    for (std::size_t i = 0; i < kept->size(); ++i) {
      const Error* error = !done                             ? &done.error()
                           : i < done->size() && !(*done)[i] ? &(*done)[i].error()
                                                             : nullptr;
      // Gone, or another pod of its name: nothing to tell any more. Else again, as agents do.
      if (error == nullptr || error->is(Error::not_found) || error->is(Error::conflict) ||
          error->is(Error::already_exists)) {
        continue;
      }
      if (error->is(Error::invalid) || error->is(Error::denied)) {
        engine_.log(LogLevel::error, "simulation", "a node's write was refused: " + error->to_string());
        continue;
      }
      engine_.after(kRetry, [this, write = std::move((*kept)[i])] { again(write); });
    }
  });
}

// What is true by then; a lease is renewed by the next heartbeat, if there is one.
void NodeModels::again(Write write) {
  if (write.request.resource == "leases" && write.request.verb == "patch") {
    Node& node = nodes_[write.node];
    node.told_ns = 0;
    if (!reachable(node)) fall_silent(node);
    return;
  }
  const auto found = runs_.find(write.uid);
  if (write.uid.empty()) {
    this->write(std::move(write));
  } else if (found != runs_.end() && write.request.verb == "patch") {
    write_status(write.uid, found->second);
  } else if (found != runs_.end()) {
    this->write(std::move(write));
  }
}

}  // namespace orchestra::sim
