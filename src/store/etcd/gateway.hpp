#pragma once
// Calls to etcd's JSON gateway: which endpoint, which token, and what a failure means.
//
// The endpoint in use stays in use until it fails; then it rests for a while (50 ms, doubling to 2 s) and the
// next one serves. A call that certainly did not reach its server, and any read, goes to the next endpoint
// within its deadline. A write that may have reached it is never sent again: it ends as `unknown_outcome`.
// A token that etcd no longer accepts is renewed once per call (etcd checks it before it does anything).
// Every answer's cluster id is compared with the first one; the revision of a linearizable answer must not
// be below one that was seen before the call began. Thread safe; callbacks come on event threads.
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/http_client.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/etcd_store.hpp"
#include "store/etcd/codec.hpp"

namespace orchestra::store::etcd {

struct Call {
  std::string path;  ///< "/v3/kv/txn"
  std::string body;
  bool write = false;
  bool linearizable = true;  ///< its header's revision is the cluster's newest
};
using Answered = std::function<void(Result<json::object>)>;

class Gateway : public std::enable_shared_from_this<Gateway> {
 public:
  Gateway(Engine& engine, std::shared_ptr<HttpClient> http, const EtcdStoreOptions& options);

  void call(Call call, Answered answered);
  /// GET /version of the first endpoint that answers, checked; the sentence of an error tells URL, finding,
  /// remedy.
  void find_version(std::function<void(Result<Version>)> found);

  /// For streams: the endpoint in use, and a request to it with TLS and token.
  std::size_t endpoint();
  HttpRequest request(std::size_t endpoint, const std::string& path);
  std::string name(std::size_t endpoint) const { return endpoints_[endpoint].url; }
  void mark_down(std::size_t endpoint, const std::string& why);
  void mark_up(std::size_t endpoint);
  /// Calls `ready` when there is a token (or none is needed); forgets the one in use if `renew`.
  void with_token(bool renew, std::function<void(Result<void>)> ready);
  bool authenticates() const { return !username_.empty(); }

  /// Told (any thread) when answers show that this is not the store it was: another cluster, or an older one.
  void on_alarm(std::function<void(const std::string&)> alarm);
  /// Checks a header; false after an alarm. `seen` is what seen() said before the call.
  bool check(const Header& header, Revision seen, bool linearizable);
  Revision seen() const;
  std::string cluster() const;
  /// After an alarm was dealt with: what comes now is the new truth.
  void forget();

  struct Health {
    std::string url;
    bool up = true;
    std::string why;
  };
  std::vector<Health> health() const;

 private:
  struct Endpoint {
    std::string url;
    int failures = 0;
    std::int64_t rests_until_ns = 0;
    std::string why;
  };
  struct Attempt {
    Call call;
    Answered answered;
    std::int64_t ends_ns = 0;
    Revision seen = 0;
    std::size_t tries = 0;
    bool renewed = false;
  };
  using SharedAttempt = std::shared_ptr<Attempt>;
  void run(const SharedAttempt& attempt);
  void send(const SharedAttempt& attempt);
  void take(const SharedAttempt& attempt, std::size_t endpoint, Result<HttpResponse> response);
  void failed(const SharedAttempt& attempt, std::size_t endpoint, const Error& why);
  void refused(const SharedAttempt& attempt, std::size_t endpoint, const HttpResponse& response);
  bool try_next(const SharedAttempt& attempt);
  void authenticated(Result<HttpResponse> response);
  void ask_version(std::size_t endpoint, std::function<void(Result<Version>)> found);
  std::int64_t now() const;

  Engine& engine_;
  const std::shared_ptr<HttpClient> http_;
  const std::string username_, password_;
  const TlsOptions tls_;
  const Duration deadline_;
  mutable std::mutex mutex_;
  std::vector<Endpoint> endpoints_;  ///< urls constant, the rest guarded
  std::size_t current_ = 0;
  std::string token_;
  bool needs_token_ = false, authenticating_ = false;
  std::vector<std::function<void(Result<void>)>> token_waiters_;
  std::string cluster_;
  Revision seen_ = 0;
  std::function<void(const std::string&)> alarm_;
};

}  // namespace orchestra::store::etcd
