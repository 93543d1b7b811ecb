#pragma once
// From a bearer token to a user, and from a request for a token to a token.
//
// A token is believed when its signature, time and audience hold and when its account and the object that
// it is bound to are there with the uid that it names: asked of a View, so that the answer is as fresh as
// the store.
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apiserver/call.hpp"
#include "apiserver/core.hpp"
#include "apiserver/view.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/service_account_token.hpp"

namespace orchestra::apiserver {

/// The keys of service account tokens, shared by all requests; immutable once the server runs.
struct TokenAuthority {
  std::shared_ptr<TokenIssuer> issuer;
  TokenVerifier verifier;
  std::vector<std::string> audiences;                                     ///< of this API server
  std::function<std::optional<Identity>(const std::string& token)> host;  ///< the host's own authenticator
  std::string admin_token;
  std::string ca_pem;
};

struct TokenUser {
  Identity user;
  std::vector<std::string> audiences;  ///< of the token that were asked for
};
/// `unauthenticated` with the reason.
Result<TokenUser> user_of_token(const ApiCore& core, const View& view, const std::string& token,
                                const std::vector<std::string>& audiences);

/// Who sent this? 401 otherwise. Also impersonation (403): `behind` is told who wants to be somebody else
/// before that is judged. `answer` is called once, on any thread.
void authenticate(const std::shared_ptr<ApiCore>& core, const HttpServerRequest& request, bool trusted,
                  std::function<void(const Identity&)> behind, std::function<void(Result<Identity>)> answer);

/// Groups of a service account's user.
Identity service_account_identity(const std::string& ns, const std::string& name, const std::string& uid);

}  // namespace orchestra::apiserver
