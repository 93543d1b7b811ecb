#pragma once
// RegistrySession: requests to one repository of one registry, with everything around them: authentication,
// retries, plain HTTP for loopback, and errors that say what the registry said.
//
// Distribution spec 1.1 and the token authentication documents. Blocking; one thread at a time each, but
// several sessions may share a RegistryAccess (tokens, how the host is reached).
#include <functional>
#include <map>
#include <memory>
#include <mutex>
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
  std::string host;        ///< host[:port], for messages
  std::string base;        ///< "https://host:port"; empty: made from host
  std::string repository;  ///< library/busybox
  bool plain_http = false;
  std::string ca_pem;
  std::vector<RegistryCredentials> credentials;  ///< tried in order
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
  std::vector<int> also_good = {};  ///< besides 2xx
  std::size_t body_bytes_max = 4 << 20;
};

class RegistrySession {
 public:
  RegistrySession(Engine& engine, std::shared_ptr<HttpClient> http, RegistryTarget target,
                  RegistryLimits limits);
  /// The answer if its status is 2xx or also_good. Codes: not_found, unauthenticated, denied, unavailable,
  /// too_large, or what the sink said.
  Result<HttpResponse> send(const RegistryRequest& request);
  const RegistryTarget& target() const { return target_; }
  /// An absolute URL for a Location header of `answer`.
  std::string absolute_url(const std::string& location, const std::string& request_url) const;

 private:
  std::string url_of(const std::string& path) const;
  Result<HttpResponse> send_once(const RegistryRequest& request, bool& body_began, std::string& used);
  Result<bool> authenticate(const std::string& challenges, bool push, const std::string& used);
  Result<std::string> fetch_token(const Challenge& challenge, bool push,
                                  const RegistryCredentials* credentials);
  Error status_error(const RegistryRequest& request, const HttpResponse& answer, int attempts) const;
  void pause(int attempt, const HttpResponse* answer);
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
  bool token_can_push_ = false;
  bool worked_ = false;  ///< authorization_ was accepted before
  std::size_t next_credential_ = 0;
  bool tried_anonymous_ = false;
};

/// "Basic ..." of a user and password.
std::string basic_authorization(const RegistryCredentials& credentials);

}  // namespace orchestra::image
