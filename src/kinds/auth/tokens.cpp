// Bearer tokens: see tokens.hpp. Service accounts as upstream pkg/serviceaccount/claims.go, bootstrap
// tokens as plugin/pkg/auth/authenticator/token/bootstrap.
#include <openssl/crypto.h>

#include <algorithm>

#include "api/meta.hpp"
#include "api/status.hpp"
#include "apiserver/auth/access.hpp"
#include "apiserver/auth/tokens.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::int64_t kDeletedLeewaySeconds = 60;
constexpr std::size_t kGroupsMax = 100;  // of one impersonation

Error refuse(const std::string& why) { return Error(Error::unauthenticated, "token", why); }

bool same_secret(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

// The object lives with this uid; one whose end is over a minute past counts as gone.
Result<void> check_live(const View& view, const std::string& key, const std::string& uid, const char* what,
                        std::int64_t now_seconds) {
  auto found = view.load(key);
  if (!found) return found.error();
  if (!*found) return refuse(std::string("the token's ") + what + " no longer exists");
  if ((*found)->view.uid != uid) return refuse(std::string("the token's ") + what + " was made anew since");
  if (!(*found)->view.deleting) return {};
  auto tree = (*found)->tree();
  if (!tree) return tree.error();
  const auto ends = api::parse_time(string_at(*tree, "/metadata/deletionTimestamp"));
  if (ends && *ends / api::kSecond + kDeletedLeewaySeconds < now_seconds) {
    return refuse(std::string("the token's ") + what + " has been deleted");
  }
  return {};
}

Result<TokenUser> user_of_claims(const View& view, const TokenClaims& claims, std::int64_t now) {
  ORC_TRY(check_live(view, object_key({"", "serviceaccounts"}, claims.ns, claims.account), claims.account_uid,
                     "service account", now));
  if (claims.bound_kind == "pod") {
    ORC_TRY(check_live(view, object_key({"", "pods"}, claims.ns, claims.bound_name), claims.bound_uid, "pod",
                       now));
  } else if (claims.bound_kind == "secret") {
    ORC_TRY(check_live(view, object_key({"", "secrets"}, claims.ns, claims.bound_name), claims.bound_uid,
                       "secret", now));
  } else if (claims.bound_kind == "node") {
    ORC_TRY(
        check_live(view, object_key({"", "nodes"}, "", claims.bound_name), claims.bound_uid, "node", now));
  }
  TokenUser out{service_account_identity(claims.ns, claims.account, claims.account_uid), {}};
  auto& extra = out.user.extra;
  if (!claims.id.empty()) extra["authentication.kubernetes.io/credential-id"] = {"JTI=" + claims.id};
  if (claims.bound_kind == "pod") {
    extra["authentication.kubernetes.io/pod-name"] = {claims.bound_name};
    extra["authentication.kubernetes.io/pod-uid"] = {claims.bound_uid};
  }
  const bool node = claims.bound_kind == "node";
  const std::string& node_name = node ? claims.bound_name : claims.node_name;
  if (!node_name.empty()) {
    extra["authentication.kubernetes.io/node-name"] = {node_name};
    extra["authentication.kubernetes.io/node-uid"] = {node ? claims.bound_uid : claims.node_uid};
  }
  return out;
}

bool is_bootstrap_token(const std::string& token) {
  if (token.size() != 23 || token[6] != '.') return false;
  return std::all_of(token.begin(), token.end(),
                     [](char c) { return c == '.' || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); });
}

Result<TokenUser> user_of_bootstrap_token(const View& view, const std::string& token, std::int64_t wall_ns) {
  const std::string id = token.substr(0, 6);
  ORC_ASSIGN(auto found, view.load(object_key({"", "secrets"}, "kube-system", "bootstrap-token-" + id)));
  const Error unknown = refuse("the bootstrap token is not known");
  if (!found || found->view.deleting) return unknown;
  ORC_ASSIGN(const json::value secret, found->tree());
  if (string_at(secret, "/type") != "bootstrap.kubernetes.io/token") return unknown;
  const auto data = [&](const std::string& key) {
    return base64_decode(string_at(secret, "/data/" + key)).value_or("");
  };
  if (data("token-id") != id || !same_secret(data("token-secret"), token.substr(7))) return unknown;
  if (const std::string expires = data("expiration"); !expires.empty()) {
    const auto at = api::parse_time(expires);
    if (!at || *at < wall_ns) return refuse("the bootstrap token has expired");
  }
  if (data("usage-bootstrap-authentication") != "true") {
    return refuse("the bootstrap token is not for authentication");
  }
  TokenUser out{{"system:bootstrap:" + id, "", {"system:bootstrappers"}}, {}};
  for (const std::string& group : split(data("auth-extra-groups"), ',')) {
    if (group.starts_with("system:bootstrappers:")) out.user.groups.push_back(group);
  }
  out.user.groups.emplace_back("system:authenticated");
  return out;
}

// --- impersonation: upstream endpoints/filters/impersonation.go -----------------------------------------
Result<void> may_impersonate(const ApiCore& core, const Identity& user, RequestInfo info) {
  info.is_resource = true;
  info.verb = "impersonate";
  if (info.version.empty()) info.version = "v1";
  return authorize(core, user, info);
}

RequestInfo target(const char* group, const char* resource, const std::string& name) {
  RequestInfo info;
  info.group = group;
  info.resource = resource;
  info.name = name;
  return info;
}

Result<Identity> impersonated(const ApiCore& core, const Identity& user, const HttpServerRequest& request) {
  Identity acting;
  acting.user = request.header("impersonate-user");
  if (acting.user.empty()) {
    for (const auto& [name, value] : request.headers) {
      if (name.starts_with("impersonate-")) {
        return api::internal_error("header " + name + " without impersonating a user name");
      }
    }
    return user;
  }
  const auto account = split_service_account(acting.user);
  RequestInfo who = target("", "users", acting.user);
  if (account) {
    who = target("", "serviceaccounts", account->second);
    who.ns = account->first;
  }
  ORC_TRY(may_impersonate(core, user, who));
  for (const std::string& part : split(request.header("impersonate-group"), ',')) {
    const std::string group(trim(part));
    if (group.empty()) continue;
    if (acting.groups.size() >= kGroupsMax) return api::bad_request("more than 100 groups are impersonated");
    ORC_TRY(may_impersonate(core, user, target("", "groups", group)));
    acting.groups.push_back(group);
  }
  if (const std::string uid = request.header("impersonate-uid"); !uid.empty()) {
    ORC_TRY(may_impersonate(core, user, target("authentication.k8s.io", "uids", uid)));
    acting.uid = uid;
  }
  static const std::string kExtra = "impersonate-extra-";
  for (const auto& [name, value] : request.headers) {
    if (!name.starts_with(kExtra)) continue;
    const auto key = percent_decode(name.substr(kExtra.size()), false);
    if (!key) return api::bad_request("header " + name + " is not percent-encoded");
    for (const std::string& part : split(value, ',')) {
      RequestInfo info = target("authentication.k8s.io", "userextras", std::string(trim(part)));
      info.subresource = *key;
      ORC_TRY(may_impersonate(core, user, info));
      acting.extra[*key].emplace_back(trim(part));
    }
  }
  if (account && acting.groups.empty()) {
    acting.groups = {"system:serviceaccounts", "system:serviceaccounts:" + account->first};
  }
  const bool anonymous = acting.user == "system:anonymous" || acting.in_group("system:unauthenticated");
  const char* implied = anonymous ? "system:unauthenticated" : "system:authenticated";
  if (!acting.in_group(implied)) acting.groups.emplace_back(implied);
  acting.behind = std::make_shared<const Identity>(user);
  return acting;
}

void token_step(const std::shared_ptr<ApiCore>& core, const std::string& token, Consistency consistency,
                std::function<void(Result<Identity>)> answer) {
  core->store().snapshot(0, consistency).on_ready([=](Result<Snapshot> snapshot) {
    if (!snapshot) return answer(store_error(snapshot.error()));
    const View view(std::move(*snapshot));
    auto user = user_of_token(*core, view, token, {});
    if (user) return answer(std::move(user->user));
    if (!user.error().is(Error::unauthenticated)) return answer(store_error(user.error()));
    // What this peer does not have yet may exist: a refusal rests on the newest state.
    if (consistency == Consistency::serializable) {
      return token_step(core, token, Consistency::linearizable, answer);
    }
    answer(api::unauthorized());
  });
}
}  // namespace

Identity service_account_identity(const std::string& ns, const std::string& name, const std::string& uid) {
  return {"system:serviceaccount:" + ns + ":" + name,
          uid,
          {"system:serviceaccounts", "system:serviceaccounts:" + ns, "system:authenticated"}};
}

Result<TokenUser> user_of_token(const ApiCore& core, const View& view, const std::string& token,
                                const std::vector<std::string>& audiences) {
  const auto authority = core.tokens();
  if (authority == nullptr) return refuse("no token is known here");
  const std::int64_t wall_ns = core.engine().clock().now().wall_ns;
  const std::int64_t now = wall_ns / api::kSecond;
  const std::vector<std::string>& wanted = audiences.empty() ? authority->audiences : audiences;
  if (!authority->admin_token.empty() && same_secret(token, authority->admin_token)) {
    return TokenUser{{"kubernetes-admin", "", {"system:masters", "system:authenticated"}}, wanted};
  }
  if (is_bootstrap_token(token)) return user_of_bootstrap_token(view, token, wall_ns);
  if (authority->verifier.is_ours(token)) {
    ORC_ASSIGN(const TokenClaims claims, authority->verifier.verify(token, now, wanted));
    ORC_ASSIGN(TokenUser user, user_of_claims(view, claims, now));
    for (const std::string& audience : wanted) {
      if (std::find(claims.audiences.begin(), claims.audiences.end(), audience) != claims.audiences.end())
        user.audiences.push_back(audience);
    }
    return user;
  }
  if (authority->host) {
    if (auto known = authority->host(token)) {
      if (!known->in_group("system:authenticated")) known->groups.emplace_back("system:authenticated");
      return TokenUser{std::move(*known), wanted};
    }
  }
  return refuse("the token is not known");
}

void authenticate(const std::shared_ptr<ApiCore>& core, const HttpServerRequest& request, bool trusted,
                  std::function<void(const Identity&)> behind, std::function<void(Result<Identity>)> answer) {
  const bool impersonates = std::any_of(request.headers.begin(), request.headers.end(), [](const auto& one) {
    return one.first.starts_with("impersonate-");
  });
  if (impersonates) {
    // The headers are needed after the token was looked up.
    auto copy = std::make_shared<HttpServerRequest>();
    copy->headers = request.headers;
    answer = [core, copy, behind = std::move(behind), answer = std::move(answer)](Result<Identity> user) {
      if (user) behind(*user);
      answer(user ? impersonated(*core, *user, *copy) : std::move(user));
    };
  }
  if (trusted) return answer(Identity{"system:unsecured", "", {"system:masters", "system:authenticated"}});
  if (!request.peer.common_name.empty()) {
    Identity user{request.peer.common_name, "", request.peer.organizations};
    user.groups.emplace_back("system:authenticated");
    return answer(std::move(user));
  }
  const std::string authorization = request.header("authorization");
  if (authorization.empty()) return answer(Identity::anonymous());
  if (to_lower(authorization.substr(0, 7)) != "bearer ") return answer(api::unauthorized());
  token_step(core, std::string(trim(authorization.substr(7))), Consistency::serializable, std::move(answer));
}

}  // namespace orchestra::apiserver
