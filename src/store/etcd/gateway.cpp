// The calls of gateway.hpp.
#include "store/etcd/gateway.hpp"

#include <algorithm>

#include "orchestra/env.hpp"

namespace orchestra::store::etcd {
namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kRestMin = 50 * kMs, kRestMax = 2000 * kMs;
constexpr Duration kConnect = std::chrono::seconds(2);
constexpr std::uint64_t kAnswerMax = 256u << 20;

std::string trimmed(std::string url) {
  while (!url.empty() && url.back() == '/') url.pop_back();
  return url;
}

TlsOptions tls_options(const EtcdStoreOptions& options) {
  TlsOptions tls;
  tls.ca_pem = options.ca_pem;
  tls.certificate_pem = options.certificate_pem;
  tls.key_pem = options.key_pem;
  return tls;
}

bool was_sent(const Error& error) {
  const auto* failure = error.detail<HttpFailure>();
  return failure == nullptr || failure->sent;
}

std::string first_words(const std::string& text) { return text.substr(0, 120); }

}  // namespace

Gateway::Gateway(Engine& engine, std::shared_ptr<HttpClient> http, const EtcdStoreOptions& options)
    : engine_(engine),
      http_(std::move(http)),
      username_(options.username),
      password_(options.password),
      tls_(tls_options(options)),
      deadline_(options.call_deadline),
      needs_token_(!options.username.empty()) {
  for (const std::string& url : options.endpoints) endpoints_.push_back({trimmed(url), 0, 0, {}});
}

std::int64_t Gateway::now() const { return engine_.clock().now().steady_ns; }

// ---- endpoints

std::size_t Gateway::endpoint() {
  std::lock_guard lock(mutex_);
  const std::int64_t at = now();
  std::size_t soonest = current_;
  for (std::size_t i = 0; i < endpoints_.size(); ++i) {
    const std::size_t one = (current_ + i) % endpoints_.size();
    if (endpoints_[one].rests_until_ns <= at) return current_ = one;
    if (endpoints_[one].rests_until_ns < endpoints_[soonest].rests_until_ns) soonest = one;
  }
  return current_ = soonest;
}

void Gateway::mark_down(std::size_t endpoint, const std::string& why) {
  std::lock_guard lock(mutex_);
  Endpoint& one = endpoints_[endpoint];
  const std::int64_t rest = std::min(kRestMax, kRestMin << std::min(one.failures, 6));
  ++one.failures;
  one.rests_until_ns = now() + rest;
  one.why = why;
}

void Gateway::mark_up(std::size_t endpoint) {
  std::lock_guard lock(mutex_);
  endpoints_[endpoint].failures = 0;
  endpoints_[endpoint].rests_until_ns = 0;
  endpoints_[endpoint].why.clear();
}

std::vector<Gateway::Health> Gateway::health() const {
  std::lock_guard lock(mutex_);
  std::vector<Health> all;
  for (const Endpoint& one : endpoints_) all.push_back({one.url, one.failures == 0, one.why});
  return all;
}

HttpRequest Gateway::request(std::size_t endpoint, const std::string& path) {
  HttpRequest request;
  request.method = "POST";
  const std::string& url = endpoints_[endpoint].url;
  request.url = url + (url.compare(0, 5, "unix:") == 0 ? ":" : "") + path;
  request.tls = tls_;
  request.connect_deadline = kConnect;
  request.body_bytes_max = kAnswerMax;
  request.headers.emplace_back("Content-Type", "application/json");
  std::lock_guard lock(mutex_);
  if (!token_.empty()) request.headers.emplace_back("Authorization", token_);
  return request;
}

// ---- calls

void Gateway::call(Call call, Answered answered) {
  auto attempt = std::make_shared<Attempt>();
  attempt->call = std::move(call);
  attempt->answered = std::move(answered);
  attempt->ends_ns = now() + deadline_.count();
  attempt->seen = seen();
  run(attempt);
}

void Gateway::run(const SharedAttempt& attempt) {
  with_token(false, [self = shared_from_this(), attempt](Result<void> ready) {
    if (!ready) return attempt->answered(ready.error());
    self->send(attempt);
  });
}

void Gateway::send(const SharedAttempt& attempt) {
  const std::size_t at = endpoint();
  ++attempt->tries;
  HttpRequest request = this->request(at, attempt->call.path);
  request.body = attempt->call.body;
  const Duration left(std::max<std::int64_t>(1, attempt->ends_ns - now()));
  request.total_deadline = left;
  request.header_deadline = left;
  request.connect_deadline = std::min(request.connect_deadline, left);
  http_->send(std::move(request))
      .on_ready([self = shared_from_this(), attempt, at](Result<HttpResponse> response) {
        self->take(attempt, at, std::move(response));
      });
}

void Gateway::take(const SharedAttempt& attempt, std::size_t endpoint, Result<HttpResponse> response) {
  if (!response) return failed(attempt, endpoint, response.error());
  if (response->status != 200) return refused(attempt, endpoint, *response);
  auto parsed = parse_json(response->body);
  auto header = parsed && parsed->is_object() ? read_header(parsed->as_object())
                                              : Result<Header>(Error(Error::io, "store", "no JSON object"));
  if (!header && parsed && parsed->is_object() && parsed->as_object().contains("result")) {
    header = Header{};  // a stream of one message (keepalive)
  }
  if (!header) {
    return attempt->answered(
        Error(attempt->call.write ? Error::unknown_outcome : Error::io, "store",
              name(endpoint) + attempt->call.path +
                  " answers something that is not etcd's: " + first_words(response->body)));
  }
  mark_up(endpoint);
  check(*header, attempt->seen, attempt->call.linearizable);
  attempt->answered(std::move(parsed->as_object()));
}

/// Another endpoint may do better: true if it was asked.
bool Gateway::try_next(const SharedAttempt& attempt) {
  if (attempt->tries >= endpoints_.size() * 2 || now() >= attempt->ends_ns) return false;
  const std::size_t next = endpoint();
  std::int64_t wait = 0;
  {
    std::lock_guard lock(mutex_);
    wait = endpoints_[next].rests_until_ns - now();
  }
  if (wait <= 0) {
    run(attempt);
    return true;
  }
  if (endpoints_.size() == 1 || now() + wait >= attempt->ends_ns) return false;
  engine_.after(Duration(wait), [self = shared_from_this(), attempt] { self->run(attempt); });
  return true;
}

void Gateway::failed(const SharedAttempt& attempt, std::size_t endpoint, const Error& why) {
  mark_down(endpoint, why.message());
  const bool safe = !attempt->call.write || !was_sent(why);
  if (safe && !why.is(Error::cancelled) && try_next(attempt)) return;
  if (why.is(Error::unauthenticated)) return attempt->answered(why);  // TLS, before anything was sent
  const std::string where = "etcd at " + name(endpoint);
  if (!safe) {
    return attempt->answered(Error(Error::unknown_outcome, "store",
                                   where +
                                       " did not answer a write; it may or may not have been applied: read "
                                       "again before you repeat it")
                                 .because(why));
  }
  const bool late = why.is(Error::deadline_exceeded) && was_sent(why);
  attempt->answered(
      Error(late ? Error::deadline_exceeded : Error::unavailable, "store",
            where + (attempt->call.write ? " was not reached; nothing was applied" : " does not answer"))
          .because(why));
}

void Gateway::refused(const SharedAttempt& attempt, std::size_t endpoint, const HttpResponse& response) {
  const Failure failure = read_failure(response.status, response.body);
  if (authenticates() && wants_token(failure) && !attempt->renewed) {
    attempt->renewed = true;
    return with_token(true, [self = shared_from_this(), attempt](Result<void> ready) {
      if (!ready) return attempt->answered(ready.error());
      self->send(attempt);
    });
  }
  const bool sick = failure.code == 14 || (failure.code == 0 && response.status >= 500);
  if (sick) {
    mark_down(endpoint, failure.message);
    if (!attempt->call.write && try_next(attempt)) return;
  } else {
    mark_up(endpoint);
  }
  attempt->answered(to_error(failure, attempt->call.write, "etcd at " + name(endpoint)));
}

// ---- token

void Gateway::with_token(bool renew, std::function<void(Result<void>)> ready) {
  {
    std::unique_lock lock(mutex_);
    if (renew && !authenticating_) {
      token_.clear();
      needs_token_ = authenticates();
    }
    if (!needs_token_) {
      lock.unlock();
      return ready({});
    }
    token_waiters_.push_back(std::move(ready));
    if (std::exchange(authenticating_, true)) return;
  }
  const std::size_t at = endpoint();
  HttpRequest request = this->request(at, "/v3/auth/authenticate");
  request.body = to_json(json::object{{"name", username_}, {"password", password_}});
  request.total_deadline = deadline_;
  http_->send(std::move(request)).on_ready([self = shared_from_this(), at](Result<HttpResponse> response) {
    if (!response) self->mark_down(at, response.error().message());
    self->authenticated(std::move(response));
  });
}

void Gateway::authenticated(Result<HttpResponse> response) {
  Result<void> outcome;
  std::string token;
  if (!response) {
    outcome = Error(Error::unavailable, "store", "etcd does not authenticate user \"" + username_ + "\"")
                  .because(response.error());
  } else if (response->status == 200) {
    auto parsed = parse_json(response->body);
    if (parsed) token = string_at(*parsed, "/token");
    if (token.empty()) outcome = Error(Error::io, "store", "etcd's answer to authenticate holds no token");
  } else {
    const Failure failure = read_failure(response->status, response->body);
    const bool off = failure.message.find("authentication is not enabled") != std::string::npos;
    if (!off) {
      outcome = to_error(failure, false, "user \"" + username_ + "\" of etcd")
                    .with_context("check the user's name and password");
    }
  }
  std::vector<std::function<void(Result<void>)>> waiters;
  {
    std::lock_guard lock(mutex_);
    authenticating_ = false;
    token_ = token;
    needs_token_ = !outcome.has_value();
    waiters.swap(token_waiters_);
  }
  for (const auto& ready : waiters) ready(outcome);
}

// ---- who answers

Revision Gateway::seen() const {
  std::lock_guard lock(mutex_);
  return seen_;
}
std::string Gateway::cluster() const {
  std::lock_guard lock(mutex_);
  return cluster_;
}
void Gateway::on_alarm(std::function<void(const std::string&)> alarm) {
  std::lock_guard lock(mutex_);
  alarm_ = std::move(alarm);
}
void Gateway::forget() {
  std::lock_guard lock(mutex_);
  seen_ = 0;
  cluster_.clear();
}

bool Gateway::check(const Header& header, Revision seen, bool linearizable) {
  std::string what;
  std::function<void(const std::string&)> alarm;
  {
    std::lock_guard lock(mutex_);
    if (cluster_.empty()) cluster_ = header.cluster;
    if (!header.cluster.empty() && header.cluster != cluster_) {
      what = "the etcd cluster is " + header.cluster + ", it was " + cluster_;
    } else if (linearizable && header.revision > 0 && header.revision < seen && seen <= seen_) {
      what =
          "etcd's revision went back from " + std::to_string(seen) + " to " + std::to_string(header.revision);
    } else {
      seen_ = std::max(seen_, header.revision);
    }
    if (!what.empty()) alarm = alarm_;
  }
  if (what.empty()) return true;
  if (alarm) alarm(what);
  return false;
}

// ---- version

void Gateway::find_version(std::function<void(Result<Version>)> found) { ask_version(0, std::move(found)); }

void Gateway::ask_version(std::size_t at, std::function<void(Result<Version>)> found) {
  HttpRequest request = this->request(at, "/version");
  request.method = "GET";
  request.total_deadline = deadline_;
  const auto answer = [self = shared_from_this(), at, found](Result<HttpResponse> response) {
    const std::string url = self->name(at);
    const auto unsupported = [&](const std::string& what) {
      found(Error(Error::unsupported, "store", url + what));
    };
    if (!response) {
      self->mark_down(at, response.error().message());
      if (at + 1 < self->endpoints_.size()) return self->ask_version(at + 1, found);
      const std::string& message = response.error().message();
      if (url.compare(0, 8, "https://") == 0 && message.find("handshake") != std::string::npos) {
        return unsupported(" does not speak TLS (" + message + "); write http:// if etcd serves without it");
      }
      if (response.error().is(Error::unauthenticated)) return found(response.error());
      return found(Error(Error::unavailable, "store",
                         "no etcd answers at " + url + "; is it running and is the address right?")
                       .because(response.error()));
    }
    if (response->status == 400 && response->body.find("HTTPS server") != std::string::npos)
      return unsupported(" wants TLS; write https:// and give the authority that signed its certificate");
    auto parsed = response->status == 200 ? parse_json(response->body)
                                          : Result<json::value>(Error(Error::io, "store", ""));
    const std::string text = parsed ? string_at(*parsed, "/etcdserver") : std::string();
    const auto version = read_version(text);
    if (!version) {
      return unsupported(" answers HTTP but is no etcd (/version: " + std::to_string(response->status) + " " +
                         first_words(response->body) + "); give the client URL of an etcd server");
    }
    if (*version < Version{3, 4, 0})
      return unsupported(" is etcd " + text + "; 3.4 or later is needed: upgrade it");
    self->mark_up(at);
    found(*version);
  };
  http_->send(std::move(request)).on_ready(answer);
}

}  // namespace orchestra::store::etcd
