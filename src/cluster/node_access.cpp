// Letting nodes join: see node_access.hpp. Names and rules of the objects are those of kubeadm
// (cmd/kubeadm/app/phases/bootstraptoken), so that who knows a kubeadm cluster finds his way.
#include "cluster/node_access.hpp"

#include "api/meta.hpp"
#include "api/object_tree.hpp"
#include "base/base64.hpp"
#include "base/fd.hpp"
#include "base/yaml.hpp"
#include "cluster/node_identity.hpp"
#include "orchestra/env.hpp"

namespace orchestra::cluster {

using namespace std::chrono_literals;

namespace {
constexpr Duration kDeadline = 10s;
constexpr const char* kGroup = "system:bootstrappers:orchestra:nodes";
constexpr std::size_t kTokenFileMax = 4096;

// What a joined node reads beyond system:node: its proxy and policies need all Services, endpoints, pods,
// namespaces, policies and the addresses of other nodes; its volumes need claims, and who keeps a volume's
// folder ends the volume. The rights to join are bound by the default policy (src/api/rbac). No Secrets and
// no ConfigMaps: those are the Node authorizer's business.
constexpr const char* kObjects = R"(
- {kind: ClusterRole, metadata: {name: "orchestra:node"}, rules: [
    {apiGroups: [""], resources: [services, endpoints, pods, namespaces, nodes, persistentvolumes, persistentvolumeclaims], verbs: [get, list, watch]},
    {apiGroups: [""], resources: [persistentvolumes], verbs: [delete]},
    {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]},
    {apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [get, list, watch]}]}
- {kind: ClusterRoleBinding, metadata: {name: "orchestra:node"}, role: "orchestra:node", group: "system:nodes"}
- {kind: Role, metadata: {name: "orchestra:cluster-info", namespace: kube-public}, rules: [
    {apiGroups: [""], resources: [configmaps], resourceNames: [cluster-info], verbs: [get]}]}
- {kind: RoleBinding, metadata: {name: "orchestra:cluster-info", namespace: kube-public}, role: "orchestra:cluster-info", group: "system:unauthenticated"}
- {kind: RoleBinding, metadata: {name: "orchestra:cluster-info-authenticated", namespace: kube-public}, role: "orchestra:cluster-info", group: "system:authenticated"}
)";

Result<void> create(const Client& client, json::value object) {
  auto made = client.create(object_from_tree(std::move(object))).wait(kDeadline);
  if (!made && !made.error().is(Error::already_exists)) return made.error();
  return {};
}

std::string random_text(Random& random, std::size_t size) {
  static constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::string out;
  while (out.size() < size) {
    unsigned char byte = 0;
    random.fill(&byte, 1);
    if (byte < 252) out += kLetters[byte % 36];  // 252 = 7 * 36: each letter is as likely
  }
  return out;
}

/// Tokens of ours that are no good any more.
Result<void> remove_expired(const Client& client, std::int64_t now_ns) {
  ListOptions which;
  which.ns = "kube-system";
  which.fields = "type=bootstrap.kubernetes.io/token";
  ORC_ASSIGN(const ObjectList secrets, client.list("v1", "secrets", which).wait(kDeadline));
  for (const Object& secret : secrets.items) {
    const auto groups = decode_base64_text(string_at(tree(secret), "/data/auth-extra-groups"));
    const auto text = decode_base64_text(string_at(tree(secret), "/data/expiration"));
    const auto until = api::parse_time(text.value_or(""));
    if (groups != kGroup || !until || *until > now_ns) continue;
    DeleteOptions options;
    options.uid = secret.uid();
    auto removed = client.remove("v1", "secrets", secret.name(), secret.ns(), options).wait(kDeadline);
    if (!removed && !removed.error().is(Error::not_found)) return removed.error();
  }
  return {};
}

json::object cluster_info(const NodeAccessOptions& options) {
  const json::value kubeconfig = json::object{
      {"apiVersion", "v1"},
      {"kind", "Config"},
      {"clusters",
       json::array{json::object{
           {"name", "orchestra"},
           {"cluster", json::object{{"server", options.server},
                                    {"certificate-authority-data", encode_base64_text(options.ca_pem)}}}}}},
      {"contexts",
       json::array{json::object{{"name", "orchestra"},
                                {"context", json::object{{"cluster", "orchestra"}, {"user", ""}}}}}},
      {"current-context", "orchestra"}};
  return {{"kubeconfig", to_json(kubeconfig)},
          {"pod-cidr", options.pod_cidr},
          {"service-cidr", options.service_cidr},
          {"api-host", options.api_host},
          {"network", options.loopback_network ? "loopback" : "routed"}};
}
}  // namespace

Result<void> make_node_access(Engine& engine, const Client& client, const NodeAccessOptions& options) {
  ORC_ASSIGN(const json::value objects, parse_yaml(kObjects));
  for (json::value object : objects.as_array()) {
    json::object& one = object.as_object();
    one["apiVersion"] = "rbac.authorization.k8s.io/v1";
    const std::string kind = string_at(object, "/kind");
    if (kind.ends_with("Binding")) {
      one["roleRef"] = json::object{{"apiGroup", "rbac.authorization.k8s.io"},
                                    {"kind", kind == "RoleBinding" ? "Role" : "ClusterRole"},
                                    {"name", string_at(object, "/role")}};
      one["subjects"] = json::array{json::object{{"apiGroup", "rbac.authorization.k8s.io"},
                                                 {"kind", "Group"},
                                                 {"name", string_at(object, "/group")}}};
      one.erase("role");
      one.erase("group");
    }
    const std::string name = string_at(object, "/metadata/name");
    if (auto made = create(client, std::move(object)); !made)
      return made.error().with_context(kind + " " + name);
  }
  json::value info =
      json::object{{"apiVersion", "v1"},
                   {"kind", "ConfigMap"},
                   {"metadata", json::object{{"name", "cluster-info"}, {"namespace", "kube-public"}}},
                   {"data", cluster_info(options)}};
  ORC_TRY(create(client, info));
  const json::value patch = json::object{{"data", cluster_info(options)}};  // an address may have changed
  ORC_TRY(client.patch("v1", "configmaps", "cluster-info", "kube-public", PatchType::merge, to_json(patch))
              .wait(kDeadline));
  return refresh_join_token(engine, client, options);
}

Result<void> refresh_join_token(Engine& engine, const Client& client, const NodeAccessOptions& options) {
  const std::string path = options.data_dir + "/node-token";
  const std::int64_t now = engine.clock().now().wall_ns;
  ORC_ASSIGN(const std::string hash, ca_hash(options.ca_pem));
  if (auto text = read_file(path, kTokenFileMax)) {
    auto known = parse_join_token(*text);
    if (known && known->ca_hash == hash) {
      auto secret = client.get("v1", "secrets", "bootstrap-token-" + known->token.substr(0, 6), "kube-system")
                        .wait(kDeadline);
      if (secret) {
        const auto encoded = decode_base64_text(string_at(tree(*secret), "/data/expiration"));
        const auto until = api::parse_time(encoded.value_or(""));
        if (until && *until - now > kTokenLife.count() / 2) return {};
      } else if (!secret.error().is(Error::not_found)) {
        return secret.error();
      }
    }
  }
  ORC_TRY(remove_expired(client, now));
  const std::string id = random_text(engine.random(), 6), secret = random_text(engine.random(), 16);
  const json::value object = json::object{
      {"apiVersion", "v1"},
      {"kind", "Secret"},
      {"type", "bootstrap.kubernetes.io/token"},
      {"metadata", json::object{{"name", "bootstrap-token-" + id}, {"namespace", "kube-system"}}},
      {"stringData", json::object{{"token-id", id},
                                  {"token-secret", secret},
                                  {"description", "for `orchestra join`; in node-token of the data folder"},
                                  {"expiration", api::format_time(now + kTokenLife.count())},
                                  {"usage-bootstrap-authentication", "true"},
                                  {"auth-extra-groups", kGroup}}}};
  ORC_TRY(create(client, object));
  return replace_file(path, write_join_token({id + "." + secret, hash}), 0600, true);
}

Result<ClusterFacts> read_cluster_facts(const Client& client) {
  auto info = client.get("v1", "configmaps", "cluster-info", "kube-public").wait(kDeadline);
  if (!info) return info.error().with_context("ConfigMap kube-public/cluster-info");
  const json::value& object = tree(*info);
  ClusterFacts out{string_at(object, "/data/pod-cidr"), string_at(object, "/data/service-cidr"),
                   string_at(object, "/data/api-host"), string_at(object, "/data/network") == "loopback"};
  if (out.pod_cidr.empty() || out.service_cidr.empty())
    return Error(Error::unsupported, "cluster",
                 "the ConfigMap kube-public/cluster-info says no pod-cidr and service-cidr: its control "
                 "plane is not an "
                 "`orchestra up` that nodes can join");
  return out;
}

}  // namespace orchestra::cluster
