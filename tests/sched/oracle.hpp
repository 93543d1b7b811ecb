#pragma once
// A second evaluator of scheduling decisions, written from the published rules of kube-scheduler and not from
// our code: slow, obvious, without a counter or a cache. And a generator of random clusters for it.
#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "orchestra/scheduling_snapshot.hpp"

namespace orchestra::test {

using Labels = std::map<std::string, std::string>;

struct Oracle {
  std::vector<NodeShape> nodes;
  std::vector<std::pair<PodShape, std::string>> pods;
  std::map<std::string, Labels> namespaces;
  std::vector<VolumeShape> volumes;
  std::vector<ClaimShape> claims;
  std::vector<StorageClassShape> classes;
  std::vector<CapacityShape> capacities;
  std::set<std::string> telling;  // drivers that say how much room there is
  std::map<std::string, std::map<std::string, std::int64_t>> limits;  // node -> driver -> count

  std::vector<PodShape> on(const std::string& node) const {
    std::vector<PodShape> here;
    for (const auto& [pod, at] : pods) {
      if (at == node) here.push_back(pod);
    }
    return here;
  }
  const NodeShape* node_named(const std::string& name) const {
    for (const NodeShape& node : nodes) {
      if (node.name == name) return &node;
    }
    return nullptr;
  }

  // ---- labels ----

  static bool selects(const Selector& selector, const Labels& labels) {
    if (selector == Selector::nothing()) return false;
    for (const Selector::Requirement& r : selector.requirements()) {
      const bool has = labels.count(r.key) > 0;
      const bool in = has && std::count(r.values.begin(), r.values.end(), labels.at(r.key)) > 0;
      if (r.op == Selector::Operator::in && !in) return false;
      if (r.op == Selector::Operator::not_in && in) return false;
      if (r.op == Selector::Operator::exists && !has) return false;
      if (r.op == Selector::Operator::absent && has) return false;
    }
    return true;
  }

  bool term_selects(const PodTerm& term, const PodShape& pod) const {
    bool there = std::count(term.namespaces.begin(), term.namespaces.end(), pod.ns) > 0;
    if (term.namespace_selector) {
      const auto labels = namespaces.find(pod.ns);
      there =
          there || selects(*term.namespace_selector, labels == namespaces.end() ? Labels() : labels->second);
    }
    return there && selects(term.selector, pod.labels);
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

  static bool label_holds(const NodeRequirement& r, const Labels& labels) {
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

  static bool own_affinity(const PodShape& pod, const NodeShape& node) {
    for (const auto& [key, value] : pod.node_selector) {
      if (node.labels.count(key) == 0 || node.labels.at(key) != value) return false;
    }
    if (!pod.required_terms) return true;
    for (const NodeTerm& term : *pod.required_terms) {
      if (term_holds(term, node)) return true;
    }
    return false;
  }

  static bool hard_taints_tolerated(const PodShape& pod, const NodeShape& node) {
    for (const NodeTaint& taint : node.taints) {
      if (taint.effect != "PreferNoSchedule" && !tolerated(pod, taint)) return false;
    }
    return true;
  }

  static bool clash(const PodPort& a, const PodPort& b) {
    const bool wild =
        a.address == "0.0.0.0" || b.address == "0.0.0.0" || a.address == "::" || b.address == "::";
    return a.port == b.port && a.protocol == b.protocol && (wild || a.address == b.address);
  }

  // ---- topology spread ----

  static std::vector<SpreadConstraint> constraints(const PodShape& pod, bool hard) {
    std::vector<SpreadConstraint> all;
    if (!pod.spread.empty()) {
      for (const SpreadConstraint& each : pod.spread) {
        if (each.hard == hard) all.push_back(each);
      }
    } else if (pod.default_spread && !pod.default_spread->empty() && !hard) {
      SpreadConstraint host;
      host.topology_key = "kubernetes.io/hostname";
      host.max_skew = 3;
      host.hard = false;
      host.selector = *pod.default_spread;
      SpreadConstraint zone = host;
      zone.topology_key = "topology.kubernetes.io/zone";
      zone.max_skew = 5;
      all = {host, zone};
    }
    return all;
  }

  std::int64_t matching_on(const NodeShape& node, const SpreadConstraint& constraint,
                           const PodShape& pod) const {
    if (constraint.selector.empty()) return 0;
    std::int64_t count = 0;
    for (const PodShape& other : on(node.name)) {
      if (!other.terminating && other.ns == pod.ns && selects(constraint.selector, other.labels)) ++count;
    }
    return count;
  }

  static bool has_all_keys(const NodeShape& node, const std::vector<SpreadConstraint>& all) {
    for (const SpreadConstraint& each : all) {
      if (node.labels.count(each.topology_key) == 0) return false;
    }
    return true;
  }

  static bool included(const PodShape& pod, const NodeShape& node, const SpreadConstraint& c) {
    if (c.honor_affinity && !own_affinity(pod, node)) return false;
    return !c.honor_taints || hard_taints_tolerated(pod, node);
  }

  // No node would do even if nothing ran there: each has too little in all, or nobody has a key.
  bool never(const PodShape& pod) const {
    const auto large_enough = [&](const NodeShape& node) {
      for (const auto& [resource, wanted] : pod.requests) {
        const auto has = node.allocatable.find(resource);
        if (wanted > 0 && wanted > (has == node.allocatable.end() ? 0 : has->second)) return false;
      }
      return true;
    };
    std::set<std::string> keys;
    for (const SpreadConstraint& each : constraints(pod, true)) keys.insert(each.topology_key);
    for (const PodTerm& each : pod.affinity) keys.insert(each.topology_key);
    bool never = true;
    for (const NodeShape& node : nodes) never = never && !large_enough(node);
    for (const std::string& key : keys) {
      bool known = false;
      for (const NodeShape& node : nodes) known = known || node.labels.count(key) > 0;
      never = never || !known;
    }
    return never;
  }

  std::string spread_reason(const PodShape& pod, const NodeShape& node) const {
    const auto all = constraints(pod, true);
    for (const SpreadConstraint& c : all) {
      if (node.labels.count(c.topology_key) == 0)
        return "node(s) didn't match pod topology spread constraints (missing required label)";
      std::map<std::string, std::int64_t> counts;
      for (const NodeShape& other : nodes) {
        if (!has_all_keys(other, all) || !included(pod, other, c)) continue;
        counts[other.labels.at(c.topology_key)] += matching_on(other, c, pod);
      }
      std::int64_t least = counts.empty() ? 0 : counts.begin()->second;
      for (const auto& [value, count] : counts) least = std::min(least, count);
      if (static_cast<std::int64_t>(counts.size()) < c.min_domains) least = 0;
      const std::string here = node.labels.at(c.topology_key);
      const std::int64_t skew =
          (counts.count(here) > 0 ? counts[here] : 0) + (selects(c.selector, pod.labels) ? 1 : 0) - least;
      if (skew > c.max_skew) return "node(s) didn't match pod topology spread constraints";
    }
    return "";
  }

  // ---- pod affinity ----

  bool same_topology(const NodeShape& a, const std::string& other, const std::string& key) const {
    const NodeShape* b = node_named(other);
    return b != nullptr && a.labels.count(key) > 0 && b->labels.count(key) > 0 &&
           a.labels.at(key) == b->labels.at(key);
  }

  std::string affinity_reason(const PodShape& pod, const NodeShape& node) const {
    if (!pod.affinity.empty()) {
      bool all_found = true;
      bool anywhere = false;
      for (const PodTerm& term : pod.affinity) {
        if (node.labels.count(term.topology_key) == 0) return "node(s) didn't match pod affinity rules";
        bool found = false;
        for (const auto& [other, at] : pods) {
          bool matches_all = true;
          for (const PodTerm& each : pod.affinity) matches_all = matches_all && term_selects(each, other);
          if (!matches_all) continue;
          found = found || same_topology(node, at, term.topology_key);
          const NodeShape* there = node_named(at);
          anywhere = anywhere || (there != nullptr && there->labels.count(term.topology_key) > 0);
        }
        all_found = all_found && found;
      }
      bool matches_itself = true;
      for (const PodTerm& each : pod.affinity) matches_itself = matches_itself && term_selects(each, pod);
      if (!all_found && (anywhere || !matches_itself)) return "node(s) didn't match pod affinity rules";
    }
    for (const PodTerm& term : pod.anti_affinity) {
      for (const auto& [other, at] : pods) {
        if (term_selects(term, other) && same_topology(node, at, term.topology_key))
          return "node(s) didn't match pod anti-affinity rules";
      }
    }
    for (const auto& [other, at] : pods) {
      for (const PodTerm& term : other.anti_affinity) {
        if (term_selects(term, pod) && same_topology(node, at, term.topology_key))
          return "node(s) didn't satisfy existing pods anti-affinity rules";
      }
    }
    return "";
  }

  // ---- volumes ----

  const ClaimShape* claim_named(const std::string& ns, const std::string& name) const {
    for (const ClaimShape& claim : claims) {
      if (claim.ns == ns && claim.name == name) return &claim;
    }
    return nullptr;
  }
  const VolumeShape* volume_named(const std::string& name) const {
    for (const VolumeShape& volume : volumes) {
      if (volume.name == name) return &volume;
    }
    return nullptr;
  }
  const StorageClassShape* class_named(const std::string& name) const {
    for (const StorageClassShape& each : classes) {
      if (each.name == name) return &each;
    }
    return nullptr;
  }
  static bool reachable(const std::optional<std::vector<NodeTerm>>& terms, const NodeShape& node) {
    if (!terms) return true;
    for (const NodeTerm& term : *terms) {
      if (term_holds(term, node)) return true;
    }
    return false;
  }

  // One reason for all nodes.
  std::string for_all(const PodShape& pod) const {
    for (const std::string& name : pod.claims) {
      const ClaimShape* claim = claim_named(pod.ns, name);
      if (claim == nullptr) return "persistentvolumeclaim \"" + name + "\" not found";
      if (claim->deleting) return "persistentvolumeclaim \"" + name + "\" is being deleted";
      if (claim->bound) continue;
      const StorageClassShape* storage_class = class_named(claim->storage_class);
      if (storage_class == nullptr || !storage_class->waits_for_pod)
        return "pod has unbound immediate PersistentVolumeClaims";
    }
    return "";
  }

  std::set<std::string> csi_ids(const PodShape& pod, const std::string& driver) const {
    std::set<std::string> ids;
    for (const std::string& name : pod.claims) {
      const ClaimShape* claim = claim_named(pod.ns, name);
      if (claim == nullptr) continue;
      if (const VolumeShape* volume = volume_named(claim->volume)) {
        if (volume->driver == driver) ids.insert(volume->handle);
      } else if (const StorageClassShape* storage_class = class_named(claim->storage_class)) {
        if (storage_class->provisioner == driver) ids.insert(pod.ns + "/" + name);
      }
    }
    return ids;
  }

  std::vector<std::string> volume_reasons(const PodShape& pod, const NodeShape& node) const {
    for (const std::string& name : pod.claims) {
      const ClaimShape* claim = claim_named(pod.ns, name);
      if (std::count(claim->access_modes.begin(), claim->access_modes.end(), "ReadWriteOncePod") == 0)
        continue;
      for (const auto& [other, at] : pods) {
        if (other.ns == pod.ns && std::count(other.claims.begin(), other.claims.end(), name) > 0) {
          return {
              "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"};
        }
      }
    }
    if (limits.count(node.name) > 0) {
      for (const auto& [driver, most] : limits.at(node.name)) {
        std::set<std::string> ids;
        for (const PodShape& other : on(node.name)) ids.merge(csi_ids(other, driver));
        const std::size_t before = ids.size();
        ids.merge(csi_ids(pod, driver));
        if (ids.size() > before && static_cast<std::int64_t>(ids.size()) > most)
          return {"node(s) exceed max volume count"};
      }
    }
    std::vector<std::string> reasons;
    std::vector<const ClaimShape*> unbound;
    bool conflict = false;
    bool missing = false;
    for (const std::string& name : pod.claims) {
      const ClaimShape* claim = claim_named(pod.ns, name);
      if (!claim->bound) {
        unbound.push_back(claim);
        continue;
      }
      const VolumeShape* volume = volume_named(claim->volume);
      if (volume == nullptr) {
        missing = true;
      } else if (!reachable(volume->required_terms, node)) {
        conflict = true;
      }
    }
    std::sort(unbound.begin(), unbound.end(), [](const ClaimShape* a, const ClaimShape* b) {
      return a->bytes != b->bytes ? a->bytes < b->bytes : a->name < b->name;
    });
    bool unsatisfied = false;
    bool no_room = false;
    std::set<std::string> given;
    for (const ClaimShape* claim : unbound) {
      const VolumeShape* best = nullptr;
      for (const VolumeShape& volume : volumes) {
        bool modes = true;
        for (const std::string& mode : claim->access_modes) {
          modes = modes && std::count(volume.access_modes.begin(), volume.access_modes.end(), mode) > 0;
        }
        if (volume.storage_class != claim->storage_class || !volume.claim.empty() || !volume.available ||
            given.count(volume.name) > 0 || volume.bytes < claim->bytes || volume.mode != claim->mode ||
            !modes || !reachable(volume.required_terms, node)) {
          continue;
        }
        if (best == nullptr || volume.bytes < best->bytes ||
            (volume.bytes == best->bytes && volume.name < best->name)) {
          best = &volume;
        }
      }
      if (best != nullptr) {
        given.insert(best->name);
        continue;
      }
      const StorageClassShape* storage_class = class_named(claim->storage_class);
      bool allowed = storage_class->topologies.empty();
      for (const NodeTerm& term : storage_class->topologies) allowed = allowed || term_holds(term, node);
      if (!allowed || storage_class->provisioner == "kubernetes.io/no-provisioner") {
        unsatisfied = true;
        break;
      }
      if (telling.count(storage_class->provisioner) == 0) continue;
      bool room = false;
      for (const CapacityShape& each : capacities) {
        room = room || (each.storage_class == storage_class->name && each.nodes &&
                        each.nodes->matches(node.labels) && each.bytes >= 0 && each.bytes >= claim->bytes);
      }
      if (!room) {
        no_room = true;
        break;
      }
    }
    if (conflict) reasons.emplace_back("node(s) didn't match PersistentVolume's node affinity");
    if (unsatisfied) reasons.emplace_back("node(s) didn't find available persistent volumes to bind");
    if (no_room) reasons.emplace_back("node(s) did not have enough free storage");
    if (missing)
      reasons.emplace_back("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)");
    if (!reasons.empty()) return reasons;
    const std::string zone = "topology.kubernetes.io/zone";
    if (node.labels.count(zone) > 0) {
      for (const std::string& name : pod.claims) {
        const ClaimShape* claim = claim_named(pod.ns, name);
        const VolumeShape* volume = claim->bound ? volume_named(claim->volume) : nullptr;
        if (volume != nullptr && volume->labels.count(zone) > 0 &&
            volume->labels.at(zone) != node.labels.at(zone)) {
          return {"node(s) had no available volume zone"};
        }
      }
    }
    return {};
  }

  // ---- a node's reasons ----

  // Names that a PreFilter leaves; nullopt: all.
  static std::optional<std::set<std::string>> asked(const PodShape& pod) {
    if (!pod.required_terms || pod.required_terms->empty()) return std::nullopt;
    std::set<std::string> all;
    for (const NodeTerm& term : *pod.required_terms) {
      bool named = false;
      for (const NodeRequirement& field : term.fields) {
        if (field.op != "In") continue;
        named = true;
        all.insert(field.values.begin(), field.values.end());
      }
      if (!named) return std::nullopt;
    }
    return all;
  }

  std::vector<std::string> reasons(const PodShape& pod, const NodeShape& node) const {
    if (const auto names = asked(pod); names && names->count(node.name) == 0)
      return {"node(s) didn't satisfy plugin(s) [NodeAffinity]"};
    if (node.unschedulable && !tolerated(pod, {"node.kubernetes.io/unschedulable", "", "NoSchedule"}))
      return {"node(s) were unschedulable"};
    if (!pod.node_name.empty() && pod.node_name != node.name)
      return {"node(s) didn't match the requested node name"};
    if (!hard_taints_tolerated(pod, node)) return {"node(s) had untolerated taint(s)"};
    if (!own_affinity(pod, node)) return {"node(s) didn't match Pod's node affinity/selector"};
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
    if (!lacking.empty()) return lacking;
    if (!pod.claims.empty()) {
      auto of_volumes = volume_reasons(pod, node);
      if (!of_volumes.empty()) return of_volumes;
    }
    if (const std::string reason = spread_reason(pod, node); !reason.empty()) return {reason};
    if (const std::string reason = affinity_reason(pod, node); !reason.empty()) return {reason};
    return {};
  }

  // ---- scores ----

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

  std::int64_t image_score(const PodShape& pod, const NodeShape& node) const {
    if (pod.images.empty()) return 0;
    std::int64_t sum = 0;
    for (const std::string& image : pod.images) {
      if (node.images.count(image) == 0) continue;
      std::size_t have = 0;
      for (const NodeShape& other : nodes) have += other.images.count(image);
      sum += static_cast<std::int64_t>(static_cast<double>(node.images.at(image)) *
                                       (static_cast<double>(have) / static_cast<double>(nodes.size())));
    }
    const std::int64_t low = 23LL << 20;
    const std::int64_t high = static_cast<std::int64_t>(pod.images.size()) * (1000LL << 20);
    sum = std::max(low, std::min(high, sum));
    return 100 * (sum - low) / (high - low);
  }

  std::map<std::string, std::int64_t> spread_scores(const PodShape& pod,
                                                    const std::vector<const NodeShape*>& feasible) const {
    const auto all = constraints(pod, false);
    std::map<std::string, std::int64_t> normal;
    if (all.empty()) return normal;
    const bool needs_all = !pod.spread.empty();
    std::vector<const NodeShape*> scored;
    for (const NodeShape* node : feasible) {
      if (!needs_all || has_all_keys(*node, all)) scored.push_back(node);
    }
    std::map<std::string, std::int64_t> raw;
    for (const NodeShape* node : scored) {
      double score = 0;
      for (const SpreadConstraint& c : all) {
        if (node->labels.count(c.topology_key) == 0) continue;
        const bool host = c.topology_key == "kubernetes.io/hostname";
        std::set<std::string> domains;
        for (const NodeShape* other : scored) {
          if (other->labels.count(c.topology_key) > 0) domains.insert(other->labels.at(c.topology_key));
        }
        std::int64_t count = 0;
        if (host) {
          count = matching_on(*node, c, pod);
        } else {
          for (const NodeShape& other : nodes) {
            if (needs_all && !has_all_keys(other, all)) continue;
            if (!included(pod, other, c) || other.labels.count(c.topology_key) == 0) continue;
            if (other.labels.at(c.topology_key) == node->labels.at(c.topology_key))
              count += matching_on(other, c, pod);
          }
        }
        const double size = static_cast<double>(host ? scored.size() : domains.size());
        score += static_cast<double>(count) * std::log(size + 2) + static_cast<double>(c.max_skew - 1);
      }
      raw[node->name] = std::llround(score);
    }
    std::int64_t most = 0;
    std::int64_t least = raw.empty() ? 0 : raw.begin()->second;
    for (const auto& [name, score] : raw) {
      most = std::max(most, score);
      least = std::min(least, score);
    }
    for (const auto& [name, score] : raw)
      normal[name] = most == 0 ? 100 : 100 * (most + least - score) / most;
    return normal;
  }

  std::map<std::string, std::int64_t> affinity_scores(const PodShape& pod,
                                                      const std::vector<const NodeShape*>& feasible) const {
    std::map<std::string, std::int64_t> raw;
    for (const NodeShape* node : feasible) {
      std::int64_t sum = 0;
      for (const auto& [other, at] : pods) {
        const auto add = [&](const PodTerm& term, const PodShape& who, std::int64_t weight) {
          if (term_selects(term, who) && same_topology(*node, at, term.topology_key)) sum += weight;
        };
        for (const PodTerm& term : pod.preferred_affinity) add(term, other, term.weight);
        for (const PodTerm& term : pod.preferred_anti_affinity) add(term, other, -term.weight);
        for (const PodTerm& term : other.preferred_affinity) add(term, pod, term.weight);
        for (const PodTerm& term : other.preferred_anti_affinity) add(term, pod, -term.weight);
        for (const PodTerm& term : other.affinity) add(term, pod, 1);
      }
      raw[node->name] = sum;
    }
    if (raw.empty()) return raw;
    std::int64_t least = raw.begin()->second;
    std::int64_t most = least;
    for (const auto& [name, score] : raw) {
      least = std::min(least, score);
      most = std::max(most, score);
    }
    for (auto& [name, score] : raw) {
      score = most == least ? 0
                            : static_cast<std::int64_t>(100.0 * (static_cast<double>(score - least) /
                                                                 static_cast<double>(most - least)));
    }
    return raw;
  }

  // Total by node that would do.
  std::map<std::string, std::int64_t> totals(const PodShape& pod) const {
    std::map<std::string, std::int64_t> totals;
    if (!for_all(pod).empty()) return totals;
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
    auto spread = spread_scores(pod, feasible);
    auto affinity = affinity_scores(pod, feasible);
    for (const NodeShape* node : feasible) {
      std::int64_t score = resource_scores(pod, *node) + image_score(pod, *node);
      score += 3 * (most_taints == 0 ? 100 : 100 - bad_taints(*node) * 100 / most_taints);
      score += 2 * (most_weight == 0 ? 0 : weight(*node) * 100 / most_weight);
      score += 2 * spread[node->name] + 2 * affinity[node->name];
      totals[node->name] = score;
    }
    return totals;
  }

  /// The first name among the best; empty: unschedulable.
  std::string winner(const PodShape& pod) const {
    std::string best;
    std::int64_t best_score = -1;
    for (const auto& [name, score] : totals(pod)) {
      if (score > best_score) {
        best = name;
        best_score = score;
      }
    }
    return best;
  }
};

struct Generator {
  std::mt19937 random;
  bool topology = true, volumes = true;
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
            one_of<std::string>({"NoSchedule", "PreferNoSchedule", "PreferNoSchedule", "NoExecute"})};
  }
  NodeShape node(int index) {
    NodeShape node;
    node.name = "n" + std::to_string(index);
    node.allocatable = {{"cpu", pick(500, 8000)}, {"memory", pick(1, 16) << 30}, {"pods", pick(2, 12)}};
    if (chance(30)) node.allocatable["example.com/gpu"] = pick(0, 4);
    if (chance(70)) node.labels["zone"] = one_of<std::string>({"a", "b", "c"});
    if (chance(80)) node.labels["topology.kubernetes.io/zone"] = one_of<std::string>({"a", "b", "c"});
    if (chance(90)) node.labels["kubernetes.io/hostname"] = node.name;
    if (chance(50)) node.labels["size"] = std::to_string(pick(1, 9));
    while (chance(20)) node.taints.push_back(taint());
    node.unschedulable = chance(8);
    node.shares_ports = chance(30);
    while (chance(40)) node.images["image-" + std::to_string(pick(0, 3))] = pick(10, 3000) << 20;
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
  Labels labels() {
    Labels labels;
    if (chance(80)) labels["app"] = one_of<std::string>({"a", "b", "c"});
    if (chance(30)) labels["tier"] = one_of<std::string>({"front", "back"});
    return labels;
  }
  Selector selector() {
    switch (pick(0, 6)) {
      case 0:
        return Selector();
      case 1:
        return Selector::nothing();
      case 2:
        return Selector::parse("app in (a,b)").value();
      case 3:
        return Selector::parse("!tier").value();
      case 4:
        return Selector::parse("app notin (c)").value();
      default:
        return Selector::from_map({{"app", one_of<std::string>({"a", "b", "c"})}});
    }
  }
  std::string key() {
    return one_of<std::string>({"zone", "topology.kubernetes.io/zone", "kubernetes.io/hostname"});
  }
  PodTerm pod_term(const std::string& ns) {
    PodTerm term;
    term.topology_key = key();
    term.selector = selector();
    if (chance(70)) {
      term.namespaces = {ns};
    } else if (chance(50)) {
      term.namespaces = {"one", "two"};
    }
    if (chance(30)) {
      term.namespace_selector =
          one_of<Selector>({Selector(), Selector::nothing(), Selector::from_map({{"team", "x"}})});
    }
    term.weight = pick(1, 100);
    return term;
  }
  SpreadConstraint constraint() {
    SpreadConstraint made;
    made.topology_key = key();
    made.max_skew = pick(1, 3);
    made.min_domains = chance(20) ? pick(1, 4) : 1;
    made.hard = chance(50);
    if (!made.hard) made.min_domains = 1;
    made.selector = selector();
    made.honor_affinity = chance(70);
    made.honor_taints = chance(30);
    return made;
  }
  PodShape pod() {
    PodShape pod;
    pod.ns = one_of<std::string>({"one", "two", "three"});
    pod.name = pod.uid = "p" + std::to_string(serial++);
    pod.labels = labels();
    if (chance(80)) pod.requests["cpu"] = pick(0, 3000);
    if (chance(80)) pod.requests["memory"] = pick(0, 6) << 30;
    if (chance(15)) pod.requests["example.com/gpu"] = pick(1, 2);
    pod.score_millicores =
        std::max<std::int64_t>(100, pod.requests.count("cpu") > 0 ? pod.requests["cpu"] : 0);
    pod.score_memory_bytes =
        std::max<std::int64_t>(200 << 20, pod.requests.count("memory") > 0 ? pod.requests["memory"] : 0);
    if (chance(15)) pod.node_selector["zone"] = one_of<std::string>({"a", "b", "z"});
    if (chance(15)) {
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
    while (chance(50)) pod.images.push_back("image-" + std::to_string(pick(0, 4)));
    pod.priority = pick(0, 2);
    pod.started_ns = pick(1, 50);
    if (topology) {
      if (chance(25)) {
        do pod.spread.push_back(constraint());
        while (chance(40));
      } else if (chance(30)) {
        pod.default_spread = selector();
      }
      while (chance(10)) pod.affinity.push_back(pod_term(pod.ns));
      while (chance(15)) pod.anti_affinity.push_back(pod_term(pod.ns));
      while (chance(15)) pod.preferred_affinity.push_back(pod_term(pod.ns));
      while (chance(15)) pod.preferred_anti_affinity.push_back(pod_term(pod.ns));
    }
    if (volumes) {
      while (chance(8)) pod.claims.push_back("claim-" + std::to_string(pick(0, 5)));
      std::sort(pod.claims.begin(), pod.claims.end());
      pod.claims.erase(std::unique(pod.claims.begin(), pod.claims.end()), pod.claims.end());
    }
    return pod;
  }
  std::vector<std::string> modes() {
    std::vector<std::string> modes;
    if (chance(70)) modes.emplace_back("ReadWriteOnce");
    if (chance(25)) modes.emplace_back("ReadWriteOncePod");
    return modes;
  }
  VolumeShape volume(int index) {
    VolumeShape volume;
    volume.name = "pv-" + std::to_string(index);
    volume.storage_class = one_of<std::string>({"fast", "local", "slow"});
    volume.bytes = pick(1, 5) << 30;
    volume.access_modes = modes();
    if (chance(30)) volume.labels["topology.kubernetes.io/zone"] = one_of<std::string>({"a", "b", "c"});
    if (chance(40)) {
      volume.required_terms.emplace();
      NodeTerm term;
      term.labels.push_back({"zone", "In", {one_of<std::string>({"a", "b"})}});
      volume.required_terms->push_back(term);
    }
    if (chance(50)) {
      volume.driver = "csi.example.com";
      volume.handle = "handle-" + std::to_string(index);
    }
    volume.available = chance(80);
    return volume;
  }
  ClaimShape claim(const std::string& ns, int index) {
    ClaimShape claim;
    claim.ns = ns;
    claim.name = "claim-" + std::to_string(index);
    claim.uid = ns + "-" + claim.name;
    claim.storage_class = one_of<std::string>({"fast", "local", "slow", "none"});
    claim.bytes = pick(1, 4) << 30;
    claim.access_modes = modes();
    claim.deleting = chance(5);
    return claim;
  }
  void fill(Oracle& oracle, SchedulingSnapshot& snapshot) {
    oracle.namespaces = {{"one", {{"team", "x"}}}, {"two", {{"team", "y"}}}};
    for (const auto& [name, of] : oracle.namespaces) snapshot.set_namespace(name, of);
    NodeTerm zone_a;
    zone_a.labels.push_back({"zone", "In", {"a"}});
    oracle.classes = {{"fast", "csi.example.com", true, {}},
                      {"local", "kubernetes.io/no-provisioner", true, {}},
                      {"slow", "csi.example.com", chance(50), {zone_a}}};
    for (const StorageClassShape& each : oracle.classes) snapshot.set_storage_class(each);
    if (!volumes) return;
    if (chance(50)) oracle.telling.insert("csi.example.com");
    for (const std::string& driver : oracle.telling) snapshot.set_driver(driver, true);
    for (int i = 0; i < 4; ++i) {
      CapacityShape room;
      room.ns = "kube-system";
      room.name = "room-" + std::to_string(i);
      room.storage_class = one_of<std::string>({"fast", "slow"});
      if (chance(90)) room.nodes = Selector::from_map({{"zone", one_of<std::string>({"a", "b", "c"})}});
      if (chance(90)) room.bytes = pick(0, 4) << 30;
      oracle.capacities.push_back(room);
      snapshot.set_capacity(room);
    }
    for (int i = 0; i < 6; ++i) oracle.volumes.push_back(volume(i));
    for (const char* ns : {"one", "two"}) {
      for (int i = 0; i < 6; ++i) {
        if (chance(85)) oracle.claims.push_back(claim(ns, i));
      }
    }
    for (ClaimShape& each : oracle.claims) {
      if (!chance(50)) continue;
      VolumeShape& volume = oracle.volumes[random() % oracle.volumes.size()];
      if (!volume.claim.empty()) continue;
      each.volume = volume.name;
      each.bound = true;
      volume.claim = each.ns + "/" + each.name;
      volume.claim_uid = each.uid;
      if (chance(5)) each.volume = "pv-that-is-gone";
    }
    for (const VolumeShape& each : oracle.volumes) snapshot.set_volume(each);
    for (const ClaimShape& each : oracle.claims) snapshot.set_claim(each);
  }
};

}  // namespace orchestra::test
