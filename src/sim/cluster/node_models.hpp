#pragma once
// Model nodes: what kubelets and containers do, as timers and draws from the seed.
//
// They speak to the API as agents do: register a Node, renew its Lease, read the pods bound to them, write
// their status, delete those that have ended. What they really run is known here, whatever the API believes:
// a pod on a node without power serves nobody, although its object stays Ready until somebody notices.
//
// Always true: a pod has at most one run at a time; a timer of an earlier life of a pod or node does nothing
// (epochs); a node without power or network reads and writes nothing.
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/json.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/informer.hpp"
#include "orchestra/simulator.hpp"
#include "sim/sim_env.hpp"

namespace orchestra::sim {

struct ModelEvents {
  /// A pod begins or ends to answer requests.
  std::function<void(const Object& pod, bool serving)> serving;
  /// A container ended by itself, where it should not.
  std::function<void(const Object& pod)> crashed;
  /// The containers of a pod are gone with their node.
  std::function<void(const Object& pod)> lost;
};

class NodeModels {
 public:
  /// Nodes take the clients in turn.
  NodeModels(Engine& engine, std::vector<Client> clients, const SimScenario& scenario, ModelEvents events);

  /// Registers all nodes; they are up at once. The cache shows the pods.
  Result<void> start(const ObjectCache& pods);
  /// The watch on pods.
  void pod_changed(const Object& old, const Object& now);

  std::size_t size() const { return nodes_.size(); }
  std::size_t alive() const { return alive_; }
  const std::string& name(std::size_t index) const { return nodes_[index].name; }
  std::vector<std::string> in_zone(const std::string& zone) const;
  /// One that has power, drawn; empty: none.
  std::string draw_alive();
  bool is_alive(const std::string& name) const;
  bool serving(const std::string& uid) const;

  bool kill(const std::string& name);
  /// After the time a boot takes. A node that runs restarts.
  bool boot(const std::string& name);
  bool connect(const std::string& name, bool connected);
  /// Its probes come back in time, or not: then no pod there is Ready.
  bool slow_probes(const std::string& name, bool slow);
  /// Whose object was deleted registers again.
  bool announce(const std::string& name);
  /// Whether heartbeats are not written but asked for: heard().
  bool vouches() const { return scenario_.peers == 1 && !scenario_.model.every_renewal; }
  /// The steady time at which the control plane would have read the last heartbeat of a node, were it
  /// written; nullopt: it wrote none, or they are written.
  std::optional<std::int64_t> heard(const std::string& name) const;
  /// Its wall clock is set by so much; it measures times as before.
  bool step_clock(const std::string& name, Duration by);
  /// It has had power and network for so long.
  bool well_for(const std::string& name, Duration time) const;
  /// Images that a node has not can be had, or not.
  void registry(bool up) { registry_up_ = up; }

  SimRandom& random() { return random_; }
  Duration draw(const SimRange& range);

 private:
  struct Node {
    std::string name, zone, address;
    const SimNodes* shape = nullptr;
    bool power = true, connected = true, slow_probes = false;
    std::uint64_t epoch = 0;
    std::set<std::string> images, pods;  // pods by UID, of those it knows
    std::uint64_t next_address = 1;
    std::int64_t clock_ahead_ns = 0;  // of its wall clock
    // Steady times.
    std::int64_t reachable_since_ns = 0;
    std::int64_t beat_ns = 0;   // its last heartbeat
    std::int64_t told_ns = 0;   // what its lease says; 0: unknown
    std::int64_t heard_ns = 0;  // when a renewal of the last heartbeat would have been read
  };
  struct Run {
    Object pod;
    std::size_t node = 0;
    enum class State : std::uint8_t {
      starting,
      running,
      ready,
      waiting,
      ended,
      stopping
    } state = State::starting;
    std::uint64_t epoch = 0;
    std::int64_t restarts = 0;
    std::int64_t started_ns = 0;  // steady
    std::int64_t started_wall_ns = 0, created_wall_ns = 0;
    bool failed = false, serving = false, pull_failed = false;
    Duration backoff = std::chrono::seconds(10), pull_backoff = std::chrono::seconds(10);
    std::string address;
  };

  std::int64_t steady() const { return engine_.clock().now().steady_ns; }
  std::int64_t wall_of(const Node& node, std::int64_t steady_ns) const;
  bool reachable(const Node& node) const { return node.power && node.connected; }
  Node* find(const std::string& name);
  json::object node_object(const Node& node) const;
  std::string node_status(const Node& node) const;
  void write_node_status(const Node& node);
  void heartbeat(std::size_t bucket);
  void vouch(std::size_t bucket, std::int64_t beat_ns);
  void renew(std::size_t index, std::int64_t beat_ns);
  void fall_silent(const Node& node);
  void resync(Node& node);

  void begin(const Object& pod, std::size_t node);
  void fetch(const std::string& uid, Run& run);
  void register_node(Node& node);
  void later(const std::string& uid, Run& run, Duration delay,
             void (NodeModels::*step)(const std::string&, Run&));
  void started(const std::string& uid, Run& run);
  void became_ready(const std::string& uid, Run& run);
  void came_to_end(const std::string& uid, Run& run);
  void crash(const std::string& uid, Run& run);
  void fall(const std::string& uid, Run& run);
  void stop(const std::string& uid, Run& run);
  void stopped(const std::string& uid, Run& run);
  void forget(const std::string& uid);
  void set_serving(Run& run);
  void write_status(const std::string& uid, const Run& run);
  std::string status_of(const Run& run) const;
  struct Write {
    ApiRequest request;
    std::string uid;       // of the pod; empty: it is about the node
    std::size_t node = 0;  // who writes
  };
  void write(Write write);
  void flush();
  void send(const Client& client, std::vector<Write> writes);
  void again(Write write);

  Engine& engine_;
  const std::vector<Client> clients_;
  const SimScenario& scenario_;
  const ModelEvents events_;
  SimRandom random_;
  const std::int64_t wall_ahead_ns_;  // of the steady clock, where no clock was set
  const ObjectCache* pods_ = nullptr;
  std::vector<Node> nodes_;
  std::unordered_map<std::string, std::size_t> by_name_;
  std::unordered_map<std::string, Run> runs_;  // by UID; never walked
  std::size_t alive_ = 0;
  std::uint64_t epochs_ = 0;
  std::vector<Write> writes_;
  bool flushing_ = false, registry_up_ = true;
};

}  // namespace orchestra::sim
