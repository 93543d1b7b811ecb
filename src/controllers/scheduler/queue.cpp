// SchedulingQueue: see queue.hpp. Invariant: a pod is in exactly one of the sets that its `where` names; a
// kind is there exactly while pods of it wait; `bytes_` is the sum over the pods and the rules that are
// there.
#include "controllers/scheduler/queue.hpp"

#include <algorithm>
#include <limits>

namespace orchestra::sched {

std::uint32_t Hint::of(const std::set<std::string>& plugins) {
  std::uint32_t hints = 0;
  for (const std::string& name : plugins) {
    if (name == "NodeUnschedulable" || name == "NodeName" || name == "TaintToleration" ||
        name == "NodeAffinity") {
      hints |= node;
    } else if (name == "NodePorts" || name == "NodeResourcesFit") {
      hints |= room;
    } else if (name == "VolumeBinding" || name == "VolumeZone") {
      hints |= volume;
    } else if (name == "VolumeRestrictions" || name == "NodeVolumeLimits") {
      hints |= volume | room;
    } else if (name == "PodTopologySpread" || name == "InterPodAffinity") {
      hints |= topology;
    } else {
      hints |= all;
    }
  }
  return hints == 0 ? std::uint32_t{all} : hints;
}

namespace {

// About what the allocator gives for it: a bound needs no more.
std::size_t footprint(const std::string& text) {
  return sizeof(std::string) + (text.size() < 16 ? 0 : text.size() + 16);
}
template <class Value>
std::size_t footprint(const std::map<std::string, Value>& map) {
  std::size_t bytes = 0;
  for (const auto& [key, value] : map) {
    bytes += 48 + footprint(key);
    if constexpr (std::is_same_v<Value, std::string>) {
      bytes += footprint(value);
    } else {
      bytes += sizeof(Value);
    }
  }
  return bytes;
}
std::size_t footprint(const std::vector<std::string>& texts) {
  std::size_t bytes = 0;
  for (const std::string& text : texts) bytes += footprint(text);
  return bytes;
}
std::size_t footprint(const Selector& selector) { return sizeof(Selector) + 4 * selector.to_string().size(); }
std::size_t footprint(const std::vector<NodeTerm>& terms) {
  std::size_t bytes = terms.size() * sizeof(NodeTerm);
  for (const NodeTerm& term : terms) {
    for (const auto* list : {&term.labels, &term.fields}) {
      for (const NodeRequirement& each : *list)
        bytes += sizeof(NodeRequirement) + footprint(each.key) + footprint(each.values);
    }
  }
  return bytes;
}
std::size_t footprint(const std::vector<PodTerm>& terms) {
  std::size_t bytes = terms.size() * sizeof(PodTerm);
  for (const PodTerm& term : terms)
    bytes += footprint(term.topology_key) + footprint(term.selector) + footprint(term.namespaces) +
             (term.namespace_selector ? footprint(*term.namespace_selector) : 0);
  return bytes;
}
std::size_t footprint(const PodRules& rules) {
  std::size_t bytes = sizeof(PodRules) + footprint(rules.labels) + footprint(rules.requests) +
                      footprint(rules.node_selector) + footprint(rules.preferred_terms) +
                      footprint(rules.affinity) + footprint(rules.anti_affinity) +
                      footprint(rules.preferred_affinity) + footprint(rules.preferred_anti_affinity) +
                      footprint(rules.images) + footprint(rules.claims) + footprint(rules.late_claims) +
                      (rules.host_ports.size() + rules.container_ports.size()) * sizeof(PodPort);
  if (rules.required_terms) bytes += footprint(*rules.required_terms);
  for (const Toleration& each : rules.tolerations)
    bytes += footprint(each.key) + footprint(each.op) + footprint(each.value) + footprint(each.effect);
  for (const SpreadConstraint& each : rules.spread)
    bytes += sizeof(SpreadConstraint) + footprint(each.topology_key) + footprint(each.selector);
  if (rules.default_spread) bytes += footprint(*rules.default_spread);
  return bytes;
}

// What the sets and tables hold beside an Entry: its UID twice more, in nodes of trees.
constexpr std::size_t kPerPod = 256;

}  // namespace

PodShape SchedulingQueue::Entry::shape() const {
  PodShape pod;
  static_cast<PodRules&>(pod) = shared->rules;
  pod.name = name;
  pod.uid = uid;
  pod.node_name = node_name;
  pod.started_ns = started_ns;
  return pod;
}

std::size_t SchedulingQueue::Entry::bytes() const {
  return sizeof(Entry) + kPerPod + 4 * footprint(uid) + footprint(name) + footprint(node_name);
}

void SchedulingQueue::give_rules(Entry& entry, const PodRules& rules) {
  entry.kind = rules_hash(rules);
  auto& known = rules_[entry.kind];
  if (known && known->rules == rules) {
    entry.shared = known;
    return;
  }
  const auto made = std::make_shared<Shared>(Shared{rules, footprint(rules)});
  bytes_ += made->bytes;
  if (!known) known = made;  // else two kinds have one hash: this pod keeps its own
  entry.shared = made;
}

void SchedulingQueue::drop_rules(Entry& entry) {
  if (!entry.shared) return;
  const auto known = rules_.find(entry.kind);
  const bool in_table = known != rules_.end() && known->second == entry.shared;
  if (entry.shared.use_count() == (in_table ? 2 : 1)) {
    bytes_ -= entry.shared->bytes;
    if (in_table) rules_.erase(known);
  }
  entry.shared.reset();
}

void SchedulingQueue::leave_out(std::int64_t minus_priority) {
  const std::string* least = active_.empty() ? nullptr : &active_.rbegin()->uid;
  std::int64_t worst = active_.empty() ? minus_priority : active_.rbegin()->minus_priority;
  std::int64_t since = std::numeric_limits<std::int64_t>::min();  // of those that wait: they go first
  for (const auto& [id, kind] : kinds_) {
    if (kind.waiting.empty()) continue;
    const Rank& last = *kind.waiting.rbegin();
    if (std::pair(last.minus_priority, last.since) < std::pair(worst, since)) continue;
    least = &last.uid;
    worst = last.minus_priority;
    since = last.since;
  }
  if (least == nullptr) return;
  ++left_out_;
  remove(std::string(*least));
}

void SchedulingQueue::leave(const std::string& uid, Entry& entry) {
  switch (entry.where) {
    case Where::active:
      active_.erase(rank(uid, entry));
      break;
    case Where::delayed:
      delayed_.erase({entry.due, uid});
      break;
    case Where::waiting: {
      const auto kind = kinds_.find(entry.kind);
      kind->second.waiting.erase(rank(uid, entry));
      if (kind->second.waiting.empty()) kinds_.erase(kind);
      flushes_.erase({entry.due, uid});
      --waiting_;
      break;
    }
    case Where::taken:
      break;
  }
  entry.where = Where::taken;
}

void SchedulingQueue::activate(const std::string& uid, std::int64_t now) {
  Entry& entry = pods_.at(uid);
  leave(uid, entry);
  if (entry.not_before > now) {
    entry.where = Where::delayed;
    entry.due = entry.not_before;
    delayed_.insert({entry.due, uid});
  } else {
    entry.where = Where::active;
    active_.insert(rank(uid, entry));
  }
}

void SchedulingQueue::set_backoff(Entry& entry, std::int64_t now) {
  ++entry.attempts;
  std::int64_t pause = options_.backoff_min_ns;
  for (std::uint32_t i = 1; i < entry.attempts && pause < options_.backoff_max_ns; ++i) pause *= 2;
  entry.not_before = now + std::min(pause, options_.backoff_max_ns);
}

void SchedulingQueue::add(const PodShape& pod, std::int64_t now) {
  const auto [it, fresh] = pods_.try_emplace(pod.uid);
  Entry& entry = it->second;
  if (fresh) {
    entry.since = now;
    entry.arrival = ++arrivals_;
  } else {
    leave(pod.uid, entry);
    bytes_ -= entry.bytes();
    drop_rules(entry);
  }
  give_rules(entry, pod);
  entry.name = pod.name;
  entry.uid = pod.uid;
  entry.node_name = pod.node_name;
  entry.started_ns = pod.started_ns;
  bytes_ += entry.bytes();
  activate(pod.uid, now);
  for (std::size_t before = 0; bytes_ > options_.bytes_max && before != pods_.size();) {
    before = pods_.size();
    leave_out(-pod.priority);
  }
}

void SchedulingQueue::remove(const std::string& uid) {
  const auto found = pods_.find(uid);
  if (found == pods_.end()) return;
  if (found->second.where == Where::taken) {
    // It has its node (or is gone): there may be room for others of its kind.
    const auto kind = kinds_.find(found->second.kind);
    if (kind != kinds_.end()) kind->second.dirty = any_dirty_ = true;
  }
  leave(uid, found->second);
  bytes_ -= found->second.bytes();
  drop_rules(found->second);
  pods_.erase(found);
}

std::optional<PodShape> SchedulingQueue::take(std::int64_t now) {
  while (!delayed_.empty() && delayed_.begin()->first <= now)
    activate(std::string(delayed_.begin()->second), now);
  while (!flushes_.empty() && flushes_.begin()->first <= now)
    activate(std::string(flushes_.begin()->second), now);
  if (active_.empty()) return std::nullopt;
  const std::string uid = active_.begin()->uid;
  Entry& entry = pods_.at(uid);
  leave(uid, entry);
  entry.taken_at = changes_;
  return entry.shape();
}

bool SchedulingQueue::hold(const std::string& uid) {
  const auto found = pods_.find(uid);
  if (found == pods_.end() || found->second.where == Where::taken) return false;
  leave(uid, found->second);
  found->second.taken_at = changes_;
  return true;
}

void SchedulingQueue::retry(const std::string& uid, std::int64_t now) {
  const auto found = pods_.find(uid);
  if (found == pods_.end() || found->second.where != Where::taken) return;
  set_backoff(found->second, now);
  activate(uid, now);
}

void SchedulingQueue::park(const std::string& uid, std::int64_t now, std::uint32_t reasons) {
  const auto found = pods_.find(uid);
  if (found == pods_.end() || found->second.where != Where::taken) return;
  Entry& entry = found->second;
  set_backoff(entry, now);
  Kind& kind = kinds_[entry.kind];
  // One that was woken and failed answers for its kind, unless something came since it was taken.
  kind.dirty = false;
  for (std::size_t bit = 0; bit < changed_at_.size(); ++bit)
    kind.dirty = kind.dirty || ((reasons >> bit & 1) != 0 && changed_at_[bit] > entry.taken_at);
  any_dirty_ = any_dirty_ || kind.dirty;
  kind.reasons |= reasons;
  entry.where = Where::waiting;
  entry.due = options_.flush_ns == 0 ? std::numeric_limits<std::int64_t>::max() : now + options_.flush_ns;
  kind.waiting.insert(rank(uid, entry));
  ++waiting_;
  if (options_.flush_ns != 0) flushes_.insert({entry.due, uid});
}

void SchedulingQueue::changed(std::uint32_t hint) {
  ++changes_;
  for (std::size_t bit = 0; bit < changed_at_.size(); ++bit) {
    if ((hint >> bit & 1) != 0) changed_at_[bit] = changes_;
  }
  for (auto& [id, kind] : kinds_) {
    if ((kind.reasons & hint) == 0) continue;
    kind.dirty = true;
    any_dirty_ = true;
  }
}

void SchedulingQueue::wake_some(Kind& kind, std::int64_t now) {
  std::vector<std::string> woken;
  for (const Rank& each : kind.waiting) {
    if (woken.size() == options_.wake_max) break;
    woken.push_back(each.uid);
  }
  // The kind itself is kept until the caller's loop has passed it.
  for (const std::string& uid : woken) {
    Entry& entry = pods_.at(uid);
    kind.waiting.erase(rank(uid, entry));
    flushes_.erase({entry.due, uid});
    --waiting_;
    entry.where = Where::taken;
    activate(uid, now);
  }
}

void SchedulingQueue::wake_all(std::int64_t now) {
  for (auto& [id, kind] : kinds_) {
    while (!kind.waiting.empty()) wake_some(kind, now);
  }
  kinds_.clear();
  any_dirty_ = false;
}

std::optional<std::int64_t> SchedulingQueue::next_due() const {
  std::optional<std::int64_t> due;
  if (!delayed_.empty()) due = delayed_.begin()->first;
  if (!flushes_.empty() && (!due || flushes_.begin()->first < *due)) due = flushes_.begin()->first;
  if (left_out_ > 0 && active_.empty() && (!due || relist_not_before_ < *due)) due = relist_not_before_;
  return due;
}

}  // namespace orchestra::sched
