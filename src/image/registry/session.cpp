// One request and all its attempts. Credentials go only to this registry's host and to the token service
// that it names, there never without TLS unless the registry itself is spoken to without; the HTTP client
// drops them on redirects to other hosts (blob stores).
#include "image/registry/session.hpp"

#include <algorithm>
#include <charconv>
#include <ctime>

#include "base/base64.hpp"
#include "base/json.hpp"
#include "image/digest.hpp"
#include "orchestra/env.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kErrorBytesMax = 64 << 10;
constexpr std::size_t kTokenBytesMax = 64 << 10;
constexpr int kRedirectsMax = 5;
constexpr int kAuthenticationsMax = 8;
constexpr int kAllRights = 2;  // a login is not bound to a scope
constexpr std::int64_t kTokenSecondsDefault = 60;
constexpr std::int64_t kRenewEarlySeconds = 10;
constexpr Duration kRequestDeadline = std::chrono::hours(4);

std::string encode_query(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || std::string_view("-._~:/,").find(c) != std::string_view::npos) {
      out += c;
    } else {
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out;
}

std::string header_of(const HttpResponse& answer, const char* name) {
  const auto found = answer.headers.find(name);
  return found == answer.headers.end() ? std::string() : found->second;
}

bool is_transient(int status) { return status == 408 || status == 429 || status >= 500; }

std::string without_query(const std::string& url) { return url.substr(0, url.find('?')); }

}  // namespace

std::string basic_authorization(const RegistryCredentials& credentials) {
  return "Basic " + encode_base64_text(credentials.user + ":" + credentials.password);
}

RegistrySession::RegistrySession(Engine& engine, std::shared_ptr<HttpClient> http, RegistryTarget target,
                                 RegistryLimits limits, TokenCache* tokens)
    : engine_(engine), http_(std::move(http)), target_(std::move(target)), limits_(limits), tokens_(tokens) {
  base_ = target_.base;
  if (base_.empty()) base_ = (target_.plain_http ? "http://" : "https://") + target_.host;
  while (base_.ends_with('/')) base_.pop_back();
}

bool RegistrySession::is_loopback() const {
  std::string host = base_.substr(std::min(base_.find("://") + 3, base_.size()));
  return host.starts_with("127.") || host.starts_with("localhost:") || host == "localhost" ||
         host.starts_with("[::1]");
}

std::string RegistrySession::url_of(const std::string& path) const {
  if (path.starts_with("http://") || path.starts_with("https://")) return path;
  std::string url = base_ + target_.api_path + "/" + target_.repository + path;
  if (target_.name_space)
    url += (url.find('?') == std::string::npos ? "?ns=" : "&ns=") + encode_query(target_.upstream);
  return url;
}

std::string RegistrySession::absolute_url(const std::string& location, const std::string& request_url) const {
  if (location.starts_with("http://") || location.starts_with("https://")) return location;
  const std::size_t host = request_url.find("://");
  const std::size_t slash = request_url.find('/', host == std::string::npos ? 0 : host + 3);
  return request_url.substr(0, slash) + (location.starts_with('/') ? "" : "/") + location;
}

Result<HttpResponse> RegistrySession::send_once(const RegistryRequest& request, bool& body_began,
                                                std::string& used) {
  HttpRequest http;
  http.method = request.method;
  http.headers = request.headers;
  http.body = request.body;
  http.body_bytes_max = request.body_bytes_max;
  http.redirects_max = request.body_source ? 0 : kRedirectsMax;
  http.tls = target_.tls;
  if (request.body_source) {
    ORC_ASSIGN(http.body_source, request.body_source());
    http.body_size = request.body_size;
  }
  {
    std::lock_guard lock(mutex_);
    const int rights = request.remove ? 2 : request.push ? 1 : 0;
    if (authorization_.empty()) use_cached_token(rights);
    http.url = url_of(request.path);
    if (http.url.starts_with(base_ + "/"))
      http.headers.insert(http.headers.end(), target_.headers.begin(), target_.headers.end());
    // Upload locations may lie elsewhere (blob stores): no credentials there.
    if (!authorization_.empty() && http.url.starts_with(base_ + "/")) {
      used = authorization_;
      http.headers.emplace_back("Authorization", authorization_);
    }
  }
  auto failure = std::make_shared<std::string>();
  auto status = std::make_shared<int>(0);
  if (request.sink.write) {
    http.on_headers = [&request, &body_began, status](int code,
                                                      const std::map<std::string, std::string>& headers) {
      *status = code;
      if (code < 200 || code >= 300) return Result<void>();
      body_began = true;
      return request.sink.begin ? request.sink.begin(code, headers) : Result<void>();
    };
    http.on_body = [&request, failure, status](std::string_view bytes) {
      if (*status >= 200 && *status < 300) return request.sink.write(bytes);
      failure->append(bytes.substr(0, kErrorBytesMax - std::min(failure->size(), kErrorBytesMax)));
      return Result<void>();
    };
  }
  auto answer = http_->send(std::move(http)).wait(kRequestDeadline);
  if (answer && request.sink.write) answer->body = *failure;
  return answer;
}

void RegistrySession::pause(int attempt, std::optional<Duration> told) {
  Duration delay =
      std::min<Duration>(limits_.first_delay * (1LL << std::min(attempt, 10)), limits_.delay_max);
  // Between half and all of it, so that many nodes do not come back at once.
  const std::uint64_t half = static_cast<std::uint64_t>(delay.count()) / 2;
  delay = Duration(static_cast<std::int64_t>(half + (half > 0 ? engine_.random().below(half) : 0)));
  if (told) delay = *told;
  Promise<void> done;
  Pending<void> pending = done.pending();
  engine_.after(delay, [done] { done.set(Result<void>()); });
  (void)pending.wait(delay + std::chrono::seconds(5));
}

std::optional<Duration> parse_retry_after(std::string_view text, std::int64_t wall_ns) {
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  constexpr std::int64_t kSecondsMax = 366LL * 86400;
  if (error == std::errc() && end == text.data() + text.size() && seconds >= 0)
    return std::chrono::seconds(std::min(seconds, kSecondsMax));
  std::tm date{};
  const std::string copy(text);
  if (::strptime(copy.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &date) == nullptr) return std::nullopt;
  const std::int64_t until = static_cast<std::int64_t>(::timegm(&date)) - wall_ns / 1'000'000'000;
  return std::chrono::seconds(std::clamp<std::int64_t>(until, 0, kSecondsMax));
}

std::string next_link(std::string_view header) {
  for (std::size_t at = header.find('<'); at != std::string_view::npos; at = header.find('<', at + 1)) {
    const std::size_t close = header.find('>', at);
    if (close == std::string_view::npos) return {};
    const std::size_t end = std::min(header.find(", <", close), header.size());
    std::string parameters(header.substr(close + 1, end - close - 1));
    for (char& c : parameters) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const bool is_next = parameters.find("rel=\"next\"") != std::string::npos ||
                         parameters.find("rel=next") != std::string::npos;
    if (is_next) return std::string(header.substr(at + 1, close - at - 1));
  }
  return {};
}

std::optional<TokenCache::Token> TokenCache::find(const std::string& key, std::int64_t now_ns) {
  std::lock_guard lock(mutex_);
  const auto found = tokens_.find(key);
  if (found == tokens_.end()) return std::nullopt;
  if (found->second.expires_ns > now_ns) return found->second;
  tokens_.erase(found);
  return std::nullopt;
}
void TokenCache::put(const std::string& key, Token token) {
  std::lock_guard lock(mutex_);
  if (tokens_.size() >= kTokensMax) tokens_.clear();
  tokens_[key] = std::move(token);
}
void TokenCache::drop(const std::string& value) {
  std::lock_guard lock(mutex_);
  std::erase_if(tokens_, [&](const auto& item) { return item.second.value == value; });
}

std::unique_ptr<HostSlots::Slot> HostSlots::take(const std::string& host) {
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [&] { return used_[host] < kTransfersPerHost; });
  ++used_[host];
  return std::make_unique<Slot>(*this, host);
}
void HostSlots::give_back(const std::string& host) {
  std::lock_guard lock(mutex_);
  if (--used_[host] == 0) used_.erase(host);
  freed_.notify_all();
}

Result<HttpResponse> RegistrySession::send(const RegistryRequest& request) {
  int authentications = 0;
  for (int attempt = 0;; ++attempt) {
    {
      std::unique_lock lock(mutex_);
      const bool expired = expires_ns_ != 0 && engine_.clock().now().steady_ns >= expires_ns_;
      if (expired) authorization_.clear();
    }
    bool body_began = false;
    std::string used;
    auto answer = send_once(request, body_began, used);
    if (!answer) {
      std::unique_lock lock(mutex_);
      // A registry on this machine without TLS: tried only after TLS did not work.
      const bool may_fall_back = target_.plain_fallback || (target_.base.empty() && is_loopback());
      if (!body_began && !tried_plain_ && may_fall_back && base_.starts_with("https://")) {
        tried_plain_ = true;
        base_ = "http://" + base_.substr(8);
        continue;
      }
      lock.unlock();
      const bool network = answer.error().is(Error::unavailable) || answer.error().is(Error::io) ||
                           answer.error().is(Error::deadline_exceeded) ||
                           answer.error().is(Error::unknown_outcome);
      if (!network || body_began || request.once || attempt + 1 >= limits_.attempts) {
        return answer.error().with_context("registry " + target_.host);
      }
      pause(attempt, std::nullopt);
      continue;
    }
    const int status = answer->status;
    const bool good =
        (status >= 200 && status < 300) ||
        std::find(request.also_good.begin(), request.also_good.end(), status) != request.also_good.end();
    if (good) {
      std::lock_guard lock(mutex_);
      worked_ = worked_ || (!used.empty() && used == authorization_);
      return answer;
    }
    if (status == 401 && authentications++ < kAuthenticationsMax) {
      ORC_ASSIGN(const bool again, authenticate(header_of(*answer, "www-authenticate"),
                                                request.remove ? 2
                                                : request.push ? 1
                                                               : 0,
                                                used));
      if (again) {
        --attempt;
        continue;
      }
    }
    if (is_transient(status) && !request.once && attempt + 1 < limits_.attempts) {
      const auto told = parse_retry_after(header_of(*answer, "retry-after"), engine_.clock().now().wall_ns);
      if (!told || *told <= limits_.retry_after_max) {
        pause(attempt, told);
        continue;
      }
    }
    return status_error(request, *answer, attempt + 1);
  }
}

/// Finds the next authorization to try. False: nothing is left.
Result<bool> RegistrySession::authenticate(const std::string& challenges, int rights,
                                           const std::string& used) {
  std::lock_guard lock(mutex_);
  const bool grows = !authorization_.empty() && rights > token_rights_;
  if (tokens_ != nullptr && used.starts_with("Bearer ")) tokens_->drop(used.substr(7));
  // Another transfer of this pull logged in meanwhile.
  if (!authorization_.empty() && authorization_ != used && !grows) return true;
  const auto parsed = parse_challenges(challenges);
  const auto find = [&](std::string_view scheme) {
    return std::find_if(parsed.begin(), parsed.end(),
                        [&](const Challenge& one) { return one.scheme == scheme; });
  };
  const auto bearer = find("bearer");
  const bool is_bearer = bearer != parsed.end();
  if (!is_bearer && find("basic") == parsed.end()) return false;
  // A token that was good grew old, or the request needs a wider one: the same credential again. Else the
  // one that was used is not enough, and the next has its turn.
  const bool renew = is_bearer && (authorization_.empty() || grows || worked_);
  if (renew && next_credential_ > 0) --next_credential_;
  if (renew) tried_anonymous_ = false;
  worked_ = false;
  while (next_credential_ < target_.credentials.size()) {
    const RegistryCredentials& credentials = target_.credentials[next_credential_++];
    if (!credentials.token.empty()) {
      authorization_ = "Bearer " + credentials.token;
      expires_ns_ = 0;
      token_rights_ = kAllRights;
      return true;
    }
    if (!is_bearer) {
      authorization_ = basic_authorization(credentials);
      expires_ns_ = 0;
      token_rights_ = kAllRights;
      return true;
    }
    auto token = fetch_token(*bearer, rights, &credentials);
    if (!token && !token.error().is(Error::unauthenticated)) return token.error();
    if (token) {
      authorization_ = "Bearer " + *token;
      return true;
    }
  }
  if (is_bearer && target_.credentials.empty() && !tried_anonymous_) {
    tried_anonymous_ = true;
    auto token = fetch_token(*bearer, rights, nullptr);
    if (!token && !token.error().is(Error::unauthenticated)) return token.error();
    if (token) {
      authorization_ = "Bearer " + *token;
      return true;
    }
  }
  return false;
}

std::vector<std::string> RegistrySession::scopes(int rights) const {
  constexpr const char* kActions[] = {":pull", ":pull,push", ":pull,push,delete"};
  std::vector<std::string> out{"repository:" + target_.repository + kActions[rights]};
  for (const std::string& repository : extra_scopes_) out.push_back("repository:" + repository + ":pull");
  return out;
}

std::string RegistrySession::cache_key(int rights, const RegistryCredentials* credentials) const {
  std::string key = base_ + " ";
  for (const std::string& scope : scopes(rights)) key += scope + " ";
  if (credentials != nullptr)
    key +=
        sha256_digest(credentials->user + '\0' + credentials->password + '\0' + credentials->identity_token);
  return key;
}

/// Before the first challenge: what an earlier session got for the same.
void RegistrySession::use_cached_token(int rights) {
  if (tokens_ == nullptr || next_credential_ > 0 || tried_anonymous_) return;
  const RegistryCredentials* first = target_.credentials.empty() ? nullptr : &target_.credentials.front();
  const auto known = tokens_->find(cache_key(rights, first), engine_.clock().now().steady_ns);
  if (!known) return;
  authorization_ = "Bearer " + known->value;
  expires_ns_ = known->expires_ns;
  token_rights_ = rights;
  worked_ = true;  // if it is refused: the same login again
  if (first != nullptr) next_credential_ = 1;
  tried_anonymous_ = first == nullptr;
}

/// GET, or for an identity token the OAuth2 POST with GET as the way out of services that have none.
Result<HttpResponse> RegistrySession::ask_token_service(const std::string& realm, const std::string& service,
                                                        const std::vector<std::string>& scopes,
                                                        const RegistryCredentials* credentials) {
  HttpRequest request;
  request.tls = target_.tls;
  request.body_bytes_max = kTokenBytesMax;
  constexpr Duration kDeadline = std::chrono::minutes(2);
  if (credentials != nullptr && !credentials->identity_token.empty()) {
    std::string all;
    for (const std::string& scope : scopes) all += (all.empty() ? "" : " ") + scope;
    request.method = "POST";
    request.url = realm;
    request.headers.emplace_back("Content-Type", "application/x-www-form-urlencoded");
    request.body = "grant_type=refresh_token&client_id=orchestra&service=" + encode_query(service) +
                   "&scope=" + encode_query(all) +
                   "&refresh_token=" + encode_query(credentials->identity_token);
    auto answer = http_->send(request).wait(kDeadline);
    const bool has_none = answer && (answer->status == 404 || answer->status == 405);
    if (!has_none) return answer;
    request.method = "GET";
    request.body.clear();
    request.headers.clear();
  }
  request.url = realm;
  for (const std::string& scope : scopes)
    request.url += (request.url.find('?') == std::string::npos ? "?scope=" : "&scope=") + encode_query(scope);
  if (!service.empty()) request.url += "&service=" + encode_query(service);
  if (credentials != nullptr) {
    RegistryCredentials basic = *credentials;
    if (!basic.identity_token.empty()) basic = {"<token>", basic.identity_token, "", ""};
    request.headers.emplace_back("Authorization", basic_authorization(basic));
  }
  return http_->send(std::move(request)).wait(kDeadline);
}

Result<std::string> RegistrySession::fetch_token(const Challenge& challenge, int rights,
                                                 const RegistryCredentials* credentials) {
  const auto parameter = [&](const char* name) {
    const auto found = challenge.parameters.find(name);
    return found == challenge.parameters.end() ? std::string() : found->second;
  };
  const std::string realm = parameter("realm");
  if (!realm.starts_with("https://") && !realm.starts_with("http://")) {
    return Error(Error::unauthenticated, "image", "registry " + target_.host + " names no token service");
  }
  if (credentials != nullptr && realm.starts_with("http://") && base_.starts_with("https://")) {
    return Error(Error::denied, "image",
                 "registry " + target_.host + " sends its logins to " + without_query(realm) +
                     ", which is not encrypted");
  }
  auto answer = ask_token_service(realm, parameter("service"), scopes(rights), credentials);
  if (!answer) return answer.error().with_context("token service of registry " + target_.host);
  if (answer->status == 401 || answer->status == 403) {
    return Error(Error::unauthenticated, "image",
                 "the token service of " + target_.host + " refused the login");
  }
  const auto root = answer->status == 200
                        ? parse_json(answer->body)
                        : Result<json::value>(
                              Error(Error::unavailable, "image", "status " + std::to_string(answer->status)));
  std::string token = root ? string_at(*root, "/token") : "";
  if (root && token.empty()) token = string_at(*root, "/access_token");
  const bool printable =
      std::all_of(token.begin(), token.end(), [](unsigned char c) { return c > ' ' && c < 0x7f; });
  if (token.empty() || !printable) {
    return Error(Error::unavailable, "image",
                 "the token service of " + target_.host + " gave no token (status " +
                     std::to_string(answer->status) + ")");
  }
  const std::int64_t seconds = std::max<std::int64_t>(int_at(*root, "/expires_in", kTokenSecondsDefault), 1);
  const std::int64_t useful = seconds > 2 * kRenewEarlySeconds ? seconds - kRenewEarlySeconds : seconds;
  expires_ns_ = engine_.clock().now().steady_ns + std::min<std::int64_t>(useful, 86400) * 1'000'000'000;
  token_rights_ = rights;
  if (tokens_ != nullptr) tokens_->put(cache_key(rights, credentials), {token, expires_ns_});
  return token;
}

Error RegistrySession::status_error(const RegistryRequest& request, const HttpResponse& answer,
                                    int attempts) const {
  std::string said;
  if (const auto root = parse_json(answer.body)) {
    if (const json::array* errors = array_at(*root, "/errors"); errors != nullptr && !errors->empty()) {
      said = string_at(errors->front(), "/code") + ": " + string_at(errors->front(), "/message");
    }
  }
  if (said.size() > 500) said.resize(500);
  std::string what = "registry " + target_.host + " answered " + std::to_string(answer.status) + " to " +
                     request.method + " " +
                     without_query(request.path.starts_with('/') ? "/v2/" + target_.repository + request.path
                                                                 : request.path);
  if (!said.empty()) what += " (" + said + ")";
  if (attempts > 1) what += " after " + std::to_string(attempts) + " attempts";
  switch (answer.status) {
    case 401: {
      const std::string whose = target_.credentials.empty()
                                    ? "no credentials were given"
                                    : std::to_string(target_.credentials.size()) +
                                          " credentials were tried, the last of user \"" +
                                          target_.credentials.back().user + "\"";
      return Error(Error::unauthenticated, "image", what + "; " + whose);
    }
    case 403:
      return Error(Error::denied, "image", what);
    case 404:
      return Error(Error::not_found, "image", what);
    case 429: {
      const std::string left = header_of(answer, "ratelimit-remaining");
      const std::string limit = header_of(answer, "ratelimit-limit");
      if (!left.empty()) what += "; requests left: " + left + (limit.empty() ? "" : " of " + limit);
      if (const std::string when = header_of(answer, "retry-after"); !when.empty())
        what += "; it asks to wait: Retry-After " + when.substr(0, 64);
      return Error(Error::unavailable, "image", what);
    }
    case 503: {
      if (const std::string when = header_of(answer, "retry-after"); !when.empty())
        what += "; it asks to wait: Retry-After " + when.substr(0, 64);
      return Error(Error::unavailable, "image", what);
    }
    default:
      return Error(answer.status >= 500 ? Error::unavailable : Error::invalid, "image", what);
  }
}

}  // namespace orchestra::image
