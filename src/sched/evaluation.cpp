// Evaluation: columns of one kind of pod and their upkeep; see evaluation.hpp. Rules of
// kubernetes/pkg/scheduler/framework/plugins/{nodeunschedulable,tainttoleration,nodeaffinity,nodeports,
// noderesources,imagelocality}.
#include "sched/evaluation.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/assert.hpp"
#include "base/whole_number.hpp"

namespace orchestra::sched {

namespace {

constexpr std::int64_t kScoreMax = 100;
constexpr const char* kUnschedulableTaint = "node.kubernetes.io/unschedulable";

bool tolerated(const std::vector<Toleration>& tolerations, const NodeTaint& taint) {
  return std::any_of(tolerations.begin(), tolerations.end(),
                     [&](const Toleration& each) { return tolerates(each, taint); });
}

bool any_address(const std::string& address) {
  return address.empty() || address == "0.0.0.0" || address == "::";
}

// Equal protocol and port clash unless both name different addresses.
bool clash(const PodPort& a, const PodPort& b) {
  return a.port == b.port && a.protocol == b.protocol &&
         (any_address(a.address) || any_address(b.address) || a.address == b.address);
}

bool any_clash(const std::vector<PodPort>& wanted, const std::map<PodPort, int>& taken) {
  return std::any_of(wanted.begin(), wanted.end(), [&](const PodPort& port) {
    return std::any_of(taken.begin(), taken.end(),
                       [&](const auto& entry) { return entry.second > 0 && clash(port, entry.first); });
  });
}

}  // namespace

const char* plugin_of(Code code) {
  switch (code) {
    case Code::unschedulable:
      return "NodeUnschedulable";
    case Code::node_name:
      return "NodeName";
    case Code::taints:
      return "TaintToleration";
    case Code::affinity:
    case Code::not_asked:
      return "NodeAffinity";
    case Code::ports:
      return "NodePorts";
    case Code::fit:
      return "NodeResourcesFit";
    case Code::rwop:
      return "VolumeRestrictions";
    case Code::volume_limits:
      return "NodeVolumeLimits";
    case Code::volumes:
      return "VolumeBinding";
    case Code::zone:
      return "VolumeZone";
    case Code::spread_key:
    case Code::spread:
      return "PodTopologySpread";
    case Code::pod_affinity:
    case Code::pod_anti:
    case Code::existing_anti:
      return "InterPodAffinity";
    default:
      return "";
  }
}

const char* reason_of(Code code) {
  switch (code) {
    case Code::unschedulable:
      return "node(s) were unschedulable";
    case Code::node_name:
      return "node(s) didn't match the requested node name";
    case Code::taints:
      return "node(s) had untolerated taint(s)";  // without keys and values since 1.34
    case Code::affinity:
      return "node(s) didn't match Pod's node affinity/selector";
    case Code::ports:
      return "node(s) didn't have free ports for the requested pod ports";
    case Code::rwop:
      return "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
    case Code::volume_limits:
      return "node(s) exceed max volume count";
    case Code::zone:
      return "node(s) had no available volume zone";
    case Code::spread_key:
      return "node(s) didn't match pod topology spread constraints (missing required label)";
    case Code::spread:
      return "node(s) didn't match pod topology spread constraints";
    case Code::pod_affinity:
      return "node(s) didn't match pod affinity rules";
    case Code::pod_anti:
      return "node(s) didn't match pod anti-affinity rules";
    case Code::existing_anti:
      return "node(s) didn't satisfy existing pods anti-affinity rules";
    case Code::not_asked:
      return "node(s) didn't satisfy plugin(s) [NodeAffinity]";
    default:
      return nullptr;
  }
}

bool resolvable(Code code) {
  switch (code) {
    case Code::ports:
    case Code::fit:
    case Code::rwop:
    case Code::volume_limits:
    case Code::spread:
    case Code::pod_anti:
    case Code::existing_anti:
    case Code::plugin:
      return true;
    default:
      return false;
  }
}

bool tolerates(const Toleration& toleration, const NodeTaint& taint) {
  if (!toleration.effect.empty() && toleration.effect != taint.effect) return false;
  if (!toleration.key.empty() && toleration.key != taint.key) return false;
  if (toleration.op == "Exists") return true;
  if (toleration.key.empty()) return false;
  if (toleration.op == "Lt" || toleration.op == "Gt") {
    const auto left = whole_number(taint.value);
    const auto right = whole_number(toleration.value);
    return left && right && (toleration.op == "Lt" ? *left < *right : *left > *right);
  }
  return toleration.value == taint.value;
}

// `value` is nullptr where the node has no such label.
bool holds(const NodeRequirement& requirement, const std::string* value) {
  const auto& values = requirement.values;
  const bool listed = value != nullptr && std::find(values.begin(), values.end(), *value) != values.end();
  if (requirement.op == "In") return listed;
  if (requirement.op == "NotIn") return !listed;
  if (requirement.op == "Exists") return value != nullptr;
  if (requirement.op == "DoesNotExist") return value == nullptr;
  if (requirement.op != "Gt" && requirement.op != "Lt") return false;
  if (value == nullptr || values.size() != 1) return false;
  const auto left = whole_number(*value);
  const auto right = whole_number(values[0]);
  if (!left || !right) return false;
  return requirement.op == "Gt" ? *left > *right : *left < *right;
}

bool matches(const NodeTerm& term, const std::map<std::string, std::string>& labels,
             const std::string& name) {
  if (term.labels.empty() && term.fields.empty()) return false;
  for (const NodeRequirement& requirement : term.labels) {
    const auto label = labels.find(requirement.key);
    if (!holds(requirement, label == labels.end() ? nullptr : &label->second)) return false;
  }
  for (const NodeRequirement& requirement : term.fields) {
    if (requirement.key != "metadata.name" || !holds(requirement, &name)) return false;
  }
  return true;
}

// ---- compilation ----

Evaluation::Evaluation(Impl& impl, Id record, Id profile) : impl_(impl), record_(record), profile_(profile) {
  compile();
}

void Evaluation::release(Impl& impl) const {
  drop_matchers(impl);
  impl.release_record(record_);
}

void Evaluation::drop_matchers(Impl& impl) const {
  for (const Id id : held_matchers_) impl.release_matcher(id);
}

std::vector<Requirement> Evaluation::compile(const std::vector<NodeRequirement>& labels,
                                             const std::vector<NodeRequirement>& fields) {
  using Op = Requirement::Op;
  std::vector<Requirement> all;
  const auto op_of = [](const std::string& op) {
    if (op == "In") return Op::in;
    if (op == "NotIn") return Op::not_in;
    if (op == "Exists") return Op::exists;
    if (op == "DoesNotExist") return Op::absent;
    if (op == "Gt") return Op::greater;
    return op == "Lt" ? Op::less : Op::never;
  };
  for (const NodeRequirement& each : labels) {
    Requirement made;
    made.op = op_of(each.op);
    made.column = impl_.column(each.key);
    if (made.op == Op::greater || made.op == Op::less) {
      const auto number = each.values.size() == 1 ? whole_number(each.values[0]) : std::nullopt;
      if (!number) made.op = Op::never;
      made.number = number.value_or(0);
    } else {
      for (const std::string& value : each.values)
        made.values.push_back(impl_.columns[made.column].id_of(value));
    }
    all.push_back(std::move(made));
  }
  for (const NodeRequirement& each : fields) {
    Requirement made;
    made.op = each.key == "metadata.name" ? op_of(each.op) : Op::never;
    made.names = each.values;
    if (made.op == Op::greater || made.op == Op::less) made.op = Op::never;
    all.push_back(std::move(made));
  }
  return all;
}

std::vector<Term> Evaluation::compile(const std::vector<NodeTerm>& terms) {
  std::vector<Term> all;
  for (const NodeTerm& term : terms) {
    // An empty term matches nothing.
    if (!term.labels.empty() || !term.fields.empty())
      all.push_back({compile(term.labels, term.fields), term.weight});
  }
  return all;
}

void Evaluation::compile() {
  const PodRules& rules = record().rules;
  std::vector<NodeRequirement> selector;
  for (const auto& [key, value] : rules.node_selector) selector.push_back({key, "In", {value}});
  selector_ = compile(selector, {});
  required_.reset();
  added_.reset();
  if (rules.required_terms) required_ = compile(*rules.required_terms);
  if (profile().added_required) added_ = compile(*profile().added_required);
  preferred_terms_ = compile(rules.preferred_terms);
  for (Term& term : compile(profile().added_preferred)) preferred_terms_.push_back(std::move(term));
  hard_taints_.clear();
  soft_taints_.clear();
  compile_scores();
  build_topology();
  columns_version_ = impl_.columns_version;
}

bool Evaluation::holds(const Requirement& requirement, Slot slot) const {
  using Op = Requirement::Op;
  if (requirement.op == Op::never) return false;
  if (requirement.column == kNoId) {
    const std::string& name = impl_.nodes[slot].shape.name;
    const bool listed =
        std::find(requirement.names.begin(), requirement.names.end(), name) != requirement.names.end();
    return requirement.op == Op::in       ? listed
           : requirement.op == Op::not_in ? !listed
                                          : requirement.op == Op::exists;
  }
  const LabelColumn& column = impl_.columns[requirement.column];
  const Id value = column.of[slot];
  switch (requirement.op) {
    case Op::in:
    case Op::not_in: {
      const bool listed = value != 0 && std::find(requirement.values.begin(), requirement.values.end(),
                                                  value) != requirement.values.end();
      return listed == (requirement.op == Op::in);
    }
    case Op::exists:
      return value != 0;
    case Op::absent:
      return value == 0;
    default:
      break;
  }
  if (value == 0) return false;
  const auto number = whole_number(column.values[value]);
  if (!number) return false;
  return requirement.op == Op::greater ? *number > requirement.number : *number < requirement.number;
}

bool Evaluation::matches(const Term& term, Slot slot) const {
  return std::all_of(term.all.begin(), term.all.end(),
                     [&](const Requirement& each) { return holds(each, slot); });
}

bool Evaluation::any(const std::vector<Term>& terms, Slot slot) const {
  return std::any_of(terms.begin(), terms.end(), [&](const Term& term) { return matches(term, slot); });
}

// ---- one slot ----

void Evaluation::resize() {
  const std::size_t count = impl_.nodes.size();
  if (static_code.size() == count) return;
  static_code.resize(count, Code::absent);
  dynamic_code.resize(count, Code::ok);
  for (auto* column : {&base, &taints, &preferred}) column->resize(count, 0);
  flags_.resize(count, 0);
  counted_.resize(count, 0);
  taken_.resize(count, 0);
  fit_bits_.resize(count, 0);
  if (!victims.empty()) victims.resize(count);
  generation_.resize(count, ~std::uint32_t{0});
  shape_generation_.resize(count, ~std::uint32_t{0});
  tree_.clear();
}

void Evaluation::update_static(Slot slot) {
  const NodeState& node = impl_.nodes[slot];
  const PodRules& rules = record().rules;
  shape_generation_[slot] = node.shape_generation;
  flags_[slot] = 0;
  taints[slot] = preferred[slot] = 0;
  if (!node.present) {
    static_code[slot] = Code::absent;
    return;
  }
  const Id set = impl_.taint_set[slot];
  if (hard_taints_.size() <= set) {
    hard_taints_.resize(impl_.taint_sets.size(), -1);
    soft_taints_.resize(impl_.taint_sets.size(), 0);
  }
  if (hard_taints_[set] < 0) {
    std::int16_t hard_count = 0;
    std::int16_t soft_count = 0;
    for (const NodeTaint& taint : impl_.taint_sets[set]) {
      const bool is_hard = taint.effect == "NoSchedule" || taint.effect == "NoExecute";
      if (!is_hard && taint.effect != "PreferNoSchedule") continue;
      if (!tolerated(rules.tolerations, taint)) ++(is_hard ? hard_count : soft_count);
    }
    hard_taints_[set] = hard_count;
    soft_taints_[set] = soft_count;
  }
  const bool own_affinity = std::all_of(selector_.begin(), selector_.end(),
                                        [&](const Requirement& each) { return holds(each, slot); }) &&
                            (!required_ || any(*required_, slot));
  if (own_affinity) flags_[slot] |= 1;
  if (hard_taints_[set] == 0) flags_[slot] |= 2;
  taints[slot] = soft_taints_[set];
  std::int64_t weight = 0;
  for (const Term& term : preferred_terms_) {
    if (term.weight > 0 && matches(term, slot)) weight += term.weight;
  }
  preferred[slot] = static_cast<std::int32_t>(weight);
  Code code = Code::ok;
  if (node.shape.unschedulable && enabled("NodeUnschedulable") &&
      !tolerated(rules.tolerations, {kUnschedulableTaint, "", "NoSchedule"})) {
    code = Code::unschedulable;
  } else if (hard_taints_[set] != 0 && enabled("TaintToleration")) {
    code = Code::taints;
  } else if ((!own_affinity || (added_ && !any(*added_, slot))) && enabled("NodeAffinity")) {
    code = Code::affinity;
  }
  static_code[slot] = code;
}

bool Evaluation::ports_free(Slot slot, const Overlay* overlay) const {
  const PodRules& rules = record().rules;
  const NodeState& node = impl_.nodes[slot];
  if (rules.host_ports.empty() && (!node.shape.shares_ports || rules.container_ports.empty())) return true;
  std::map<PodPort, int> host_copy;
  std::map<PodPort, int> container_copy;
  const std::map<PodPort, int>* host = &node.host_ports;
  const std::map<PodPort, int>* container = &node.container_ports;
  if (overlay != nullptr) {
    host_copy = *host;
    container_copy = *container;
    for (const PlacedPod* pod : overlay->removed) {
      for (const PodPort& port : impl_.records[pod->record].rules.host_ports) --host_copy[port];
      for (const PodPort& port : impl_.records[pod->record].rules.container_ports) --container_copy[port];
    }
    for (const PodRules* pod : overlay->added) {
      for (const PodPort& port : pod->host_ports) ++host_copy[port];
      for (const PodPort& port : pod->container_ports) ++container_copy[port];
    }
    host = &host_copy;
    container = &container_copy;
  }
  if (any_clash(rules.host_ports, *host)) return false;
  if (!node.shape.shares_ports) return true;
  return !any_clash(rules.container_ports, *container) && !any_clash(rules.container_ports, *host) &&
         !any_clash(rules.host_ports, *container);
}

namespace {
bool ignored(const SchedulingProfile& profile, const std::string& resource) {
  if (profile.ignored_resources.empty() && profile.ignored_resource_groups.empty()) return false;
  const auto slash = resource.find('/');
  if (slash == std::string::npos) return false;
  return profile.ignored_resources.contains(resource) ||
         profile.ignored_resource_groups.contains(resource.substr(0, slash));
}
}  // namespace

bool Evaluation::ignores(Id resource) const { return ignored(profile(), impl_.resources[resource].name); }

std::int64_t Evaluation::used_with(Id resource, Slot slot, const Overlay& overlay) const {
  std::int64_t used = impl_.resources[resource].used[slot];
  const auto amount = [&](Id record) {
    for (const auto& [id, wanted] : impl_.records[record].amounts) {
      if (id == resource) return wanted;
    }
    return std::int64_t{0};
  };
  for (const PlacedPod* pod : overlay.removed) used -= amount(pod->record);
  for (const Id added : overlay.added_records) used += amount(added);
  return used;
}

std::int64_t Evaluation::pods_with(Slot slot, const Overlay* overlay) const {
  const std::int64_t pods = impl_.pods_used[slot] + 1;
  if (overlay == nullptr) return pods;
  return pods + static_cast<std::int64_t>(overlay->added.size()) -
         static_cast<std::int64_t>(overlay->removed.size());
}

Code Evaluation::fit_code(Slot slot, const Overlay* overlay) const {
  if (pods_with(slot, overlay) > impl_.pods_total[slot]) return Code::fit;
  for (const auto& [id, wanted] : record().amounts) {
    const ResourceColumn& column = impl_.resources[id];
    const std::int64_t used = overlay == nullptr ? column.used[slot] : used_with(id, slot, *overlay);
    if (wanted > column.total[slot] - used && !ignored(profile(), column.name)) return Code::fit;
  }
  return Code::ok;
}

bool Evaluation::fits_empty(Slot slot) const {
  return std::all_of(record().amounts.begin(), record().amounts.end(), [&](const auto& entry) {
    return entry.second <= impl_.resources[entry.first].total[slot] ||
           ignored(profile(), impl_.resources[entry.first].name);
  });
}

std::vector<std::string> Evaluation::lacking(Slot slot, const Overlay* overlay) const {
  std::vector<std::string> reasons;
  if (pods_with(slot, overlay) > impl_.pods_total[slot]) reasons.emplace_back("Too many pods");
  for (const auto& [id, wanted] : record().amounts) {
    const ResourceColumn& column = impl_.resources[id];
    const std::int64_t used = overlay == nullptr ? column.used[slot] : used_with(id, slot, *overlay);
    if (wanted > column.total[slot] - used && !ignored(profile(), column.name))
      reasons.push_back("Insufficient " + column.name);
  }
  return reasons;
}

void Evaluation::count_lacking(Slot slot, const Overlay* overlay, Refusals& counts) const {
  if (pods_with(slot, overlay) > impl_.pods_total[slot]) ++counts.too_many;
  for (std::size_t i = 0; i < record().amounts.size(); ++i) {
    const auto& [id, wanted] = record().amounts[i];
    const ResourceColumn& column = impl_.resources[id];
    const std::int64_t used = overlay == nullptr ? column.used[slot] : used_with(id, slot, *overlay);
    if (wanted > column.total[slot] - used && !ignored(profile(), column.name)) ++counts.lacking[i];
  }
}

Code Evaluation::dynamic(Slot slot, const Overlay* overlay) const {
  if (enabled("NodePorts") && !ports_free(slot, overlay)) return Code::ports;
  if (enabled("NodeResourcesFit")) return fit_code(slot, overlay);
  return Code::ok;
}

// ---- scores of one slot ----

namespace {
// Linear between the points of the shape; y is 0..100 here (upstream keeps 0..10 and scales).
std::int64_t broken_linear(const std::vector<std::pair<std::int64_t, std::int64_t>>& shape, std::int64_t x) {
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (x > shape[i].first) continue;
    if (i == 0) return shape[0].second * 10;
    const auto [x0, y0] = shape[i - 1];
    const auto [x1, y1] = shape[i];
    return y0 * 10 + (y1 * 10 - y0 * 10) * (x - x0) / (x1 - x0);
  }
  return shape.empty() ? 0 : shape.back().second * 10;
}
}  // namespace

// The resources that the profile scores, with what this pod adds. An extended resource that the pod does not
// ask for is left out, as upstream does.
void Evaluation::compile_scores() {
  refusals_.lacking.resize(std::min(record().amounts.size(), kCountedAmounts), 0);
  const PodRules& rules = record().rules;
  const auto asked = [&](const std::string& name) {
    const auto found = rules.requests.find(name);
    return found == rules.requests.end() ? 0 : found->second;
  };
  const auto skipped = [&](const std::string& name) {
    return asked(name) == 0 && name.find('/') != std::string::npos;
  };
  fit_scored_.clear();
  for (const auto& [name, weight] : profile().fit_resources) {
    if (skipped(name)) continue;
    const std::int64_t added = name == "cpu"      ? rules.score_millicores
                               : name == "memory" ? rules.score_memory_bytes
                                                  : asked(name);
    fit_scored_.push_back({impl_.resource(name), added, weight});
  }
  balanced_scored_.clear();
  bool asks = false;
  for (const std::string& name : profile().balanced_resources) {
    if (skipped(name)) continue;
    asks = asks || asked(name) > 0;
    balanced_scored_.push_back({impl_.resource(name), asked(name), 1});
  }
  // A pod that asks for none of them is not balanced by anything: upstream skips it.
  if (!asks) balanced_scored_.clear();
}

std::int64_t Evaluation::fit_score(Slot slot) const {
  const SchedulingProfile& how = profile();
  std::int64_t sum = 0;
  std::int64_t weights = 0;
  for (const ScoredResource& each : fit_scored_) {
    const std::int64_t total = impl_.resources[each.column].total[slot];
    if (total <= 0) continue;
    const std::int64_t used = each.column == kCpu      ? impl_.score_millicores[slot]
                              : each.column == kMemory ? impl_.score_memory[slot]
                                                       : impl_.resources[each.column].used[slot];
    const std::int64_t requested = used + each.added;
    std::int64_t score = 0;
    switch (how.fit) {
      case SchedulingProfile::Fit::least_allocated:
        score = requested > total ? 0 : (total - requested) * kScoreMax / total;
        break;
      case SchedulingProfile::Fit::most_allocated:
        score = std::min(requested, total) * kScoreMax / total;
        break;
      case SchedulingProfile::Fit::requested_to_capacity_ratio:
        score = broken_linear(how.fit_shape, requested > total ? kScoreMax : requested * kScoreMax / total);
        // Upstream leaves out resources whose score is 0.
        if (score <= 0) continue;
        break;
    }
    sum += score * each.weight;
    weights += each.weight;
  }
  if (weights == 0) return 0;
  if (how.fit == SchedulingProfile::Fit::requested_to_capacity_ratio)
    return std::llround(static_cast<double>(sum) / static_cast<double>(weights));
  return sum / weights;
}

std::int64_t Evaluation::balanced_score(Slot slot) const {
  if (balanced_scored_.empty()) return 0;
  constexpr std::size_t kResourcesMax = 16;
  double fractions[kResourcesMax];
  std::size_t count = 0;
  double total_fraction = 0;
  for (const ScoredResource& each : balanced_scored_) {
    const ResourceColumn& column = impl_.resources[each.column];
    if (column.total[slot] <= 0 || count == kResourcesMax) continue;
    const double fraction = std::min(
        1.0, static_cast<double>(column.used[slot] + each.added) / static_cast<double>(column.total[slot]));
    fractions[count++] = fraction;
    total_fraction += fraction;
  }
  double deviation = 0;
  if (count == 2) {
    deviation = std::abs((fractions[0] - fractions[1]) / 2);
  } else if (count > 2) {
    const double mean = total_fraction / static_cast<double>(count);
    double sum = 0;
    for (std::size_t i = 0; i < count; ++i) sum += (fractions[i] - mean) * (fractions[i] - mean);
    deviation = std::sqrt(sum / static_cast<double>(count));
  }
  return static_cast<std::int64_t>((1 - deviation) * static_cast<double>(kScoreMax));
}

// Size counts by how many nodes have the image, so that one node with it does not draw all pods
// (imagelocality). The size is the node's own; upstream takes that of the first node it saw.
std::int64_t Evaluation::image_score(Slot slot) const {
  constexpr std::int64_t kMegabyte = 1024 * 1024;
  constexpr std::int64_t kLow = 23 * kMegabyte;
  const std::vector<std::string>& images = record().rules.images;
  if (images.empty()) return 0;
  const std::int64_t high = 1000 * kMegabyte * static_cast<std::int64_t>(images.size());
  std::int64_t sum = 0;
  const auto& here = impl_.nodes[slot].shape.images;
  for (const std::string& image : images) {
    const auto found = here.find(image);
    if (found == here.end()) continue;
    const double share =
        static_cast<double>(impl_.image_nodes.at(image)) / static_cast<double>(impl_.present);
    sum += static_cast<std::int64_t>(static_cast<double>(found->second) * share);
  }
  sum = std::clamp(sum, kLow, high);
  return kScoreMax * (sum - kLow) / (high - kLow);
}

std::int32_t Evaluation::base_of(Slot slot) const {
  const SchedulingProfile& how = profile();
  std::int64_t sum = 0;
  if (how.fit_weight != 0) sum += how.fit_weight * fit_score(slot);
  if (how.balanced_weight != 0) sum += how.balanced_weight * balanced_score(slot);
  if (any_image_ && how.image_weight != 0) sum += how.image_weight * image_score(slot);
  return static_cast<std::int32_t>(sum);
}

// Which of them lack, and whether an empty node would not.
std::uint32_t Evaluation::fit_bits(Slot slot) const {
  if (!counts_refusals()) return 0;
  std::uint32_t bits = impl_.pods_used[slot] + 1 > impl_.pods_total[slot] ? kTooMany : 0;
  bool fits = true;
  std::uint32_t bit = kFitsEmpty;
  for (const auto& [id, wanted] : record().amounts) {
    bit <<= 1;
    const ResourceColumn& column = impl_.resources[id];
    if (wanted <= column.total[slot] - column.used[slot] || ignored(profile(), column.name)) continue;
    bits |= bit;
    fits = fits && wanted <= column.total[slot];
  }
  return fits ? bits | kFitsEmpty : bits;
}

// Were those whom the node was promised to there already. Any pod of this kind: it is none of them.
bool Evaluation::rivals_take(Slot slot) const {
  Overlay overlay;
  for (const Nomination* rival : impl_.nodes[slot].nominated) {
    if (rival->pod.priority < record().rules.priority) continue;
    overlay.added.push_back(&rival->pod);
    overlay.added_records.push_back(rival->record);
  }
  return !overlay.added.empty() && code_with(slot, overlay) != Code::ok;
}

void Evaluation::count(Slot slot, int by) {
  const Code now = code(slot);
  refusals_.codes[static_cast<std::size_t>(now)] += by;
  if (now == Code::fit) {
    const std::uint32_t bits = fit_bits_[slot];
    if ((bits & kTooMany) != 0) refusals_.too_many += by;
    if ((bits & kFitsEmpty) != 0) refusals_.fits_empty += by;
    for (std::size_t i = 0; (bits >> i) > 3; ++i) {
      if ((bits >> (i + 2) & 1) != 0) refusals_.lacking[i] += by;
    }
  }
  if (now != Code::ok || taken_[slot] != 0) return;
  feasible_ = static_cast<std::size_t>(static_cast<std::int64_t>(feasible_) + by);
  for (const auto& [counts, raw] :
       {std::pair(&taint_counts_, taints[slot]), std::pair(&preferred_counts_, preferred[slot])}) {
    const auto it = counts->try_emplace(raw, 0).first;
    it->second += by;
    if (it->second == 0) counts->erase(it);
  }
}

void Evaluation::update(Slot slot) {
  const NodeState& node = impl_.nodes[slot];
  if (generation_[slot] == node.generation) return;
  generation_[slot] = node.generation;
  if (counted_[slot] != 0) count(slot, -1);
  counted_[slot] = 1;
  if (shape_generation_[slot] != node.shape_generation) update_static(slot);
  taken_[slot] = 0;
  if (static_code[slot] == Code::absent) {
    dynamic_code[slot] = Code::ok;
  } else {
    // Also where a static rule says no: topology rules and explain() want the whole truth.
    dynamic_code[slot] = dynamic(slot, nullptr);
  }
  const Code now = code(slot);
  if (now == Code::ok) {
    base[slot] = base_of(slot);
    if (!topology_ && !node.nominated.empty()) taken_[slot] = rivals_take(slot) ? 1 : 0;
  } else if (now == Code::fit) {
    fit_bits_[slot] = fit_bits(slot);
  }
  count(slot, 1);
  if (!victims.empty()) victims[slot].known = false;
  if (topology_) {
    update_sums(slot);
  } else {
    put_key(slot);
  }
}

void Evaluation::refresh() {
  const LabelClass& labels = impl_.label_classes[record().label_class];
  bool all = std::exchange(fresh_, false);
  if (columns_version_ != impl_.columns_version) {
    drop_matchers(impl_);
    held_matchers_.clear();
    compile();
    all = true;
  } else if (terms_version_ != labels.terms_version) {
    build_topology();
    all = true;
  }
  if (images_version_ != impl_.images_version || all) {
    images_version_ = impl_.images_version;
    const bool had = any_image_;
    any_image_ = std::any_of(record().rules.images.begin(), record().rules.images.end(),
                             [&](const std::string& image) { return impl_.image_nodes.contains(image); });
    all = all || had || any_image_;
  }
  resize();
  const std::uint64_t end = impl_.log_begin + impl_.log.size();
  if (all) {
    std::fill(generation_.begin(), generation_.end(), ~std::uint32_t{0});
    std::fill(shape_generation_.begin(), shape_generation_.end(), ~std::uint32_t{0});
  }
  if (all || log_at_ < impl_.log_begin || end - log_at_ > generation_.size()) {
    tree_.clear();
    for (Slot slot = 0; slot < generation_.size(); ++slot) update(slot);
  } else {
    for (std::uint64_t at = log_at_; at < end; ++at) update(impl_.log[at - impl_.log_begin]);
  }
  log_at_ = end;
}

std::size_t Evaluation::bytes() const {
  std::size_t bytes = sizeof(*this) + static_code.size() * (2 + 12 + 3 + 12) + tree_.size() * 8 +
                      victims.size() * sizeof(Victims);
  for (const auto* list : {&hard_sums, &soft_sums, &affinity, &own_anti, &existing_anti, &pod_scores}) {
    for (const Aggregate& sum : *list) bytes += sum.sum.size() * 12 + sum.seen.size() * 12;
  }
  return bytes;
}

// ---- the tree ----

std::uint64_t Evaluation::key_of(Slot slot) const {
  if (code(slot) != Code::ok || taken_[slot] != 0) return 0;
  const SchedulingProfile& how = profile();
  const std::int64_t t = tree_taints_ == 0 ? 100 : 100 - std::int64_t{taints[slot]} * 100 / tree_taints_;
  const std::int64_t p = tree_preferred_ == 0 ? 0 : std::int64_t{preferred[slot]} * 100 / tree_preferred_;
  const std::int64_t total = how.taint_weight * t + how.node_affinity_weight * p + base[slot];
  return (static_cast<std::uint64_t>(total + 1) << 32) | (0xFFFFFFFFu - impl_.rank[slot]);
}

void Evaluation::put_key(Slot slot) {
  if (tree_.empty() || tree_rank_ != impl_.nodes_version) return;
  // A maximum that moved is noticed in best(), which builds the tree anew.
  std::size_t at = leaves_ + slot;
  tree_[at] = key_of(slot);
  for (at /= 2; at >= 1; at /= 2) {
    const std::uint64_t top = std::max(tree_[2 * at], tree_[2 * at + 1]);
    if (tree_[at] == top) break;
    tree_[at] = top;
  }
}

void Evaluation::build_tree() {
  leaves_ = 1;
  while (leaves_ < static_code.size()) leaves_ *= 2;
  tree_.assign(2 * leaves_, 0);
  for (Slot slot = 0; slot < static_code.size(); ++slot) tree_[leaves_ + slot] = key_of(slot);
  for (std::size_t at = leaves_ - 1; at >= 1; --at) tree_[at] = std::max(tree_[2 * at], tree_[2 * at + 1]);
  tree_rank_ = impl_.nodes_version;
  tree_seed_ = impl_.rank_seed;
}

std::optional<Evaluation::Best> Evaluation::best() {
  ORC_ASSERT(!topology_);
  if (feasible_ == 0) return std::nullopt;
  const std::int32_t most_taints = taint_counts_.rbegin()->first;
  const std::int32_t most_preferred = preferred_counts_.rbegin()->first;
  if (tree_.empty() || most_taints != tree_taints_ || most_preferred != tree_preferred_ ||
      tree_rank_ != impl_.nodes_version || tree_seed_ != impl_.rank_seed) {
    tree_taints_ = most_taints;
    tree_preferred_ = most_preferred;
    build_tree();
  }
  const std::uint64_t top = tree_[1];
  ORC_ASSERT(top != 0);
  return Best{impl_.by_rank[0xFFFFFFFFu - static_cast<std::uint32_t>(top)],
              static_cast<std::int64_t>(top >> 32) - 1, feasible_};
}

Evaluation::Best Evaluation::best_at(Slot slot) const {
  ORC_ASSERT(!topology_ && code(slot) == Code::ok);
  const auto most = [](const std::map<std::int32_t, std::int32_t>& counts, std::int32_t own) {
    return std::int64_t{counts.empty() ? own : std::max(own, counts.rbegin()->first)};
  };
  const std::int64_t most_taints = most(taint_counts_, taints[slot]);
  const std::int64_t most_preferred = most(preferred_counts_, preferred[slot]);
  const SchedulingProfile& how = profile();
  const std::int64_t t = most_taints == 0 ? 100 : 100 - taints[slot] * std::int64_t{100} / most_taints;
  const std::int64_t p = most_preferred == 0 ? 0 : preferred[slot] * std::int64_t{100} / most_preferred;
  return {slot, how.taint_weight * t + how.node_affinity_weight * p + base[slot],
          feasible_ + (taken_[slot] != 0 ? 1 : 0)};
}

}  // namespace orchestra::sched
