#pragma once
// RegistrySession: requests to one repository of one registry, with everything around them: authentication,
// retries, plain HTTP for loopback, and errors that say what the registry said.
//
// Distribution spec 1.1 and the token authentication documents. Blocking; one thread at a time each, but
// several sessions may share a RegistryAccess (tokens, how the host is reached).
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/http_client.hpp"
#include "image/registry/auth.hpp"
#include "orchestra/engine.hpp"

namespace orchestra::image {

struct RegistryLimits {
  int attempts = 5;
  Duration first_delay = std::chrono::seconds(1);  ///< doubled each time, with jitter
  Duration delay_max = std::chrono::seconds(30);
  Duration retry_after_max = std::chrono::seconds(60);
};

struct RegistryTarget {
  std::string host;              ///< host[:port], for messages
  std::string base;              ///< "https://host:port"; empty: made from host
  std::string api_path = "/v2";  ///< before the repository
  std::string repository;        ///< library/busybox
  std::string upstream;          ///< the host that the image's name says
  bool plain_http = false;
  bool plain_fallback = false;  ///< without TLS where TLS does not work
  bool is_mirror = false;
  bool resolve = true, pull = true;  ///< a mirror may be asked for tags; for anything
  bool name_space = false;           ///< a proxy of several registries: ?ns=UPSTREAM
  TlsOptions tls;
  std::vector<std::pair<std::string, std::string>> headers;
  std::vector<RegistryCredentials> credentials;  ///< tried in order
};

/// Tokens by (host, scope, login), so that the next pull needs no challenge. Thread safe.
class TokenCache {
 public:
  struct Token {
    std::string value;
    std::int64_t expires_ns = 0;  ///< steady
  };
  std::optional<Token> find(const std::string& key, std::int64_t now_ns);
  void put(const std::string& key, Token token);
  /// It was refused.
  void drop(const std::string& value);

 private:
  static constexpr std::size_t kTokensMax = 1000;
  std::mutex mutex_;
  std::map<std::string, Token> tokens_;
};

/// At most kTransfersPerHost at once with each host, whoever asks. Thread safe.
class HostSlots {
 public:
  static constexpr int kTransfersPerHost = 8;
  class Slot {
   public:
    Slot(HostSlots& slots, std::string host) : slots_(slots), host_(std::move(host)) {}
    ~Slot() { slots_.give_back(host_); }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

   private:
    HostSlots& slots_;
    std::string host_;
  };
  /// Waits for a free one; holders always end by their transfer's deadlines.
  std::unique_ptr<Slot> take(const std::string& host);

 private:
  void give_back(const std::string& host);
  std::mutex mutex_;
  std::condition_variable freed_;
  std::map<std::string, int> used_;
};

/// Where an answer's body goes while it comes, for answers of 2xx.
struct BodySink {
  std::function<Result<void>(int status, const std::map<std::string, std::string>& headers)> begin;
  std::function<Result<void>(std::string_view)> write;
};

struct RegistryRequest {
  std::string method = "GET";
  std::string path;  ///< after /v2/REPOSITORY, or a whole URL (upload locations)
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::function<Result<std::function<Result<std::string>()>>()> body_source;  ///< made anew for each attempt
  std::uint64_t body_size = 0;
  BodySink sink;
  bool push = false;                ///< needs the scope pull,push
  bool remove = false;              ///< needs the scope delete
  bool once = false;                ///< not repeated but for a login: the caller knows how to go on
  std::vector<int> also_good = {};  ///< besides 2xx
  std::size_t body_bytes_max = 4 << 20;
};

class RegistrySession {
 public:
  RegistrySession(Engine& engine, std::shared_ptr<HttpClient> http, RegistryTarget target,
                  RegistryLimits limits, TokenCache* tokens = nullptr);
  /// Tokens also allow to read `repository` (cross-repository mounts).
  void add_scope(const std::string& repository) {
    std::lock_guard lock(mutex_);
    extra_scopes_.push_back(repository);
  }
  /// The answer if its status is 2xx or also_good. Codes: not_found, unauthenticated, denied, unavailable,
  /// too_large, or what the sink said.
  Result<HttpResponse> send(const RegistryRequest& request);
  const RegistryTarget& target() const { return target_; }
  /// The login that is in use; nothing: the registry wanted none.
  std::optional<RegistryCredentials> login() {
    std::lock_guard lock(mutex_);
    if (authorization_.empty() || next_credential_ == 0) return std::nullopt;
    return target_.credentials[next_credential_ - 1];
  }
  /// An absolute URL for a Location header of `answer`.
  std::string absolute_url(const std::string& location, const std::string& request_url) const;

 private:
  std::string url_of(const std::string& path) const;
  Result<HttpResponse> send_once(const RegistryRequest& request, bool& body_began, std::string& used);
  Result<bool> authenticate(const std::string& challenges, int rights, const std::string& used);
  Result<std::string> fetch_token(const Challenge& challenge, int rights,
                                  const RegistryCredentials* credentials);
  Result<HttpResponse> ask_token_service(const std::string& realm, const std::string& service,
                                         const std::vector<std::string>& scopes,
                                         const RegistryCredentials* credentials);
  std::vector<std::string> scopes(int rights) const;
  std::string cache_key(int rights, const RegistryCredentials* credentials) const;
  void use_cached_token(int rights);
  Error status_error(const RegistryRequest& request, const HttpResponse& answer, int attempts) const;
  void pause(int attempt, std::optional<Duration> told);
  bool is_loopback() const;

  Engine& engine_;
  std::shared_ptr<HttpClient> http_;
  RegistryTarget target_;
  RegistryLimits limits_;
  std::mutex mutex_;  ///< what follows: sessions are shared by the transfers of one pull
  std::string base_;  ///< "https://host" until plain HTTP was found to be spoken
  bool tried_plain_ = false;
  std::string authorization_;    ///< header value in use
  std::int64_t expires_ns_ = 0;  ///< of a token; 0: does not
  int token_rights_ = 0;         ///< 0: pull, 1: also push, 2: also delete
  bool worked_ = false;          ///< authorization_ was accepted before
  TokenCache* tokens_;
  std::vector<std::string> extra_scopes_;
  std::size_t next_credential_ = 0;
  bool tried_anonymous_ = false;
};

/// Retry-After: seconds, or a date (RFC 9110 10.2.3). Nothing if it is neither.
std::optional<Duration> parse_retry_after(std::string_view text, std::int64_t wall_ns);
/// The target of `Link: <URL>; rel="next"`; empty if there is none.
std::string next_link(std::string_view header);
/// "Basic ..." of a user and password.
std::string basic_authorization(const RegistryCredentials& credentials);

}  // namespace orchestra::image
