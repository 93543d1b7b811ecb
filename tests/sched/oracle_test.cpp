// place() against a second evaluator, written from the rules and not from the code: slow and obvious. Random
// clusters, random pods; the feasible set, every reason and the winner must be equal, and the incremental
// sums must equal a recount after thousands of changes.
#include <algorithm>
#include <cmath>
#include <random>

#include "orchestra/scheduling_snapshot.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

namespace {

struct Oracle {
  std::vector<NodeShape> nodes;
  std::vector<std::pair<PodShape, std::string>> pods;

  std::vector<PodShape> on(const std::string& node) const {
    std::vector<PodShape> here;
    for (const auto& [pod, at] : pods) {
      if (at == node) here.push_back(pod);
    }
    return here;
  }

  static bool tolerated(const PodShape& pod, const NodeTaint& taint) {
    for (const Toleration& t : pod.tolerations) {
      const bool effect = t.effect.empty() || t.effect == taint.effect;
      const bool all_keys = t.key.empty() && t.op == "Exists";
      const bool key = all_keys || (!t.key.empty() && t.key == taint.key);
      const bool value = t.op == "Exists" || t.value == taint.value;
      if (effect && key && value) return true;
    }
    return false;
  }

  static bool label_holds(const NodeRequirement& r, const std::map<std::string, std::string>& labels) {
    const bool has = labels.count(r.key) > 0;
    const std::string value = has ? labels.at(r.key) : "";
    const bool in = has && std::count(r.values.begin(), r.values.end(), value) > 0;
    if (r.op == "In") return in;
    if (r.op == "NotIn") return !in;
    if (r.op == "Exists") return has;
    if (r.op == "DoesNotExist") return !has;
    if (!has) return false;
    try {
      std::size_t used = 0;
      const long left = std::stol(value, &used);
      if (used != value.size()) return false;
      const long right = std::stol(r.values.at(0));
      return r.op == "Gt" ? left > right : left < right;
    } catch (const std::exception&) {
      return false;
    }
  }

  static bool term_holds(const NodeTerm& term, const NodeShape& node) {
    if (term.labels.empty() && term.fields.empty()) return false;
    bool all = true;
    for (const NodeRequirement& r : term.labels) all = all && label_holds(r, node.labels);
    for (const NodeRequirement& r : term.fields) all = all && label_holds(r, {{"metadata.name", node.name}});
    return all;
  }

  static bool clash(const PodPort& a, const PodPort& b) {
    const bool wild =
        a.address == "0.0.0.0" || b.address == "0.0.0.0" || a.address == "::" || b.address == "::";
    return a.port == b.port && a.protocol == b.protocol && (wild || a.address == b.address);
  }

  std::vector<std::string> reasons(const PodShape& pod, const NodeShape& node) const {
    if (node.unschedulable && !tolerated(pod, {"node.kubernetes.io/unschedulable", "", "NoSchedule"})) {
      return {"node(s) were unschedulable"};
    }
    if (!pod.node_name.empty() && pod.node_name != node.name) {
      return {"node(s) didn't match the requested node name"};
    }
    for (const NodeTaint& taint : node.taints) {
      if (taint.effect != "PreferNoSchedule" && !tolerated(pod, taint))
        return {"node(s) had untolerated taint(s)"};
    }
    bool affinity = true;
    for (const auto& [key, value] : pod.node_selector) {
      affinity = affinity && node.labels.count(key) > 0 && node.labels.at(key) == value;
    }
    if (pod.required_terms) {
      bool any = false;
      for (const NodeTerm& term : *pod.required_terms) any = any || term_holds(term, node);
      affinity = affinity && any;
    }
    if (!affinity) return {"node(s) didn't match Pod's node affinity/selector"};
    for (const PodShape& other : on(node.name)) {
      auto mine = pod.host_ports;
      auto theirs = other.host_ports;
      if (node.shares_ports) {
        mine.insert(mine.end(), pod.container_ports.begin(), pod.container_ports.end());
        theirs.insert(theirs.end(), other.container_ports.begin(), other.container_ports.end());
      }
      for (const PodPort& a : mine) {
        for (const PodPort& b : theirs) {
          if (clash(a, b)) return {"node(s) didn't have free ports for the requested pod ports"};
        }
      }
    }
    std::vector<std::string> lacking;
    const auto here = on(node.name);
    if (node.allocatable.count("pods") > 0 &&
        static_cast<std::int64_t>(here.size()) + 1 > node.allocatable.at("pods")) {
      lacking.emplace_back("Too many pods");
    }
    for (const auto& [resource, wanted] : pod.requests) {
      if (wanted == 0) continue;
      std::int64_t used = 0;
      for (const PodShape& other : here)
        used += other.requests.count(resource) > 0 ? other.requests.at(resource) : 0;
      const std::int64_t total = node.allocatable.count(resource) > 0 ? node.allocatable.at(resource) : 0;
      if (used + wanted > total) lacking.push_back("Insufficient " + resource);
    }
    return lacking;
  }

  std::int64_t resource_scores(const PodShape& pod, const NodeShape& node) const {
    std::int64_t cpu = pod.score_millicores;
    std::int64_t memory = pod.score_memory_bytes;
    std::int64_t real_cpu = pod.requests.count("cpu") > 0 ? pod.requests.at("cpu") : 0;
    std::int64_t real_memory = pod.requests.count("memory") > 0 ? pod.requests.at("memory") : 0;
    const bool asks = real_cpu > 0 || real_memory > 0;
    for (const PodShape& other : on(node.name)) {
      cpu += other.score_millicores;
      memory += other.score_memory_bytes;
      if (other.requests.count("cpu") > 0) real_cpu += other.requests.at("cpu");
      if (other.requests.count("memory") > 0) real_memory += other.requests.at("memory");
    }
    const std::int64_t all_cpu = node.allocatable.at("cpu");
    const std::int64_t all_memory = node.allocatable.at("memory");
    const std::int64_t free_cpu = cpu > all_cpu ? 0 : (all_cpu - cpu) * 100 / all_cpu;
    const std::int64_t free_memory = memory > all_memory ? 0 : (all_memory - memory) * 100 / all_memory;
    const std::int64_t least = (free_cpu + free_memory) / 2;
    const double f1 = std::min(1.0, static_cast<double>(real_cpu) / static_cast<double>(all_cpu));
    const double f2 = std::min(1.0, static_cast<double>(real_memory) / static_cast<double>(all_memory));
    const auto balanced = static_cast<std::int64_t>((1 - std::abs((f1 - f2) / 2)) * 100);
    return least + (asks ? balanced : 0);
  }

  // Empty: unschedulable.
  std::string winner(const PodShape& pod) const {
    std::vector<const NodeShape*> feasible;
    for (const NodeShape& node : nodes) {
      if (reasons(pod, node).empty()) feasible.push_back(&node);
    }
    const auto bad_taints = [&](const NodeShape& node) {
      std::int64_t count = 0;
      for (const NodeTaint& taint : node.taints) {
        if (taint.effect == "PreferNoSchedule" && !tolerated(pod, taint)) ++count;
      }
      return count;
    };
    const auto weight = [&](const NodeShape& node) {
      std::int64_t sum = 0;
      for (const NodeTerm& term : pod.preferred_terms) sum += term_holds(term, node) ? term.weight : 0;
      return sum;
    };
    std::int64_t most_taints = 0;
    std::int64_t most_weight = 0;
    for (const NodeShape* node : feasible) {
      most_taints = std::max(most_taints, bad_taints(*node));
      most_weight = std::max(most_weight, weight(*node));
    }
    std::string best;
    std::int64_t best_score = -1;
    for (const NodeShape* node : feasible) {
      std::int64_t score = resource_scores(pod, *node);
      score += 3 * (most_taints == 0 ? 100 : 100 - bad_taints(*node) * 100 / most_taints);
      score += 2 * (most_weight == 0 ? 0 : weight(*node) * 100 / most_weight);
      if (score > best_score || (score == best_score && node->name < best)) {
        best = node->name;
        best_score = score;
      }
    }
    return best;
  }
};

struct Generator {
  std::mt19937 random;
  int serial = 0;
  std::int64_t pick(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random() % static_cast<unsigned>(high - low + 1));
  }
  bool chance(int percent) { return pick(1, 100) <= percent; }
  template <class T>
  T one_of(std::initializer_list<T> values) {
    return *(values.begin() + pick(0, static_cast<std::int64_t>(values.size()) - 1));
  }

  NodeTaint taint() {
    return {one_of<std::string>({"gpu", "spot"}), one_of<std::string>({"", "yes"}),
            one_of<std::string>({"NoSchedule", "PreferNoSchedule", "NoExecute"})};
  }
  NodeShape node(int index) {
    NodeShape node;
    node.name = "n" + std::to_string(index);
    node.allocatable = {{"cpu", pick(500, 8000)}, {"memory", pick(1, 16) << 30}, {"pods", pick(2, 12)}};
    if (chance(30)) node.allocatable["example.com/gpu"] = pick(0, 4);
    if (chance(70)) node.labels["zone"] = one_of<std::string>({"a", "b", "c"});
    if (chance(50)) node.labels["size"] = std::to_string(pick(1, 9));
    while (chance(30)) node.taints.push_back(taint());
    node.unschedulable = chance(10);
    node.shares_ports = chance(30);
    return node;
  }
  NodeRequirement requirement() {
    const std::string op = one_of<std::string>({"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"});
    const bool number = op == "Gt" || op == "Lt";
    NodeRequirement r{number ? "size" : one_of<std::string>({"zone", "size"}), op, {}};
    if (number) r.values = {std::to_string(pick(1, 9))};
    if (op == "In" || op == "NotIn") r.values = {one_of<std::string>({"a", "b", "3"}), "c"};
    return r;
  }
  NodeTerm term() {
    NodeTerm term;
    while (chance(60)) term.labels.push_back(requirement());
    if (chance(15)) term.fields.push_back({"metadata.name", "In", {"n" + std::to_string(pick(0, 9))}});
    term.weight = pick(1, 100);
    return term;
  }
  PodPort port() {
    return {one_of<std::string>({"TCP", "UDP"}), one_of<std::string>({"0.0.0.0", "10.0.0.1", "10.0.0.2"}),
            static_cast<int>(pick(80, 83))};
  }
  PodShape pod() {
    PodShape pod;
    pod.ns = "test";
    pod.name = pod.uid = "p" + std::to_string(serial++);
    if (chance(80)) pod.requests["cpu"] = pick(0, 3000);
    if (chance(80)) pod.requests["memory"] = pick(0, 6) << 30;
    if (chance(15)) pod.requests["example.com/gpu"] = pick(1, 2);
    pod.score_millicores =
        std::max<std::int64_t>(100, pod.requests.count("cpu") > 0 ? pod.requests["cpu"] : 0);
    pod.score_memory_bytes =
        std::max<std::int64_t>(200 << 20, pod.requests.count("memory") > 0 ? pod.requests["memory"] : 0);
    if (chance(20)) pod.node_selector["zone"] = one_of<std::string>({"a", "b", "z"});
    if (chance(20)) {
      pod.required_terms.emplace();
      while (chance(60)) pod.required_terms->push_back(term());
    }
    while (chance(20)) pod.preferred_terms.push_back(term());
    while (chance(40)) {
      pod.tolerations.push_back({one_of<std::string>({"gpu", "spot", "", "node.kubernetes.io/unschedulable"}),
                                 one_of<std::string>({"Exists", "Equal"}), one_of<std::string>({"", "yes"}),
                                 one_of<std::string>({"", "NoSchedule", "NoExecute"})});
    }
    if (chance(5)) pod.node_name = "n" + std::to_string(pick(0, 9));
    while (chance(20)) pod.host_ports.push_back(port());
    while (chance(20)) pod.container_ports.push_back({"TCP", "0.0.0.0", static_cast<int>(pick(80, 83))});
    pod.priority = pick(0, 2);
    return pod;
  }
};

}  // namespace

TEST_CASE("every decision equals that of a slow evaluator written from the rules") {
  for (unsigned seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    Generator make{std::mt19937(seed)};
    SchedulingSnapshot snapshot;
    Oracle oracle;
    const std::int64_t nodes = make.pick(1, 20);
    for (int i = 0; i < nodes; ++i) {
      oracle.nodes.push_back(make.node(i));
      snapshot.set_node(oracle.nodes.back());
    }
    for (int i = 0; i < 40; ++i) {
      const PodShape pod = make.pod();
      const Decision decision = place(snapshot, pod);
      for (const NodeVerdict& verdict : explain(snapshot, pod)) {
        const auto shape = std::find_if(oracle.nodes.begin(), oracle.nodes.end(),
                                        [&](const NodeShape& n) { return n.name == verdict.node; });
        auto expected = oracle.reasons(pod, *shape);
        auto actual = verdict.reasons;
        std::sort(expected.begin(), expected.end());
        std::sort(actual.begin(), actual.end());
        REQUIRE(actual == expected);
        REQUIRE(fits(snapshot, pod, verdict.node) == expected.empty());
      }
      const std::string winner = oracle.winner(pod);
      if (winner.empty()) {
        REQUIRE(decision.unschedulable() != nullptr);
        REQUIRE(decision.unschedulable()->nodes == oracle.nodes.size());
      } else {
        REQUIRE(decision.placement() != nullptr);
        REQUIRE(decision.placement()->node == winner);
        snapshot.assume(pod, winner);
        oracle.pods.emplace_back(pod, winner);
      }
      if (make.chance(20) && !oracle.pods.empty()) {
        const std::size_t which = make.random() % oracle.pods.size();
        snapshot.forget(oracle.pods[which].first.uid);
        oracle.pods.erase(oracle.pods.begin() + static_cast<std::ptrdiff_t>(which));
      }
    }
  }
}

TEST_CASE("after thousands of changes the sums equal a recount") {
  Generator make{std::mt19937(11)};
  SchedulingSnapshot snapshot;
  std::map<std::string, std::pair<PodShape, std::string>> pods;
  std::map<std::string, NodeShape> nodes;
  for (int step = 0; step < 5000; ++step) {
    const std::string node = "n" + std::to_string(make.pick(0, 9));
    switch (make.pick(0, 4)) {
      case 0: {
        NodeShape shape = make.node(0);
        shape.name = node;
        snapshot.set_node(shape);
        nodes[node] = shape;
        break;
      }
      case 1:
        snapshot.remove_node(node);
        nodes.erase(node);
        break;
      case 2:
      case 3: {
        // New pods, and known ones that moved or changed.
        PodShape pod = make.pod();
        if (make.chance(30) && !pods.empty()) pod.uid = pods.begin()->first;
        snapshot.set_pod(pod, node);
        pods[pod.uid] = {pod, node};
        break;
      }
      default:
        if (pods.empty()) break;
        const std::string uid =
            std::next(pods.begin(), make.pick(0, static_cast<std::int64_t>(pods.size()) - 1))->first;
        CHECK(snapshot.remove_pod(uid) == pods[uid].second);
        pods.erase(uid);
    }
  }
  CHECK(snapshot.node_count() == nodes.size());
  CHECK(snapshot.pod_count() == pods.size());
  for (int i = 0; i < 10; ++i) {
    const std::string node = "n" + std::to_string(i);
    Amounts expected;
    std::int64_t count = 0;
    for (const auto& [uid, placed] : pods) {
      if (placed.second != node) continue;
      ++count;
      for (const auto& [resource, amount] : placed.first.requests) expected[resource] += amount;
    }
    std::erase_if(expected, [](const auto& entry) { return entry.second == 0; });
    if (nodes.count(node) > 0 || count > 0) expected["pods"] = count;
    CHECK(snapshot.used(node) == expected);
  }
}
