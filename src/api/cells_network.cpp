// Rows of Service, Endpoints, EndpointSlice, Ingress, IngressClass and NetworkPolicy.
#include <algorithm>
#include <set>

#include "api/cells.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr std::size_t kListedMax = 3;  ///< words of a long list that a row shows

/// `a,b,c + 2 more...`
std::string first_words(const std::vector<std::string>& words) {
  std::vector<std::string> shown(words.begin(),
                                 words.begin() + static_cast<long>(std::min(words.size(), kListedMax)));
  std::string text = join(shown, ",");
  if (words.size() > kListedMax) text += " + " + std::to_string(words.size() - kListedMax) + " more...";
  return text;
}

std::vector<std::string> words_of(const json::object& object, std::string_view key) {
  std::vector<std::string> words;
  for (const json::value& item : array_or_empty(object, key)) {
    if (item.is_string()) words.emplace_back(item.get_string());
  }
  return words;
}

/// Addresses (or host names) of status.loadBalancer.
std::string load_balancer(const json::object& object) {
  std::set<std::string> words;
  const json::object& balancer = object_or_empty(object_or_empty(object, "status"), "loadBalancer");
  for_each_object(balancer, "ingress", [&](std::size_t, const json::object& each) {
    std::string word(text_of(each, "ip"));
    if (word.empty()) word = text_of(each, "hostname");
    if (!word.empty()) words.insert(std::move(word));
  });
  return join({words.begin(), words.end()}, ",");
}

std::string external_ip(const json::object& object) {
  const json::object& spec = object_or_empty(object, "spec");
  const std::string_view type = text_of(spec, "type");
  if (type == "ExternalName") return std::string(text_of(spec, "externalName"));
  const std::string external = join(words_of(spec, "externalIPs"), ",");
  if (type != "LoadBalancer") return or_none(external);
  const std::string balancer = load_balancer(object);
  if (!external.empty()) return balancer.empty() ? external : balancer + "," + external;
  return balancer.empty() ? "<pending>" : balancer;
}

std::string service_ports(const json::object& spec) {
  std::vector<std::string> words;
  for_each_object(spec, "ports", [&](std::size_t, const json::object& port) {
    const std::int64_t node_port = int_of(port, "nodePort");
    words.push_back(std::to_string(int_of(port, "port")) +
                    (node_port > 0 ? ":" + std::to_string(node_port) : "") + "/" +
                    std::string(text_of(port, "protocol")));
  });
  return or_none(join(words, ","));
}

std::string host_port(std::string_view ip, std::int64_t port) {
  const bool v6 = ip.find(':') != std::string_view::npos;
  return (v6 ? "[" + std::string(ip) + "]" : std::string(ip)) + ":" + std::to_string(port);
}

std::string endpoint_words(const json::object& object) {
  if (array_or_empty(object, "subsets").empty()) return "<none>";
  std::vector<std::string> words;
  for_each_object(object, "subsets", [&](std::size_t, const json::object& subset) {
    if (array_or_empty(subset, "ports").empty()) {
      for_each_object(subset, "addresses",
                      [&](std::size_t, const json::object& a) { words.emplace_back(text_of(a, "ip")); });
      return;
    }
    for_each_object(subset, "ports", [&](std::size_t, const json::object& port) {
      for_each_object(subset, "addresses", [&](std::size_t, const json::object& address) {
        words.push_back(host_port(text_of(address, "ip"), int_of(port, "port")));
      });
    });
  });
  return first_words(words);
}

std::string ingress_hosts(const json::object& spec) {
  std::vector<std::string> hosts;
  const std::size_t rules = array_or_empty(spec, "rules").size();
  bool more = false;
  for_each_object(spec, "rules", [&](std::size_t, const json::object& rule) {
    more = more || hosts.size() == kListedMax;
    const std::string_view host = text_of(rule, "host");
    if (!more && !host.empty()) hosts.emplace_back(host);
  });
  if (hosts.empty()) return "*";
  // As upstream counts: all rules, those without a host too.
  return join(hosts, ",") + (more ? " + " + std::to_string(rules - kListedMax) + " more..." : "");
}

}  // namespace

void service_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = object_or_empty(object, "spec");
  const std::vector<std::string> ips = words_of(spec, "clusterIPs");
  cells.emplace_back(json::string(text_of(spec, "type")));
  cells.emplace_back(or_none(ips.empty() ? std::string(text_of(spec, "clusterIP")) : ips.front()));
  cells.emplace_back(external_ip(object));
  cells.emplace_back(service_ports(spec));
  cells.emplace_back(age_of(object, now));
  cells.emplace_back(format_labels(object_or_empty(spec, "selector")));
}

void endpoints_cells(const json::object& object, Now now, json::array& cells) {
  cells.emplace_back(endpoint_words(object));
  cells.emplace_back(age_of(object, now));
}

void endpoint_slice_cells(const json::object& object, Now now, json::array& cells) {
  std::vector<std::string> ports, addresses;
  for_each_object(object, "ports", [&](std::size_t, const json::object& port) {
    if (port.contains("port"))
      ports.push_back(std::to_string(int_of(port, "port")));
    else
      ports.emplace_back(port.contains("name") ? text_of(port, "name") : "*");
  });
  for_each_object(object, "endpoints", [&](std::size_t, const json::object& endpoint) {
    for (std::string& address : words_of(endpoint, "addresses")) addresses.push_back(std::move(address));
  });
  cells.emplace_back(json::string(text_of(object, "addressType")));
  cells.emplace_back(ports.empty() ? "<unset>" : first_words(ports));
  cells.emplace_back(addresses.empty() ? "<unset>" : first_words(addresses));
  cells.emplace_back(age_of(object, now));
}

void ingress_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = object_or_empty(object, "spec");
  cells.emplace_back(or_none(text_of(spec, "ingressClassName")));
  cells.emplace_back(ingress_hosts(spec));
  cells.emplace_back(load_balancer(object));
  cells.emplace_back(array_or_empty(spec, "tls").empty() ? "80" : "80, 443");
  cells.emplace_back(age_of(object, now));
}

void ingress_class_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = object_or_empty(object, "spec");
  std::string parameters = "<none>";
  if (const json::object* found = object_of(spec, "parameters")) {
    parameters = text_of(*found, "kind");
    if (const std::string_view group = text_of(*found, "apiGroup"); !group.empty())
      parameters += "." + std::string(group);
    parameters += "/" + std::string(text_of(*found, "name"));
  }
  cells.emplace_back(json::string(text_of(spec, "controller")));
  cells.emplace_back(parameters);
  cells.emplace_back(age_of(object, now));
}

void network_policy_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = object_or_empty(object, "spec");
  json::object wrapped;
  if (const json::value* selector = spec.if_contains("podSelector")) wrapped["selector"] = *selector;
  cells.emplace_back(format_selector(wrapped));
  cells.emplace_back(age_of(object, now));
}

}  // namespace orchestra::api
