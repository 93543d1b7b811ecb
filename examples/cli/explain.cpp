// orchestra explain pod NS/NAME: why a pod has no node, or why it got the one it has; and what would be if.
//
// Reads the objects through the API of any cluster and decides here, with the same rules as the scheduler.
#include <algorithm>

#include "examples/cli/cli.hpp"
#include "orchestra/remote_client.hpp"
#include "orchestra/what_if.hpp"

namespace orchestra::cli {

namespace {

using namespace std::chrono_literals;

constexpr const char* kHelp = R"(usage: orchestra explain pod [NAMESPACE/]NAME [flags]

Prints for each node why the pod cannot go there, or how each rule scores it, as the scheduler would decide now.

  --kubeconfig FILE   the cluster; default $KUBECONFIG, then ~/.kube/config
  --without NODE      as if this node were not there (may be repeated)
  --add NODE=N        as if there were N more nodes like NODE (may be repeated)
  --scores            each rule's score beside the total
  --quiet             only the outcome

Exit status 0: there is a node for it; 1: there is none.
)";

Result<std::vector<Object>> list(const Client& client, const char* version, const char* resource) {
  ListOptions options;
  ORC_ASSIGN(ObjectList all, client.list(version, resource, options).wait(30s));
  return std::move(all.items);
}

Result<SchedulingSnapshot> snapshot_of(const Client& client) {
  ORC_ASSIGN(const auto nodes, list(client, "v1", "nodes"));
  ORC_ASSIGN(const auto pods, list(client, "v1", "pods"));
  std::vector<Object> others;
  for (const auto& [version, resource] :
       {std::pair("v1", "namespaces"), std::pair("v1", "persistentvolumes"),
        std::pair("v1", "persistentvolumeclaims"), std::pair("storage.k8s.io/v1", "storageclasses"),
        std::pair("storage.k8s.io/v1", "csinodes")}) {
    ORC_ASSIGN(auto more, list(client, version, resource));
    others.insert(others.end(), more.begin(), more.end());
  }
  return SchedulingSnapshot::from_objects(nodes, pods, others);
}

Result<void> change(WhatIf& branch, const SchedulingSnapshot& snapshot, const std::vector<Object>& nodes,
                    const Flags& flags) {
  for (const std::string& name : flags.all("without")) {
    const auto names = snapshot.node_names();
    if (std::find(names.begin(), names.end(), name) == names.end())
      return Error(Error::not_found, "explain", "there is no node " + name);
    branch.remove_node(name);
  }
  for (const std::string& entry : flags.all("add")) {
    const auto equals = entry.find('=');
    const std::string name = entry.substr(0, equals);
    const long count = equals == std::string::npos ? 1 : std::atol(entry.c_str() + equals + 1);
    if (count < 1 || count > 100000)
      return Error(Error::invalid, "explain", "--add " + entry + ": the number must be 1..100000");
    const auto like =
        std::find_if(nodes.begin(), nodes.end(), [&](const Object& node) { return node.name() == name; });
    if (like == nodes.end()) return Error(Error::not_found, "explain", "there is no node " + name);
    for (long i = 0; i < count; ++i) {
      NodeShape shape = NodeShape::from_object(*like);
      shape.name += "-like-" + std::to_string(i);
      if (const auto host = shape.labels.find("kubernetes.io/hostname"); host != shape.labels.end())
        host->second = shape.name;
      branch.add_node(std::move(shape));
    }
  }
  return {};
}

void print_row(const NodeVerdict& row, bool scores) {
  if (!row.reasons.empty()) {
    std::string why;
    for (const std::string& reason : row.reasons) why += (why.empty() ? "" : ", ") + reason;
    std::printf("%-32s no   %s (%s)\n", row.node.c_str(), why.c_str(), row.plugin.c_str());
    return;
  }
  std::printf("%-32s yes  %lld", row.node.c_str(), static_cast<long long>(row.total));
  if (scores) {
    for (const PluginScore& score : row.scores) {
      std::printf("  %s %lld x%lld", score.plugin.c_str(), static_cast<long long>(score.normalised),
                  static_cast<long long>(score.weight));
    }
  }
  std::printf("\n");
}

Result<int> explain_pod(const std::string& ns, const std::string& name, const Flags& flags) {
  Engine engine;
  ORC_ASSIGN(const Client client,
             RemoteClient::from_kubeconfig(engine, flags.get("kubeconfig", default_kubeconfig())));
  ORC_ASSIGN(const Object pod, client.get("v1", "pods", name, ns).wait(30s));
  ORC_ASSIGN(const auto nodes, list(client, "v1", "nodes"));
  ORC_ASSIGN(SchedulingSnapshot snapshot, snapshot_of(client));
  snapshot.forget(pod.uid());
  PodShape shape = PodShape::from_object(pod);
  const std::string has = shape.node_name;
  shape.node_name.clear();
  WhatIf branch(std::make_shared<const SchedulingSnapshot>(std::move(snapshot)));
  ORC_TRY(change(branch, branch.snapshot(), nodes, flags));
  if (!flags.has("quiet")) {
    for (const NodeVerdict& row : branch.explain(shape)) print_row(row, flags.has("scores"));
  }
  if (!has.empty()) std::printf("it runs on %s\n", has.c_str());
  const WhatIf::Answer answer = branch.schedule({shape});
  if (!answer.placed.empty()) {
    std::printf("%s/%s would go to %s\n", ns.c_str(), name.c_str(), answer.placed[0].second.c_str());
    return 0;
  }
  std::printf("%s/%s: %s\n", ns.c_str(), name.c_str(), answer.refused.at(0).second.c_str());
  const Preemption plan = branch.preempt(shape);
  if (!plan.node.empty()) {
    std::printf("it could take the place of %zu pod(s) on %s\n", plan.victims.size(), plan.node.c_str());
  }
  return 1;
}

}  // namespace

int run_explain(const std::vector<std::string>& args) {
  const Flags flags = Flags::parse(args, {"kubeconfig", "without", "add"}, {"scores", "quiet", "help"});
  if (flags.has("help")) return std::fputs(kHelp, stdout) < 0 ? 1 : 0;
  if (!flags.problem.empty()) return usage_error("explain: " + flags.problem);
  if (flags.words.size() != 2 || flags.words[0] != "pod") {
    std::fputs(kHelp, stderr);
    return 2;
  }
  const std::string& target = flags.words[1];
  const auto slash = target.find('/');
  const std::string ns = slash == std::string::npos ? "default" : target.substr(0, slash);
  const std::string name = slash == std::string::npos ? target : target.substr(slash + 1);
  const auto done = explain_pod(ns, name, flags);
  return done ? *done : report(done.error());
}

}  // namespace orchestra::cli
