#include "net/cni/configuration.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "net/snapshot.hpp"

namespace orchestra::net {
namespace {

constexpr const char* kKnownVersions[] = {"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};
constexpr std::size_t kAddressesMax = 64;
constexpr std::size_t kWordsMax = 4096;  // of a plugin, in an error

Error bad(const std::string& what) { return Error(Error::invalid, "cni", what); }

std::optional<std::array<int, 3>> parse_version(std::string_view text) {
  std::array<int, 3> out{};
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto [next, failed] = std::from_chars(at, end, out[i]);
    if (failed != std::errc() || out[i] < 0) return std::nullopt;
    at = next;
    if (i + 1 < out.size() && (at == end || *at++ != '.')) return std::nullopt;
  }
  return at == end ? std::optional(out) : std::nullopt;
}

bool is_known(const std::string& version) {
  return std::find(std::begin(kKnownVersions), std::end(kKnownVersions), version) != std::end(kKnownVersions);
}

/// A boolean; older files write it as text.
bool flag(const json::object& object, const char* key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr) return false;
  return value->is_bool() ? value->get_bool() : value->is_string() && value->get_string() == "true";
}

Result<std::vector<std::string>> read_versions(const json::object& root, const std::string& where) {
  std::vector<std::string> out;
  const auto add = [&](const json::value& value) {
    if (!value.is_string() || !is_known(std::string(value.get_string()))) return;
    out.emplace_back(value.get_string());
  };
  const json::value* one = root.if_contains("cniVersion");
  const json::value* several = root.if_contains("cniVersions");
  if (one != nullptr) add(*one);
  if (several != nullptr && several->is_array()) {
    for (const json::value& value : several->get_array()) add(value);
  }
  if (one == nullptr && several == nullptr) out.emplace_back("0.1.0");  // as upstream's library reads it
  if (out.empty()) return bad(where + " is of no version between 0.1.0 and 1.1.0");
  std::sort(out.begin(), out.end());  // each number has one digit: order of text is order of versions
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

/// The type is looked up as a file beside others: no paths.
bool is_plain_name(std::string_view type) {
  return !type.empty() && type.size() <= 255 && type != "." && type != ".." &&
         type.find('/') == std::string_view::npos && type.find('\0') == std::string_view::npos;
}

std::string shortened(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  return std::string(text.substr(0, kWordsMax)) + (text.size() > kWordsMax ? "..." : "");
}

/// Index of the first interface inside the pod; -1: not told.
std::int64_t pod_interface(const json::object& result, std::string& host_link) {
  const json::value* list = result.if_contains("interfaces");
  if (list == nullptr || !list->is_array()) return -1;
  std::int64_t index = 0, found = -1;
  for (const json::value& one : list->get_array()) {
    const bool inside = !string_at(one, "/sandbox").empty();
    if (inside && found < 0) found = index;
    if (!inside && host_link.empty() && string_at(one, "/name").size() < 16)
      host_link = string_at(one, "/name");
    ++index;
  }
  return found;
}

bool is_address_with_prefix(const std::string& text) {
  const auto slash = text.find('/');
  if (slash == std::string::npos) return false;
  const auto address = IpAddress::parse(text.substr(0, slash));
  int prefix = -1;
  const char* const end = text.data() + text.size();
  const auto [next, failed] = std::from_chars(text.data() + slash + 1, end, prefix);
  return address && failed == std::errc() && next == end && prefix >= 0 &&
         prefix <= (address->is_v4() ? 32 : 128);
}

}  // namespace

bool is_container_id(std::string_view id) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  if (id.empty() || id.size() > 200 || !plain(id[0])) return false;
  return std::all_of(id.begin(), id.end(),
                     [&](char c) { return plain(c) || c == '_' || c == '.' || c == '-'; });
}

bool cni_version_at_least(std::string_view version, std::string_view least) {
  const auto one = parse_version(version), other = parse_version(least);
  return one && other && *one >= *other;
}

std::optional<std::string> choose_cni_file(std::vector<std::string> names) {
  std::erase_if(names, [](const std::string& name) {
    return !name.ends_with(".conflist") && !name.ends_with(".conf") && !name.ends_with(".json");
  });
  if (names.empty()) return std::nullopt;
  return *std::min_element(names.begin(), names.end());
}

Result<CniList> parse_cni_configuration(std::string_view text, const std::string& file) {
  const std::string where = "CNI configuration " + file;
  auto parsed = parse_json(text);
  if (!parsed) return parsed.error().with_context(where);
  if (!parsed->is_object()) return bad(where + " is not an object");
  const json::object& root = parsed->get_object();
  CniList list;
  list.name = string_at(*parsed, "/name");
  if (list.name.empty()) return bad(where + " has no name");
  ORC_ASSIGN(list.versions, read_versions(root, where));
  list.disable_check = flag(root, "disableCheck");
  list.disable_gc = flag(root, "disableGC");
  const json::value* plugins = root.if_contains("plugins");
  if (plugins == nullptr) {
    list.plugins.push_back(root);
  } else {
    if (!plugins->is_array() || plugins->get_array().empty()) return bad(where + " has no plugins");
    if (plugins->get_array().size() > kCniPluginsMax)
      return bad(where + " has more than " + std::to_string(kCniPluginsMax) + " plugins");
    for (const json::value& one : plugins->get_array()) {
      if (!one.is_object()) return bad(where + " has a plugin that is not an object");
      list.plugins.push_back(one.get_object());
    }
  }
  for (const json::object& plugin : list.plugins) {
    const std::string type = string_at(json::value(plugin), "/type");
    if (!is_plain_name(type))
      return bad(where + " has a plugin of type \"" + type + "\", which names no program");
  }
  return list;
}

Result<std::vector<std::string>> parse_cni_versions(std::string_view output, const std::string& plugin) {
  auto parsed = parse_json(output);
  const json::array* list = parsed ? array_at(*parsed, "/supportedVersions") : nullptr;
  if (list == nullptr) {
    return Error(Error::unsupported, "cni",
                 "CNI plugin " + plugin + " does not tell its versions: \"" + shortened(output) + "\"");
  }
  std::vector<std::string> out;
  for (const json::value& one : *list) {
    if (one.is_string()) out.emplace_back(one.get_string());
  }
  return out;
}

Result<std::string> negotiate_cni_version(const CniList& list,
                                          const std::map<std::string, std::vector<std::string>>& supported) {
  std::string refusals;
  for (auto version = list.versions.rbegin(); version != list.versions.rend(); ++version) {
    std::string refused;
    for (const json::object& plugin : list.plugins) {
      const std::string type = string_at(json::value(plugin), "/type");
      const auto known = supported.find(type);
      const bool speaks = known != supported.end() && std::find(known->second.begin(), known->second.end(),
                                                                *version) != known->second.end();
      if (!speaks && refused.empty()) refused = type;
    }
    // Results could not be handed on from one plugin to the next before 0.3.0.
    if (refused.empty() && list.plugins.size() > 1 && !cni_version_at_least(*version, "0.3.0"))
      refused = "a list";
    if (refused.empty()) return *version;
    refusals += (refusals.empty() ? "" : ", ") + *version + " not by " + refused;
  }
  return Error(
      Error::unsupported, "cni",
      "no version of CNI configuration " + list.name + " is supported by all its plugins: " + refusals);
}

std::string cni_input(const CniList& list, std::size_t index, const CniInput& input) {
  json::object out = list.plugins.at(index);
  const json::value* declared = out.if_contains("capabilities");
  json::object runtime_config;
  if (declared != nullptr && declared->is_object()) {
    for (const auto& [name, wanted] : declared->get_object()) {
      const json::value* given = input.capabilities.if_contains(name);
      if (given != nullptr && wanted.is_bool() && wanted.get_bool()) runtime_config[name] = *given;
    }
  }
  for (const char* own : {"capabilities", "runtimeConfig", "prevResult", "cniVersions", "plugins"})
    out.erase(own);
  out["cniVersion"] = input.version;
  out["name"] = list.name;
  if (!runtime_config.empty()) out["runtimeConfig"] = std::move(runtime_config);
  if (!input.previous.empty() && cni_version_at_least(input.version, "0.3.0")) {
    if (auto previous = parse_json(input.previous)) out["prevResult"] = std::move(*previous);
  }
  if (input.valid != nullptr) {
    json::array valid;
    for (const std::string& id : *input.valid)
      valid.push_back(json::object{{"containerID", id}, {"ifname", input.interface_name}});
    out["cni.dev/valid-attachments"] = std::move(valid);
  }
  return to_json(json::value(std::move(out)));
}

Result<CniResult> parse_cni_result(std::string_view output, const std::string& plugin) {
  const auto refuse = [&](const std::string& why) {
    return Error(Error::corrupt, "cni",
                 "CNI plugin " + plugin + " answered no result (" + why + "): \"" +
                     shortened(output.substr(0, 256)) + "\"");
  };
  auto parsed = parse_json(output);
  if (!parsed) return refuse(parsed.error().message());
  if (!parsed->is_object()) return refuse("not an object");
  CniResult out;
  const std::int64_t inside = pod_interface(parsed->get_object(), out.host_link);
  std::vector<std::string> others;
  if (const json::array* ips = array_at(*parsed, "/ips")) {
    if (ips->size() > kAddressesMax)
      return refuse("more than " + std::to_string(kAddressesMax) + " addresses");
    for (const json::value& one : *ips) {
      const std::string address = string_at(one, "/address");
      if (!is_address_with_prefix(address)) return refuse("\"" + address + "\" is no address with prefix");
      const std::int64_t interface = int_at(one, "/interface", inside);
      (interface == inside ? out.addresses : others).push_back(address);
    }
  }
  out.addresses.insert(out.addresses.end(), others.begin(), others.end());
  for (const char* family : {"/ip4/ip", "/ip6/ip"}) {  // before 0.3.0
    const std::string address = string_at(*parsed, family);
    if (address.empty()) continue;
    if (!is_address_with_prefix(address)) return refuse("\"" + address + "\" is no address with prefix");
    out.addresses.push_back(address);
  }
  out.json = to_json(*parsed);
  return out;
}

int cni_error_code(std::string_view output) {
  const auto parsed = parse_json(output);
  return parsed && parsed->is_object() ? static_cast<int>(int_at(*parsed, "/code")) : 0;
}

Error cni_plugin_error(const std::string& plugin, const std::string& command, int exit_code,
                       std::string_view output, std::string_view errors) {
  const int code = cni_error_code(output);
  std::string text = "CNI plugin " + plugin + " failed at " + command;
  if (code != 0) {
    const auto parsed = parse_json(output);
    const std::string details = string_at(*parsed, "/details");
    text += ": " + shortened(string_at(*parsed, "/msg")) +
            (details.empty() ? "" : "; " + shortened(details)) + " (code " + std::to_string(code) + ")";
  } else {
    text += " with status " + std::to_string(exit_code) + (output.empty() ? "" : ": " + shortened(output));
  }
  if (!errors.empty()) text += "; it wrote: " + shortened(errors);
  const auto kind = code == 11 || code == 50 || code == 51 ? Error::unavailable
                    : code == 1                            ? Error::unsupported
                    : code == 3                            ? Error::not_found
                                                           : Error::io;
  return Error(kind, "cni", std::move(text));
}

}  // namespace orchestra::net
