#pragma once
// Where an image may come from: mirrors and the registry itself, in order, from the store's options,
// containerd's certs.d/HOST/hosts.toml and containers' registries.conf. The parsers and the choice are pure.
//
// Facts: containerd docs/hosts.md; containers-registries.conf(5). Digests make mirrors untrusted, so the
// credentials of the registry go to the registry only.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "image/registry/session.hpp"
#include "orchestra/image_reference.hpp"
#include "orchestra/image_store.hpp"

namespace orchestra::image {

/// One entry of hosts.toml. Files it names are not read yet.
struct HostEntry {
  std::string url;  ///< scheme://host[:port][/path]
  bool pull = true, resolve = true, push = true;
  bool skip_verify = false, override_path = false;
  std::vector<std::string> ca_files;
  std::string certificate_file, key_file;
  std::vector<std::pair<std::string, std::string>> headers;
};
struct HostsFile {
  std::vector<HostEntry> mirrors;   ///< in the file's order
  std::optional<HostEntry> server;  ///< replaces the registry itself
};
Result<HostsFile> parse_hosts_toml(std::string_view text);

struct RegistriesConf {
  struct Mirror {
    std::string location;
    bool insecure = false;
    bool by_tag = true, by_digest = true;
  };
  struct Registry {
    std::string prefix, location;
    bool insecure = false, blocked = false;
    std::vector<Mirror> mirrors;
  };
  std::vector<Registry> registries;
  std::vector<std::string> search;                           ///< unqualified-search-registries
  std::vector<std::pair<std::string, std::string>> aliases;  ///< short name -> full name
};
Result<RegistriesConf> parse_registries_conf(std::string_view text);
/// The longest prefix that fits `name` (host/repository); nullptr if none does.
const RegistriesConf::Registry* find_registry(const RegistriesConf& conf, std::string_view name);
/// What a name without a host may mean, in order; a name with a host means itself.
std::vector<std::string> short_name_candidates(const RegistriesConf& conf, const std::string& text);

/// Mirrors, then the registry. `denied` when registries.conf blocks it. Reads the files that the options
/// name.
Result<std::vector<RegistryTarget>> registry_targets(const ImageStoreOptions& store,
                                                     const ImageReference& reference,
                                                     const ImagePullOptions& options);
Result<RegistriesConf> load_registries_conf(const ImageStoreOptions& store);

}  // namespace orchestra::image
