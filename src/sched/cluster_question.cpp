// explain_pod() and place_waiting(): what the scheduler would say about pods of listed objects. Pure.
#include <algorithm>
#include <charconv>

#include "orchestra/what_if.hpp"
#include "sched/explanation.hpp"

namespace orchestra {
namespace {

constexpr std::size_t kMoreNodesMax = 100'000;

Error no_such(const char* what, const std::string& name) {
  return Error(Error::not_found, "scheduler", std::string("there is no ") + what + " " + name);
}

// "NODE=N" or "NODE".
Result<void> add_nodes(WhatIf& branch, const std::vector<Object>& nodes, const std::string& entry) {
  const auto equals = entry.find('=');
  const std::string name = entry.substr(0, equals);
  std::size_t count = 1;
  if (equals != std::string::npos) {
    const char* end = entry.data() + entry.size();
    const auto [stop, failed] = std::from_chars(entry.data() + equals + 1, end, count);
    if (failed != std::errc{} || stop != end) count = 0;
  }
  if (count < 1 || count > kMoreNodesMax)
    return Error(Error::invalid, "scheduler",
                 "\"" + entry + "\": must be NODE=N, and N 1.." + std::to_string(kMoreNodesMax));
  const auto like =
      std::find_if(nodes.begin(), nodes.end(), [&](const Object& node) { return node.name() == name; });
  if (like == nodes.end()) return no_such("node", name);
  for (std::size_t i = 0; i < count; ++i) {
    NodeShape shape = NodeShape::from_object(*like);
    shape.name += "-like-" + std::to_string(i);
    if (const auto host = shape.labels.find("kubernetes.io/hostname"); host != shape.labels.end())
      host->second = shape.name;
    branch.add_node(std::move(shape));
  }
  return {};
}

Result<WhatIf> branch_of(SchedulingSnapshot snapshot, const ClusterQuestion& question) {
  const std::vector<std::string> names = snapshot.node_names();
  WhatIf branch(std::make_shared<const SchedulingSnapshot>(std::move(snapshot)));
  for (const std::string& name : question.without) {
    if (std::find(names.begin(), names.end(), name) == names.end()) return no_such("node", name);
    branch.remove_node(name);
  }
  for (const std::string& entry : question.add) ORC_TRY(add_nodes(branch, question.nodes, entry));
  return branch;
}

std::string line_of(const NodeVerdict& row, bool scores) {
  std::string line = row.node;
  line.resize(std::max<std::size_t>(line.size(), 32), ' ');
  if (!row.reasons.empty()) {
    std::string why;
    for (const std::string& reason : row.reasons) why += (why.empty() ? "" : ", ") + reason;
    return line + " no   " + why + " (" + row.plugin + ")\n";
  }
  line += " yes  " + std::to_string(row.total);
  if (!scores) return line + "\n";
  for (const PluginScore& score : row.scores) {
    line += std::string("  ") + score.plugin.c_str() + " " + std::to_string(score.normalised) + " x" +
            std::to_string(score.weight);
  }
  return line + "\n";
}

bool is_over(const Object& pod) {
  const auto phase = pod.get("/status/phase");
  return phase && (*phase == "Succeeded" || *phase == "Failed");
}

}  // namespace

std::string PodAnswer::text(bool rows, bool scores) const {
  std::string out;
  if (rows) {
    for (const NodeVerdict& row : nodes) out += line_of(row, scores);
  }
  if (!runs_on.empty()) out += "it runs on " + runs_on + "\n";
  if (!goes_to.empty()) return out + pod + " would go to " + goes_to + "\n";
  out += pod + ": " + refusal + "\n";
  if (!preemption.node.empty())
    out += "it could take the place of " + std::to_string(preemption.victims.size()) + " pod(s) on " +
           preemption.node + "\n";
  return out;
}

Result<PodAnswer> explain_pod(const ClusterQuestion& question, const std::string& ns,
                              const std::string& name) {
  PodAnswer answer;
  answer.pod = ns + "/" + name;
  const auto found = std::find_if(question.pods.begin(), question.pods.end(),
                                  [&](const Object& pod) { return pod.ns() == ns && pod.name() == name; });
  if (found == question.pods.end()) return no_such("pod", answer.pod);
  SchedulingSnapshot snapshot =
      SchedulingSnapshot::from_objects(question.nodes, question.pods, question.others);
  snapshot.forget(found->uid());
  PodShape shape = PodShape::from_object(*found);
  answer.runs_on = std::exchange(shape.node_name, {});
  ORC_ASSIGN(const WhatIf branch, branch_of(std::move(snapshot), question));
  sched::judge(answer, branch.snapshot(), shape, {});
  return answer;
}

Result<WhatIf::Answer> place_waiting(const ClusterQuestion& question) {
  ORC_ASSIGN(
      const WhatIf branch,
      branch_of(SchedulingSnapshot::from_objects(question.nodes, question.pods, question.others), question));
  std::vector<PodShape> waiting;
  for (const Object& pod : question.pods) {
    if (pod.deleting() || is_over(pod) || pod.get("/spec/schedulingGates/0/name")) continue;
    PodShape shape = PodShape::from_object(pod);
    const auto lost = std::find(question.without.begin(), question.without.end(), shape.node_name);
    if (!shape.node_name.empty() && lost == question.without.end()) continue;
    shape.node_name.clear();
    waiting.push_back(std::move(shape));
  }
  std::stable_sort(waiting.begin(), waiting.end(), [](const PodShape& a, const PodShape& b) {
    return std::tuple(-a.priority, std::tie(a.ns, a.name)) < std::tuple(-b.priority, std::tie(b.ns, b.name));
  });
  return branch.schedule(waiting);
}

}  // namespace orchestra
