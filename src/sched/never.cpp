// never_fits(): see never.hpp. Upstream's message says "Insufficient cpu" whether the node is full or too
// small; whoever reads it cannot tell a pod that waits from one that waits for ever.
//
// The usual pod costs one look: the first node that is large enough ends the search.
#include "sched/never.hpp"

#include <algorithm>
#include <vector>

#include "orchestra/quantity.hpp"

namespace orchestra::sched {

namespace {

std::string amount_of(const std::string& resource, std::int64_t amount) {
  const std::int64_t shown = std::max<std::int64_t>(0, amount);
  if (resource == "cpu") return Quantity::from_milli(shown).to_string();
  const bool bytes =
      resource == "memory" || resource == "ephemeral-storage" || resource.starts_with("hugepages-");
  return Quantity::from_int(shown, bytes ? Quantity::Format::binary_si : Quantity::Format::decimal_si)
      .to_string();
}

std::int64_t largest(const Attempt& attempt, Id resource) {
  std::int64_t most = 0;
  for (const Slot slot : attempt.impl.by_rank)
    most = std::max(most, attempt.impl.resources[resource].total[slot]);
  return most;
}

void too_large(const Attempt& attempt, std::vector<std::string>& why) {
  const Evaluation& evaluation = attempt.evaluation;
  const auto& nodes = attempt.impl.by_rank;
  if (!evaluation.enabled("NodeResourcesFit") ||
      std::any_of(nodes.begin(), nodes.end(), [&](Slot slot) { return evaluation.fits_empty(slot); })) {
    return;
  }
  std::string all;
  for (const auto& [id, wanted] : evaluation.record().amounts) {
    if (evaluation.ignores(id)) continue;
    const std::string& name = attempt.impl.resources[id].name;
    const std::string asked = amount_of(name, wanted) + " " + name;
    all += (all.empty() ? "" : " and ") + asked;
    const std::int64_t most = largest(attempt, id);
    if (wanted <= most) continue;
    why.push_back("it asks for " + asked + ", " +
                  (most == 0 ? "no node has any" : "the largest node has " + amount_of(name, most)));
  }
  if (why.empty()) why.push_back("it asks for " + all + ", and no node has so much of all of them");
}

void unknown_key(const Attempt& attempt, Id column, const char* who, std::vector<std::string>& why) {
  const LabelColumn& label = attempt.impl.columns[column];
  const auto& nodes = attempt.impl.by_rank;
  if (std::any_of(nodes.begin(), nodes.end(), [&](Slot slot) { return label.of[slot] != 0; })) return;
  std::string text = "no node has the label " + label.key + " that its " + who + " names";
  if (std::find(why.begin(), why.end(), text) == why.end()) why.push_back(std::move(text));
}

}  // namespace

std::string never_fits(const Attempt& attempt) {
  std::vector<std::string> why;
  too_large(attempt, why);
  for (const Spread& rule : attempt.evaluation.hard)
    unknown_key(attempt, rule.column, "topology spread constraint", why);
  for (const Aggregate& sum : attempt.evaluation.affinity)
    unknown_key(attempt, sum.column, "pod affinity", why);
  if (why.empty()) return {};
  std::string text = "No node in the cluster could ever run it: ";
  for (std::size_t i = 0; i < why.size(); ++i) text += (i == 0 ? "" : "; ") + why[i];
  return text + ".";
}

}  // namespace orchestra::sched
