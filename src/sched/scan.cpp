// Attempt: see scan.hpp.
//
// Raw scores first, over the feasible nodes; then they are normalised with their extremes, as upstream's
// NormalizeScore does. The walk reads columns of integers and allocates nothing per node.
#include "sched/scan.hpp"

#include <algorithm>
#include <cmath>

#include "base/assert.hpp"

namespace orchestra::sched {

namespace {

constexpr std::int64_t kScoreMax = 100;

const SchedulingProfile& default_profile() {
  static const SchedulingProfile kProfile;
  return kProfile;
}

// Names that every term of the node affinity asks for; nullopt: at least one asks for none.
std::optional<std::vector<std::string>> named_nodes(const PodRules& rules) {
  if (!rules.required_terms || rules.required_terms->empty()) return std::nullopt;
  std::vector<std::string> all;
  for (const NodeTerm& term : *rules.required_terms) {
    std::optional<std::vector<std::string>> names;
    for (const NodeRequirement& field : term.fields) {
      if (field.key != "metadata.name" || field.op != "In") continue;
      if (!names) {
        names = field.values;
      } else {
        std::erase_if(*names, [&](const std::string& name) {
          return std::find(field.values.begin(), field.values.end(), name) == field.values.end();
        });
      }
    }
    if (!names) return std::nullopt;
    all.insert(all.end(), names->begin(), names->end());
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

// What a class is made of: without what is the pod's own and no other's.
bool strip(PodRules& rules, bool named) {
  bool changed = false;
  if (!rules.claims.empty()) {
    rules.claims.clear();
    rules.late_claims.clear();
    changed = true;
  }
  // A DaemonSet's pods differ in nothing but the node they name.
  if (named && rules.required_terms->size() == 1 && rules.spread.empty() && !rules.default_spread &&
      rules.required_terms->front().fields.size() == 1) {
    rules.required_terms->front().fields.clear();
    if (rules.required_terms->front().labels.empty()) rules.required_terms.reset();
    changed = true;
  }
  return changed;
}

void forget_least_used(SchedulingSnapshot::Impl& impl) {
  while (impl.evaluations.size() > impl.limits.classes_max ||
         (impl.evaluation_bytes > impl.limits.class_bytes_max && impl.evaluations.size() > 1)) {
    auto oldest = impl.evaluations.begin();
    for (auto it = impl.evaluations.begin(); it != impl.evaluations.end(); ++it) {
      if (it->second.last_used < oldest->second.last_used) oldest = it;
    }
    impl.evaluation_bytes -= std::min(impl.evaluation_bytes, oldest->second.evaluation->bytes());
    oldest->second.evaluation->release(impl);
    impl.evaluations.erase(oldest);
  }
}

}  // namespace

Evaluation& Attempt::evaluation_of(SchedulingSnapshot::Impl& impl, const PodShape& pod, Id profile,
                                   std::optional<std::vector<Slot>>& only, std::string& for_all) {
  const auto names =
      impl.profiles[profile].disabled_filters.contains("NodeAffinity") ? std::nullopt : named_nodes(pod);
  if (names) {
    if (names->empty()) for_all = "pod affinity terms conflict";
    only.emplace();
    for (const std::string& name : *names) {
      const auto found = impl.slots.find(name);
      if (found != impl.slots.end() && impl.nodes[found->second].present) only->push_back(found->second);
    }
  }
  const PodRules* rules = &pod;
  PodRules stripped;
  if (names || !pod.claims.empty()) {
    stripped = pod;
    if (strip(stripped, names.has_value())) rules = &stripped;
  }
  const Id record = impl.acquire_record(*rules);
  const std::uint64_t key = (static_cast<std::uint64_t>(record) << 32) | profile;
  auto& remembered = impl.evaluations[key];
  remembered.last_used = ++impl.uses;
  if (remembered.evaluation) {
    impl.release_record(record);
    Evaluation& known = *remembered.evaluation;
    known.refresh();
    return known;
  }
  remembered.evaluation = std::make_unique<Evaluation>(impl, record, profile);
  Evaluation& made = *remembered.evaluation;
  made.refresh();
  impl.evaluation_bytes += made.bytes();
  forget_least_used(impl);
  return made;
}

Attempt::Attempt(const SchedulingSnapshot& snapshot, const PodShape& shape, const PlaceOptions& how)
    : impl(snapshot.impl()),
      pod(shape),
      options(how),
      profile(how.profile == nullptr ? default_profile() : *how.profile),
      evaluation(evaluation_of(snapshot.impl(), shape, snapshot.impl().profile_id(profile), only_made_,
                               for_all_made_)),
      volumes(snapshot.impl(), shape, profile) {
  only = std::move(only_made_);
  for_all = std::move(for_all_made_);
  if (!for_all.empty()) {
    for_all_plugin = "NodeAffinity";
  } else if (!volumes.error().empty()) {
    for_all = volumes.error();
    for_all_plugin = volumes.error_plugin();
  }
  const auto promise = impl.nominations.find(pod.uid);
  if (promise != impl.nominations.end()) own_promise_ = promise->second.slot;
  rivals_ = impl.nominations.size() > (own_promise_ ? 1u : 0u);
  impl.sort_ranks(options.tie_seed);
}

bool Attempt::plain() const {
  return !evaluation.topology() && !only && !volumes.any() && pod.node_name.empty() &&
         options.plugins.empty();
}

void Attempt::prepare() {
  minima_.clear();
  for (std::size_t i = 0; i < evaluation.hard.size(); ++i) {
    const Aggregate& sum = evaluation.hard_sums[i];
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    std::int64_t domains = 0;
    for (Id value = 1; value < sum.sum.size(); ++value) {
      if (sum.nodes[value] == 0) continue;
      ++domains;
      least = std::min(least, sum.sum[value]);
    }
    minima_.push_back(domains == 0 || domains < evaluation.hard[i].rule.min_domains ? 0 : least);
  }
}

bool Attempt::spread_allows(std::size_t constraint, Id value) const {
  const Aggregate& sum = evaluation.hard_sums[constraint];
  const Spread& rule = evaluation.hard[constraint];
  const std::int64_t here = sum.nodes[value] == 0 ? 0 : sum.sum[value];
  return here + (rule.self ? 1 : 0) - minima_[constraint] <= rule.rule.max_skew;
}

Code Attempt::code(Slot slot) const {
  const Evaluation& e = evaluation;
  if (e.static_code[slot] == Code::absent) return Code::absent;
  if (only && std::find(only->begin(), only->end(), slot) == only->end()) return Code::not_asked;
  if (!pod.node_name.empty() && pod.node_name != impl.nodes[slot].shape.name && e.enabled("NodeName"))
    return e.static_code[slot] == Code::unschedulable ? Code::unschedulable : Code::node_name;
  if (const Code code = e.code(slot); code != Code::ok) return code;
  if (volumes.any()) {
    if (const Code code = volumes.code(slot); code != Code::ok) return code;
  }
  if (!e.topology()) return Code::ok;
  for (std::size_t i = 0; i < e.hard.size(); ++i) {
    const Aggregate& sum = e.hard_sums[i];
    const Id value = impl.columns[sum.column].of[slot];
    if (value == 0) return Code::spread_key;
    if (!spread_allows(i, value)) return Code::spread;
  }
  if (!e.affinity.empty()) {
    bool found = true;
    std::int64_t anywhere = 0;
    for (const Aggregate& sum : e.affinity) {
      const Id value = impl.columns[sum.column].of[slot];
      if (value == 0) return Code::pod_affinity;
      found = found && sum.sum[value] > 0;
      anywhere += sum.total;
    }
    // The first pod of a group that wants to be together.
    if (!found && !(anywhere == 0 && e.matches_own_affinity)) return Code::pod_affinity;
  }
  for (const Aggregate& sum : e.own_anti) {
    const Id value = impl.columns[sum.column].of[slot];
    if (value != 0 && sum.sum[value] > 0) return Code::pod_anti;
  }
  for (const Aggregate& sum : e.existing_anti) {
    const Id value = impl.columns[sum.column].of[slot];
    if (value != 0 && sum.sum[value] > 0) return Code::existing_anti;
  }
  return Code::ok;
}

Evaluation::Overlay Attempt::rivals_on(Slot slot) const {
  Evaluation::Overlay overlay;
  if (!rivals_) return overlay;
  for (const Nomination* rival : impl.nodes[slot].nominated) {
    if (rival->pod.uid == pod.uid || rival->pod.priority < pod.priority) continue;
    overlay.added.push_back(&rival->pod);
    overlay.added_records.push_back(rival->record);
  }
  return overlay;
}

bool Attempt::promised_away(Slot slot) const {
  if (!rivals_ || impl.nodes[slot].nominated.empty()) return false;
  if (!evaluation.topology() && own_promise_ != slot) return evaluation.taken(slot);
  const Evaluation::Overlay overlay = rivals_on(slot);
  return !overlay.added.empty() && evaluation.code_with(slot, overlay) != Code::ok;
}

Code Attempt::code_without(Slot slot, const std::vector<const PlacedPod*>& removed) const {
  Evaluation::Overlay overlay;
  overlay.removed = removed;
  Code code = evaluation.code_with(slot, overlay);
  if (code == Code::ok && volumes.any()) code = volumes.code(slot, removed);
  if (code == Code::ok && rivals_ && !impl.nodes[slot].nominated.empty()) {
    overlay = rivals_on(slot);
    overlay.removed = removed;
    code = evaluation.code_with(slot, overlay);
  }
  return code;
}

// What one plugin is asked in one attempt; owns all of it, because a plugin that overruns its deadline goes
// on with it after the attempt has ended.
struct Attempt::PluginJob {
  PodShape pod;
  std::vector<std::shared_ptr<const NodeShape>> shapes;
  std::vector<Amounts> used;
  std::vector<std::optional<std::string>> reasons;
  std::vector<std::int64_t> scores;
  std::string error;

  void run(SchedulerPlugin& plugin, bool want_scores) {
    try {
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        const NodeView view{*shapes[i], used[i]};
        if (want_scores) {
          scores.push_back(plugin.score(pod, view));
        } else {
          reasons.push_back(plugin.filter(pod, view));
        }
      }
    } catch (const std::exception& problem) {
      error = problem.what();
      if (error.empty()) error = "an exception without a message";
    } catch (...) {
      error = "an exception that is no std::exception";
    }
  }
};

// nullptr: it failed, and `failure` says how.
std::shared_ptr<Attempt::PluginJob> Attempt::run_plugin(SchedulerPlugin& plugin, bool scores) {
  auto job = std::make_shared<PluginJob>();
  job->pod = pod;
  for (const Slot slot : feasible.slots) {
    NodeState& state = impl.nodes[slot];
    if (!state.shared) state.shared = std::make_shared<const NodeShape>(state.shape);
    job->shapes.push_back(state.shared);
    Amounts& used = job->used.emplace_back();
    for (const ResourceColumn& column : impl.resources) {
      if (column.used[slot] != 0) used[column.name] = column.used[slot];
    }
    used["pods"] = impl.pods_used[slot];
  }
  const char* what = scores ? "score: " : "filter: ";
  if (!options.guard) {
    job->run(plugin, scores);
  } else if (!options.guard([job, &plugin, scores] { job->run(plugin, scores); })) {
    failure = PlacementFailed{plugin.name(), std::string(what) + "no answer within its deadline"};
    return nullptr;
  }
  if (!job->error.empty()) {
    failure = PlacementFailed{plugin.name(), what + job->error};
    return nullptr;
  }
  return job;
}

void Attempt::run_filters() {
  for (SchedulerPlugin* plugin : options.plugins) {
    if (!plugin->filters() || feasible.slots.empty()) continue;
    const auto job = run_plugin(*plugin, false);
    if (!job) return;
    std::vector<Slot> left;
    for (std::size_t i = 0; i < feasible.slots.size(); ++i) {
      auto& reason = job->reasons[i];
      if (!reason) {
        left.push_back(feasible.slots[i]);
        continue;
      }
      if (reason->empty()) reason = "node(s) were refused by plugin " + plugin->name();
      plugin_refusals_[feasible.slots[i]] = {plugin->name(), std::move(*reason)};
    }
    feasible.slots = std::move(left);
  }
}

Attempt::Refusal Attempt::refusal(Slot slot) {
  Refusal refusal;
  refusal.code = code(slot);
  if (refusal.code == Code::ok && promised_away(slot)) {
    const Evaluation::Overlay overlay = rivals_on(slot);
    refusal.code = evaluation.code_with(slot, overlay);
    if (refusal.code == Code::fit) refusal.reasons = evaluation.lacking(slot, &overlay);
    refusal.resolvable = resolvable(refusal.code);
    refusal.plugin = plugin_of(refusal.code);
    if (refusal.reasons.empty()) refusal.reasons.emplace_back(reason_of(refusal.code));
    return refusal;
  }
  if (refusal.code == Code::ok) {
    const auto found = plugin_refusals_.find(slot);
    if (found == plugin_refusals_.end()) return refusal;
    refusal.code = Code::plugin;
    refusal.plugin = found->second.first;
    refusal.reasons = {found->second.second};
    refusal.resolvable = true;
    return refusal;
  }
  refusal.plugin = plugin_of(refusal.code);
  refusal.resolvable = resolvable(refusal.code);
  if (refusal.code == Code::fit) {
    refusal.reasons = evaluation.lacking(slot, nullptr);
    // More than the node has at all: nobody's end would help.
    refusal.resolvable = evaluation.fits_empty(slot);
  } else if (refusal.code == Code::volumes) {
    refusal.reasons = volumes.check(slot).reasons;
  } else {
    refusal.reasons = {reason_of(refusal.code)};
  }
  return refusal;
}

// The topology rules of code(), decided once per value and then looked up per node.
void Attempt::mask_topology(std::vector<std::uint8_t>& usable) const {
  const Evaluation& e = evaluation;
  std::vector<std::uint8_t> allowed;
  const auto apply = [&](Id column) {
    const Id* value = impl.columns[column].of.data();
    std::uint8_t* mask = usable.data();
    const std::uint8_t* allows = allowed.data();
    for (std::size_t slot = 0; slot < usable.size(); ++slot) mask[slot] &= allows[value[slot]];
  };
  const auto start = [&](const Aggregate& sum, bool without_key) {
    allowed.assign(impl.columns[sum.column].values.size(), 0);
    allowed[0] = without_key ? 1 : 0;
  };
  for (std::size_t i = 0; i < e.hard.size(); ++i) {
    start(e.hard_sums[i], false);
    for (Id value = 1; value < allowed.size(); ++value) {
      // A value that no node has had yet is in no sum.
      allowed[value] = value >= e.hard_sums[i].sum.size() || spread_allows(i, value) ? 1 : 0;
    }
    apply(e.hard_sums[i].column);
  }
  std::int64_t anywhere = 0;
  for (const Aggregate& sum : e.affinity) anywhere += sum.total;
  const bool first = anywhere == 0 && e.matches_own_affinity;  // of a group that wants to be together
  for (const Aggregate& sum : e.affinity) {
    start(sum, false);
    for (Id value = 1; value < allowed.size(); ++value)
      allowed[value] = first || (value < sum.sum.size() && sum.sum[value] > 0) ? 1 : 0;
    apply(sum.column);
  }
  for (const auto* list : {&e.own_anti, &e.existing_anti}) {
    for (const Aggregate& sum : *list) {
      start(sum, true);
      for (Id value = 1; value < allowed.size(); ++value)
        allowed[value] = value >= sum.sum.size() || sum.sum[value] <= 0 ? 1 : 0;
      apply(sum.column);
    }
  }
}

// Fills feasible.slots.
void Attempt::collect() {
  feasible = Feasible();
  std::vector<Slot>& slots = feasible.slots;
  if (only || !pod.node_name.empty()) {
    const auto look = [&](Slot slot) {
      if (code(slot) == Code::ok && !promised_away(slot)) slots.push_back(slot);
    };
    if (only) {
      for (const Slot slot : *only) look(slot);
      std::sort(slots.begin(), slots.end());
    } else {
      for (Slot slot = 0; slot < impl.nodes.size(); ++slot) look(slot);
    }
    return;
  }
  const std::size_t count = impl.nodes.size();
  std::vector<std::uint8_t> usable(count);
  for (std::size_t slot = 0; slot < count; ++slot) {
    usable[slot] = evaluation.static_code[slot] == Code::ok && evaluation.dynamic_code[slot] == Code::ok;
  }
  if (evaluation.topology()) mask_topology(usable);
  if (rivals_) {
    for (const auto& [uid, nomination] : impl.nominations) {
      const Slot slot = nomination.slot;
      if (usable[slot] != 0 && promised_away(slot)) usable[slot] = 0;
    }
  }
  slots.resize(count);
  std::size_t next = 0;
  for (Slot slot = 0; slot < count; ++slot) {
    slots[next] = slot;
    next += usable[slot];
  }
  slots.resize(next);
  if (volumes.any()) std::erase_if(slots, [&](Slot slot) { return volumes.code(slot) != Code::ok; });
}

void Attempt::walk() {
  filter();
  if (!failure && !feasible.slots.empty()) pre_score();
}

void Attempt::filter() {
  prepare();
  feasible = Feasible();
  plugin_refusals_.clear();
  if (!for_all.empty()) return;
  collect();
  run_filters();
}

void Attempt::pre_score() {
  const std::size_t count = feasible.slots.size();
  if (!evaluation.soft.empty()) raw_spread();
  if (!evaluation.pod_scores.empty()) feasible.pods.assign(count, 0);
  for (const Aggregate& sum : evaluation.pod_scores) {
    const Id* of = impl.columns[sum.column].of.data();
    std::vector<std::int64_t> by_value = sum.sum;
    by_value.resize(impl.columns[sum.column].values.size(), 0);
    by_value[0] = 0;
    for (std::size_t i = 0; i < count; ++i) feasible.pods[i] += by_value[of[feasible.slots[i]]];
  }
  normalise();
}

namespace {
// std::llround of what is not negative, without the call.
std::int64_t rounded(double value) {
  const auto whole = static_cast<std::int64_t>(value);
  return whole + (value - static_cast<double>(whole) >= 0.5 ? 1 : 0);
}
}  // namespace

// Nodes that lack a key are not scored; domains are those of the nodes that are.
void Attempt::raw_spread() {
  const Evaluation& e = evaluation;
  const std::vector<Slot>& slots = feasible.slots;
  if (e.soft_needs_all_keys) {
    feasible.spread_ignored.assign(slots.size(), 0);
    for (const Spread& each : e.soft) {
      const Id* of = impl.columns[each.column].of.data();
      for (std::size_t i = 0; i < slots.size(); ++i) feasible.spread_ignored[i] |= of[slots[i]] == 0 ? 1 : 0;
    }
  }
  const std::size_t scored =
      slots.size() - static_cast<std::size_t>(std::count(feasible.spread_ignored.begin(),
                                                         feasible.spread_ignored.end(), std::uint8_t{1}));
  std::vector<double> scores(slots.size(), 0);
  std::vector<double> by_value;
  std::vector<std::uint8_t> seen;
  for (std::size_t c = 0; c < e.soft.size(); ++c) {
    const Spread& rule = e.soft[c];
    const LabelColumn& column = impl.columns[rule.column];
    const Id* of = column.of.data();
    const auto more = static_cast<double>(rule.rule.max_skew - 1);
    if (rule.hostname) {
      const double weight = std::log(static_cast<double>(scored + 2));
      const std::int32_t* count = impl.matchers[rule.matcher].of.data();
      for (std::size_t i = 0; i < slots.size(); ++i) {
        const Slot slot = slots[i];
        if (of[slot] != 0) scores[i] += static_cast<double>(count[slot]) * weight + more;
      }
      continue;
    }
    seen.assign(column.values.size(), 0);
    for (std::size_t i = 0; i < slots.size(); ++i) {
      if (!feasible.ignored(i)) seen[of[slots[i]]] = 1;
    }
    seen[0] = 0;
    const auto domains = std::count(seen.begin(), seen.end(), std::uint8_t{1});
    const double weight = std::log(static_cast<double>(domains + 2));
    by_value.assign(column.values.size(), 0);
    for (Id value = 1; value < by_value.size(); ++value) {
      const std::int64_t pods = value < e.soft_sums[c].sum.size() ? e.soft_sums[c].sum[value] : 0;
      by_value[value] = static_cast<double>(pods) * weight + more;
    }
    for (std::size_t i = 0; i < slots.size(); ++i) scores[i] += by_value[of[slots[i]]];
  }
  feasible.spread.resize(slots.size());
  for (std::size_t i = 0; i < slots.size(); ++i)
    feasible.spread[i] = feasible.ignored(i) ? 0 : rounded(scores[i]);
}

void Attempt::normalise() {
  most_taints_ = most_preferred_ = 0;
  for (const Slot slot : feasible.slots) {
    most_taints_ = std::max(most_taints_, evaluation.taints[slot]);
    most_preferred_ = std::max(most_preferred_, evaluation.preferred[slot]);
  }
  pods_least_ = pods_most_ = 0;
  if (!feasible.pods.empty()) {
    const auto [least, most] = std::minmax_element(feasible.pods.begin(), feasible.pods.end());
    pods_least_ = *least;
    pods_most_ = *most;
  }
  spread_least_ = std::numeric_limits<std::int64_t>::max();
  spread_most_ = 0;
  for (std::size_t i = 0; i < feasible.spread.size(); ++i) {
    if (feasible.ignored(i)) continue;
    spread_least_ = std::min(spread_least_, feasible.spread[i]);
    spread_most_ = std::max(spread_most_, feasible.spread[i]);
  }
  for (SchedulerPlugin* plugin : options.plugins) {
    if (!plugin->scores()) continue;
    const auto job = run_plugin(*plugin, true);
    if (!job) return;
    for (std::size_t i = 0; i < feasible.slots.size(); ++i) {
      const std::int64_t score = job->scores[i];
      if (score >= 0 && score <= kScoreMax) continue;
      failure = PlacementFailed{plugin->name(), "score: " + std::to_string(score) + " for node " +
                                                    job->shapes[i]->name + " is outside of 0..100"};
      return;
    }
    feasible.plugins.push_back(std::move(job->scores));
    feasible.plugin_names.push_back(std::make_shared<const std::string>(plugin->name()));
  }
}

std::size_t Attempt::best(std::int64_t& most) const {
  std::size_t best = 0;
  most = total(0, nullptr);
  for (std::size_t i = 1; i < feasible.slots.size(); ++i) {
    const std::int64_t here = total(i, nullptr);
    if (here < most || (here == most && impl.rank[feasible.slots[i]] > impl.rank[feasible.slots[best]])) {
      continue;
    }
    best = i;
    most = here;
  }
  return best;
}

std::int64_t Attempt::total(std::size_t i, std::vector<PluginScore>* scores) const {
  const Evaluation& e = evaluation;
  std::int64_t sum = 0;
  const auto add = [&](const char* plugin, std::int64_t raw, std::int64_t normalised, std::int64_t weight) {
    sum += normalised * weight;
    if (scores != nullptr) scores->push_back({plugin, raw, normalised, weight});
  };
  const Slot slot = feasible.slots[i];
  if (profile.taint_weight != 0) {
    const std::int64_t raw = e.taints[slot];
    add("TaintToleration", raw, most_taints_ == 0 ? 100 : 100 - raw * 100 / most_taints_,
        profile.taint_weight);
  }
  if (profile.node_affinity_weight != 0) {
    const std::int64_t raw = e.preferred[slot];
    add("NodeAffinity", raw, most_preferred_ == 0 ? 0 : raw * 100 / most_preferred_,
        profile.node_affinity_weight);
  }
  if (!e.soft.empty()) {
    const std::int64_t raw = feasible.spread[i];
    std::int64_t normalised = 0;
    if (!feasible.ignored(i)) {
      normalised =
          spread_most_ == 0 ? kScoreMax : kScoreMax * (spread_most_ + spread_least_ - raw) / spread_most_;
    }
    add("PodTopologySpread", raw, normalised, profile.spread_weight);
  }
  if (!e.pod_scores.empty()) {
    const std::int64_t raw = feasible.pods[i];
    std::int64_t normalised = 0;
    if (pods_most_ > pods_least_) {
      normalised = static_cast<std::int64_t>(
          static_cast<double>(kScoreMax) *
          (static_cast<double>(raw - pods_least_) / static_cast<double>(pods_most_ - pods_least_)));
    }
    add("InterPodAffinity", raw, normalised, profile.pod_affinity_weight);
  }
  if (scores == nullptr) {
    sum += e.base[slot];
  } else {
    const auto plain = [&](const char* plugin, std::int64_t score, std::int64_t weight) {
      if (weight != 0) add(plugin, score, score, weight);
    };
    plain("NodeResourcesFit", e.fit_score(slot), profile.fit_weight);
    plain("NodeResourcesBalancedAllocation", e.balanced_score(slot), profile.balanced_weight);
    plain("ImageLocality", e.image_score(slot), profile.image_weight);
  }
  std::size_t next = 0;
  for (const SchedulerPlugin* each : options.plugins) {
    if (!each->scores() || next >= feasible.plugins.size()) continue;
    const auto& name = feasible.plugin_names[next];
    const std::int64_t score = feasible.plugins[next++][i];
    const auto set = profile.plugin_weights.find(*name);
    const std::int64_t weight = set == profile.plugin_weights.end() ? each->weight() : set->second;
    sum += score * weight;
    if (scores != nullptr) scores->push_back({PluginName(name), score, score, weight});
  }
  return sum;
}

}  // namespace orchestra::sched
