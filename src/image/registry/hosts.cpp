// Hosts, mirrors and rewritten names, see hosts.hpp.
#include "image/registry/hosts.hpp"

#include <algorithm>

#include "base/fd.hpp"
#include "image/registry/credentials.hpp"
#include "image/registry/toml.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kPemBytesMax = 4 << 20;

std::vector<std::string> texts(const json::value* value) {
  std::vector<std::string> out;
  if (value == nullptr) return out;
  if (value->is_string()) out.emplace_back(value->as_string());
  if (!value->is_array()) return out;
  for (const json::value& item : value->as_array()) {
    if (item.is_string()) out.emplace_back(item.as_string());
  }
  return out;
}

bool flag(const json::object& table, std::string_view name, bool other) {
  const json::value* found = table.if_contains(name);
  return found != nullptr && found->is_bool() ? found->as_bool() : other;
}

std::string text(const json::object& table, std::string_view name) {
  const json::value* found = table.if_contains(name);
  return found != nullptr && found->is_string() ? std::string(found->as_string()) : std::string();
}

HostEntry host_entry(std::string url, const json::object& table) {
  HostEntry out;
  if (url.find("://") == std::string::npos) url = "https://" + url;
  out.url = std::move(url);
  if (const json::value* list = table.if_contains("capabilities"); list != nullptr) {
    const auto can = texts(list);
    const auto has = [&can](const char* what) {
      return std::find(can.begin(), can.end(), what) != can.end();
    };
    out.pull = has("pull");
    out.resolve = has("resolve");
    out.push = has("push");
  }
  out.skip_verify = flag(table, "skip_verify", false);
  out.override_path = flag(table, "override_path", false);
  out.ca_files = texts(table.if_contains("ca"));
  if (const json::value* client = table.if_contains("client"); client != nullptr) {
    // "file", ["file"], [["certificate", "key"]]
    const json::value* first =
        client->is_array() && !client->as_array().empty() ? &client->as_array()[0] : client;
    const auto pair = texts(first);
    if (!pair.empty()) out.certificate_file = pair[0];
    if (!pair.empty()) out.key_file = pair.size() > 1 ? pair[1] : pair[0];
  }
  if (const json::value* headers = table.if_contains("header"); headers != nullptr && headers->is_object()) {
    for (const auto& [name, value] : headers->as_object()) {
      for (std::string& one : texts(&value)) out.headers.emplace_back(std::string(name), std::move(one));
    }
  }
  return out;
}

std::string host_of(const std::string& url) {
  const std::size_t scheme = url.find("://");
  const std::size_t start = scheme == std::string::npos ? 0 : scheme + 3;
  return url.substr(start, url.find('/', start) - start);
}

/// "https://host/path" -> the API's root and what stands before the repository.
void set_base(RegistryTarget& target, const std::string& url, bool override_path) {
  const std::size_t start = url.find("://") + 3;
  const std::size_t slash = std::min(url.find('/', start), url.size());
  target.host = host_of(url);
  target.base = url.substr(0, slash);
  std::string path = url.substr(slash);
  while (path.ends_with('/')) path.pop_back();
  // hosts.md: a path is the API's root; without override_path "/v2" goes behind it.
  target.api_path = override_path ? path : path.ends_with("/v2") ? path : path + "/v2";
}

Result<void> add_files(RegistryTarget& target, const HostEntry& entry, const std::string& folder) {
  const auto path = [&folder](const std::string& name) {
    return name.starts_with('/') ? name : folder + "/" + name;
  };
  for (const std::string& file : entry.ca_files) {
    ORC_ASSIGN(const std::string pem, read_file(path(file), kPemBytesMax));
    target.tls.ca_pem += pem + "\n";
  }
  if (!entry.certificate_file.empty()) {
    ORC_ASSIGN(target.tls.certificate_pem, read_file(path(entry.certificate_file), kPemBytesMax));
    ORC_ASSIGN(target.tls.key_pem, read_file(path(entry.key_file), kPemBytesMax));
  }
  target.tls.verify = !entry.skip_verify;
  target.headers = entry.headers;
  target.resolve = entry.resolve;
  target.pull = entry.pull;
  return {};
}

/// certs.d/HOST/hosts.toml, or _default. Nothing if there is none.
Result<std::optional<HostsFile>> load_hosts(const std::string& certs, const std::string& host,
                                            std::string& folder) {
  if (certs.empty()) return std::optional<HostsFile>();
  for (const std::string& name : {host, std::string("_default")}) {
    folder = certs + "/" + name;
    auto text = read_file(folder + "/hosts.toml", kTomlBytesMax);
    if (!text && text.error().is(Error::not_found)) continue;
    if (!text) return text.error();
    auto parsed = parse_hosts_toml(*text);
    if (!parsed) return parsed.error().with_context(folder + "/hosts.toml");
    return std::optional<HostsFile>(std::move(*parsed));
  }
  return std::optional<HostsFile>();
}

/// "example.com/team" of a location, for a name below `prefix`: host and repository of the request.
void set_location(RegistryTarget& target, const std::string& location, std::string_view prefix,
                  const std::string& name) {
  const bool wildcard = prefix.starts_with("*.");
  std::string whole = wildcard || location.empty() ? name : location + name.substr(prefix.size());
  const std::size_t slash = whole.find('/');
  target.host = whole.substr(0, slash);
  target.repository = slash == std::string::npos ? "" : whole.substr(slash + 1);
  if (target.host == "docker.io") target.host = "registry-1.docker.io";
}

class Targets {
 public:
  Targets(const ImageStoreOptions& store, const ImageReference& reference, const ImagePullOptions& options)
      : store_(store), reference_(reference), options_(options) {}

  Result<std::vector<RegistryTarget>> run() {
    const auto mirrors = store_.mirrors.find(reference_.host());
    if (mirrors != store_.mirrors.end()) {
      for (const std::string& url : mirrors->second) {
        RegistryTarget mirror = base_target();
        set_base(mirror, url.find("://") == std::string::npos ? "https://" + url : url, false);
        mirror.is_mirror = true;
        add_store_tls(mirror);
        out_.push_back(std::move(mirror));
      }
    }
    RegistryTarget upstream = base_target();
    upstream.host = reference_.api_host();
    ORC_TRY(add_conf(upstream));
    ORC_TRY(add_hosts_file(upstream));
    upstream.plain_http = upstream.plain_http || options_.plain_http || is_plain(reference_.host());
    if (options_.insecure) upstream.tls.verify = false;
    upstream.tls.ca_pem += options_.ca_pem;
    if (upstream.base.empty()) add_store_tls(upstream, reference_.host());
    ORC_ASSIGN(upstream.credentials, find_credentials(store_, options_, reference_));
    out_.push_back(std::move(upstream));
    return std::move(out_);
  }

 private:
  RegistryTarget base_target() const {
    RegistryTarget target;
    target.repository = reference_.repository();
    target.upstream = reference_.host();
    return target;
  }
  bool is_plain(const std::string& host) const {
    return std::find(store_.plain_http_hosts.begin(), store_.plain_http_hosts.end(), host) !=
           store_.plain_http_hosts.end();
  }
  void add_store_tls(RegistryTarget& target, const std::string& host = {}) const {
    const auto found = store_.registry_ca_pem.find(host.empty() ? target.host : host);
    if (found != store_.registry_ca_pem.end()) target.tls.ca_pem += found->second;
  }

  Result<void> add_conf(RegistryTarget& upstream) {
    ORC_ASSIGN(const RegistriesConf conf, load_registries_conf(store_));
    const std::string name = reference_.name();
    const RegistriesConf::Registry* rule = find_registry(conf, name);
    if (rule == nullptr) return {};
    if (rule->blocked) {
      return Error(Error::denied, "image",
                   "registry " + rule->prefix + " is blocked in " + store_.registries_conf);
    }
    const bool by_digest = !reference_.digest().empty();
    for (const RegistriesConf::Mirror& one : rule->mirrors) {
      if (by_digest ? !one.by_digest : !one.by_tag) continue;
      RegistryTarget mirror = base_target();
      set_location(mirror, one.location, rule->prefix, name);
      mirror.is_mirror = true;
      mirror.tls.verify = !one.insecure;
      mirror.plain_fallback = one.insecure;
      add_store_tls(mirror);
      out_.push_back(std::move(mirror));
    }
    set_location(upstream, rule->location, rule->prefix, name);
    upstream.tls.verify = !rule->insecure;
    upstream.plain_fallback = rule->insecure;
    return {};
  }

  Result<void> add_hosts_file(RegistryTarget& upstream) {
    std::string folder;
    ORC_ASSIGN(const auto hosts, load_hosts(store_.certs_dir, reference_.host(), folder));
    if (!hosts) return {};
    for (const HostEntry& entry : hosts->mirrors) {
      RegistryTarget mirror = base_target();
      set_base(mirror, entry.url, entry.override_path);
      ORC_TRY(add_files(mirror, entry, folder));
      mirror.is_mirror = host_of(entry.url) != reference_.api_host();
      mirror.name_space = mirror.is_mirror;
      if (mirror.pull) out_.push_back(std::move(mirror));
    }
    if (!hosts->server) return {};
    set_base(upstream, hosts->server->url, hosts->server->override_path);
    return add_files(upstream, *hosts->server, folder);
  }

  const ImageStoreOptions& store_;
  const ImageReference& reference_;
  const ImagePullOptions& options_;
  std::vector<RegistryTarget> out_;
};

}  // namespace

Result<HostsFile> parse_hosts_toml(std::string_view input) {
  ORC_ASSIGN(const json::object root, parse_toml(input));
  HostsFile out;
  if (const std::string server = text(root, "server"); !server.empty()) out.server = host_entry(server, root);
  const json::value* hosts = root.if_contains("host");
  if (hosts == nullptr) return out;
  if (!hosts->is_object()) return Error(Error::invalid, "image", "host is no table");
  for (const auto& [url, table] : hosts->as_object()) {
    if (!table.is_object())
      return Error(Error::invalid, "image", "host.\"" + std::string(url) + "\" is no table");
    out.mirrors.push_back(host_entry(std::string(url), table.as_object()));
  }
  return out;
}

Result<RegistriesConf> parse_registries_conf(std::string_view input) {
  ORC_ASSIGN(const json::object root, parse_toml(input));
  RegistriesConf out;
  if (root.contains("registries")) {
    return Error(Error::unsupported, "image",
                 "version 1 of registries.conf ([registries.search]) is not read; use [[registry]]");
  }
  out.search = texts(root.if_contains("unqualified-search-registries"));
  if (const json::value* aliases = root.if_contains("aliases"); aliases != nullptr && aliases->is_object()) {
    for (const auto& [name, value] : aliases->as_object()) {
      if (value.is_string()) out.aliases.emplace_back(std::string(name), std::string(value.as_string()));
    }
  }
  const json::value* list = root.if_contains("registry");
  if (list == nullptr || !list->is_array()) return out;
  for (const json::value& item : list->as_array()) {
    if (!item.is_object()) return Error(Error::invalid, "image", "registry is no array of tables");
    const json::object& table = item.as_object();
    RegistriesConf::Registry one;
    one.location = text(table, "location");
    one.prefix = text(table, "prefix");
    if (one.prefix.empty()) one.prefix = one.location;
    if (one.prefix.empty()) return Error(Error::invalid, "image", "[[registry]] without prefix and location");
    one.insecure = flag(table, "insecure", false);
    one.blocked = flag(table, "blocked", false);
    const bool digest_only = flag(table, "mirror-by-digest-only", false);
    if (const json::value* mirrors = table.if_contains("mirror"); mirrors != nullptr && mirrors->is_array()) {
      for (const json::value& entry : mirrors->as_array()) {
        if (!entry.is_object()) return Error(Error::invalid, "image", "mirror is no array of tables");
        RegistriesConf::Mirror mirror;
        mirror.location = text(entry.as_object(), "location");
        mirror.insecure = flag(entry.as_object(), "insecure", false);
        const std::string when = text(entry.as_object(), "pull-from-mirror");
        mirror.by_tag = !digest_only && when != "digest-only";
        mirror.by_digest = when != "tag-only";
        if (mirror.location.empty())
          return Error(Error::invalid, "image", "[[registry.mirror]] of " + one.prefix + " has no location");
        one.mirrors.push_back(std::move(mirror));
      }
    }
    out.registries.push_back(std::move(one));
  }
  return out;
}

const RegistriesConf::Registry* find_registry(const RegistriesConf& conf, std::string_view name) {
  const RegistriesConf::Registry* best = nullptr;
  for (const RegistriesConf::Registry& one : conf.registries) {
    bool fits = false;
    if (one.prefix.starts_with("*.")) {
      const std::string_view host = name.substr(0, name.find('/'));
      const std::string_view tail = std::string_view(one.prefix).substr(1);
      fits = host.size() > tail.size() && host.ends_with(tail);
    } else {
      const std::size_t size = one.prefix.size();
      fits = name.starts_with(one.prefix) && (name.size() == size || name[size] == '/' || name[size] == ':');
    }
    if (fits && (best == nullptr || one.prefix.size() > best->prefix.size())) best = &one;
  }
  return best;
}

std::vector<std::string> short_name_candidates(const RegistriesConf& conf, const std::string& input) {
  const auto reference = ImageReference::parse(input);
  const std::string first = input.substr(0, input.find('/'));
  const bool has_host = input.find('/') != std::string::npos &&
                        (first.find_first_of(".:") != std::string::npos || first == "localhost");
  if (has_host || !reference) return {input};
  const std::size_t tag = input.find_first_of(":@");
  const std::string name = input.substr(0, tag);
  const std::string rest = tag == std::string::npos ? "" : input.substr(tag);
  for (const auto& [alias, full] : conf.aliases) {
    if (alias == name) return {full + rest};
  }
  std::vector<std::string> out;
  for (const std::string& host : conf.search) out.push_back(host + "/" + input);
  if (out.empty()) out.push_back(input);
  return out;
}

Result<RegistriesConf> load_registries_conf(const ImageStoreOptions& store) {
  if (store.registries_conf.empty()) return RegistriesConf();
  ORC_ASSIGN(const std::string text, read_file(store.registries_conf, kTomlBytesMax));
  auto conf = parse_registries_conf(text);
  if (!conf) return conf.error().with_context(store.registries_conf);
  return conf;
}

Result<std::vector<RegistryTarget>> registry_targets(const ImageStoreOptions& store,
                                                     const ImageReference& reference,
                                                     const ImagePullOptions& options) {
  return Targets(store, reference, options).run();
}

}  // namespace orchestra::image
