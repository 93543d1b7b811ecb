#pragma once
// From a path on the subresource `proxy` of a pod, Service or node to what it means.
//
// Upstream pkg/registry/core/{pod,service,node}: the name is `[scheme:]name[:port]`. A pod is dialled by the
// agent of its node, inside the pod's own network, whatever its status says; so a proxied request reaches the
// pod or nothing. Below isolation level `full` pods have no network of their own: there the dial goes to the
// pod's address in the machine's network (127.x.y.z), as with port-forward. Endpoints that are no pods are
// not proxied, nor are ports of a node but its agent's: from there on it could be anything (server-side
// request forgery).
#include <functional>
#include <string_view>

#include "api/pod_streams.hpp"
#include "apiserver/core.hpp"

namespace orchestra::apiserver {

struct ProxyName {
  std::string scheme, name, port;  ///< scheme and port may be empty
};
/// "http:web:80", "web:80", "web", "https:web:". nullopt: no such form.
std::optional<ProxyName> parse_proxy_name(std::string_view text);

struct ProxyTarget {
  PodTarget pod;  ///< no pod in it: the agent of its node
  int port = 0;
  bool tls = false;     ///< by https; whose certificate it has is not looked at, as upstream
  std::string address;  ///< that its status says: tells which links are its own, and is never dialled
};
/// The callback runs at once or on a thread of the store.
void find_proxy_target(ApiCore& core, const Call& call, std::function<void(Result<ProxyTarget>)> answer);

}  // namespace orchestra::apiserver
