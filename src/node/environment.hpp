#pragma once
// The environment, command and arguments of a container, from its spec and what the spec refers to.
//
// Pure. Rules: kubernetes pkg/kubelet/kubelet_pods.go makeEnvironmentVariables and
// third_party/forked/golang/expansion: service variables first, then envFrom, then env in order, later
// names win; $(NAME) sees what is defined above it, $$ is a dollar, an unknown name stays as written.
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "orchestra/image.hpp"
#include "orchestra/result.hpp"

namespace orchestra::node {

/// Values of the data (and binaryData) of a ConfigMap or the decoded data of a Secret; nullopt: no such
/// object.
using DataMap = std::map<std::string, std::string>;
using DataSource = std::function<Result<std::optional<DataMap>>(const std::string& name)>;

struct EnvironmentInputs {
  const json::value* pod = nullptr;        ///< the whole Pod
  const json::value* container = nullptr;  ///< one entry of spec.containers
  DataSource config_map, secret;
  /// A token of the pod's service account for this audience (empty: the API's); null: none to be had.
  std::function<Result<std::string>(const std::string& audience, std::int64_t seconds)> token = nullptr;
  std::map<std::string, std::string> service_variables;  ///< WEB_SERVICE_HOST=... of this namespace
  std::string node_name, host_ip;
  std::vector<std::string> pod_ips;
  std::int64_t node_cpu_milli = 0, node_memory_bytes = 0;  ///< allocatable, for absent limits
};

/// Text with $(NAME) replaced.
std::string expand(std::string_view text, const std::map<std::string, std::string>& variables);

/// The name of the pod among those of its domain (kubelet's GeneratePodHostNameAndDomain): at most 63
/// characters.
std::string short_hostname(const json::value& pod);
/// With the domain that spec.subdomain gives it; the short one where it has none.
std::string whole_hostname(const json::value& pod, const std::string& domain);
/// What `hostname` says in the pod: the machine's name on the machine's network, the whole one with
/// setHostnameAsFQDN; `invalid` where that has more characters than a host name holds.
Result<std::string> pod_hostname(const json::value& pod, const std::string& domain);

/// fieldRef: metadata.name, metadata.labels['x'], spec.nodeName, status.podIP, ...
Result<std::string> field_value(const EnvironmentInputs& inputs, std::string_view field_path);
/// resourceFieldRef: limits.cpu, requests.memory, ... by divisor, rounded up.
Result<std::string> resource_value(const EnvironmentInputs& inputs, const json::value& reference);

/// Name -> value of spec.env, envFrom and service variables. Errors are CreateContainerConfigError texts:
/// `configmap "x" not found`, `couldn't find key k in Secret ns/x`.
Result<std::map<std::string, std::string>> make_environment(const EnvironmentInputs& inputs);

/// What to run: command overrides the entrypoint, args override the image's command; $(NAME) expanded.
Result<std::vector<std::string>> make_arguments(const json::value& container, const ImageInfo& image,
                                                const std::map<std::string, std::string>& environment);

/// The variables of Services in one namespace (docker-link form is included, as upstream does).
void add_service_variables(const json::value& service, std::map<std::string, std::string>& out);

/// Data of a ConfigMap (data, binaryData decoded) or a Secret (data decoded).
DataMap data_of(const json::value& object);
/// Standard base64; nullopt if malformed.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace orchestra::node
