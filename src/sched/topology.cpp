// PodTopologySpread and InterPodAffinity of an Evaluation (kubernetes/pkg/scheduler/framework/plugins/
// {podtopologyspread,interpodaffinity}): which counters a pod of this kind is interested in, and their sums
// per topology value.
//
// Affinity terms count pods that match all of the pod's terms at once, so one matcher serves them all. Terms
// of placed pods come the other way round: the label class of this pod knows which of them match it.
#include <algorithm>

#include "base/assert.hpp"
#include "sched/evaluation.hpp"

namespace orchestra::sched {

namespace {

constexpr const char* kHostname = "kubernetes.io/hostname";

PodTerm term_of(const std::string& ns, const Selector& selector) {
  PodTerm term;
  term.namespaces = {ns};
  term.selector = selector;
  return term;
}

Aggregate& sum_on(std::vector<Aggregate>& sums, Id column) {
  for (Aggregate& sum : sums) {
    if (sum.column == column) return sum;
  }
  Aggregate& made = sums.emplace_back();
  made.column = column;
  return made;
}

}  // namespace

void Evaluation::build_topology() {
  const Record& pod = record();
  const PodRules& rules = pod.rules;
  const SchedulingProfile& how = profile();
  std::vector<Id> matchers;
  const auto matcher = [&](std::vector<PodTerm> terms, bool skip_terminating) {
    const Id id = impl_.acquire_matcher(std::move(terms), skip_terminating);
    matchers.push_back(id);
    return id;
  };
  hard.clear();
  soft.clear();
  for (auto* list : {&hard_sums, &soft_sums, &affinity, &own_anti, &existing_anti, &pod_scores})
    list->clear();

  std::vector<SpreadConstraint> constraints = rules.spread;
  soft_needs_all_keys = !constraints.empty() || !how.system_defaulted;
  if (constraints.empty() && rules.default_spread && !rules.default_spread->empty()) {
    constraints = how.default_constraints;
    for (SpreadConstraint& each : constraints) each.selector = *rules.default_spread;
  }
  const bool filters = enabled("PodTopologySpread");
  for (const SpreadConstraint& rule : constraints) {
    if (rule.hard ? !filters : how.spread_weight == 0) continue;
    Spread made;
    made.rule = rule;
    made.column = impl_.column(rule.topology_key);
    made.self = rule.selector.matches(rules.labels);
    made.hostname = rule.topology_key == kHostname;
    // An empty selector matches the pod itself but counts no pods (countPodsMatchSelector).
    made.matcher =
        matcher({term_of(rules.ns, rule.selector.empty() ? Selector::nothing() : rule.selector)}, true);
    (rule.hard ? hard : soft).push_back(std::move(made));
  }
  for (std::size_t i = 0; i < hard.size(); ++i) {
    Aggregate& sum = hard_sums.emplace_back();
    sum.column = hard[i].column;
    sum.constraint = static_cast<int>(i);
    sum.sources.push_back({false, hard[i].matcher, 1});
  }
  for (std::size_t i = 0; i < soft.size(); ++i) {
    Aggregate& sum = soft_sums.emplace_back();
    sum.column = soft[i].column;
    sum.constraint = static_cast<int>(i);
    if (!soft[i].hostname) sum.sources.push_back({false, soft[i].matcher, 1});
  }

  const bool affinity_filters = enabled("InterPodAffinity");
  matches_own_affinity = true;
  if (affinity_filters && !rules.affinity.empty()) {
    const Id all = matcher(rules.affinity, false);
    for (const PodTerm& term : rules.affinity) {
      Aggregate& sum = sum_on(affinity, impl_.column(term.topology_key));
      if (sum.sources.empty()) sum.sources.push_back({false, all, 1});
      matches_own_affinity = matches_own_affinity &&
                             term_matches(term, rules.ns, impl_.labels_of_namespace(rules.ns), rules.labels);
    }
  }
  if (affinity_filters) {
    for (const PodTerm& term : rules.anti_affinity) {
      const Id id = matcher({term}, false);
      sum_on(own_anti, impl_.column(term.topology_key)).sources.push_back({false, id, 1});
    }
  }
  const bool own_preferences = !rules.preferred_affinity.empty() || !rules.preferred_anti_affinity.empty();
  const bool scores =
      how.pod_affinity_weight != 0 && (own_preferences || !how.ignore_preferred_terms_of_existing_pods);
  if (scores) {
    for (const auto& [list, sign] :
         {std::pair(&rules.preferred_affinity, 1), std::pair(&rules.preferred_anti_affinity, -1)}) {
      for (const PodTerm& term : *list) {
        const Id id = matcher({term}, false);
        sum_on(pod_scores, impl_.column(term.topology_key))
            .sources.push_back({false, id, sign * term.weight});
      }
    }
  }
  for (const Id id : impl_.label_classes[pod.label_class].terms) {
    const HeldTerm& term = impl_.terms[id];
    if (term.kind == HeldKind::required_anti) {
      if (affinity_filters) sum_on(existing_anti, term.column).sources.push_back({true, id, 1});
    } else if (scores) {
      const std::int64_t weight =
          term.kind == HeldKind::preferred ? term.weight : how.hard_pod_affinity_weight;
      if (weight != 0) sum_on(pod_scores, term.column).sources.push_back({true, id, weight});
    }
  }
  terms_version_ = impl_.label_classes[pod.label_class].terms_version;
  // Those of before last: a matcher that is needed again keeps its counts.
  drop_matchers(impl_);
  held_matchers_ = std::move(matchers);
  topology_ = !hard.empty() || !soft.empty() || !affinity.empty() || !own_anti.empty() ||
              !existing_anti.empty() || !pod_scores.empty();
}

bool Evaluation::counts_for(const Spread& constraint, const std::vector<Spread>& keys, bool all_keys,
                            Slot slot) const {
  if (!impl_.nodes[slot].present) return false;
  if (all_keys) {
    for (const Spread& each : keys) {
      if (impl_.columns[each.column].of[slot] == 0) return false;
    }
  }
  if (constraint.rule.honor_affinity && (flags_[slot] & 1) == 0) return false;
  return !constraint.rule.honor_taints || (flags_[slot] & 2) != 0;
}

void Evaluation::update_sum(Aggregate& sum, Slot slot, bool counts) {
  const LabelColumn& column = impl_.columns[sum.column];
  if (sum.sum.size() < column.values.size()) {
    sum.sum.resize(column.values.size(), 0);
    sum.nodes.resize(column.values.size(), 0);
  }
  if (sum.seen.size() < impl_.nodes.size()) {
    sum.seen.resize(impl_.nodes.size(), 0);
    sum.seen_value.resize(impl_.nodes.size(), 0);
  }
  const Id value = counts ? column.of[slot] : 0;
  std::int64_t now = 0;
  if (value != 0) {
    for (const Aggregate::Source& source : sum.sources) {
      const auto& counter = source.held ? impl_.terms[source.id].of : impl_.matchers[source.id].of;
      now += source.weight * counter[slot];
    }
  }
  const Id old = sum.seen_value[slot];
  if (old != 0) {
    sum.sum[old] -= sum.seen[slot];
    sum.total -= sum.seen[slot];
    --sum.nodes[old];
  }
  if (value != 0) {
    sum.sum[value] += now;
    sum.total += now;
    ++sum.nodes[value];
  }
  sum.seen[slot] = now;
  sum.seen_value[slot] = value;
}

void Evaluation::update_sums(Slot slot) {
  const bool present = impl_.nodes[slot].present;
  for (Aggregate& sum : hard_sums)
    update_sum(sum, slot, counts_for(hard[static_cast<std::size_t>(sum.constraint)], hard, true, slot));
  for (Aggregate& sum : soft_sums) {
    update_sum(sum, slot,
               counts_for(soft[static_cast<std::size_t>(sum.constraint)], soft, soft_needs_all_keys, slot));
  }
  for (auto* list : {&affinity, &own_anti, &existing_anti, &pod_scores}) {
    for (Aggregate& sum : *list) update_sum(sum, slot, present);
  }
}

// What one pod of a record adds to a sum where it is.
std::int64_t Evaluation::contribution(const Aggregate& sum, Id record) const {
  const Record& pod = impl_.records[record];
  const std::vector<Id>& matchers = impl_.label_classes[pod.label_class].matchers;
  std::int64_t amount = 0;
  for (const Aggregate::Source& source : sum.sources) {
    const auto times = source.held ? std::count(pod.held.begin(), pod.held.end(), source.id)
                                   : std::count(matchers.begin(), matchers.end(), source.id);
    amount += source.weight * times;
  }
  return amount;
}

Code Evaluation::code_with(Slot slot, const Overlay& overlay) const {
  if (static_code[slot] != Code::ok) return static_code[slot];
  if (const Code code = dynamic(slot, &overlay); code != Code::ok) return code;
  if (!topology_) return Code::ok;
  const auto change = [&](const Aggregate& sum) {
    std::int64_t by = 0;
    for (const PlacedPod* pod : overlay.removed) by -= contribution(sum, pod->record);
    for (const Id added : overlay.added_records) by += contribution(sum, added);
    return by;
  };
  const auto value_of = [&](const Aggregate& sum) { return impl_.columns[sum.column].of[slot]; };
  for (std::size_t i = 0; i < hard.size(); ++i) {
    const Aggregate& sum = hard_sums[i];
    const Id value = value_of(sum);
    if (value == 0) return Code::spread_key;
    const std::int64_t by = sum.seen_value[slot] == 0 ? 0 : change(sum);
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    std::int64_t domains = 0;
    for (Id other = 1; other < sum.sum.size(); ++other) {
      if (sum.nodes[other] == 0) continue;
      ++domains;
      least = std::min(least, sum.sum[other] + (other == value ? by : 0));
    }
    if (domains < hard[i].rule.min_domains || domains == 0) least = 0;
    const std::int64_t here = sum.nodes[value] == 0 ? 0 : sum.sum[value] + by;
    if (here + (hard[i].self ? 1 : 0) - least > hard[i].rule.max_skew) return Code::spread;
  }
  bool found = true;
  std::int64_t anywhere = 0;
  for (const Aggregate& sum : affinity) {
    const Id value = value_of(sum);
    if (value == 0) return Code::pod_affinity;
    const std::int64_t by = change(sum);
    found = found && sum.sum[value] + by > 0;
    anywhere += sum.total + by;
  }
  if (!found && !(anywhere == 0 && matches_own_affinity)) return Code::pod_affinity;
  for (const auto& [list, code] :
       {std::pair(&own_anti, Code::pod_anti), std::pair(&existing_anti, Code::existing_anti)}) {
    for (const Aggregate& sum : *list) {
      const Id value = value_of(sum);
      if (value != 0 && sum.sum[value] + change(sum) > 0) return code;
    }
  }
  return Code::ok;
}

}  // namespace orchestra::sched
