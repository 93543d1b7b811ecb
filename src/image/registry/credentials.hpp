#pragma once
// Whose login a request gets: the caller's, else those of pull secrets and login files, else what a
// credential helper says.
//
// Helpers (docker-credential-NAME get) are named by `credHelpers` and `credsStore` of a login file, never of
// a pull secret: a secret must not start programs. They run only when the options bring a Spawner.
#include <vector>

#include "image/registry/auth.hpp"
#include "orchestra/image_store.hpp"

namespace orchestra::image {

/// In the order in which they are tried.
Result<std::vector<RegistryCredentials>> find_credentials(const ImageStoreOptions& store,
                                                          const ImagePullOptions& options,
                                                          const ImageReference& reference);
/// The helper that a login file names for `host`; empty if none.
std::string helper_for(std::string_view config, const std::string& host);
/// The answer of a helper.
Result<RegistryCredentials> parse_helper_answer(std::string_view json);
/// `config` with a login for `host` added, as `login` writes it.
Result<std::string> with_login(std::string_view config, const std::string& host, const std::string& user,
                               const std::string& password);

}  // namespace orchestra::image
