#pragma once
// Who may pull: challenges of registries and credential files, as pure functions.
//
// Challenges: RFC 9110 section 11.6.1 (several schemes in one header, quoted commas, any case). Credential
// files: `.dockerconfigjson` and `.dockercfg`, matched as the kubelet does (pkg/credentialprovider): host
// label by label with globs, the port exact, the path by prefix, the longest key first.
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/image.hpp"
#include "orchestra/image_reference.hpp"
#include "orchestra/result.hpp"

namespace orchestra::image {

struct Challenge {
  std::string scheme;                             ///< lower case: basic, bearer
  std::map<std::string, std::string> parameters;  ///< names in lower case
};
/// Malformed parts end the list; what stood before them counts.
std::vector<Challenge> parse_challenges(std::string_view header);

struct KeyringEntry {
  std::string key;  ///< host[:port][/path], globs in the host
  RegistryCredentials credentials;
};
/// Both file forms. Entries that cannot be read are left out; text that is no JSON is `invalid`.
Result<std::vector<KeyringEntry>> parse_docker_config(std::string_view text);
/// The credentials for an image, best match first, without repetitions.
std::vector<RegistryCredentials> match_credentials(const std::vector<KeyringEntry>& entries,
                                                   const ImageReference& image);
/// One glob key against host/path.
bool key_matches(std::string_view key, std::string_view host, std::string_view path);

}  // namespace orchestra::image
