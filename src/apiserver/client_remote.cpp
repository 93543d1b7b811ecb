// The Client over HTTPS: see remote_client.hpp. Requests, watches and logs over HTTP; exec, attach and
// port-forward on connections that the server upgrades (streams/client_streams.hpp).
#include "orchestra/remote_client.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>

#include "api/pod_streams.hpp"
#include "api/status.hpp"
#include "apiserver/client_request.hpp"
#include "apiserver/streams/client_streams.hpp"
#include "apiserver/streams/websocket_connection.hpp"
#include "base/base64.hpp"
#include "base/fd.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "net/http/http_server.hpp"
#include "net/http/upgrade_client.hpp"
#include "orchestra/env.hpp"

namespace orchestra {
namespace {
using namespace apiserver;
constexpr std::size_t kTokenBytesMax = 64 << 10;
/// Bookmarks come each minute: a watch without a byte for so long hangs on a connection that is dead.
constexpr Duration kWatchStall = std::chrono::seconds(150);
constexpr Duration kLogStall = std::chrono::hours(24);  // a followed log may say nothing for long

/// A bearer token, from a file that is read again now and then (as client-go does,
/// transport/token_source.go).
class BearerToken {
 public:
  BearerToken(Clock& clock, std::string token, std::string file)
      : clock_(clock), file_(std::move(file)), token_(std::move(token)), read_at_(clock.now().steady_ns) {}

  std::string get() {
    std::lock_guard lock(mutex_);
    const std::int64_t now = clock_.now().steady_ns;
    if (!file_.empty() && (stale_ || now - read_at_ >= kLife.count())) {
      const auto text = read_file(file_, kTokenBytesMax);
      if (text && !trim(*text).empty()) token_ = std::string(trim(*text));
      read_at_ = now;
      stale_ = false;
    }
    return token_;
  }
  /// The server did not believe it.
  void forget() {
    std::lock_guard lock(mutex_);
    stale_ = true;
  }

 private:
  static constexpr Duration kLife = std::chrono::minutes(1);
  Clock& clock_;
  const std::string file_;
  std::mutex mutex_;
  std::string token_;
  std::int64_t read_at_;
  bool stale_ = false;
};

/// Text that arrives piece by piece, pulled by one reader; bounded by kBytesMax.
class Arrivals : public std::enable_shared_from_this<Arrivals> {
 public:
  static constexpr std::size_t kBytesMax = 8 << 20;

  Result<void> add(std::string_view bytes) {
    std::function<void()> ready;
    {
      std::lock_guard lock(mutex_);
      if (cancelled_) return Error(Error::cancelled, "client", "the reader is gone");
      if (buffer_.size() + bytes.size() > kBytesMax) {
        ended_ = api::expired("this reader is more than 8 MiB behind");
        ready.swap(ready_);
        changed_.notify_all();
        if (ready) ready();
        return *ended_;
      }
      buffer_ += bytes;
      ready.swap(ready_);
    }
    changed_.notify_all();
    if (ready) ready();
    return {};
  }
  void end(std::optional<Error> error) {
    std::function<void()> ready;
    {
      std::lock_guard lock(mutex_);
      if (!done_ && !ended_) ended_ = std::move(error);
      done_ = true;
      ready.swap(ready_);
    }
    changed_.notify_all();
    if (ready) ready();
  }
  /// Whole lines that have arrived, without the end of line.
  std::vector<std::string> lines() {
    std::lock_guard lock(mutex_);
    return take_lines();
  }
  std::vector<std::string> wait_lines(Duration deadline) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, deadline,
                      [&] { return buffer_.find('\n') != std::string::npos || done_ || ended_; });
    return take_lines();
  }
  /// What there is, at most so many bytes; completes later if there is nothing yet.
  Pending<std::string> read(std::size_t bytes_max) {
    Promise<std::string> promise;
    auto pending = promise.pending();
    auto self = shared_from_this();
    notify([self, promise, bytes_max] {
      std::lock_guard lock(self->mutex_);
      if (self->buffer_.empty() && self->ended_) return promise.set(*self->ended_);
      std::string out = self->buffer_.substr(0, bytes_max);
      self->buffer_.erase(0, out.size());
      promise.set(std::move(out));
    });
    return pending;
  }
  void notify(std::function<void()> ready) {
    {
      std::lock_guard lock(mutex_);
      if (buffer_.empty() && !done_ && !ended_) {
        ready_ = std::move(ready);
        return;
      }
    }
    ready();
  }
  void cancel() {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
  }
  bool done() const {
    std::lock_guard lock(mutex_);
    return done_ || ended_;
  }
  std::optional<Error> error() const {
    std::lock_guard lock(mutex_);
    return ended_;
  }

 private:
  std::vector<std::string> take_lines() {
    std::vector<std::string> out;
    std::size_t begin = 0;
    for (std::size_t end = buffer_.find('\n'); end != std::string::npos; end = buffer_.find('\n', begin)) {
      if (end > begin) out.push_back(buffer_.substr(begin, end - begin));
      begin = end + 1;
    }
    buffer_.erase(0, begin);
    return out;
  }
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::string buffer_;
  std::function<void()> ready_;
  std::optional<Error> ended_;
  bool done_ = false, cancelled_ = false;
};

class RemoteWatch final : public ObjectWatch::Impl {
 public:
  RemoteWatch(std::shared_ptr<Arrivals> arrivals, std::shared_ptr<Pending<HttpResponse>> transfer)
      : arrivals_(std::move(arrivals)), transfer_(std::move(transfer)) {}
  ~RemoteWatch() override { cancel(); }
  std::optional<std::vector<ObjectChange>> next(Duration deadline) override {
    if (error_) return std::nullopt;
    return convert(arrivals_->wait_lines(deadline));
  }
  std::optional<std::vector<ObjectChange>> poll() override {
    if (error_) return std::nullopt;
    return convert(arrivals_->lines());
  }
  void notify(std::function<void()> ready) override { arrivals_->notify(std::move(ready)); }
  std::optional<Error> error() const override { return error_; }
  void cancel() override {
    arrivals_->cancel();
    transfer_->cancel();
  }

 private:
  std::optional<std::vector<ObjectChange>> convert(const std::vector<std::string>& lines) {
    std::vector<ObjectChange> changes;
    for (const std::string& line : lines) {
      auto event = parse_json(line);
      if (!event) {
        error_ = event.error();
        break;
      }
      const std::string type = string_at(*event, "/type");
      const json::value* body = find(*event, "/object");
      const std::string text = body == nullptr ? std::string("{}") : to_json(*body);
      if (type == "ERROR") {
        auto status = api::parse_status(text);
        error_ = status ? api::status_error(std::move(*status)) : api::internal_error(text);
        break;
      }
      auto object = Object::from_json(text);
      if (!object) {
        error_ = object.error();
        break;
      }
      ObjectChange change;
      change.type = type == "ADDED"      ? ObjectChange::Type::added
                    : type == "MODIFIED" ? ObjectChange::Type::modified
                    : type == "DELETED"  ? ObjectChange::Type::removed
                                         : ObjectChange::Type::bookmark;
      change.object = std::move(*object);
      changes.push_back(std::move(change));
    }
    if (!changes.empty()) return changes;
    if (!error_ && arrivals_->done()) {
      error_ = arrivals_->error().value_or(Error(Error::unavailable, "client", "the server ended the watch"));
    }
    return std::nullopt;
  }
  std::shared_ptr<Arrivals> arrivals_;
  std::shared_ptr<Pending<HttpResponse>> transfer_;
  std::optional<Error> error_;
};

class RemoteLog final : public ByteStream {
 public:
  RemoteLog(std::shared_ptr<Arrivals> arrivals, std::shared_ptr<Pending<HttpResponse>> transfer)
      : arrivals_(std::move(arrivals)), transfer_(std::move(transfer)) {}
  ~RemoteLog() override { close(); }
  Pending<std::string> read(std::size_t bytes_max) override { return arrivals_->read(bytes_max); }
  void close() override {
    arrivals_->cancel();
    transfer_->cancel();
  }

 private:
  std::shared_ptr<Arrivals> arrivals_;
  std::shared_ptr<Pending<HttpResponse>> transfer_;
};

const char* method_of(const std::string& verb) {
  if (verb == "create") return "POST";
  if (verb == "update") return "PUT";
  if (verb == "patch") return "PATCH";
  if (verb == "delete" || verb == "deletecollection") return "DELETE";
  return "GET";
}

// The requests of a batch go one after another.
struct RemoteBatch {
  std::vector<ApiRequest> requests;
  std::vector<ApiResponse> responses;
  Promise<std::vector<ApiResponse>> promise;
};

class RemoteImpl final : public Client::Impl, public std::enable_shared_from_this<RemoteImpl> {
 public:
  RemoteImpl(Engine& engine, RemoteClientOptions options)
      : engine_(engine),
        options_(std::move(options)),
        token_(engine.clock(), options_.token, options_.token_file),
        http_(make_http_client(engine)),
        upgrades_(engine) {
    servers_.push_back(options_.server);
    servers_.insert(servers_.end(), options_.more_servers.begin(), options_.more_servers.end());
    for (std::string& server : servers_) {
      while (!server.empty() && server.back() == '/') server.pop_back();
    }
  }

  Pending<ApiResponse> request(ApiRequest request) override {
    Promise<ApiResponse> promise;
    auto pending = promise.pending();
    const bool reads = request.verb == "get" || request.verb == "list";
    ask(std::make_shared<const ApiRequest>(std::move(request)), promise, reads ? servers_.size() : 1);
    return pending;
  }

  Pending<ObjectList> list(ApiRequest wanted) override {
    return request(std::move(wanted)).then([](Result<ApiResponse> response) -> Result<ObjectList> {
      if (!response) return response.error();
      if (response->code >= 400) return error_of_response(*response);
      ORC_ASSIGN(const json::value tree, parse_json(response->body));
      ObjectList out;
      out.resource_version = string_at(tree, "/metadata/resourceVersion");
      out.continue_token = string_at(tree, "/metadata/continue");
      const std::string api_version = string_at(tree, "/apiVersion");
      std::string kind = string_at(tree, "/kind");
      if (kind.ends_with("List")) kind.resize(kind.size() - 4);
      if (const json::array* items = array_at(tree, "/items")) {
        for (const json::value& item : *items) {
          json::value complete = item;
          if (complete.is_object() && !complete.get_object().contains("kind")) {
            complete.get_object()["apiVersion"] = api_version;
            complete.get_object()["kind"] = kind;
          }
          ORC_ASSIGN(Object object, Object::from_json(to_json(complete)));
          out.items.push_back(std::move(object));
        }
      }
      return out;
    });
  }

  Result<ObjectWatch> watch(ApiRequest wanted) override {
    wanted.verb = "watch";
    wanted.query["watch"] = "true";
    auto [arrivals, transfer] = stream(wanted, kWatchStall);
    return ObjectWatch(std::make_shared<RemoteWatch>(arrivals, transfer));
  }

  Pending<std::vector<ApiResponse>> batch(std::vector<ApiRequest> requests) override {
    auto batch = std::make_shared<RemoteBatch>();
    batch->requests = std::move(requests);
    auto pending = batch->promise.pending();
    step(batch);
    return pending;
  }

  Pending<std::shared_ptr<ByteStream>> log(ApiRequest wanted) override {
    wanted.verb = "get";
    wanted.subresource = "log";
    auto parameters = stream_parameters(wanted);
    if (!parameters) return parameters.error();
    wanted.query = {parameters->begin(), parameters->end()};
    wanted.body.clear();
    auto [arrivals, transfer] = stream(wanted, kLogStall);
    return Result<std::shared_ptr<ByteStream>>(std::make_shared<RemoteLog>(arrivals, transfer));
  }
  Pending<std::shared_ptr<ProcessStream>> exec(ApiRequest wanted) override {
    if (wanted.subresource.empty()) wanted.subresource = "exec";
    Promise<std::shared_ptr<ProcessStream>> promise;
    auto pending = promise.pending();
    open_web_socket(wanted, {"v5.channel.k8s.io", "v4.channel.k8s.io"},
                    [self = shared_from_this(), promise](Result<Opened> opened) {
                      if (!opened) return promise.set(opened.error());
                      if (opened->refused) return promise.set(error_of_response(*opened->refused));
                      promise.set(make_remote_process(self->engine_, std::move(opened->stream),
                                                      opened->protocol == "v5.channel.k8s.io"));
                    });
    return pending;
  }
  Pending<std::shared_ptr<DuplexStream>> port_forward(ApiRequest wanted, int port) override {
    wanted.subresource = "portforward";
    wanted.body.clear();
    Promise<std::shared_ptr<DuplexStream>> promise;
    auto pending = promise.pending();
    const auto forward = [self = shared_from_this(), promise, port](std::shared_ptr<DuplexStream> carrier) {
      promise.set(make_remote_forward(self->engine_, std::move(carrier), port));
    };
    open_web_socket(wanted, {"SPDY/3.1+portforward.k8s.io"},
                    [self = shared_from_this(), promise, forward, wanted](Result<Opened> opened) {
                      if (!opened) return promise.set(opened.error());
                      if (!opened->refused)
                        return forward(make_websocket_tunnel(self->engine_, std::move(opened->stream),
                                                             WebSocketConnection::Side::client));
                      // Servers before 1.31 know no tunnel; anything but "wrong protocol" is the answer.
                      if (opened->refused->code != 400 && opened->refused->code != 403)
                        return promise.set(error_of_response(*opened->refused));
                      self->open_spdy(wanted, [promise, forward](Result<Opened> plain) {
                        if (!plain) return promise.set(plain.error());
                        if (plain->refused) return promise.set(error_of_response(*plain->refused));
                        forward(std::move(plain->stream));
                      });
                    });
    return pending;
  }

 private:
  /// Of `tries` servers, beginning with the one that is in use.
  void ask(std::shared_ptr<const ApiRequest> request, Promise<ApiResponse> promise, std::size_t tries) {
    const std::size_t used = current_;
    http_->send(http_request(*request, used))
        .on_ready([self = shared_from_this(), request, promise, tries, used](Result<HttpResponse> answer) {
          if (!answer) {
            self->failed(used, answer.error());
            if (tries > 1 && is_away(answer.error())) return self->ask(request, promise, tries - 1);
            return promise.set(answer.error());
          }
          if (answer->status == 401) self->token_.forget();
          ApiResponse response;
          response.code = answer->status;
          response.headers = std::move(answer->headers);
          response.content_type = response.headers["content-type"];
          response.body = std::move(answer->body);
          promise.set(std::move(response));
        });
  }
  static bool is_away(const Error& why) {
    return why.is(Error::unavailable) || why.is(Error::deadline_exceeded);
  }
  /// The next server from now on, unless somebody has turned already.
  void failed(std::size_t used, const Error& why) {
    if (is_away(why)) current_.compare_exchange_strong(used, (used + 1) % servers_.size());
  }

  /// An upgraded connection, or what the server said instead.
  struct Opened {
    std::shared_ptr<DuplexStream> stream;
    std::string protocol;
    std::optional<ApiResponse> refused;
  };
  using OnOpened = std::function<void(Result<Opened>)>;

  void open_web_socket(const ApiRequest& wanted, const std::vector<std::string>& protocols, OnOpened done) {
    auto path = path_of_stream(wanted);
    if (!path) return done(path.error());
    std::string nonce(16, '\0');
    engine_.random().fill(nonce.data(), nonce.size());
    const std::string key = encode_base64_text(nonce);
    std::string offered;
    for (const std::string& one : protocols) offered += (offered.empty() ? "" : ", ") + one;
    const std::size_t used = current_;
    HttpRequest request = upgrade_request(wanted, *path, "GET", "websocket", used);
    request.headers.emplace_back("Sec-WebSocket-Version", "13");
    request.headers.emplace_back("Sec-WebSocket-Key", key);
    request.headers.emplace_back("Sec-WebSocket-Protocol", offered);
    upgrades_.open(std::move(request))
        .on_ready([self = shared_from_this(), used, done, key, protocols,
                   path = *path](Result<http::UpgradeAnswer> answer) {
          if (!answer) {
            self->failed(used, answer.error());
            return done(answer.error());
          }
          Opened opened = opened_of(*answer, "sec-websocket-protocol");
          const bool ours = std::find(protocols.begin(), protocols.end(), opened.protocol) != protocols.end();
          if (!opened.refused &&
              (answer->response.headers["sec-websocket-accept"] != websocket_accept(key) || !ours)) {
            return done(
                Error(Error::unsupported, "client",
                      path + ": the server upgraded the connection to something else than was asked for (\"" +
                          opened.protocol + "\")"));
          }
          done(std::move(opened));
        });
  }

  void open_spdy(const ApiRequest& wanted, OnOpened done) {
    auto path = path_of_stream(wanted);
    if (!path) return done(path.error());
    HttpRequest request = upgrade_request(wanted, *path, "POST", "SPDY/3.1", current_);
    request.headers.emplace_back("X-Stream-Protocol-Version", "portforward.k8s.io");
    upgrades_.open(std::move(request)).on_ready([done](Result<http::UpgradeAnswer> answer) {
      if (!answer) return done(answer.error());
      done(opened_of(*answer, "x-stream-protocol-version"));
    });
  }

  static Opened opened_of(const http::UpgradeAnswer& answer, const std::string& protocol_field) {
    Opened out{answer.stream, {}, std::nullopt};
    const auto protocol = answer.response.headers.find(protocol_field);
    if (protocol != answer.response.headers.end()) out.protocol = protocol->second;
    if (!out.stream) out.refused = ApiResponse{.code = answer.response.status, .body = answer.response.body};
    return out;
  }

  HttpRequest upgrade_request(const ApiRequest& wanted, const std::string& path, const char* method,
                              const char* protocol, std::size_t server) const {
    ApiRequest bare = wanted;
    bare.body.clear();
    HttpRequest request = http_request(bare, server);
    request.method = method;
    request.url = servers_[server] + path;
    request.headers.emplace_back("Connection", "Upgrade");
    request.headers.emplace_back("Upgrade", protocol);
    return request;
  }

  HttpRequest http_request(const ApiRequest& request, std::size_t server) const {
    HttpRequest out;
    out.method = method_of(request.verb);
    out.url = servers_[server] + path_of_request(request);
    out.headers.emplace_back("Accept", request.accept);
    out.headers.emplace_back("User-Agent", options_.user_agent);
    if (const std::string token = token_.get(); !token.empty())
      out.headers.emplace_back("Authorization", "Bearer " + token);
    out.body = request.object ? std::string(request.object.json()) : request.body;
    if (!out.body.empty()) out.headers.emplace_back("Content-Type", request.content_type);
    out.tls.ca_pem = options_.ca_pem;
    if (options_.renewed) {
      std::tie(out.tls.certificate_pem, out.tls.key_pem) = options_.renewed();
    } else {
      out.tls.certificate_pem = options_.certificate_pem;
      out.tls.key_pem = options_.key_pem;
    }
    out.tls.server_name = options_.server_name;
    out.header_deadline = request.deadline;
    out.body_bytes_max = std::uint64_t{256} << 20;
    return out;
  }

  std::pair<std::shared_ptr<Arrivals>, std::shared_ptr<Pending<HttpResponse>>> stream(
      const ApiRequest& wanted, Duration stall) {
    auto arrivals = std::make_shared<Arrivals>();
    auto refused = std::make_shared<ApiResponse>();  // the body of an error answer
    const std::size_t used = current_;
    HttpRequest request = http_request(wanted, used);
    request.stall_deadline = stall;
    request.on_headers = [refused](int status, const std::map<std::string, std::string>&) -> Result<void> {
      refused->code = status;
      return {};
    };
    request.on_body = [arrivals, refused](std::string_view bytes) -> Result<void> {
      if (refused->code < 400) return arrivals->add(bytes);
      if (refused->body.size() + bytes.size() < kTokenBytesMax) refused->body += bytes;
      return {};
    };
    auto transfer = std::make_shared<Pending<HttpResponse>>(http_->send(std::move(request)));
    transfer->on_ready([weak = weak_from_this(), used, arrivals, refused](Result<HttpResponse> answer) {
      if (!answer) {
        if (const auto self = weak.lock()) self->failed(used, answer.error());
        return arrivals->end(answer.error());
      }
      if (const auto self = weak.lock(); self && refused->code == 401) self->token_.forget();
      if (refused->code >= 400) return arrivals->end(error_of_response(*refused));
      arrivals->end(std::nullopt);
    });
    return {arrivals, transfer};
  }

  void step(const std::shared_ptr<RemoteBatch>& batch) {
    if (batch->responses.size() == batch->requests.size())
      return batch->promise.set(std::move(batch->responses));
    auto self = shared_from_this();
    request(batch->requests[batch->responses.size()]).on_ready([self, batch](Result<ApiResponse> response) {
      if (!response) return batch->promise.set(response.error());
      batch->responses.push_back(std::move(*response));
      self->engine_.post([self, batch] { self->step(batch); });
    });
  }

  Engine& engine_;
  RemoteClientOptions options_;
  mutable BearerToken token_;
  std::vector<std::string> servers_;
  std::atomic<std::size_t> current_{0};  ///< of servers_
  std::shared_ptr<HttpClient> http_;
  http::UpgradeClient upgrades_;
};
}  // namespace

Client RemoteClient::connect(Engine& engine, RemoteClientOptions options) {
  return Client(std::make_shared<RemoteImpl>(engine, std::move(options)));
}

Result<Client> RemoteClient::from_kubeconfig_text(Engine& engine, const std::string& text,
                                                  const std::string& context, const std::string& folder) {
  ORC_ASSIGN(RemoteClientOptions options, read_kubeconfig(text, context, folder));
  return connect(engine, std::move(options));
}

Result<Client> RemoteClient::from_kubeconfig(Engine& engine, const std::string& path,
                                             const std::string& context) {
  ORC_ASSIGN(const std::string text, read_file(path, 4 << 20));
  const std::size_t slash = path.rfind('/');
  auto client = from_kubeconfig_text(engine, text, context,
                                     slash == std::string::npos ? std::string() : path.substr(0, slash));
  if (!client) return client.error().with_context(path);
  return client;
}

Result<Client> RemoteClient::in_cluster(Engine& engine, const std::string& folder) {
  const char* host = std::getenv("KUBERNETES_SERVICE_HOST");
  const char* port = std::getenv("KUBERNETES_SERVICE_PORT");
  if (host == nullptr || port == nullptr) {
    return Error(Error::not_found, "client",
                 "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this is not a pod");
  }
  RemoteClientOptions options;
  const bool v6 = std::string_view(host).find(':') != std::string_view::npos;
  options.server = std::string("https://") + (v6 ? "[" : "") + host + (v6 ? "]" : "") + ":" + port;
  ORC_ASSIGN(options.ca_pem, read_file(folder + "/ca.crt", kTokenBytesMax));
  options.token_file = folder + "/token";
  ORC_ASSIGN(const std::string token, read_file(options.token_file, kTokenBytesMax));
  options.token = std::string(trim(token));
  return connect(engine, std::move(options));
}

}  // namespace orchestra
