#include "node/environment.hpp"

#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <map>

#include "base/fd.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::node {

namespace {
constexpr std::size_t kHostnameMax = 64;  // HOST_NAME_MAX of Linux

Error config_error(std::string text) { return {Error::invalid, "node", std::move(text)}; }

std::string upper_name(std::string_view name) {
  std::string out;
  for (const char c : name)
    out += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return out;
}

/// Names that a shell could hold; envFrom skips others, as upstream does with an event.
bool valid_env_name(std::string_view name) {
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.';
  });
}

/// `metadata.labels['a/b']` -> "a/b" if the path starts with `base`.
std::optional<std::string> subscript(std::string_view path, std::string_view base) {
  if (path.size() < base.size() + 4 || path.substr(0, base.size()) != base) return std::nullopt;
  std::string_view rest = path.substr(base.size());
  if (rest.substr(0, 2) != "['" || rest.substr(rest.size() - 2) != "']") return std::nullopt;
  return std::string(rest.substr(2, rest.size() - 4));
}

std::string member(const json::value& root, const char* map, const std::string& key) {
  const json::object* object = object_at(root, map);
  const json::value* value = object != nullptr ? object->if_contains(key) : nullptr;
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

Result<void> add_from(const EnvironmentInputs& inputs, const json::value& source,
                      std::map<std::string, std::string>& out) {
  const std::string prefix = string_at(source, "/prefix");
  for (const auto& [kind, lookup] :
       {std::pair{"configMapRef", &inputs.config_map}, {"secretRef", &inputs.secret}}) {
    const std::string at = std::string("/") + kind;
    if (find(source, at) == nullptr) continue;
    const std::string name = string_at(source, at + "/name");
    ORC_ASSIGN(const auto data, (*lookup)(name));
    if (!data) {
      if (bool_at(source, at + "/optional")) continue;
      return config_error(std::string(kind[0] == 'c' ? "configmap" : "secret") + " \"" + name +
                          "\" not found");
    }
    for (const auto& [key, value] : *data) {
      if (valid_env_name(prefix + key)) out[prefix + key] = value;
    }
  }
  return {};
}

Result<std::optional<std::string>> key_value(const EnvironmentInputs& inputs, const json::value& reference,
                                             bool secret) {
  const std::string name = string_at(reference, "/name"), key = string_at(reference, "/key");
  const bool optional = bool_at(reference, "/optional");
  ORC_ASSIGN(const auto data, secret ? inputs.secret(name) : inputs.config_map(name));
  if (!data) {
    if (optional) return std::optional<std::string>();
    return config_error(std::string(secret ? "secret" : "configmap") + " \"" + name + "\" not found");
  }
  const auto it = data->find(key);
  if (it != data->end()) return std::optional<std::string>(it->second);
  if (optional) return std::optional<std::string>();
  return config_error("couldn't find key " + key + " in " + (secret ? "Secret " : "ConfigMap ") +
                      string_at(*inputs.pod, "/metadata/namespace") + "/" + name);
}

Result<std::optional<std::string>> value_from(const EnvironmentInputs& inputs, const json::value& from) {
  if (const json::value* field = find(from, "/fieldRef")) {
    ORC_ASSIGN(std::string value, field_value(inputs, string_at(*field, "/fieldPath")));
    return std::optional<std::string>(std::move(value));
  }
  if (const json::value* resource = find(from, "/resourceFieldRef")) {
    ORC_ASSIGN(std::string value, resource_value(inputs, *resource));
    return std::optional<std::string>(std::move(value));
  }
  if (const json::value* reference = find(from, "/configMapKeyRef"))
    return key_value(inputs, *reference, false);
  if (const json::value* reference = find(from, "/secretKeyRef")) return key_value(inputs, *reference, true);
  return config_error(
      "env valueFrom has no source that this version knows; it knows fieldRef, resourceFieldRef, "
      "configMapKeyRef and secretKeyRef");
}
}  // namespace

std::string expand(std::string_view text, const std::map<std::string, std::string>& variables) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '$' || i + 1 >= text.size()) {
      out += text[i];
      continue;
    }
    if (text[i + 1] == '$') {
      out += '$';
      ++i;
      continue;
    }
    const std::size_t end = text[i + 1] == '(' ? text.find(')', i) : std::string_view::npos;
    if (end == std::string_view::npos) {
      out += text[i];
      continue;
    }
    const std::string name(text.substr(i + 2, end - i - 2));
    const auto it = variables.find(name);
    if (it != variables.end()) {
      out += it->second;
    } else {
      out.append(text.substr(i, end - i + 1));
    }
    i = end;
  }
  return out;
}

std::string short_hostname(const json::value& pod) {
  if (const std::string own = string_at(pod, "/spec/hostnameOverride"); !own.empty()) return own;
  std::string name = string_at(pod, "/spec/hostname", string_at(pod, "/metadata/name")).substr(0, 63);
  while (!name.empty() && (name.back() == '-' || name.back() == '.')) name.pop_back();
  return name;
}

std::string whole_hostname(const json::value& pod, const std::string& domain) {
  const std::string name = short_hostname(pod), subdomain = string_at(pod, "/spec/subdomain");
  if (subdomain.empty() || !string_at(pod, "/spec/hostnameOverride").empty()) return name;
  return name + "." + subdomain + "." + string_at(pod, "/metadata/namespace") + ".svc." + domain;
}

Result<std::string> pod_hostname(const json::value& pod, const std::string& domain) {
  if (bool_at(pod, "/spec/hostNetwork") && string_at(pod, "/spec/hostnameOverride").empty()) {
    utsname machine{};
    if (uname(&machine) != 0) return system_error("node", "uname", "", errno);
    return std::string(machine.nodename);
  }
  if (!bool_at(pod, "/spec/setHostnameAsFQDN")) return short_hostname(pod);
  std::string whole = whole_hostname(pod, domain);
  if (whole.size() > kHostnameMax) {
    return config_error("setHostnameAsFQDN: the name " + whole + " has " + std::to_string(whole.size()) +
                        " characters, of which a host name holds " + std::to_string(kHostnameMax) +
                        "; a shorter hostname, subdomain or namespace is needed");
  }
  return whole;
}

Result<std::string> field_value(const EnvironmentInputs& inputs, std::string_view path) {
  const json::value& pod = *inputs.pod;
  if (auto key = subscript(path, "metadata.labels")) return member(pod, "/metadata/labels", *key);
  if (auto key = subscript(path, "metadata.annotations")) return member(pod, "/metadata/annotations", *key);
  if (path == "metadata.name") return string_at(pod, "/metadata/name");
  if (path == "metadata.namespace") return string_at(pod, "/metadata/namespace");
  if (path == "metadata.uid") return string_at(pod, "/metadata/uid");
  if (path == "spec.nodeName") return inputs.node_name;
  if (path == "spec.serviceAccountName") return string_at(pod, "/spec/serviceAccountName", "default");
  if (path == "status.hostIP" || path == "status.hostIPs") return inputs.host_ip;
  if (path == "status.podIP") return inputs.pod_ips.empty() ? std::string() : inputs.pod_ips.front();
  if (path == "status.podIPs") {
    std::string out;
    for (const std::string& ip : inputs.pod_ips) out += (out.empty() ? "" : ",") + ip;
    return out;
  }
  if (path == "metadata.labels" || path == "metadata.annotations") {
    const json::object* map =
        object_at(pod, path == "metadata.labels" ? "/metadata/labels" : "/metadata/annotations");
    if (map == nullptr) return std::string();
    std::map<std::string, json::value> sorted;  // as fieldpath.FormatMap
    for (const auto& entry : *map) sorted.emplace(entry.key(), entry.value());
    std::string out;
    for (const auto& [key, value] : sorted) {
      if (!out.empty()) out += '\n';
      out += key + "=" + json::serialize(value);
    }
    return out;
  }
  return config_error("field path \"" + std::string(path) + "\" is not supported in the downward API");
}

Result<std::string> resource_value(const EnvironmentInputs& inputs, const json::value& reference) {
  const std::string resource = string_at(reference, "/resource");
  const std::size_t dot = resource.find('.');
  const std::string list = resource.substr(0, dot),
                    what = dot == std::string::npos ? "" : resource.substr(dot + 1);
  if ((list != "limits" && list != "requests") || what.empty()) {
    return config_error("resourceFieldRef \"" + resource + "\" is not limits.RESOURCE or requests.RESOURCE");
  }
  const json::value* container = inputs.container;
  const std::string named = string_at(reference, "/containerName");
  if (!named.empty()) {
    for (const char* kind : {"/spec/containers", "/spec/initContainers"}) {
      if (const json::array* all = array_at(*inputs.pod, kind)) {
        for (const json::value& one : *all) {
          if (string_at(one, "/name") == named) container = &one;
        }
      }
    }
  }
  if (container == nullptr)
    return config_error("resourceFieldRef names container \"" + named + "\", which does not exist");
  std::string text = string_at(*container, "/resources/" + list + "/" + what);
  if (text.empty() && list == "requests") text = string_at(*container, "/resources/limits/" + what);
  Quantity quantity;
  if (!text.empty()) {
    ORC_ASSIGN(quantity, Quantity::parse(text));
  } else if (what == "cpu") {
    quantity = list == "limits" ? Quantity::from_milli(inputs.node_cpu_milli) : Quantity();
  } else if (what == "memory") {
    quantity = list == "limits" ? Quantity::from_int(inputs.node_memory_bytes) : Quantity();
  }
  const std::string divisor_text = string_at(reference, "/divisor", "1");
  ORC_ASSIGN(const Quantity divisor, Quantity::parse(divisor_text == "0" ? "1" : divisor_text));
  if (what == "cpu") {
    const std::int64_t unit = std::max<std::int64_t>(1, divisor.milli_value());
    return std::to_string((quantity.milli_value() + unit - 1) / unit);
  }
  const std::int64_t unit = std::max<std::int64_t>(1, divisor.value());
  return std::to_string((quantity.value() + unit - 1) / unit);
}

Result<std::map<std::string, std::string>> make_environment(const EnvironmentInputs& inputs) {
  std::map<std::string, std::string> out = inputs.service_variables;
  std::map<std::string, std::string> seen;  // what $(NAME) may use: envFrom and earlier entries of env
  if (const json::array* sources = array_at(*inputs.container, "/envFrom")) {
    for (const json::value& source : *sources) ORC_TRY(add_from(inputs, source, seen));
  }
  for (const auto& [name, value] : seen) out[name] = value;
  std::map<std::string, std::string> visible = out;
  if (const json::array* entries = array_at(*inputs.container, "/env")) {
    for (const json::value& entry : *entries) {
      const std::string name = string_at(entry, "/name");
      if (const json::value* from = find(entry, "/valueFrom")) {
        ORC_ASSIGN(auto value, value_from(inputs, *from));
        if (!value) continue;
        out[name] = visible[name] = *value;
      } else {
        out[name] = visible[name] = expand(string_at(entry, "/value"), visible);
      }
    }
  }
  return out;
}

Result<std::vector<std::string>> make_arguments(const json::value& container, const ImageInfo& image,
                                                const std::map<std::string, std::string>& environment) {
  std::vector<std::string> args;
  const auto take = [&](const json::array& list) {
    for (const json::value& item : list) {
      if (item.is_string()) args.push_back(expand(std::string(item.get_string()), environment));
    }
  };
  const json::array* command = array_at(container, "/command");
  const json::array* arguments = array_at(container, "/args");
  if (command != nullptr && !command->empty()) {
    take(*command);
  } else {
    args = image.entrypoint;
  }
  if (arguments != nullptr && !arguments->empty()) {
    take(*arguments);
  } else if (command == nullptr || command->empty()) {
    args.insert(args.end(), image.command.begin(), image.command.end());
  }
  if (args.empty()) {
    return config_error("no command specified: neither container \"" + string_at(container, "/name") +
                        "\" nor image " + image.reference + " names one; set command or args");
  }
  return args;
}

void add_service_variables(const json::value& service, std::map<std::string, std::string>& out) {
  const std::string ip = string_at(service, "/spec/clusterIP");
  const json::array* ports = array_at(service, "/spec/ports");
  if (ip.empty() || ip == "None" || ports == nullptr || ports->empty()) return;
  const std::string name = upper_name(string_at(service, "/metadata/name"));
  const auto port_text = [](const json::value& port) { return std::to_string(int_at(port, "/port")); };
  out[name + "_SERVICE_HOST"] = ip;
  out[name + "_SERVICE_PORT"] = port_text(ports->front());
  bool first = true;
  for (const json::value& port : *ports) {
    const std::string number = port_text(port);
    std::string protocol = string_at(port, "/protocol", "TCP");
    std::string lower = protocol;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    if (const std::string port_name = string_at(port, "/name"); !port_name.empty()) {
      out[name + "_SERVICE_PORT_" + upper_name(port_name)] = number;
    }
    const std::string link = name + "_PORT_" + number + "_" + protocol;
    const std::string host = ip.find(':') == std::string::npos ? ip : "[" + ip + "]";
    const std::string url = lower + "://" + host + ":" + number;
    if (std::exchange(first, false)) out[name + "_PORT"] = url;
    out[link] = url;
    out[link + "_PROTO"] = lower;
    out[link + "_PORT"] = number;
    out[link + "_ADDR"] = ip;
  }
}

std::optional<std::string> decode_base64(std::string_view text) {
  static constexpr auto kTable = [] {
    std::array<signed char, 256> table{};
    table.fill(-1);
    constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (std::size_t i = 0; i < kAlphabet.size(); ++i)
      table[static_cast<unsigned char>(kAlphabet[i])] = static_cast<signed char>(i);
    return table;
  }();
  std::string out;
  std::uint32_t bits = 0;
  int held = 0;  // bits that wait for the rest of their octet
  for (const char c : text) {
    if (c == '=' || c == '\n' || c == '\r') continue;
    const int value = kTable[static_cast<unsigned char>(c)];
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    held += 6;
    if (held >= 8) {
      held -= 8;
      out += static_cast<char>(bits >> held);
    }
  }
  return out;
}

DataMap data_of(const json::value& object) {
  DataMap out;
  const bool secret = string_at(object, "/kind") == "Secret";
  for (const auto& [where, encoded] : {std::pair{"/data", secret}, {"/binaryData", true}}) {
    const json::object* map = object_at(object, where);
    if (map == nullptr) continue;
    for (const auto& entry : *map) {
      if (!entry.value().is_string()) continue;
      const std::string text(entry.value().get_string());
      out[std::string(entry.key())] = encoded ? decode_base64(text).value_or("") : text;
    }
  }
  return out;
}

}  // namespace orchestra::node
