// HttpClient: retries on stale connections, redirects, and the promise to the caller.
//
// A reused connection that its server closed just now gives an error before the first byte of the answer.
// Such a request is sent once more on a fresh connection if that cannot do harm: its method is
// idempotent (RFC 9110 section 9.2.2) and its body can be sent again. A redirect to another origin loses
// Authorization and Cookie; one from https to http is refused.
#include <atomic>
#include <mutex>

#include "base/http_client.hpp"
#include "net/http/client_attempt.hpp"
#include "net/http/client_pool.hpp"
#include "net/http/http_server.hpp"
#include "net/http/websocket_client.hpp"
#include "orchestra/env.hpp"

namespace orchestra {
namespace {

using http::AttemptResult;
using http::ClientAttempt;
using http::Url;

bool is_idempotent(const std::string& method) {
  return method == "GET" || method == "HEAD" || method == "PUT" || method == "DELETE" || method == "OPTIONS";
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

Result<void> check(const HttpRequest& request) {
  if (!http::is_token(request.method)) {
    return Error(Error::invalid, "http", "\"" + request.method + "\" is no HTTP method");
  }
  for (const auto& [name, value] : request.headers) {
    if (!http::is_token(name) || value.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos) {
      return Error(Error::invalid, "http",
                   "header \"" + name + "\" is no token, or its value holds a line break");
    }
  }
  if (request.body_source && !request.body_size) {
    return Error(Error::invalid, "http", "a body_source needs body_size");
  }
  return {};
}

/// One send(): a chain of attempts.
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(Engine& engine, std::shared_ptr<http::ClientPool> pool, HttpRequest request, Url url)
      : engine_(engine),
        pool_(std::move(pool)),
        request_(std::make_shared<HttpRequest>(std::move(request))),
        url_(std::move(url)),
        ends_ns_(engine.clock().now().steady_ns + request_->total_deadline.count()) {}

  Pending<HttpResponse> run() {
    Pending<HttpResponse> pending = promise_.pending();
    promise_.on_cancel([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->cancel();
    });
    attempt(false);
    return pending;
  }

 private:
  void attempt(bool fresh_connection) {
    const auto is_final = [this](int status, const std::map<std::string, std::string>& headers) {
      return !(redirects_ < request_->redirects_max && is_redirect(status) && headers.contains("location"));
    };
    // The attempt holds the exchange; the exchange only looks at the attempt.
    auto next = std::make_shared<ClientAttempt>(
        engine_, pool_, request_, url_, is_final,
        [self = shared_from_this()](AttemptResult result) { self->ended(std::move(result)); });
    const int number = ++attempts_;
    next->start(fresh_connection, Duration(ends_ns_ - engine_.clock().now().steady_ns));
    {
      std::lock_guard lock(mutex_);
      if (number == attempts_) current_ = next;  // else this one has ended and been followed already
      if (!cancelled_) return;
    }
    next->cancel();  // cancel() came before there was anything to cancel
  }

  void cancel() {
    std::shared_ptr<ClientAttempt> attempt;
    {
      std::lock_guard lock(mutex_);
      cancelled_ = true;
      attempt = current_.lock();
    }
    if (attempt) attempt->cancel();
  }

  void ended(AttemptResult result) {
    if (!result.response) {
      const bool again =
          result.stale && !retried_ && is_idempotent(request_->method) && !request_->body_source;
      if (!again) return promise_.set(result.response.error());
      retried_ = true;
      return attempt(true);
    }
    HttpResponse response = std::move(*result.response);
    if (request_->redirects_max == 0 || !is_redirect(response.status))
      return promise_.set(std::move(response));
    const auto location = response.headers.find("location");
    if (location == response.headers.end()) return promise_.set(std::move(response));
    if (auto followed = follow(response.status, location->second); !followed)
      return promise_.set(followed.error());
    attempt(false);
  }

  Result<void> follow(int status, const std::string& location) {
    if (redirects_ >= request_->redirects_max) {
      return Error(Error::invalid, "http",
                   url_.text() + ": more than " + std::to_string(request_->redirects_max) + " redirects");
    }
    ++redirects_;
    ORC_ASSIGN(Url next, http::resolve_url(url_, location));
    if (url_.tls() && !next.tls()) {
      return Error(Error::denied, "http",
                   url_.text() + " redirects to " + next.text() + ", which is not encrypted");
    }
    const bool becomes_get =
        status == 303 || ((status == 301 || status == 302) && request_->method == "POST");
    if (becomes_get && request_->method != "HEAD") {
      request_->method = "GET";
      request_->body.clear();
      request_->body_source = nullptr;
    } else if (request_->body_source) {
      return Error(Error::unsupported, "http",
                   url_.text() + " redirects an upload whose body cannot be sent twice");
    }
    std::erase_if(request_->headers, [&](const auto& header) {
      const auto is = [&](const char* name) { return http::equal_ignoring_case(header.first, name); };
      const bool secret = is("authorization") || is("cookie") || is("proxy-authorization") || is("host");
      return (secret && !url_.same_origin(next)) || (becomes_get && is("content-type"));
    });
    if (!url_.same_origin(next)) {
      request_->connect_address.clear();
      request_->tls.server_name.clear();
      request_->tls.certificate_pem.clear();
      request_->tls.key_pem.clear();
    }
    url_ = std::move(next);
    return {};
  }

  Engine& engine_;
  std::shared_ptr<http::ClientPool> pool_;
  std::shared_ptr<HttpRequest> request_;
  Url url_;
  const std::int64_t ends_ns_;
  Promise<HttpResponse> promise_;
  int redirects_ = 0;
  bool retried_ = false;
  std::mutex mutex_;
  std::weak_ptr<ClientAttempt> current_;
  std::atomic<int> attempts_{0};
  bool cancelled_ = false;
};

class Client final : public HttpClient {
 public:
  Client(Engine& engine, ForwardProxies proxies)
      : engine_(engine), pool_(std::make_shared<http::ClientPool>(engine, std::move(proxies))) {}

  Pending<HttpResponse> send(HttpRequest request) override {
    if (auto checked = check(request); !checked) return checked.error();
    auto url = http::parse_url(request.url);
    if (!url) return url.error();
    return std::make_shared<Exchange>(engine_, pool_, std::move(request), std::move(*url))->run();
  }

  Pending<std::shared_ptr<WebSocket>> open_web_socket(HttpRequest request,
                                                      WebSocketHandler handler) override {
    if (auto checked = check(request); !checked) return checked.error();
    return http::connect_web_socket(engine_, pool_, std::move(request), std::move(handler));
  }

 private:
  Engine& engine_;
  std::shared_ptr<http::ClientPool> pool_;
};

}  // namespace

std::shared_ptr<HttpClient> make_http_client(Engine& engine) { return make_http_client(engine, {}); }
std::shared_ptr<HttpClient> make_http_client(Engine& engine, ForwardProxies proxies) {
  return std::make_shared<Client>(engine, std::move(proxies));
}

}  // namespace orchestra
