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
  rivals_ = impl.nominations.size() > (impl.nominations.contains(pod.uid) ? 1u : 0u);
  impl.sort_ranks(options.tie_seed);
}

bool Attempt::plain() const {
  return !evaluation.topology() && !only && !volumes.any() && impl.nominations.empty() &&
         pod.node_name.empty() && options.plugins.empty();
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

Code Attempt::code(Slot slot) const {
  const Evaluation& e = evaluation;
  if (e.static_code[slot] == Code::absent) return Code::absent;
  if (only && std::find(only->begin(), only->end(), slot) == only->end()) return Code::not_asked;
  if (!pod.node_name.empty() && pod.node_name != impl.nodes[slot].shape.name && e.enabled("NodeName"))
    return e.static_code[slot] == Code::unschedulable ? Code::unschedulable : Code::node_name;
  if (const Code code = e.code(slot); code != Code::ok) return code;
  if (volumes.any()) {
    if (const Code code = volumes.check(slot).code; code != Code::ok) return code;
  }
  if (!e.topology()) return Code::ok;
  for (std::size_t i = 0; i < e.hard.size(); ++i) {
    const Aggregate& sum = e.hard_sums[i];
    const Id value = impl.columns[sum.column].of[slot];
    if (value == 0) return Code::spread_key;
    const std::int64_t here = sum.nodes[value] == 0 ? 0 : sum.sum[value];
    if (here + (e.hard[i].self ? 1 : 0) - minima_[i] > e.hard[i].rule.max_skew) return Code::spread;
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
    overlay.added_records.push_back(impl.acquire_record(rival->pod));
  }
  return overlay;
}

void Attempt::give_back(const Evaluation::Overlay& overlay) const {
  for (const Id record : overlay.added_records) impl.release_record(record);
}

bool Attempt::promised_away(Slot slot) const {
  if (!rivals_ || impl.nodes[slot].nominated.empty()) return false;
  const Evaluation::Overlay overlay = rivals_on(slot);
  const bool lost = !overlay.added.empty() && evaluation.code_with(slot, overlay) != Code::ok;
  give_back(overlay);
  return lost;
}

Code Attempt::code_without(Slot slot, const std::vector<const PlacedPod*>& removed) const {
  Evaluation::Overlay overlay;
  overlay.removed = removed;
  Code code = evaluation.code_with(slot, overlay);
  if (code == Code::ok && volumes.any()) code = volumes.check(slot, removed).code;
  if (code == Code::ok && rivals_ && !impl.nodes[slot].nominated.empty()) {
    overlay = rivals_on(slot);
    overlay.removed = removed;
    code = evaluation.code_with(slot, overlay);
    give_back(overlay);
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
  for (const Feasible& node : feasible) {
    NodeState& state = impl.nodes[node.slot];
    if (!state.shared) state.shared = std::make_shared<const NodeShape>(state.shape);
    job->shapes.push_back(state.shared);
    Amounts& used = job->used.emplace_back();
    for (const ResourceColumn& column : impl.resources) {
      if (column.used[node.slot] != 0) used[column.name] = column.used[node.slot];
    }
    used["pods"] = impl.pods_used[node.slot];
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
    if (!plugin->filters() || feasible.empty()) continue;
    const auto job = run_plugin(*plugin, false);
    if (!job) return;
    std::vector<Feasible> left;
    for (std::size_t i = 0; i < feasible.size(); ++i) {
      auto& reason = job->reasons[i];
      if (!reason) {
        left.push_back(std::move(feasible[i]));
        continue;
      }
      if (reason->empty()) reason = "node(s) were refused by plugin " + plugin->name();
      plugin_refusals_[feasible[i].slot] = {plugin->name(), std::move(*reason)};
    }
    feasible = std::move(left);
  }
}

Attempt::Refusal Attempt::refusal(Slot slot) {
  Refusal refusal;
  refusal.code = code(slot);
  if (refusal.code == Code::ok && promised_away(slot)) {
    const Evaluation::Overlay overlay = rivals_on(slot);
    refusal.code = evaluation.code_with(slot, overlay);
    if (refusal.code == Code::fit) refusal.reasons = evaluation.lacking(slot, &overlay);
    give_back(overlay);
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

void Attempt::walk() {
  prepare();
  feasible.clear();
  if (!for_all.empty()) return;
  const auto look = [&](Slot slot) {
    if (code(slot) != Code::ok) return;
    if (promised_away(slot)) return;
    feasible.emplace_back(slot);
  };
  if (only) {
    for (const Slot slot : *only) look(slot);
  } else {
    const std::size_t count = impl.nodes.size();
    for (Slot slot = 0; slot < count; ++slot) {
      if (evaluation.static_code[slot] == Code::ok) look(slot);
    }
  }
  plugin_refusals_.clear();
  run_filters();
  if (failure || feasible.empty()) return;
  raw_topology();
  normalise();
}

void Attempt::raw_topology() {
  const Evaluation& e = evaluation;
  if (!e.soft.empty()) {
    // Nodes that lack a key are not scored; domains are those of the nodes that are.
    std::size_t scored = 0;
    std::vector<std::vector<std::uint8_t>> seen(e.soft.size());
    std::vector<std::size_t> domains(e.soft.size(), 0);
    for (std::size_t i = 0; i < e.soft.size(); ++i)
      seen[i].assign(impl.columns[e.soft[i].column].values.size(), 0);
    for (Feasible& node : feasible) {
      if (e.soft_needs_all_keys) {
        node.spread_ignored = std::any_of(e.soft.begin(), e.soft.end(), [&](const Spread& each) {
          return impl.columns[each.column].of[node.slot] == 0;
        });
      }
      if (node.spread_ignored) continue;
      ++scored;
      for (std::size_t i = 0; i < e.soft.size(); ++i) {
        const Id value = impl.columns[e.soft[i].column].of[node.slot];
        if (value != 0 && seen[i][value] == 0) {
          seen[i][value] = 1;
          ++domains[i];
        }
      }
    }
    std::vector<double> weights;
    for (std::size_t i = 0; i < e.soft.size(); ++i) {
      const std::size_t size = e.soft[i].hostname ? scored : domains[i];
      weights.push_back(std::log(static_cast<double>(size + 2)));
    }
    for (Feasible& node : feasible) {
      if (node.spread_ignored) continue;
      double score = 0;
      for (std::size_t i = 0; i < e.soft.size(); ++i) {
        const Spread& rule = e.soft[i];
        const Id value = impl.columns[rule.column].of[node.slot];
        if (value == 0) continue;
        const std::int64_t count =
            rule.hostname ? impl.matchers[rule.matcher].of[node.slot] : e.soft_sums[i].sum[value];
        score += static_cast<double>(count) * weights[i] + static_cast<double>(rule.rule.max_skew - 1);
      }
      node.spread = std::llround(score);
    }
  }
  for (const Aggregate& sum : e.pod_scores) {
    const auto& of = impl.columns[sum.column].of;
    for (Feasible& node : feasible) {
      if (of[node.slot] != 0) node.pods += sum.sum[of[node.slot]];
    }
  }
}

void Attempt::normalise() {
  most_taints_ = most_preferred_ = 0;
  spread_least_ = pods_least_ = std::numeric_limits<std::int64_t>::max();
  spread_most_ = 0;
  pods_most_ = std::numeric_limits<std::int64_t>::min();
  for (const Feasible& node : feasible) {
    most_taints_ = std::max(most_taints_, evaluation.taints[node.slot]);
    most_preferred_ = std::max(most_preferred_, evaluation.preferred[node.slot]);
    pods_least_ = std::min(pods_least_, node.pods);
    pods_most_ = std::max(pods_most_, node.pods);
    if (node.spread_ignored) continue;
    spread_least_ = std::min(spread_least_, node.spread);
    spread_most_ = std::max(spread_most_, node.spread);
  }
  for (SchedulerPlugin* plugin : options.plugins) {
    if (!plugin->scores()) continue;
    const auto job = run_plugin(*plugin, true);
    if (!job) return;
    for (std::size_t i = 0; i < feasible.size(); ++i) {
      const std::int64_t score = job->scores[i];
      if (score < 0 || score > kScoreMax) {
        failure = PlacementFailed{plugin->name(), "score: " + std::to_string(score) + " for node " +
                                                      job->shapes[i]->name + " is outside of 0..100"};
        return;
      }
      feasible[i].plugins.push_back(score);
    }
  }
}

std::int64_t Attempt::total(const Feasible& node, std::vector<PluginScore>* scores) const {
  const Evaluation& e = evaluation;
  std::int64_t sum = 0;
  const auto add = [&](const char* plugin, std::int64_t raw, std::int64_t normalised, std::int64_t weight) {
    sum += normalised * weight;
    if (scores != nullptr) scores->push_back({plugin, raw, normalised, weight});
  };
  const Slot slot = node.slot;
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
    std::int64_t normalised = 0;
    if (!node.spread_ignored) {
      normalised = spread_most_ == 0
                       ? kScoreMax
                       : kScoreMax * (spread_most_ + spread_least_ - node.spread) / spread_most_;
    }
    add("PodTopologySpread", node.spread, normalised, profile.spread_weight);
  }
  if (!e.pod_scores.empty()) {
    std::int64_t normalised = 0;
    if (pods_most_ > pods_least_) {
      normalised = static_cast<std::int64_t>(
          static_cast<double>(kScoreMax) *
          (static_cast<double>(node.pods - pods_least_) / static_cast<double>(pods_most_ - pods_least_)));
    }
    add("InterPodAffinity", node.pods, normalised, profile.pod_affinity_weight);
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
    if (!each->scores() || next >= node.plugins.size()) continue;
    const std::int64_t score = node.plugins[next++];
    const auto set = profile.plugin_weights.find(each->name());
    const std::int64_t weight = set == profile.plugin_weights.end() ? each->weight() : set->second;
    sum += score * weight;
    if (scores != nullptr) scores->push_back({each->name(), score, score, weight});
  }
  return sum;
}

}  // namespace orchestra::sched
