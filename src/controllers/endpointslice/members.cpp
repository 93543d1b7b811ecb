// The pods behind a Service (staging/src/k8s.io/endpointslice/utils.go).
#include "controllers/endpointslice/members.hpp"

#include "controllers/common/pods.hpp"

namespace orchestra::controllers {

namespace {

// Containers that a service may name ports of: the main ones and sidecars.
std::vector<const json::value*> containers_of(const json::value& pod) {
  std::vector<const json::value*> containers;
  if (const json::array* main = array_at(pod, "/spec/containers")) {
    for (const json::value& container : *main) containers.push_back(&container);
  }
  if (const json::array* init = array_at(pod, "/spec/initContainers")) {
    for (const json::value& container : *init) {
      if (string_at(container, "/restartPolicy") == "Always") containers.push_back(&container);
    }
  }
  return containers;
}

// The number of a port of a pod; 0: the pod has no port of this name.
std::int64_t resolve_port(const json::value& service_port, const json::value& pod) {
  const json::value* target = find(service_port, "/targetPort");
  const std::string protocol = string_at(service_port, "/protocol", "TCP");
  if (target == nullptr || target->is_null()) return int_at(service_port, "/port");
  if (!target->is_string()) {
    const std::int64_t number = int_at(service_port, "/targetPort");
    return number != 0 ? number : int_at(service_port, "/port");
  }
  for (const json::value* container : containers_of(pod)) {
    const json::array* ports = array_at(*container, "/ports");
    if (ports == nullptr) continue;
    for (const json::value& port : *ports) {
      if (string_at(port, "/name") == std::string_view(target->get_string()) &&
          string_at(port, "/protocol", "TCP") == protocol) {
        return int_at(port, "/containerPort");
      }
    }
  }
  return 0;
}

json::array ports_of(const Object& service, const json::value& pod) {
  json::array ports;
  const json::array* declared = array_at(tree(service), "/spec/ports");
  if (declared == nullptr) return ports;
  for (const json::value& port : *declared) {
    const std::int64_t number = resolve_port(port, pod);
    if (number == 0) continue;
    json::object entry{{"name", string_at(port, "/name")},
                       {"port", number},
                       {"protocol", string_at(port, "/protocol", "TCP")}};
    const std::string application = string_at(port, "/appProtocol");
    if (!application.empty()) entry["appProtocol"] = application;
    ports.push_back(std::move(entry));
  }
  return ports;
}

std::string address_of(const json::value& pod, bool ipv6) {
  const auto fits = [&](const std::string& ip) {
    return !ip.empty() && (ip.find(':') != std::string::npos) == ipv6;
  };
  if (const json::array* ips = array_at(pod, "/status/podIPs")) {
    for (const json::value& entry : *ips) {
      std::string ip = string_at(entry, "/ip");
      if (fits(ip)) return ip;
    }
  }
  std::string ip = string_at(pod, "/status/podIP");
  return fits(ip) ? ip : "";
}

// What endpoints show of a pod; a change of nothing else wakes nobody.
bool same_for_endpoints(const Object& old, const Object& now) {
  if (!old || !now) return false;
  const json::value& a = tree(old);
  const json::value& b = tree(now);
  return old.labels() == now.labels() && old.deleting() == now.deleting() &&
         pod_ready(old) == pod_ready(now) && pod_terminal(old) == pod_terminal(now) &&
         old.uid() == now.uid() && same_meaning(find(a, "/status/podIPs"), find(b, "/status/podIPs")) &&
         string_at(a, "/status/podIP") == string_at(b, "/status/podIP") &&
         string_at(a, "/spec/nodeName") == string_at(b, "/spec/nodeName");
}

}  // namespace

bool has_selector(const Object& service) {
  const json::object* selector = object_at(tree(service), "/spec/selector");
  return selector != nullptr && !selector->empty() &&
         string_at(tree(service), "/spec/type") != "ExternalName";
}

std::vector<std::string> families_of(const Object& service) {
  std::vector<std::string> families;
  if (const json::array* declared = array_at(tree(service), "/spec/ipFamilies")) {
    for (const json::value& family : *declared) {
      if (family.is_string()) families.emplace_back(family.get_string());
    }
  }
  if (families.empty()) {
    const bool ipv6 = string_at(tree(service), "/spec/clusterIP").find(':') != std::string::npos;
    families.emplace_back(ipv6 ? "IPv6" : "IPv4");
  }
  return families;
}

std::vector<Member> members_of(const Object& service, const std::string& family, const View& view) {
  const bool publish_all = bool_at(tree(service), "/spec/publishNotReadyAddresses");
  const auto selector = LabelSelector::from_map(object_at(tree(service), "/spec/selector"));
  std::vector<Member> members;
  for (const Object& pod : selector.select(view, pods(), service.ns())) {
    if (pod_terminal(pod)) continue;
    Member member;
    member.address = address_of(tree(pod), family == "IPv6");
    if (member.address.empty()) continue;
    member.pod = pod;
    member.ports = ports_of(service, tree(pod));
    member.serving = pod_ready(pod);
    member.terminating = pod.deleting();
    member.ready = publish_all || (member.serving && !member.terminating);
    members.push_back(std::move(member));
  }
  return members;
}

json::object target_reference(const Object& pod) {
  return {{"kind", "Pod"}, {"namespace", pod.ns()}, {"name", pod.name()}, {"uid", pod.uid()}};
}

Source watch_pods_of_services() {
  return {pods(), false, [](const View& view, const Object& old, const Object& now, const KeySink& wake) {
            if (same_for_endpoints(old, now)) return;
            const Object& pod = now ? now : old;
            for (const Object& service : view.list(services(), pod.ns())) {
              const auto selector = LabelSelector::from_map(object_at(tree(service), "/spec/selector"));
              const bool before = old && selector.matches(old.labels());
              const bool after = now && selector.matches(now.labels());
              if (before || after) wake(ObjectKey::of(service).text());
            }
          }};
}

}  // namespace orchestra::controllers
