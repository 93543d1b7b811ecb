// orchestra explain pod NS/NAME: why a pod has no node, or why it got the one it has; and what would be if.
//
// Reads the objects through the API of any cluster and decides here, with the same rules as the scheduler.
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

Result<int> explain(const std::string& ns, const std::string& name, const Flags& flags) {
  Engine engine;
  ORC_ASSIGN(const Client client,
             RemoteClient::from_kubeconfig(engine, flags.get("kubeconfig", default_kubeconfig())));
  ClusterQuestion question;
  question.without = flags.all("without");
  question.add = flags.all("add");
  ORC_ASSIGN(question.nodes, list(client, "v1", "nodes"));
  ORC_ASSIGN(question.pods, list(client, "v1", "pods"));
  for (const auto& [version, resource] :
       {std::pair("v1", "namespaces"), std::pair("v1", "persistentvolumes"),
        std::pair("v1", "persistentvolumeclaims"), std::pair("storage.k8s.io/v1", "storageclasses"),
        std::pair("storage.k8s.io/v1", "csinodes"), std::pair("storage.k8s.io/v1", "csidrivers"),
        std::pair("storage.k8s.io/v1", "csistoragecapacities")}) {
    ORC_ASSIGN(auto more, list(client, version, resource));
    question.others.insert(question.others.end(), more.begin(), more.end());
  }
  ORC_ASSIGN(const PodAnswer answer, explain_pod(question, ns, name));
  std::fputs(answer.text(!flags.has("quiet"), flags.has("scores")).c_str(), stdout);
  return answer.goes_to.empty() ? 1 : 0;
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
  const auto done = explain(ns, name, flags);
  return done ? *done : report(done.error());
}

}  // namespace orchestra::cli
