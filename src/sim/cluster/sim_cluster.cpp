// SimCluster: the control plane of production on a simulated machine, model nodes beside it, and a script.
//
// ControlPlane runs store, API server (without a socket), controllers and scheduler, exactly as `orchestra
// up` makes them, on engines that are driven by hand; what is here speaks to them as a user does. Time moves
// from one timer to the next. A tick each virtual second counts, judges expectations and draws requests.
//
// Invariant: nothing here writes to the store but through a Client, and nothing that can differ between two
// runs (pointers, threads, the machine's clock) decides an order.
#include <algorithm>
#include <cmath>

#include "base/engine_manual.hpp"
#include "controllers/common/pods.hpp"
#include "sim/cluster/book.hpp"
#include "sim/cluster/control_plane.hpp"
#include "sim/cluster/node_models.hpp"
#include "sim/cluster/promises.hpp"

namespace orchestra {

using namespace sim;
using namespace controllers;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t kNotesMax = 20'000;
constexpr Duration kTick = 1s;
constexpr Duration kDrainAgain = 5s;  // kubectl's pause
constexpr Duration kSilence = 60s;    // after which a node may be taken for lost, and after it, soon not
constexpr Duration kBootMax = 10min;  // of virtual time until all nodes are there

// "Deployment shop/web", or how many objects it is.
std::string named(const std::string& yaml) {
  const auto objects = Object::many_from_yaml(yaml);
  if (!objects || objects->empty()) return "an object";
  if (objects->size() > 1) return std::to_string(objects->size()) + " objects as one set";
  return objects->front().kind() + " " + ObjectKey::of(objects->front()).text();
}

std::string words(const SimEvent& event) {
  using Kind = SimEvent::Kind;
  const auto lasting = [&](const std::string& text) {
    return event.lasts ? text + " for " + clock_text(*event.lasts) : text;
  };
  switch (event.kind) {
    case Kind::kill_node:
      return lasting("node " + event.target + " loses its power");
    case Kind::partition_node:
      return lasting("node " + event.target + " is cut off");
    case Kind::restart_node:
      return "node " + event.target + " restarts";
    case Kind::kill_zone:
      return lasting("zone " + event.target + " loses its power");
    case Kind::partition_zone:
      return lasting("zone " + event.target + " is cut off");
    case Kind::delete_pods:
      return std::to_string(event.count) +
             (event.target == "random" ? std::string(" pods, drawn,") : " pods of " + event.target) +
             " are deleted";
    case Kind::scale:
      return event.target + " is scaled to " + std::to_string(event.count);
    case Kind::apply:
      return named(event.text) + " is applied";
    case Kind::remove:
      return (event.text.empty() ? event.target : named(event.text)) + " is removed";
    case Kind::cordon:
      return lasting("node " + event.target + " is cordoned");
    case Kind::uncordon:
      return "node " + event.target + " is uncordoned";
    case Kind::set_image:
      return event.target + " gets the image " + event.text;
    case Kind::stop_controllers:
      return lasting("controllers and scheduler are away");
    case Kind::kill_peer:  // the control plane says which it was
      return lasting("power fails: peer " + event.target);
    case Kind::partition_peer:
      return lasting("a cut: peer " + event.target);
    case Kind::slow_disk:
      return lasting("a slow disk: peer " + event.target);
    case Kind::hand_over:
      return "leadership is to move";
    case Kind::drain:
      return "node " + event.target + " is drained";
    case Kind::delete_node:
      return lasting("the object of node " + event.target + " is deleted");
    case Kind::slow_probes:
      return lasting("probes on node " + event.target + " are too slow");
    case Kind::registry_down:
      return lasting("the registry is down");
    case Kind::step_clock:
      return lasting("the clock of " + event.target + " is set by " +
                     (event.by < Duration::zero() ? "-" + clock_text(-event.by) : clock_text(event.by)));
  }
  return {};
}

std::string words(const SimExpectation& expect) {
  using Kind = SimExpectation::Kind;
  char bound[32];
  std::snprintf(bound, sizeof bound, "%g", expect.bound);
  const std::string from = expect.from > Duration::zero() ? " from " + clock_text(expect.from) : "";
  const std::string until = expect.until ? " until " + clock_text(*expect.until) : "";
  const std::string within = expect.within ? " within " + clock_text(*expect.within) : "";
  switch (expect.kind) {
    case Kind::available:
      return expect.target + " has at least " + bound + " pods that serve" + from + until;
    case Kind::recovered:
      return expect.target + " has all its pods" + within + from;
    case Kind::pending:
      return std::string("at most ") + bound + " pods wait" + from + until;
    case Kind::completed:
      return expect.target + " is complete" + within + from;
    case Kind::converged:
      return "every pod is Ready" + within + from;
    case Kind::served:
      return expect.target + " answers at least " + bound + " of its requests" + from + until;
  }
  return {};
}

}  // namespace

struct SimCluster::Impl {
  explicit Impl(SimScenario given) : scenario(std::move(given)), world(scenario.seed) {}

  ~Impl() {
    if (!control) return;
    control->drain();
    if (informers) informers->stop();
    control.reset();  // whoever still waits for an answer, waits in what follows
  }

  // Declared first, so that everything that stands on its engines dies before it.
  const SimScenario scenario;
  Simulator world;
  std::unique_ptr<InformerSet> informers;
  std::unique_ptr<Book> book;
  std::unique_ptr<Promises> promises;
  std::unique_ptr<NodeModels> models;
  std::unique_ptr<ControlPlane> control;
  Client client;

  struct Judged {
    enum class State : std::uint8_t { open, held, broken } state = State::open;
    double worst = 0;
    bool looked = false;
  };
  struct Load {
    std::uint64_t requests = 0, errors = 0;                                             // since the start
    std::vector<std::pair<Duration, std::pair<std::uint64_t, std::uint64_t>>> history;  // per sample
  };
  std::vector<Judged> judged;
  std::vector<Load> loads;
  SimReport report;
  std::vector<std::string> broken;                // invariants of the control plane
  std::map<std::string, std::string> last_words;  // by workload
  std::uint64_t requests = 0, errors = 0, crashed = 0, lost = 0;
  double latency_sum = 0;
  std::int64_t begin_ns = 0;
  std::uint64_t begin_revision = 0;
  Duration next_sample{};
  bool started = false;

  Engine& engine() { return *control->outside().engine; }
  Duration now() { return Duration(world.now_ns() - begin_ns); }

  void note(std::string what) {
    if (book) book->note(clock_text(now()) + " " + what);
    if (report.timeline.size() < kNotesMax) report.timeline.push_back({now(), std::move(what)});
  }

  // ---- start ----

  Result<void> start() {
    ORC_TRY(scenario.check());
    if (started) return Error(Error::invalid, "simulation", "the simulation was started already");
    started = true;
    begin_ns = world.now_ns();
    ControlPlane::Hooks hooks;
    hooks.note = [this](std::string what) { note(std::move(what)); };
    hooks.violated = [this](std::string what) {
      broken.push_back(clock_text(now()) + " " + std::move(what));
    };
    hooks.failed = [this](std::string what) { report.failures.push_back(std::move(what)); };
    if (scenario.peers == 1 && !scenario.model.every_renewal)
      hooks.node_heard = [this](const std::string& name) { return models->heard(name); };
    control = std::make_unique<ControlPlane>(world, scenario, std::move(hooks));
    ORC_TRY(control->start());
    client = control->client();
    informers = std::make_unique<InformerSet>(engine(), client);
    book = std::make_unique<Book>(*informers);
    promises = std::make_unique<Promises>(Promises::Hooks{
        [this](const std::string& ns) { return informers->informer(pods()).cache().list(ns); },
        [this](const std::string& what, Duration at) { broken.push_back(clock_text(at) + " " + what); }});
    ModelEvents events;
    events.serving = [this](const Object& pod, bool serving) { book->serving(pod, serving); };
    events.crashed = [this](const Object&) { ++crashed; };
    events.lost = [this](const Object&) { ++lost; };
    std::vector<Client> clients;
    for (std::size_t i = 0; i < control->peers(); ++i) clients.push_back(control->client(i));
    models = std::make_unique<NodeModels>(engine(), std::move(clients), scenario, std::move(events));
    watch();
    ORC_TRY(informers->start());
    ORC_TRY(models->start(informers->informer(pods()).cache()));
    ORC_TRY(control->start_loops());
    ORC_TRY(wait_for_nodes());
    for (const std::string& text : scenario.objects) ORC_TRY(apply(text));
    begin_ns = world.now_ns();  // booting the control plane is not part of the story
    begin_revision = control->revision();
    judged.resize(scenario.expect.size());
    loads.resize(scenario.load.size());
    for (const SimEvent& event : scenario.events) plan(event, event.at);
    engine().after(kTick, [this] { tick(); });
    sample();
    return {};
  }

  using Handler = std::function<void(const Object&, const Object&)>;
  void on(const ResourceRef& resource, Handler handler) {
    informers->informer(resource).on_event(std::move(handler));
  }

  void watch() {
    on(nodes(), [this](const Object& old, const Object& now_object) {
      const auto state = [](const Object& node) {
        const json::object* ready = node ? find_condition(tree(node), "Ready") : nullptr;
        return ready == nullptr ? std::string() : string_at(*ready, "/status");
      };
      book->node_changed(old, now_object, now());
      // Nobody else's write is in between: what the models say is what the controller hears.
      if (models->vouches() && state(old) == "True" && now_object && old.uid() == now_object.uid() &&
          state(now_object) != "True" && models->well_for(now_object.name(), kSilence)) {
        broken.push_back(clock_text(now()) + " node " + now_object.name() +
                         " is well and was found not to be Ready");
      }
      if (!now_object) return note("node " + old.name() + " is no more");
      if (old && !state(old).empty() && state(old) != state(now_object))
        note("node " + now_object.name() + (state(now_object) == "True" ? " is Ready" : " is not Ready"));
    });
    on(pods(), [this](const Object& old, const Object& now_object) {
      book->pod_changed(old, now_object, now());
      promises->pod_changed(old, now_object, now());
      models->pod_changed(old, now_object);
    });
    const auto owner = [this](const Object& old, const Object& now_object) {
      book->owner_changed(old, now_object, now());
    };
    on(replica_sets(), owner);
    on(jobs(), [this, owner](const Object& old, const Object& now_object) {
      owner(old, now_object);
      const auto complete = [](const Object& job) { return job && condition_of(job, "Complete"); };
      if (complete(now_object) && !complete(old))
        note("job " + now_object.ns() + "/" + now_object.name() + " is complete");
    });
    const auto seen = [this](const Object&, const Object& now_object) { book->written(now_object, now()); };
    for (const ResourceRef& resource : {deployments(), stateful_sets(), daemon_sets()}) on(resource, seen);
    on(disruption_budgets(), [this](const Object& old, const Object& now_object) {
      book->written(now_object, now());
      promises->budget_changed(old, now_object, now());
    });
    on(resource_quotas(), [this](const Object& old, const Object& now_object) {
      promises->quota_changed(old, now_object, now());
    });
    if (!scenario.load.empty()) on(endpoint_slices(), seen);
  }

  static bool condition_of(const Object& object, const char* type) {
    const json::object* condition = find_condition(tree(object), type);
    return condition != nullptr && string_at(*condition, "/status") == "True";
  }

  Result<void> wait_for_nodes() {
    const std::int64_t end = world.now_ns() + kBootMax.count();
    SimSample sample;
    const auto untainted = [this] {
      const auto all = informers->informer(nodes()).cache().list();
      return std::none_of(all.begin(), all.end(), [](const Object& node) {
        const json::array* taints = array_at(tree(node), "/spec/taints");
        return taints != nullptr && std::any_of(taints->begin(), taints->end(), [](const json::value& taint) {
                 return string_at(taint, "/key").rfind("node.kubernetes.io/", 0) == 0;
               });
      });
    };
    while (world.now_ns() < end) {
      book->fill(sample);
      if (sample.nodes_ready == models->size() && untainted()) return {};
      world.run_for(100ms);
    }
    return Error(Error::deadline_exceeded, "simulation",
                 "only " + std::to_string(sample.nodes_ready) + " of " + std::to_string(models->size()) +
                     " nodes became Ready");
  }

  Result<void> apply(const std::string& text) {
    ORC_ASSIGN(const std::vector<Object> objects, Object::many_from_yaml(text));
    for (const Object& object : objects) {
      const std::string name = object.kind() + " " + ObjectKey::of(object).text();
      auto made = wait_on(engine(), client.create(object), 30s);
      if (!made && made.error().is(Error::already_exists)) {
        WriteOptions write;
        write.field_manager = "simulation";
        write.force = true;
        made = wait_on(engine(), client.apply(object, write), 30s);
      }
      if (!made) return made.error().with_context("applying " + name);
    }
    return {};
  }

  // ---- events ----

  void plan(const SimEvent& event, Duration at) {
    engine().after(at - now(), [this, event, at] {
      if (auto done = happen(event); !done)
        report.failures.push_back(clock_text(now()) + " " + words(event) + ": " + done.error().to_string() +
                                  (event.place.empty() ? "" : " (" + event.place + ")"));
      if (event.every && at + *event.every <= event.until.value_or(scenario.duration))
        plan(event, at + *event.every);
    });
  }

  Result<void> happen(SimEvent event) {
    using Kind = SimEvent::Kind;
    const bool of_peer =
        event.kind == Kind::kill_peer || event.kind == Kind::partition_peer || event.kind == Kind::slow_disk;
    if (event.target == "random" && event.kind != Kind::delete_pods && !of_peer) {
      event.target = models->draw_alive();
      if (event.target.empty()) return Error(Error::not_found, "simulation", "no node is alive");
    }
    note(words(event));
    switch (event.kind) {
      case Kind::kill_node:
      case Kind::partition_node:
      case Kind::restart_node:
        return on_node(event, event.target);
      case Kind::kill_zone:
      case Kind::partition_zone: {
        SimEvent one = event;
        one.kind = event.kind == Kind::kill_zone ? Kind::kill_node : Kind::partition_node;
        for (const std::string& name : models->in_zone(event.target)) ORC_TRY(on_node(one, name));
        return {};
      }
      case Kind::stop_controllers:
        control->stop_loops();
        if (event.lasts) {
          engine().after(*event.lasts, [this] {
            note("controllers and scheduler are back");
            if (auto begun = control->start_loops(); !begun)
              report.failures.push_back(begun.error().to_string());
          });
        }
        return {};
      case Kind::kill_peer:
        control->power(event.target, event.lasts);
        return {};
      case Kind::partition_peer:
        control->isolate(event.target, event.lasts);
        return {};
      case Kind::slow_disk:
        control->slow_disk(event.target, event.lasts);
        return {};
      case Kind::hand_over:
        control->hand_over();
        return {};
      case Kind::drain: {
        SimEvent cordon = event;
        cordon.kind = Kind::cordon;
        ORC_TRY(change(cordon));
        return drain(event.target);
      }
      case Kind::delete_node:
        ORC_TRY(wait_on(engine(), client.remove("v1", "nodes", event.target, ""), 30s));
        undo(event, "node " + event.target + " registers again",
             [this, name = event.target] { models->announce(name); });
        return {};
      case Kind::slow_probes:
        models->slow_probes(event.target, true);
        undo(event, "probes on node " + event.target + " are in time again",
             [this, name = event.target] { models->slow_probes(name, false); });
        return {};
      case Kind::registry_down:
        models->registry(false);
        undo(event, "the registry is up again", [this] { models->registry(true); });
        return {};
      case Kind::step_clock:
        if (const std::string set = step_clock(event.target, event.by); !set.empty()) {
          undo(event, "the clock of " + set + " is right again",
               [this, set, back = -event.by] { step_clock(set, back); });
        }
        return {};
      case Kind::apply:
        return apply(event.text);
      default:
        return change(event);
    }
  }

  // Whose clock it is: "leader" may be another by the time it is set right.
  std::string step_clock(const std::string& target, Duration by) {
    return models->step_clock(target, by) ? target : control->step_clock(target, by);
  }

  void undo(const SimEvent& event, const std::string& what, std::function<void()> how) {
    if (!event.lasts) return;
    engine().after(*event.lasts, [this, what, how = std::move(how)] {
      note(what);
      how();
    });
  }

  // As kubectl does it: what its budget keeps now is asked about again.
  Result<void> drain(const std::string& node) {
    bool kept = false;
    for (const Object& pod : informers->informer(pods()).cache().find(ObjectCache::kNode, node)) {
      const OwnerReference* owner = pod.controller();
      if (pod.deleting() || pod_terminal(pod) || (owner != nullptr && owner->kind == "DaemonSet")) continue;
      ApiRequest request;
      request.verb = "create";
      request.resource = "pods";
      request.subresource = "eviction";
      request.ns = pod.ns();
      request.name = pod.name();
      request.body = to_json(json::object{{"apiVersion", "policy/v1"},
                                          {"kind", "Eviction"},
                                          {"metadata", {{"name", pod.name()}, {"namespace", pod.ns()}}}});
      const auto done = wait_on(engine(), client.request(std::move(request)), 30s);
      kept = kept || (!done && !done.error().is(Error::not_found));
    }
    if (kept) {
      engine().after(kDrainAgain, [this, node] { (void)drain(node); });
    } else {
      note("node " + node + " is drained: nothing is left to evict");
    }
    return {};
  }

  Result<void> on_node(const SimEvent& event, const std::string& name) {
    using Kind = SimEvent::Kind;
    if (event.kind == Kind::restart_node) {
      models->boot(name);
      return {};
    }
    const bool power = event.kind == Kind::kill_node;
    if (power) {
      models->kill(name);
    } else {
      models->connect(name, false);
    }
    if (!event.lasts) return {};
    engine().after(*event.lasts, [this, power, name] {
      note("node " + name + (power ? " has power again" : " is connected again"));
      if (power) {
        models->boot(name);
      } else {
        models->connect(name, true);
      }
    });
    return {};
  }

  // What a user does with kubectl.
  Result<void> change(const SimEvent& event) {
    using Kind = SimEvent::Kind;
    if (event.kind == Kind::cordon || event.kind == Kind::uncordon) {
      const bool on = event.kind == Kind::cordon;
      const auto done =
          wait_on(engine(),
                  client.patch("v1", "nodes", event.target, "", PatchType::merge,
                               std::string(R"({"spec":{"unschedulable":)") + (on ? "true" : "null") + "}}"),
                  30s);
      if (!done) return done.error();
      if (on && event.lasts) {
        SimEvent back = event;
        back.kind = Kind::uncordon;
        engine().after(*event.lasts, [this, back] { (void)happen(back); });
      }
      return {};
    }
    if (event.kind == Kind::remove && !event.text.empty()) {
      ORC_ASSIGN(const Object gone, Object::from_yaml(event.text));
      return wait_on(engine(),
                     client.remove(gone.api_version(), resource_of_kind(gone.api_version(), gone.kind()),
                                   gone.name(), gone.ns()),
                     30s);
    }
    const std::string key = workload_key(event.target);
    const auto first = key.find('/');
    const auto second = key.find('/', first + 1);
    const std::string ns = key.substr(first + 1, second - first - 1);
    const std::string name = key.substr(second + 1);
    if (event.kind == Kind::delete_pods) {
      const bool any = event.target == "random";
      auto victims = any ? informers->informer(pods()).cache().list()
                         : book->pods_of(key, informers->informer(pods()).cache().list(ns));
      std::erase_if(victims, [](const Object& pod) { return pod.deleting(); });
      if (victims.empty())
        return Error(Error::not_found, "simulation",
                     any ? std::string("there are no pods") : key + " has no pods");
      for (std::int64_t i = 0; i < event.count && !victims.empty(); ++i) {
        const auto at = static_cast<std::ptrdiff_t>(models->random().below(victims.size()));
        ORC_TRY(wait_on(engine(),
                        client.remove("v1", "pods", victims[static_cast<std::size_t>(at)].name(),
                                      victims[static_cast<std::size_t>(at)].ns()),
                        30s));
        victims.erase(victims.begin() + at);
      }
      return {};
    }
    const auto resource = resource_of_workload(key);
    if (!resource) return Error(Error::invalid, "simulation", "\"" + event.target + "\" names no workload");
    if (event.kind == Kind::remove)
      return wait_on(engine(), client.remove(resource->api_version, resource->resource, name, ns), 30s);
    std::string body = R"({"spec":{"replicas":)" + std::to_string(event.count) + "}}";
    if (event.kind == Kind::set_image) {
      const Object object = informers->get(*resource, ns, name);
      if (!object) return Error(Error::not_found, "simulation", key + " is not there");
      const std::string container = string_at(tree(object), "/spec/template/spec/containers/0/name");
      body = to_json(json::object{
          {"spec",
           {{"template",
             {{"spec",
               {{"containers", json::array{json::object{{"name", container}, {"image", event.text}}}}}}}}}}});
    }
    const auto done = wait_on(
        engine(),
        client.patch(resource->api_version, resource->resource, name, ns, PatchType::strategic, body), 30s);
    if (!done) return done.error();
    return {};
  }

  // ---- each second ----

  void tick() {
    engine().after(kTick, [this] { tick(); });
    for (const std::string& key : book->take_touched()) {
      if (key.rfind("pod/", 0) == 0 || key.rfind("job/", 0) == 0) continue;
      const auto wanted = book->wanted_of(key);
      std::string text = key + ": " + std::to_string(book->serving_of(key)) + " of " +
                         (wanted ? std::to_string(*wanted) : std::string("?")) + " pods serve";
      if (std::exchange(last_words[key], text) != text) note(std::move(text));
    }
    for (std::size_t i = 0; i < scenario.load.size(); ++i) serve(scenario.load[i], loads[i]);
    for (std::size_t i = 0; i < scenario.expect.size(); ++i) judge(scenario.expect[i], judged[i]);
    if (now() >= next_sample) sample();
  }

  // Poisson; for many arrivals its normal approximation.
  std::uint64_t arrivals(double mean) {
    const auto uniform = [this] {
      return static_cast<double>(models->random().below(1u << 30) + 1) / static_cast<double>((1u << 30) + 1);
    };
    if (mean > 50) {
      const double normal = std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform());
      return static_cast<std::uint64_t>(std::max(0.0, mean + std::sqrt(mean) * normal + 0.5));
    }
    const double limit = std::exp(-mean);
    std::uint64_t count = 0;
    for (double product = uniform(); product > limit; product *= uniform()) ++count;
    return count;
  }

  // One second of requests on what EndpointSlices say, answered by what is really there.
  void serve(const SimLoad& load, Load& sums) {
    const double day = static_cast<double>(now().count()) / 86400e9 * 6.283185307179586;
    const double mean = load.requests_per_second * (1 - load.daily * std::cos(day));
    const std::uint64_t came = arrivals(mean);
    const std::string ns = load.service.substr(0, load.service.find('/'));
    const std::string name = load.service.substr(load.service.find('/') + 1);
    std::size_t listed = 0;
    std::size_t alive = 0;
    for (const Object& slice : informers->informer(endpoint_slices()).cache().list(ns)) {
      const auto label = slice.labels().find("kubernetes.io/service-name");
      if (label == slice.labels().end() || label->second != name) continue;
      const json::array* endpoints = array_at(tree(slice), "/endpoints");
      if (endpoints == nullptr) continue;
      for (const json::value& endpoint : *endpoints) {
        if (!bool_at(endpoint, "/conditions/ready", true)) continue;
        ++listed;
        if (models->serving(string_at(endpoint, "/targetRef/uid"))) ++alive;
      }
    }
    const double share = listed == 0 ? 0 : static_cast<double>(alive) / static_cast<double>(listed);
    const double offered = static_cast<double>(came) * share;  // to pods that are there
    const double capacity = static_cast<double>(alive) * load.per_pod;
    const auto answered = static_cast<std::uint64_t>(std::min(offered, capacity) + 0.5);
    const std::uint64_t failed = came - std::min(came, answered);
    // An M/M/1 queue per pod; where it is full, requests wait their second out.
    const double busy = capacity <= 0 ? 1 : std::min(0.999, offered / capacity);
    const double latency_ms = std::min(1000.0, static_cast<double>(load.latency.count()) / 1e6 / (1 - busy));
    sums.requests += came;
    sums.errors += failed;
    requests += came;
    errors += failed;
    latency_sum += latency_ms * static_cast<double>(answered);
    if (sums.history.empty() || now() - sums.history.back().first >= 60s)
      sums.history.push_back({now(), {sums.requests, sums.errors}});
  }

  bool all_settled() const {
    SimSample here;
    book->fill(here);
    const auto queue = control->scheduling();
    return queue && book->settled() && here.ready == here.serving &&
           queue->active + queue->waiting + queue->backing_off == 0;
  }

  void fail(const SimExpectation& expect, Judged& state, const std::string& how) {
    state.state = Judged::State::broken;
    std::string text = clock_text(now()) + " not so: " + words(expect) + "; " + how;
    if (!expect.place.empty()) text += " (" + expect.place + ")";
    note("expectation broken: " + words(expect) + "; " + how);
    report.failures.push_back(std::move(text));
  }

  void hold(const SimExpectation& expect, Judged& state, const std::string& how) {
    state.state = Judged::State::held;
    report.met.push_back(words(expect) + ": " + how);
  }

  void judge(const SimExpectation& expect, Judged& state) {
    using Kind = SimExpectation::Kind;
    if (state.state != Judged::State::open || now() <= expect.from) return;
    if (expect.until && now() > *expect.until) return;
    if (expect.kind == Kind::available || expect.kind == Kind::pending) {
      SimSample here;
      book->fill(here);
      const bool least = expect.kind == Kind::available;
      const auto value = static_cast<double>(least ? book->serving_of(workload_key(expect.target))
                                                   : static_cast<std::int64_t>(here.pending));
      if (!std::exchange(state.looked, true)) state.worst = value;
      state.worst = least ? std::min(state.worst, value) : std::max(state.worst, value);
      if (least ? value < expect.bound : value > expect.bound)
        fail(expect, state, std::to_string(static_cast<std::int64_t>(value)) + (least ? " serve" : " wait"));
      return;
    }
    if (!expect.within) return;
    bool reached = false;
    if (expect.kind == Kind::converged) {
      reached = all_settled();
    } else if (expect.kind == Kind::recovered) {
      const std::string key = workload_key(expect.target);
      const auto wanted = book->wanted_of(key);
      reached = wanted && book->serving_of(key) >= *wanted;
    } else if (expect.kind == Kind::completed) {
      const std::string key = workload_key(expect.target);
      const auto first = key.find('/');
      const auto second = key.find('/', first + 1);
      const Object job =
          informers->get(jobs(), key.substr(first + 1, second - first - 1), key.substr(second + 1));
      reached = job && condition_of(job, "Complete");
    }
    if (reached) return hold(expect, state, "after " + clock_text(now() - expect.from));
    if (now() < expect.from + *expect.within) return;
    fail(expect, state, state_of(expect));
  }

  std::string state_of(const SimExpectation& expect) const {
    if (expect.kind == SimExpectation::Kind::recovered) {
      const std::string key = workload_key(expect.target);
      const auto wanted = book->wanted_of(key);
      if (!wanted) return key + " is not there";
      return std::to_string(book->serving_of(key)) + " of " + std::to_string(*wanted) + " pods serve";
    }
    SimSample here;
    book->fill(here);
    return std::to_string(here.ready) + " of " + std::to_string(here.pods) + " pods are Ready, " +
           std::to_string(here.pending) + " wait";
  }

  void sample() {
    SimSample here;
    here.at = now();
    book->fill(here);
    here.nodes_alive = models->alive();
    if (const auto queue = control->scheduling())
      here.queue = queue->active + queue->waiting + queue->backing_off;
    here.writes = control->revision() - begin_revision;
    here.requests = requests;
    here.errors = errors;
    const std::uint64_t answered = requests - errors;
    here.latency_ms = answered == 0 ? 0 : latency_sum / static_cast<double>(answered);
    report.requests += std::exchange(requests, 0);
    report.errors += std::exchange(errors, 0);
    latency_sum = 0;
    report.samples.push_back(here);
    const Duration step = scenario.sample.value_or(std::max<Duration>(kTick, scenario.duration / 500));
    next_sample = now() + step;
  }

  // What can only be said when it is over. On a copy: the simulation may go on.
  SimReport result() {
    SimReport out = report;
    out.name = scenario.name;
    out.seed = scenario.seed;
    out.simulated = now();
    if (book == nullptr) return out;
    using Kind = SimExpectation::Kind;
    for (std::size_t i = 0; i < judged.size(); ++i) {
      const SimExpectation& expect = scenario.expect[i];
      if (judged[i].state != Judged::State::open) continue;
      if (expect.kind == Kind::served) {
        judge_served(expect, out);
      } else if (!judged[i].looked) {
        out.failures.push_back("not judged: " + words(expect) + "; the simulation ended before");
      } else {
        char worst[48];
        std::snprintf(worst, sizeof worst, "at worst %g", judged[i].worst);
        out.met.push_back(words(expect) + ": " + worst);
      }
    }
    out.violations = book->violations();
    out.violations.insert(out.violations.end(), broken.begin(), broken.end());
    compare_with_list(out);
    compare_endpoints(out);
    out.requests += requests;
    out.errors += errors;
    out.pods_created = book->created;
    out.pods_bound = book->bound;
    out.pods_lost = lost;
    out.containers_crashed = crashed;
    out.writes = control->revision() - begin_revision;
    out.events = world.events();
    out.peers = control->peers();
    out.elections = control->elections();
    out.hash = book->hash();
    return out;
  }

  void judge_served(const SimExpectation& expect, SimReport& out) {
    const Load* sums = nullptr;
    for (std::size_t i = 0; i < scenario.load.size(); ++i) {
      if (scenario.load[i].service == expect.target) sums = &loads[i];
    }
    if (sums == nullptr) {
      out.failures.push_back("not judged: " + words(expect) + "; no load is on this Service");
      return;
    }
    std::pair<std::uint64_t, std::uint64_t> before{0, 0};
    std::pair<std::uint64_t, std::uint64_t> after{sums->requests, sums->errors};
    for (const auto& [at, totals] : sums->history) {
      if (at <= expect.from) before = totals;
      if (expect.until && at <= *expect.until) after = totals;
    }
    const double all = static_cast<double>(after.first - before.first);
    const double share = all == 0 ? 1 : 1 - static_cast<double>(after.second - before.second) / all;
    char text[64];
    std::snprintf(text, sizeof text, "%.5f of %.0f", share, all);
    if (share >= expect.bound) {
      out.met.push_back(words(expect) + ": " + text);
    } else {
      out.failures.push_back("not so: " + words(expect) + "; " + text +
                             (expect.place.empty() ? "" : " (" + expect.place + ")"));
    }
  }

  // Where controllers run, what Services list is what is Ready: at once, or soon after the last change.
  void compare_endpoints(SimReport& out) {
    constexpr int kLooks = 40;
    std::vector<std::string> wrong;
    for (int look = 0; look < kLooks && control->scheduling(); ++look) {
      if (look > 0) world.run_for(500ms);
      const auto all = wait_on(engine(), client.list("v1", "services"), 30s);
      const auto slices = wait_on(engine(), client.list("discovery.k8s.io/v1", "endpointslices"), 30s);
      if (!all || !slices) continue;
      wrong = wrong_endpoints(all->items, slices->items, informers->informer(pods()).cache().list());
      if (wrong.empty()) return;
    }
    if (!control->scheduling()) return;
    out.violations.insert(out.violations.end(), wrong.begin(), wrong.end());
  }

  // A watch must show what a list shows; where the peer that is watched is not the one that lists, soon.
  void compare_with_list(SimReport& out) {
    constexpr int kLooks = 40;
    std::size_t watched_count = 0;
    std::size_t listed_count = 0;
    for (int look = 0; look < (control->peers() > 1 ? kLooks : 1); ++look) {
      if (look > 0) world.run_for(50ms);
      const auto listed = wait_on(engine(), client.list("v1", "pods"), 30s);
      if (!listed) {
        out.violations.push_back("the pods could not be listed: " + listed.error().to_string());
        return;
      }
      const auto watched = informers->informer(pods()).cache().list();
      bool same = watched.size() == listed->items.size();
      for (std::size_t i = 0; same && i < watched.size(); ++i)
        same = watched[i].resource_version() == listed->items[i].resource_version();
      if (same) return;
      watched_count = watched.size();
      listed_count = listed->items.size();
    }
    out.violations.push_back("the watch shows " + std::to_string(watched_count) + " pods, the list " +
                             std::to_string(listed_count) + ", or other versions of them");
  }
};

SimCluster::SimCluster(SimScenario scenario) : impl_(std::make_unique<Impl>(std::move(scenario))) {}
SimCluster::~SimCluster() = default;

Result<void> SimCluster::start() { return impl_->start(); }
void SimCluster::run_for(Duration time) { impl_->world.run_for(time); }
Duration SimCluster::now() const { return impl_->now(); }
Client SimCluster::client() const { return impl_->client; }
void SimCluster::run_step(Duration until) {
  const std::uint64_t before = impl_->world.events();
  while (impl_->world.run_one(impl_->begin_ns + until.count())) {
    if (impl_->world.events() != before) return;
  }
  impl_->world.run_for(until - now());
}
SimReport SimCluster::report() const { return impl_->result(); }
Result<void> SimCluster::apply(const std::string& yaml) { return impl_->apply(yaml); }
Result<void> SimCluster::happen(SimEvent event) { return impl_->happen(std::move(event)); }

SimReport SimCluster::run() {
  if (auto started = start(); !started) {
    SimReport report = impl_->result();
    report.failures.push_back("the simulation could not start: " + started.error().to_string());
    return report;
  }
  run_for(impl_->scenario.duration);
  impl_->sample();
  return report();
}

}  // namespace orchestra
