#pragma once
// SimCluster: a whole cluster in virtual time. The API server, the store, the controllers and the scheduler
// are those of production, on one peer or on three or five that elect their leader; only the nodes are
// models, which start, run and lose pods by numbers drawn from a seed.
//
//   auto scenario = orchestra::SimScenario::from_yaml(text, "shop.yaml");
//   orchestra::SimCluster cluster(*scenario);
//   const orchestra::SimReport report = cluster.run();
//   if (!report.passed()) print(report.text());           // also csv(), json(), svg()
//
// Or step by step: start(), run_for(5min), kill_node("node-3"), client().list(..), report(). One seed decides
// everything: the same scenario gives the same report, byte for byte. docs/simulation.md has the scenario
// file. Not thread safe; each SimCluster is a world of its own. Since 0.2.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/client.hpp"

namespace orchestra {

/// A time drawn evenly between the two.
struct SimRange {
  Duration least{}, most{};
};

/// Nodes of one kind. Their names are `name` and a number: "node-0".
struct SimNodes {
  std::string name = "node";
  std::size_t count = 1;
  std::string cpu = "4", memory = "16Gi";
  std::size_t pods = 110;
  std::map<std::string, std::string> resources;  ///< extended ones
  std::vector<std::string> zones;                ///< in turn, as topology.kubernetes.io/zone
  std::map<std::string, std::string> labels;
  std::vector<std::string> taints;  ///< "key=value:Effect"
  bool exact_name = false;          ///< one node, whose name has no number (imported ones)
};

/// What the model of nodes and containers draws.
struct SimModel {
  SimRange pull{std::chrono::seconds(2), std::chrono::seconds(10)};  ///< of an image that is not there yet
  SimRange start{std::chrono::milliseconds(50), std::chrono::milliseconds(500)};
  SimRange ready{std::chrono::milliseconds(500), std::chrono::seconds(2)};  ///< from started to ready
  SimRange stop{std::chrono::milliseconds(100), std::chrono::seconds(1)};   ///< bounded by the grace period
  SimRange run{std::chrono::seconds(30), std::chrono::seconds(60)};         ///< of pods that come to an end
  SimRange boot{std::chrono::seconds(20), std::chrono::seconds(60)};
  double fail = 0;                                ///< share of the runs that end with an error
  double crashes_per_hour = 0;                    ///< of a container that should run on
  Duration heartbeat = std::chrono::seconds(10);  ///< renewals of a node's lease
  /// Every renewal of a Lease is written. False: with one peer the controller asks the models when it would
  /// have read one, so that a loss is noticed at the same time; with several, one in four is written
  /// (docs/simulation.md). Since 0.2.
  bool every_renewal = false;
  /// With several peers: one way between them, and from agents to them; one batch on the disk of their logs.
  /// Since 0.2.
  SimRange network{std::chrono::microseconds(500), std::chrono::milliseconds(2)};
  SimRange disk{std::chrono::microseconds(200), std::chrono::milliseconds(2)};
};

/// Requests on a Service, and what its pods can bear.
struct SimLoad {
  std::string service;             ///< "namespace/name"
  double requests_per_second = 0;  ///< on average; arrivals are drawn (Poisson)
  double daily = 0;                ///< 0..1: how much it swings over 24 hours, lowest at the start
  double per_pod = 100;            ///< requests that one pod answers in a second
  Duration latency = std::chrono::milliseconds(20);  ///< of one request to an idle pod
};

struct SimEvent {
  enum class Kind : std::uint8_t {
    kill_node,       ///< power off; with `lasts`: boots again after that
    partition_node,  ///< containers run on, nothing gets through
    restart_node,
    kill_zone,
    partition_zone,
    delete_pods,
    scale,
    apply,
    remove,
    cordon,
    uncordon,
    set_image,
    stop_controllers,  ///< controllers and scheduler; with `lasts`: until then
    kill_peer,  ///< of the control plane: power off; with `lasts`: it opens its disk again then. Since 0.2
    partition_peer,  ///< reaches no other peer and no agent. Since 0.2
    slow_disk,       ///< a peer's log takes up to 400 ms for each batch. Since 0.2
    hand_over,       ///< the leader of the store names another. Since 0.2
    drain,           ///< cordoned, and its pods evicted as budgets allow, each five seconds anew. Since 0.2
    delete_node,     ///< the object; the machine runs on. With `lasts`: it registers again then. Since 0.2
    slow_probes,     ///< of a node: its pods are not Ready, though they serve. Since 0.2
    registry_down,   ///< images that a node has not are not there. Since 0.2
    step_clock,  ///< the wall clock of one machine is set by `by`; with `lasts`: right again then. Since 0.3
  };
  Kind kind = Kind::kill_node;
  Duration at{};
  std::optional<Duration> lasts, every;  ///< `every`: again and again until `until`
  std::optional<Duration> until;
  /// Node ("random": drawn), zone, "[kind/]namespace/name" (delete_pods: "random" for those of all
  /// workloads); a peer ("a", "b", ...; "leader"; "random"). step_clock: a node or a peer; "control" is the
  /// machine of the one peer.
  std::string target;
  std::int64_t count = 1;  ///< pods to delete, replicas to scale to
  std::string text;        ///< image; objects to apply, as YAML
  Duration by{};           ///< of step_clock; negative: back. Since 0.3
  std::string place;       ///< "line 12 column 5" of the file
};

struct SimExpectation {
  enum class Kind : std::uint8_t { available, recovered, pending, completed, converged, served };
  Kind kind = Kind::available;
  std::string target;  ///< "[kind/]namespace/name"
  double bound = 0;    ///< available: at least; pending: at most; served: least share of requests
  Duration from{};
  std::optional<Duration> until;   ///< absent: to the end
  std::optional<Duration> within;  ///< recovered, completed, converged: at the latest `from` + this
  std::string place;
};

struct SimScenario {
  std::string name = "simulation";
  std::uint64_t seed = 1;
  Duration duration = std::chrono::minutes(10);
  std::optional<Duration> sample;  ///< between two rows of the report; absent: 500 rows
  /// Of the control plane. 1: a store in memory. 3 or 5: Raft stores under simulated disks and network, an
  /// API server on each, controllers and scheduler on the elected one. Since 0.2.
  std::size_t peers = 1;
  std::vector<SimNodes> nodes;
  SimModel model;
  std::vector<std::string> objects;  ///< YAML texts, applied when all nodes are there
  std::vector<SimLoad> load;
  std::vector<SimEvent> events;
  std::vector<SimExpectation> expect;
  /// Text of a file that the scenario names; given to from_yaml.
  using ReadFile = std::function<Result<std::string>(const std::string& path)>;
  /// `invalid` names file, line, column, value and what is right. `file` is for messages. The file adds to
  /// the nodes and objects of `base` (an imported cluster).
  ORC_API static Result<SimScenario> from_yaml(const std::string& text, const std::string& file = "scenario",
                                               const ReadFile& read = {}, const SimScenario* base = nullptr);
  /// Contradictions that only the whole shows. from_yaml and SimCluster::start call it.
  ORC_API Result<void> check() const;
};

/// "250ms", "90s", "1h30m", "2d"; at most 366 days.
ORC_API Result<Duration> parse_sim_duration(const std::string& text);

/// The cluster at one moment.
struct SimSample {
  Duration at{};
  std::size_t nodes_ready = 0, nodes_alive = 0;  ///< as the API says; in truth
  std::size_t pods = 0, pending = 0, ready = 0, serving = 0, ending = 0, done = 0, failed = 0;
  std::size_t queue = 0;                   ///< pods that the scheduler has to look at, or that fit nowhere
  std::uint64_t writes = 0;                ///< revisions of the store since the start
  std::uint64_t requests = 0, errors = 0;  ///< since the last sample, over all loads
  double latency_ms = 0;                   ///< mean of those
};

struct SimNote {
  Duration at{};
  std::string what;
};

struct SimReport {
  std::string name;
  std::uint64_t seed = 0;
  Duration simulated{};
  std::vector<SimNote> timeline;
  std::vector<SimSample> samples;
  std::vector<std::string> failures;    ///< expectations that did not hold
  std::vector<std::string> violations;  ///< invariants that broke
  std::vector<std::string> met;         ///< expectations that held, with numbers
  std::uint64_t pods_created = 0, pods_bound = 0, pods_lost = 0, containers_crashed = 0, writes = 0;
  std::uint64_t events = 0;     ///< steps of the simulator
  std::size_t peers = 1;        ///< of the control plane
  std::uint64_t elections = 0;  ///< of a leader of the store
  std::uint64_t requests = 0, errors = 0;
  std::uint64_t hash = 0;  ///< of everything that happened to nodes and pods, in order
  bool passed() const { return failures.empty() && violations.empty(); }
  ORC_API std::string text() const;
  ORC_API std::string csv() const;
  ORC_API std::string json() const;
  ORC_API std::string svg() const;
};

class ORC_API SimCluster {
 public:
  explicit SimCluster(SimScenario scenario);
  ~SimCluster();
  SimCluster(const SimCluster&) = delete;
  SimCluster& operator=(const SimCluster&) = delete;

  /// Boots the control plane and the nodes and applies the scenario's objects. `invalid` names what the API
  /// refused.
  Result<void> start();
  /// Moves the virtual clock; events and expectations of the scenario happen on the way.
  void run_for(Duration time);
  /// start(), the scenario's duration, report().
  SimReport run();
  SimReport report() const;

  /// Since start().
  Duration now() const;
  /// Administrator of the simulated cluster. A Pending of it comes true while the world runs: await() it.
  Client client() const;
  /// Lets the world go on until the answer is there.
  template <class T>
  Result<T> await(Pending<T> pending, Duration deadline = std::chrono::seconds(30)) {
    const Duration end = now() + deadline;
    while (!pending.is_ready() && now() < end) run_step(end);
    return pending.wait(Duration::zero());
  }
  Result<void> apply(const std::string& yaml);
  /// Something of SimEvent, now.
  Result<void> happen(SimEvent event);

 private:
  void run_step(Duration until);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace orchestra
