// SchedulingSnapshot: see snapshot.hpp. Nodes, pods and the counters that follow them.
#include "sched/snapshot.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "sched/evaluation.hpp"

namespace orchestra {

using namespace sched;

namespace {

// Changes that nobody has to have seen: whoever is further behind looks at all nodes again.
constexpr std::size_t kLogMax = 1u << 16;

template <class Key>
void count(std::map<Key, int>& counts, const Key& key, int by) {
  const auto it = counts.try_emplace(key, 0).first;
  it->second += by;
  ORC_ASSERT(it->second >= 0);
  if (it->second == 0) counts.erase(it);
}

std::string claim_key(const std::string& ns, const std::string& name) { return ns + "/" + name; }

template <class Map, class Shape>
bool replace(Map& map, const std::string& key, const Shape& shape) {
  const auto [it, fresh] = map.try_emplace(key, shape);
  if (!fresh && it->second == shape) return false;
  it->second = shape;
  return true;
}

}  // namespace

SchedulingSnapshot::Impl::Impl(SnapshotLimits bounds) : limits(bounds) {
  (void)resource("cpu");
  (void)resource("memory");
  taint_sets.emplace_back();
  taint_ids.emplace(std::string(), 0);
}

SchedulingSnapshot::Impl::~Impl() = default;

// A copy starts without remembered classes, and so without what they alone held on to.
SchedulingSnapshot::Impl::Impl(const Impl& other)
    : limits(other.limits),
      nodes(other.nodes),
      slots(other.slots),
      free_slots(other.free_slots),
      present(other.present),
      alive(other.alive),
      resources(other.resources),
      resource_ids(other.resource_ids),
      pods_total(other.pods_total),
      pods_used(other.pods_used),
      score_millicores(other.score_millicores),
      score_memory(other.score_memory),
      columns(other.columns),
      column_ids(other.column_ids),
      taint_sets(other.taint_sets),
      taint_ids(other.taint_ids),
      taint_set(other.taint_set),
      image_nodes(other.image_nodes),
      pods(other.pods),
      records(other.records),
      record_ids(other.record_ids),
      free_records(other.free_records),
      label_classes(other.label_classes),
      label_class_ids(other.label_class_ids),
      free_label_classes(other.free_label_classes),
      matchers(other.matchers),
      matcher_ids(other.matcher_ids),
      free_matchers(other.free_matchers),
      terms(other.terms),
      term_ids(other.term_ids),
      free_terms(other.free_terms),
      namespaces(other.namespaces),
      nominations(other.nominations),
      volumes(other.volumes),
      claims(other.claims),
      storage_classes(other.storage_classes),
      capacities(other.capacities),
      drivers_that_tell_capacity(other.drivers_that_tell_capacity),
      volumes_by_class(other.volumes_by_class),
      profiles(other.profiles) {
  for (NodeState& node : nodes) {
    node.pods.clear();
    node.nominated.clear();
  }
  // In the order of the original's lists: whoever walks a node's pods finds them as there.
  for (const NodeState& node : other.nodes) {
    for (const PlacedPod* pod : node.pods) nodes[pod->slot].pods.push_back(&*pods.find(pod->uid));
    for (const Nomination* each : node.nominated)
      nodes[each->slot].nominated.push_back(&nominations.at(each->pod.uid));
  }
  for (const auto& [key, users] : other.claim_users) {
    for (const PlacedPod* pod : users) claim_users[key].push_back(&*pods.find(pod->uid));
  }
  for (const auto& [key, remembered] : other.evaluations) remembered.evaluation->release(*this);
}

SchedulingSnapshot::SchedulingSnapshot(SnapshotLimits limits) : impl_(std::make_unique<Impl>(limits)) {}
SchedulingSnapshot::~SchedulingSnapshot() = default;
SchedulingSnapshot::SchedulingSnapshot(const SchedulingSnapshot& other)
    : impl_(std::make_unique<Impl>(*other.impl_)) {}
SchedulingSnapshot& SchedulingSnapshot::operator=(const SchedulingSnapshot& other) {
  if (this != &other) impl_ = std::make_unique<Impl>(*other.impl_);
  return *this;
}
SchedulingSnapshot::SchedulingSnapshot(SchedulingSnapshot&&) noexcept = default;
SchedulingSnapshot& SchedulingSnapshot::operator=(SchedulingSnapshot&&) noexcept = default;

SchedulingSnapshot SchedulingSnapshot::from_objects(const std::vector<Object>& nodes,
                                                    const std::vector<Object>& pods,
                                                    const std::vector<Object>& others) {
  SchedulingSnapshot snapshot;
  for (const Object& node : nodes) snapshot.set_node(NodeShape::from_object(node));
  for (const Object& object : others) {
    const std::string& kind = object.kind();
    if (kind == "Namespace") snapshot.set_namespace(object.name(), object.labels());
    if (kind == "PersistentVolume") snapshot.set_volume(VolumeShape::from_object(object));
    if (kind == "PersistentVolumeClaim") snapshot.set_claim(ClaimShape::from_object(object));
    if (kind == "StorageClass") snapshot.set_storage_class(StorageClassShape::from_object(object));
    if (kind == "CSINode") snapshot.set_volume_limits(object.name(), csi_limits_of(object));
    if (kind == "CSIStorageCapacity") snapshot.set_capacity(CapacityShape::from_object(object));
    if (kind == "CSIDriver")
      snapshot.set_driver(object.name(), object.get_bool("/spec/storageCapacity").value_or(false));
  }
  for (const Object& pod : pods) {
    const std::string phase = pod.get("/status/phase").value_or("");
    if (phase == "Succeeded" || phase == "Failed") continue;
    const PodShape shape = PodShape::from_object(pod);
    if (!shape.node_name.empty()) snapshot.set_pod(shape, shape.node_name);
  }
  return snapshot;
}

// ---- slots ----

Slot SchedulingSnapshot::Impl::slot_for(const std::string& name) {
  const auto [it, fresh] = slots.try_emplace(name, 0);
  if (!fresh) return it->second;
  Slot slot = 0;
  if (!free_slots.empty()) {
    slot = free_slots.back();
    free_slots.pop_back();
  } else {
    slot = static_cast<Slot>(nodes.size());
    nodes.emplace_back();
    alive.push_back(0);
    for (ResourceColumn& column : resources) {
      column.total.push_back(0);
      column.used.push_back(0);
    }
    for (auto* column : {&pods_total, &pods_used, &score_millicores, &score_memory}) column->push_back(0);
    for (LabelColumn& column : columns) column.of.push_back(0);
    for (Matcher& matcher : matchers) matcher.of.push_back(0);
    for (HeldTerm& term : terms) term.of.push_back(0);
    taint_set.push_back(0);
  }
  it->second = slot;
  nodes[slot].in_use = true;
  nodes[slot].shape.name = name;
  return slot;
}

void SchedulingSnapshot::Impl::maybe_free(Slot slot) {
  NodeState& node = nodes[slot];
  if (node.present || !node.pods.empty() || !node.volume_limits.empty() || !node.nominated.empty()) return;
  slots.erase(node.shape.name);
  const std::uint32_t generation = node.generation;
  const std::uint32_t shape_generation = node.shape_generation;
  node = NodeState();
  node.generation = generation + 1;
  node.shape_generation = shape_generation + 1;
  for (ResourceColumn& column : resources) {
    ORC_ASSERT(column.used[slot] == 0);
    column.total[slot] = 0;
  }
  for (LabelColumn& column : columns) column.of[slot] = 0;
  pods_total[slot] = 0;
  taint_set[slot] = 0;
  free_slots.push_back(slot);
}

void SchedulingSnapshot::Impl::touch(Slot slot) {
  ++nodes[slot].generation;
  if (log.size() >= kLogMax) {
    log.erase(log.begin(), log.begin() + kLogMax / 2);
    log_begin += kLogMax / 2;
  }
  log.push_back(slot);
}

Id SchedulingSnapshot::Impl::resource(const std::string& name) {
  const auto [it, fresh] = resource_ids.try_emplace(name, static_cast<Id>(resources.size()));
  if (!fresh) return it->second;
  ResourceColumn& column = resources.emplace_back();
  column.name = name;
  column.total.assign(nodes.size(), 0);
  column.used.assign(nodes.size(), 0);
  for (Slot slot = 0; slot < nodes.size(); ++slot) {
    const auto found = nodes[slot].shape.allocatable.find(name);
    if (nodes[slot].present && found != nodes[slot].shape.allocatable.end())
      column.total[slot] = found->second;
  }
  return it->second;
}

Id LabelColumn::id_of(const std::string& value) {
  const auto [it, fresh] = ids.try_emplace(value, static_cast<Id>(values.size()));
  if (fresh) values.push_back(value);
  return it->second;
}

Id SchedulingSnapshot::Impl::column(const std::string& key) {
  const auto [it, fresh] = column_ids.try_emplace(key, static_cast<Id>(columns.size()));
  if (!fresh) return it->second;
  LabelColumn& column = columns.emplace_back();
  column.key = key;
  column.of.assign(nodes.size(), 0);
  for (Slot slot = 0; slot < nodes.size(); ++slot) {
    const auto label = nodes[slot].shape.labels.find(key);
    if (nodes[slot].present && label != nodes[slot].shape.labels.end())
      column.of[slot] = column.id_of(label->second);
  }
  return it->second;
}

const std::map<std::string, std::string>& SchedulingSnapshot::Impl::labels_of_namespace(
    const std::string& ns) const {
  static const std::map<std::string, std::string> kNone;
  const auto found = namespaces.find(ns);
  return found == namespaces.end() ? kNone : found->second;
}

bool SchedulingSnapshot::set_node(const NodeShape& shape) {
  Impl& impl = *impl_;
  const Slot slot = impl.slot_for(shape.name);
  NodeState& node = impl.nodes[slot];
  if (node.present && node.shape == shape) return false;
  if (!node.present) {
    ++impl.present;
    ++impl.nodes_version;
  }
  if (!node.present || node.shape.images != shape.images) {
    ++impl.images_version;
    if (node.present) {
      for (const auto& [image, bytes] : node.shape.images) --impl.image_nodes[image];
    }
    for (const auto& [image, bytes] : shape.images) ++impl.image_nodes[image];
  }
  node.present = true;
  node.shape = shape;
  node.shared.reset();
  ++node.shape_generation;
  impl.alive[slot] = 1;
  for (const auto& [name, amount] : shape.allocatable) {
    if (name != "pods") (void)impl.resource(name);
  }
  for (ResourceColumn& column : impl.resources) {
    const auto found = shape.allocatable.find(column.name);
    column.total[slot] = found == shape.allocatable.end() ? 0 : found->second;
  }
  for (LabelColumn& column : impl.columns) {
    const auto label = shape.labels.find(column.key);
    column.of[slot] = label == shape.labels.end() ? 0 : column.id_of(label->second);
    // Names of nodes that are long gone: the column is numbered anew, and all classes with it.
    if (column.values.size() > 2 * impl.nodes.size() + 4096) {
      column.ids.clear();
      column.values.assign(1, std::string());
      for (Slot other = 0; other < impl.nodes.size(); ++other) {
        const auto& labels = impl.nodes[other].shape.labels;
        const auto value = labels.find(column.key);
        column.of[other] =
            impl.nodes[other].present && value != labels.end() ? column.id_of(value->second) : 0;
      }
      ++impl.columns_version;
    }
  }
  const auto pods = shape.allocatable.find("pods");
  impl.pods_total[slot] =
      pods == shape.allocatable.end() ? std::numeric_limits<std::int64_t>::max() : pods->second;
  std::string taints;
  for (const NodeTaint& taint : shape.taints)
    taints += taint.key + '\x1f' + taint.value + '\x1f' + taint.effect + '\x1e';
  const auto [known, fresh] = impl.taint_ids.try_emplace(taints, static_cast<Id>(impl.taint_sets.size()));
  if (fresh) impl.taint_sets.push_back(shape.taints);
  impl.taint_set[slot] = known->second;
  impl.touch(slot);
  return true;
}

bool SchedulingSnapshot::remove_node(const std::string& name) {
  Impl& impl = *impl_;
  const auto found = impl.slots.find(name);
  if (found == impl.slots.end() || !impl.nodes[found->second].present) return false;
  const Slot slot = found->second;
  NodeState& node = impl.nodes[slot];
  for (const auto& [image, bytes] : node.shape.images) {
    if (--impl.image_nodes[image] == 0) impl.image_nodes.erase(image);
  }
  node.present = false;
  impl.alive[slot] = 0;
  ++node.shape_generation;
  --impl.present;
  ++impl.nodes_version;
  ++impl.images_version;
  for (LabelColumn& column : impl.columns) column.of[slot] = 0;
  node.shape = NodeShape();
  node.shape.name = name;
  impl.touch(slot);
  impl.maybe_free(slot);
  return true;
}

// ---- interning ----

namespace {

struct Hasher {
  std::size_t value = 1469598103934665603ULL;
  void add(std::size_t more) {
    value ^= more + 0x9E3779B97F4A7C15ULL + (value << 6) + (value >> 2);
    value *= 0xff51afd7ed558ccdULL;
  }
  void add(const std::string& text) { add(std::hash<std::string>()(text)); }
};

}  // namespace

std::size_t rules_hash(const PodRules& rules) {
  Hasher hash;
  hash.add(rules.ns);
  for (const auto& [key, value] : rules.labels) {
    hash.add(key);
    hash.add(value);
  }
  for (const auto& [name, amount] : rules.requests) {
    hash.add(name);
    hash.add(static_cast<std::size_t>(amount));
  }
  for (const auto& [key, value] : rules.node_selector) {
    hash.add(key);
    hash.add(value);
  }
  for (const std::string& claim : rules.claims) hash.add(claim);
  for (const std::string& image : rules.images) hash.add(image);
  if (rules.required_terms) {
    for (const NodeTerm& term : *rules.required_terms) {
      for (const auto* list : {&term.labels, &term.fields}) {
        for (const NodeRequirement& each : *list) {
          hash.add(each.key);
          for (const std::string& value : each.values) hash.add(value);
        }
      }
    }
  }
  hash.add(static_cast<std::size_t>(rules.priority));
  for (const SpreadConstraint& each : rules.spread) {
    hash.add(each.topology_key);
    hash.add(each.selector.to_string());
    hash.add(static_cast<std::size_t>(each.max_skew * 8 + each.min_domains * 4 + each.hard));
  }
  for (const auto* list :
       {&rules.affinity, &rules.anti_affinity, &rules.preferred_affinity, &rules.preferred_anti_affinity}) {
    for (const PodTerm& term : *list) {
      hash.add(term.topology_key);
      hash.add(term.selector.to_string());
    }
  }
  for (const PodPort& port : rules.host_ports) hash.add(static_cast<std::size_t>(port.port));
  hash.add(rules.spread.size() + (rules.affinity.size() << 8) + (rules.anti_affinity.size() << 16) +
           (rules.tolerations.size() << 24) + (rules.host_ports.size() << 32) +
           (static_cast<std::size_t>(rules.terminating) << 40) +
           (static_cast<std::size_t>(rules.never_preempts) << 41));
  return hash.value;
}

namespace {

template <class Table>
Id take_slot(Table& table, std::vector<Id>& free) {
  if (!free.empty()) {
    const Id id = free.back();
    free.pop_back();
    return id;
  }
  table.emplace_back();
  return static_cast<Id>(table.size() - 1);
}

std::string key_of(const Selector& selector) {
  return selector == Selector::nothing() ? std::string("!") : selector.to_string();
}

std::string key_of(const PodTerm& term) {
  std::string key = key_of(term.selector) + '\x1e';
  for (const std::string& ns : term.namespaces) key += ns + ',';
  key += '\x1e';
  if (term.namespace_selector) key += "s" + key_of(*term.namespace_selector);
  return key;
}

void drop(std::vector<Id>& ids, Id id) { std::erase(ids, id); }

}  // namespace

bool sched::term_matches(const PodTerm& term, const std::string& ns,
                         const std::map<std::string, std::string>& namespace_labels,
                         const std::map<std::string, std::string>& labels) {
  const bool here = std::find(term.namespaces.begin(), term.namespaces.end(), ns) != term.namespaces.end() ||
                    (term.namespace_selector && term.namespace_selector->matches(namespace_labels));
  return here && term.selector.matches(labels);
}

bool SchedulingSnapshot::Impl::matcher_matches(const Matcher& matcher, const LabelClass& pods) const {
  if (matcher.skip_terminating && pods.terminating) return false;
  return std::all_of(matcher.terms.begin(), matcher.terms.end(), [&](const PodTerm& term) {
    return sched::term_matches(term, pods.ns, labels_of_namespace(pods.ns), pods.labels);
  });
}

bool SchedulingSnapshot::Impl::term_matches(const HeldTerm& term, const LabelClass& pods) const {
  return sched::term_matches(term.term, pods.ns, labels_of_namespace(pods.ns), pods.labels);
}

Id SchedulingSnapshot::Impl::acquire_label_class(const std::string& ns,
                                                 const std::map<std::string, std::string>& labels,
                                                 bool terminating) {
  std::string key = ns + (terminating ? "\x1e-" : "\x1e+");
  for (const auto& [name, value] : labels) key += name + '\x1f' + value + '\x1e';
  const auto [it, fresh] = label_class_ids.try_emplace(key, 0);
  if (!fresh) {
    ++label_classes[it->second].users;
    return it->second;
  }
  const Id id = take_slot(label_classes, free_label_classes);
  it->second = id;
  LabelClass& made = label_classes[id];
  const std::uint64_t version = made.terms_version + 1;
  made = LabelClass();
  made.key = std::move(key);
  made.ns = ns;
  made.labels = labels;
  made.terminating = terminating;
  made.terms_version = version;
  made.users = 1;
  for (Id i = 0; i < matchers.size(); ++i) {
    if (matchers[i].users > 0 && matcher_matches(matchers[i], made)) made.matchers.push_back(i);
  }
  for (Id i = 0; i < terms.size(); ++i) {
    if (terms[i].users > 0 && term_matches(terms[i], made)) made.terms.push_back(i);
  }
  return id;
}

void SchedulingSnapshot::Impl::release_label_class(Id id) {
  LabelClass& gone = label_classes[id];
  ORC_ASSERT(gone.users > 0);
  if (--gone.users > 0) return;
  ORC_ASSERT(gone.pods.empty());
  label_class_ids.erase(gone.key);
  gone.matchers.clear();
  gone.terms.clear();
  free_label_classes.push_back(id);
}

Id SchedulingSnapshot::Impl::acquire_matcher(std::vector<PodTerm> wanted, bool skip_terminating) {
  std::string key = skip_terminating ? "-" : "+";
  for (const PodTerm& term : wanted) key += key_of(term) + '\x1d';
  const auto [it, fresh] = matcher_ids.try_emplace(key, 0);
  if (!fresh) {
    ++matchers[it->second].users;
    return it->second;
  }
  const Id id = take_slot(matchers, free_matchers);
  it->second = id;
  Matcher& made = matchers[id];
  made = Matcher();
  made.key = std::move(key);
  made.terms = std::move(wanted);
  made.skip_terminating = skip_terminating;
  made.users = 1;
  made.of.assign(nodes.size(), 0);
  for (LabelClass& each : label_classes) {
    if (each.users == 0 || !matcher_matches(made, each)) continue;
    each.matchers.push_back(id);
    for (const auto& [slot, pods_there] : each.pods) made.of[slot] += pods_there;
  }
  return id;
}

void SchedulingSnapshot::Impl::release_matcher(Id id) {
  Matcher& gone = matchers[id];
  ORC_ASSERT(gone.users > 0);
  if (--gone.users > 0) return;
  matcher_ids.erase(gone.key);
  for (LabelClass& each : label_classes) drop(each.matchers, id);
  gone.terms.clear();
  free_matchers.push_back(id);
}

Id SchedulingSnapshot::Impl::acquire_term(const PodTerm& term, HeldKind kind, std::int64_t weight) {
  std::string key = std::to_string(static_cast<int>(kind)) + '\x1e' + std::to_string(weight) + '\x1e' +
                    term.topology_key + '\x1e' + key_of(term);
  const auto [it, fresh] = term_ids.try_emplace(key, 0);
  if (!fresh) {
    ++terms[it->second].users;
    return it->second;
  }
  const Id topology = column(term.topology_key);
  const Id id = take_slot(terms, free_terms);
  it->second = id;
  HeldTerm& made = terms[id];
  made = HeldTerm();
  made.key = std::move(key);
  made.term = term;
  made.kind = kind;
  made.weight = weight;
  made.column = topology;
  made.users = 1;
  made.of.assign(nodes.size(), 0);
  for (LabelClass& each : label_classes) {
    if (each.users == 0 || !term_matches(made, each)) continue;
    each.terms.push_back(id);
    ++each.terms_version;
  }
  return id;
}

void SchedulingSnapshot::Impl::release_term(Id id) {
  HeldTerm& gone = terms[id];
  ORC_ASSERT(gone.users > 0);
  if (--gone.users > 0) return;
  term_ids.erase(gone.key);
  for (LabelClass& each : label_classes) {
    const std::size_t before = each.terms.size();
    drop(each.terms, id);
    if (each.terms.size() != before) ++each.terms_version;
  }
  free_terms.push_back(id);
}

Id SchedulingSnapshot::Impl::acquire_record(const PodRules& rules) {
  const std::size_t hash = rules_hash(rules);
  const auto [begin, end] = record_ids.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    if (records[it->second].rules == rules) {
      ++records[it->second].users;
      return it->second;
    }
  }
  const Id id = take_slot(records, free_records);
  Record& made = records[id];
  made = Record();
  made.rules = rules;
  made.hash = hash;
  made.users = 1;
  for (const auto& [name, amount] : rules.requests) {
    if (amount > 0 && name != "pods") made.amounts.emplace_back(resource(name), amount);
  }
  made.label_class = acquire_label_class(rules.ns, rules.labels, rules.terminating);
  for (const PodTerm& term : rules.affinity)
    made.held.push_back(acquire_term(term, HeldKind::required_affinity, 0));
  for (const PodTerm& term : rules.anti_affinity)
    made.held.push_back(acquire_term(term, HeldKind::required_anti, 0));
  for (const PodTerm& term : rules.preferred_affinity)
    made.held.push_back(acquire_term(term, HeldKind::preferred, term.weight));
  for (const PodTerm& term : rules.preferred_anti_affinity)
    made.held.push_back(acquire_term(term, HeldKind::preferred, -term.weight));
  record_ids.emplace(hash, id);
  return id;
}

void SchedulingSnapshot::Impl::release_record(Id id) {
  Record& gone = records[id];
  ORC_ASSERT(gone.users > 0);
  if (--gone.users > 0) return;
  const auto [begin, end] = record_ids.equal_range(gone.hash);
  for (auto it = begin; it != end; ++it) {
    if (it->second != id) continue;
    record_ids.erase(it);
    break;
  }
  release_label_class(gone.label_class);
  for (const Id term : gone.held) release_term(term);
  gone = Record();
  free_records.push_back(id);
}

// ---- pods ----

void SchedulingSnapshot::Impl::apply(const PlacedPod& pod, int sign) {
  const Record& record = records[pod.record];
  NodeState& node = nodes[pod.slot];
  for (const auto& [id, amount] : record.amounts) resources[id].used[pod.slot] += sign * amount;
  score_millicores[pod.slot] += sign * record.rules.score_millicores;
  score_memory[pod.slot] += sign * record.rules.score_memory_bytes;
  pods_used[pod.slot] += sign;
  for (const PodPort& port : record.rules.host_ports) count(node.host_ports, port, sign);
  for (const PodPort& port : record.rules.container_ports) count(node.container_ports, port, sign);
  LabelClass& labels = label_classes[record.label_class];
  const auto here = labels.pods.try_emplace(pod.slot, 0).first;
  here->second += sign;
  ORC_ASSERT(here->second >= 0);
  if (here->second == 0) labels.pods.erase(here);
  for (const Id id : labels.matchers) matchers[id].of[pod.slot] += sign;
  for (const Id id : record.held) terms[id].of[pod.slot] += sign;
  touch(pod.slot);
}

void SchedulingSnapshot::set_pod(const PodShape& pod, const std::string& node) {
  (void)remove_pod(pod.uid);
  Impl& impl = *impl_;
  const Slot slot = impl.slot_for(node);
  const Id record = impl.acquire_record(pod);
  const PlacedPod& placed =
      *impl.pods.insert(PlacedPod{pod.uid, pod.name, record, slot, pod.started_ns}).first;
  impl.nodes[slot].pods.push_back(&placed);
  for (const std::string& claim : pod.claims) impl.claim_users[claim_key(pod.ns, claim)].push_back(&placed);
  impl.apply(placed, 1);
  if (!impl.nominations.empty()) remove_nomination(pod.uid);
}

std::string SchedulingSnapshot::remove_pod(const std::string& uid) {
  Impl& impl = *impl_;
  const auto found = impl.pods.find(uid);
  if (found == impl.pods.end()) return {};
  const PlacedPod& placed = *found;
  const Slot slot = placed.slot;
  const Id record = placed.record;
  impl.apply(placed, -1);
  std::erase(impl.nodes[slot].pods, &placed);
  const PodRules& rules = impl.records[record].rules;
  for (const std::string& claim : rules.claims) {
    const auto users = impl.claim_users.find(claim_key(rules.ns, claim));
    std::erase(users->second, &placed);
    if (users->second.empty()) impl.claim_users.erase(users);
  }
  std::string node = impl.nodes[slot].shape.name;
  impl.pods.erase(found);
  impl.release_record(record);
  impl.maybe_free(slot);
  return node;
}

void SchedulingSnapshot::nominate(const PodShape& pod, const std::string& node) {
  remove_nomination(pod.uid);
  const Slot slot = impl_->slot_for(node);
  const Id record = impl_->acquire_record(pod);
  const auto it = impl_->nominations.emplace(pod.uid, Nomination{pod, slot, record}).first;
  impl_->nodes[slot].nominated.push_back(&it->second);
  impl_->touch(slot);
}
void SchedulingSnapshot::remove_nomination(const std::string& uid) {
  const auto found = impl_->nominations.find(uid);
  if (found == impl_->nominations.end()) return;
  const Slot slot = found->second.slot;
  const Id record = found->second.record;
  std::erase(impl_->nodes[slot].nominated, &found->second);
  impl_->nominations.erase(found);
  impl_->release_record(record);
  impl_->touch(slot);
  impl_->maybe_free(slot);
}
std::string SchedulingSnapshot::nominated_node(const std::string& uid) const {
  const auto found = impl_->nominations.find(uid);
  return found == impl_->nominations.end() ? std::string() : impl_->nodes[found->second.slot].shape.name;
}

// ---- namespaces and volumes ----

bool SchedulingSnapshot::set_namespace(const std::string& name,
                                       const std::map<std::string, std::string>& labels) {
  Impl& impl = *impl_;
  if (impl.labels_of_namespace(name) == labels) return false;
  impl.namespaces[name] = labels;
  // Namespace selectors see it anew: who matches what, and with it what is counted where.
  for (LabelClass& each : impl.label_classes) {
    if (each.users == 0 || each.ns != name) continue;
    for (Id id = 0; id < impl.matchers.size(); ++id) {
      Matcher& matcher = impl.matchers[id];
      if (matcher.users == 0) continue;
      const auto it = std::find(each.matchers.begin(), each.matchers.end(), id);
      const bool was = it != each.matchers.end();
      const bool is = impl.matcher_matches(matcher, each);
      if (was == is) continue;
      if (was) {
        each.matchers.erase(it);
      } else {
        each.matchers.push_back(id);
      }
      for (const auto& [slot, pods] : each.pods) {
        matcher.of[slot] += is ? pods : -pods;
        impl.touch(slot);
      }
    }
    std::vector<Id> terms;
    for (Id id = 0; id < impl.terms.size(); ++id) {
      if (impl.terms[id].users > 0 && impl.term_matches(impl.terms[id], each)) terms.push_back(id);
    }
    each.terms = std::move(terms);
    ++each.terms_version;
  }
  return true;
}

bool SchedulingSnapshot::set_volume(const VolumeShape& volume) {
  Impl& impl = *impl_;
  if (!replace(impl.volumes, volume.name, volume)) return false;
  for (auto& [storage_class, names] : impl.volumes_by_class) std::erase(names, volume.name);
  std::vector<std::string>& names = impl.volumes_by_class[volume.storage_class];
  names.insert(std::lower_bound(names.begin(), names.end(), volume.name), volume.name);
  return true;
}
bool SchedulingSnapshot::remove_volume(const std::string& name) {
  for (auto& [storage_class, names] : impl_->volumes_by_class) std::erase(names, name);
  return impl_->volumes.erase(name) > 0;
}
bool SchedulingSnapshot::set_claim(const ClaimShape& claim) {
  return replace(impl_->claims, claim_key(claim.ns, claim.name), claim);
}
bool SchedulingSnapshot::remove_claim(const std::string& ns, const std::string& name) {
  return impl_->claims.erase(claim_key(ns, name)) > 0;
}
bool SchedulingSnapshot::set_storage_class(const StorageClassShape& storage_class) {
  return replace(impl_->storage_classes, storage_class.name, storage_class);
}
bool SchedulingSnapshot::remove_storage_class(const std::string& name) {
  return impl_->storage_classes.erase(name) > 0;
}
bool SchedulingSnapshot::set_capacity(const CapacityShape& capacity) {
  return replace(impl_->capacities, claim_key(capacity.ns, capacity.name), capacity);
}
bool SchedulingSnapshot::remove_capacity(const std::string& ns, const std::string& name) {
  return impl_->capacities.erase(claim_key(ns, name)) > 0;
}
bool SchedulingSnapshot::set_driver(const std::string& name, bool tells_capacity) {
  std::set<std::string>& all = impl_->drivers_that_tell_capacity;
  return tells_capacity ? all.insert(name).second : all.erase(name) > 0;
}
bool SchedulingSnapshot::set_volume_limits(const std::string& node,
                                           const std::map<std::string, std::int64_t>& limits) {
  const Slot slot = impl_->slot_for(node);
  const bool changed = impl_->nodes[slot].volume_limits != limits;
  impl_->nodes[slot].volume_limits = limits;
  if (changed) impl_->touch(slot);
  impl_->maybe_free(slot);
  return changed;
}

// ---- reading ----

std::size_t SchedulingSnapshot::node_count() const { return impl_->present; }
std::size_t SchedulingSnapshot::pod_count() const { return impl_->pods.size(); }
std::size_t SchedulingSnapshot::remembered_bytes() const { return impl_->evaluation_bytes; }

std::vector<std::string> SchedulingSnapshot::node_names() const {
  std::vector<std::string> names;
  for (const NodeState& node : impl_->nodes) {
    if (node.present) names.push_back(node.shape.name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Amounts SchedulingSnapshot::used(const std::string& node) const {
  const auto found = impl_->slots.find(node);
  if (found == impl_->slots.end()) return {};
  Amounts used;
  for (const ResourceColumn& column : impl_->resources) {
    if (column.used[found->second] != 0) used[column.name] = column.used[found->second];
  }
  used["pods"] = impl_->pods_used[found->second];
  return used;
}

std::string SchedulingSnapshot::node_of(const std::string& uid) const {
  const auto found = impl_->pods.find(uid);
  return found == impl_->pods.end() ? std::string() : impl_->nodes[found->slot].shape.name;
}

std::optional<PodShape> SchedulingSnapshot::pod(const std::string& uid) const {
  const auto found = impl_->pods.find(uid);
  if (found == impl_->pods.end()) return std::nullopt;
  PodShape shape;
  static_cast<PodRules&>(shape) = impl_->records[found->record].rules;
  shape.name = found->name;
  shape.uid = uid;
  shape.started_ns = found->started_ns;
  return shape;
}

std::vector<std::string> SchedulingSnapshot::pods_on(const std::string& node) const {
  std::vector<std::string> uids;
  const auto found = impl_->slots.find(node);
  if (found == impl_->slots.end()) return uids;
  for (const PlacedPod* pod : impl_->nodes[found->second].pods) uids.push_back(pod->uid);
  std::sort(uids.begin(), uids.end());
  return uids;
}

// ---- ties, profiles ----

namespace {
std::uint64_t mixed(std::uint64_t seed, const std::string& name) {
  std::uint64_t hash = 14695981039346656037ULL ^ seed;
  for (const char letter : name) {
    hash ^= static_cast<unsigned char>(letter);
    hash *= 1099511628211ULL;
  }
  hash ^= hash >> 29;
  return hash * 0x9E3779B97F4A7C15ULL;
}
}  // namespace

void SchedulingSnapshot::Impl::sort_ranks(std::uint64_t seed) {
  if (rank_version == nodes_version && rank_seed == seed) return;
  by_rank.clear();
  for (Slot slot = 0; slot < nodes.size(); ++slot) {
    if (nodes[slot].present) by_rank.push_back(slot);
  }
  if (seed == 0) {
    std::sort(by_rank.begin(), by_rank.end(),
              [&](Slot a, Slot b) { return nodes[a].shape.name < nodes[b].shape.name; });
  } else {
    std::vector<std::uint64_t> hashes(nodes.size());
    for (const Slot slot : by_rank) hashes[slot] = mixed(seed, nodes[slot].shape.name);
    std::sort(by_rank.begin(), by_rank.end(), [&](Slot a, Slot b) {
      return hashes[a] != hashes[b] ? hashes[a] < hashes[b] : nodes[a].shape.name < nodes[b].shape.name;
    });
  }
  rank.assign(nodes.size(), 0);
  for (std::uint32_t i = 0; i < by_rank.size(); ++i) rank[by_rank[i]] = i;
  rank_version = nodes_version;
  rank_seed = seed;
}

Id SchedulingSnapshot::Impl::profile_id(const SchedulingProfile& profile) {
  for (Id id = 0; id < profiles.size(); ++id) {
    if (profiles[id] == profile) return id;
  }
  // A host that makes up a new profile for each pod: start over rather than grow.
  if (profiles.size() >= 64) {
    for (auto& [key, remembered] : evaluations) remembered.evaluation->release(*this);
    evaluations.clear();
    evaluation_bytes = 0;
    profiles.clear();
  }
  profiles.push_back(profile);
  return static_cast<Id>(profiles.size() - 1);
}

std::vector<SpreadConstraint> SchedulingProfile::system_constraints() {
  SpreadConstraint hostname;
  hostname.topology_key = "kubernetes.io/hostname";
  hostname.max_skew = 3;
  hostname.hard = false;
  SpreadConstraint zone = hostname;
  zone.topology_key = "topology.kubernetes.io/zone";
  zone.max_skew = 5;
  return {hostname, zone};
}

}  // namespace orchestra
