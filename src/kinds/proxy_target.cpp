// Which pod a proxied request means: see proxy_target.hpp.
#include "apiserver/streams/proxy_target.hpp"

#include <charconv>

#include "api/status.hpp"
#include "apiserver/view.hpp"

namespace orchestra::apiserver {
namespace {

constexpr int kDefaultPort = 80, kDefaultTlsPort = 443;
/// What clients know as the port of every agent; ours has none that is open.
constexpr const char* kAgentPort = "10250";
constexpr const char* kServiceLabel = "/metadata/labels/kubernetes.io~1service-name";

std::optional<int> number_of(const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1 || value > 65535)
    return std::nullopt;
  return value;
}

Result<ProxyTarget> refuse_unreachable(const json::value& pod, ProxyTarget target) {
  if (target.pod.node.empty())
    return api::bad_request("pod " + target.pod.pod + " does not have a host assigned");
  const std::string phase = string_at(pod, "/status/phase");
  if (phase == "Succeeded" || phase == "Failed")
    return api::bad_request("pod " + target.pod.pod + " has ended; its phase is " + phase);
  return target;
}

Result<ProxyTarget> target_of_pod(const View& view, const std::string& ns, const ProxyName& asked) {
  const std::string &name = asked.name, &port = asked.port;
  ORC_ASSIGN(std::optional<Loaded> loaded, view.load(object_key({"", "pods"}, ns, name)));
  if (!loaded) return api::not_found(api::ResourceName("", "pods"), name);
  ORC_ASSIGN(const json::value pod, loaded->tree());
  ProxyTarget target;
  target.pod.ns = ns;
  target.pod.pod = name;
  target.pod.uid = std::string(loaded->view.uid);
  target.pod.node = string_at(pod, "/spec/nodeName");
  target.address = string_at(pod, "/status/podIP");
  target.tls = asked.scheme == "https";
  target.port = target.tls ? kDefaultTlsPort : kDefaultPort;
  if (!port.empty()) {
    const auto number = number_of(port);
    if (!number) return api::bad_request("port \"" + port + "\" of a pod is not a number in 1-65535");
    target.port = *number;
  } else if (const std::int64_t first = int_at(pod, "/spec/containers/0/ports/0/containerPort"); first != 0) {
    target.port = static_cast<int>(first);
  }
  return refuse_unreachable(pod, std::move(target));
}

/// The name of the Service's port that was asked for; nullopt: it has none such.
std::optional<std::string> service_port(const json::value& service, const std::string& wanted) {
  const json::array* ports = array_at(service, "/spec/ports");
  if (ports == nullptr) return std::nullopt;
  const auto number = number_of(wanted);
  for (const json::value& port : *ports) {
    const std::string name = string_at(port, "/name");
    const bool only = wanted.empty() && ports->size() == 1;
    if (only || name == wanted || (number && int_at(port, "/port") == *number)) return name;
  }
  return std::nullopt;
}

struct Choice {
  std::string pod;
  int port = 0;
};

/// Ready endpoints that are pods, for the port of this name.
Result<std::vector<Choice>> endpoints_of(const View& view, const std::string& ns, const std::string& service,
                                         const std::string& port) {
  std::vector<Choice> out;
  ORC_ASSIGN(const auto slices, view.range(objects_range({"discovery.k8s.io", "endpointslices"}, ns)));
  for (const KeyValue& kv : slices) {
    ORC_ASSIGN(const StoredView stored, decode_stored_frame(kv.value.bytes()));
    ORC_ASSIGN(const json::value slice, parse_json(stored.json));
    if (string_at(slice, kServiceLabel) != service) continue;
    int number = 0;
    if (const json::array* ports = array_at(slice, "/ports")) {
      for (const json::value& one : *ports) {
        if (string_at(one, "/name") == port) number = static_cast<int>(int_at(one, "/port"));
      }
    }
    const json::array* endpoints = array_at(slice, "/endpoints");
    if (number == 0 || endpoints == nullptr) continue;
    for (const json::value& endpoint : *endpoints) {
      if (!bool_at(endpoint, "/conditions/ready", true) || string_at(endpoint, "/targetRef/kind") != "Pod")
        continue;
      out.push_back({string_at(endpoint, "/targetRef/name"), number});
    }
  }
  return out;
}

Result<ProxyTarget> target_of_service(ApiCore& core, const View& view, const std::string& ns,
                                      const ProxyName& asked) {
  ORC_ASSIGN(std::optional<Loaded> loaded, view.load(object_key({"", "services"}, ns, asked.name)));
  if (!loaded) return api::not_found(api::ResourceName("", "services"), asked.name);
  ORC_ASSIGN(const json::value service, loaded->tree());
  const auto port = service_port(service, asked.port);
  if (!port)
    return api::service_unavailable("no service port \"" + asked.port + "\" found for service \"" +
                                    asked.name + "\"");
  ORC_ASSIGN(const std::vector<Choice> all, endpoints_of(view, ns, asked.name, *port));
  if (all.empty())
    return api::service_unavailable("no endpoints available for service \"" + asked.name + "\"");
  const Choice& one = all[core.engine().random().below(all.size())];
  return target_of_pod(view, ns, {asked.scheme, one.pod, std::to_string(one.port)});
}

Result<ProxyTarget> target_of_node(const View& view, const ProxyName& asked) {
  ORC_ASSIGN(const std::optional<Loaded> loaded, view.load(object_key({"", "nodes"}, "", asked.name)));
  if (!loaded) return api::not_found(api::ResourceName("", "nodes"), asked.name);
  if (!asked.port.empty() && asked.port != kAgentPort)
    return api::bad_request("port \"" + asked.port + "\" of node " + asked.name +
                            " is not proxied, only its agent is; leave the port out");
  ProxyTarget target;
  target.pod.node = asked.name;
  return target;
}

Result<ProxyTarget> read_target(ApiCore& core, const Call& call, const View& view) {
  const RequestInfo& info = call.info;
  const auto asked = parse_proxy_name(info.name);
  if (!asked)
    return api::bad_request("invalid " + info.resource.substr(0, info.resource.size() - 1) + " request \"" +
                            info.name + "\"");
  if (info.resource == "pods") return target_of_pod(view, info.ns, *asked);
  if (info.resource == "services") return target_of_service(core, view, info.ns, *asked);
  return target_of_node(view, *asked);
}

}  // namespace

std::optional<ProxyName> parse_proxy_name(std::string_view text) {
  std::vector<std::string> parts = split(text, ':');
  if (parts.size() > 3) return std::nullopt;
  ProxyName out;
  if (parts.size() == 3) {
    out.scheme = parts[0];
    parts.erase(parts.begin());
    if (out.scheme != "http" && out.scheme != "https" && !out.scheme.empty()) return std::nullopt;
  }
  out.name = parts[0];
  if (parts.size() == 2) out.port = parts[1];
  if (out.name.empty()) return std::nullopt;
  return out;
}

void find_proxy_target(ApiCore& core, const Call& call, std::function<void(Result<ProxyTarget>)> answer) {
  auto type = core.resolve(call.info);
  if (!type) return answer(type.error());
  auto self = core.shared_from_this();
  core.store().snapshot(0).on_ready([self, call, answer = std::move(answer)](Result<Snapshot> snapshot) {
    if (!snapshot) return answer(store_error(snapshot.error()));
    answer(read_target(*self, call, View(*snapshot)));
  });
}

}  // namespace orchestra::apiserver
