// The in-process client: see client_in_process.hpp.
#include "apiserver/client_in_process.hpp"

#include <mutex>

#include "api/status.hpp"
#include "apiserver/client_request.hpp"
#include "apiserver/encode.hpp"
#include "apiserver/streams/pod_access.hpp"
#include "apiserver/watch_cursor.hpp"

namespace orchestra::apiserver {
namespace {

Result<Call> call_of(ApiRequest request, const Identity& user) {
  Call call;
  call.user = user;
  RequestInfo& info = call.info;
  info.is_resource = true;
  info.verb = std::move(request.verb);
  std::tie(info.group, info.version) = api::split_api_version(request.api_version);
  info.ns = std::move(request.ns);
  info.resource = std::move(request.resource);
  info.subresource = std::move(request.subresource);
  info.name = std::move(request.name);
  for (auto& [name, value] : request.query) info.query.emplace(name, std::move(value));
  call.body = std::move(request.body);
  call.content_type = std::move(request.content_type);
  call.object = std::move(request.object);
  call.want_object = request.want_object;
  call.fence = std::move(request.fence);
  call.user_agent = "orchestra";
  if (request.accept != "application/json") {
    ORC_ASSIGN(call.want, negotiate(request.accept, info.query));
    call.want_object = false;
  }
  return call;
}

ApiResponse response_of(Reply reply) {
  ApiResponse response;
  response.code = reply.code;
  response.content_type = std::move(reply.content_type);
  response.body = std::move(reply.body);
  response.object = std::move(reply.object);
  for (auto& [name, value] : reply.headers) {
    std::string& held = response.headers[to_lower(name)];
    held = held.empty() ? std::move(value) : held + ", " + value;
  }
  if (reply.more) {
    while (auto chunk = reply.more()) response.body += *chunk;
  }
  return response;
}

/// The watch of one reader; next() and poll() are called by one thread at a time.
class InProcessWatch final : public ObjectWatch::Impl {
 public:
  InProcessWatch(std::shared_ptr<ApiCore> core, std::unique_ptr<WatchCursor> cursor)
      : core_(std::move(core)), cursor_(std::move(cursor)) {}

  std::optional<std::vector<ObjectChange>> next(Duration deadline) override {
    if (ended_) return std::nullopt;
    auto items = cursor_->next(deadline, ended_);
    if (!items) return std::nullopt;
    return convert(std::move(*items));
  }
  std::optional<std::vector<ObjectChange>> poll() override {
    if (ended_) return std::nullopt;
    auto items = cursor_->poll();
    if (!items) {
      ended_ = items.error();
      return std::nullopt;
    }
    if (items->empty()) return std::nullopt;
    return convert(std::move(*items));
  }
  void notify(std::function<void()> ready) override {
    if (ended_) return ready();
    cursor_->notify(std::move(ready));
  }
  std::optional<Error> error() const override { return ended_; }
  void cancel() override { cursor_->cancel(); }

 private:
  std::optional<std::vector<ObjectChange>> convert(std::vector<WatchItem> items) {
    std::vector<ObjectChange> changes;
    changes.reserve(items.size());
    for (WatchItem& item : items) {
      ObjectChange change;
      if (item.type == WatchItem::Type::bookmark) {
        change.type = ObjectChange::Type::bookmark;
        auto object =
            Object::from_json(bookmark_json(*cursor_->request().type, "", item.revision, item.initial_end));
        if (object) change.object = std::move(*object);
        changes.push_back(std::move(change));
        continue;
      }
      auto object = core_->object_in_version(*cursor_->request().type, cursor_->request().version,
                                             item.stored, item.revision);
      if (!object) {
        ended_ = object.error();
        break;
      }
      change.type = item.type == WatchItem::Type::added      ? ObjectChange::Type::added
                    : item.type == WatchItem::Type::modified ? ObjectChange::Type::modified
                                                             : ObjectChange::Type::removed;
      change.object = std::move(*object);
      changes.push_back(std::move(change));
    }
    return changes;
  }

  std::shared_ptr<ApiCore> core_;
  std::unique_ptr<WatchCursor> cursor_;
  std::optional<Error> ended_;
};

class InProcessClient final : public Client::Impl {
 public:
  InProcessClient(std::shared_ptr<ApiCore> core, Identity user)
      : core_(std::move(core)), user_(std::move(user)) {}

  Pending<ApiResponse> request(ApiRequest request) override {
    auto call = call_of(std::move(request), user_);
    if (!call) return call.error();
    Promise<ApiResponse> promise;
    Pending<ApiResponse> pending = promise.pending();
    core_->handle(std::move(*call), [promise](Reply reply) { promise.set(response_of(std::move(reply))); });
    return pending;
  }

  Pending<ObjectList> list(ApiRequest request) override {
    request.want_object = true;
    auto call = call_of(std::move(request), user_);
    if (!call) return call.error();
    Promise<ObjectList> promise;
    Pending<ObjectList> pending = promise.pending();
    core_->handle(std::move(*call), [promise](Reply reply) {
      if (reply.list) return promise.set(std::move(*reply.list));
      promise.set(error_of_response(response_of(std::move(reply))));
    });
    return pending;
  }

  Result<ObjectWatch> watch(ApiRequest request) override {
    request.verb = "watch";
    ORC_ASSIGN(Call call, call_of(std::move(request), user_));
    ORC_TRY(authorize(*core_, call.user, call.info));
    ORC_ASSIGN(api::TypePtr type, core_->resolve(call.info));
    ORC_ASSIGN(WatchRequest wanted, read_watch(*core_, call, std::move(type)));
    ORC_ASSIGN(std::unique_ptr<WatchCursor> cursor, WatchCursor::open(*core_, std::move(wanted)));
    return ObjectWatch(std::make_shared<InProcessWatch>(core_, std::move(cursor)));
  }

  Pending<std::vector<ApiResponse>> batch(std::vector<ApiRequest> requests) override {
    std::vector<Call> calls;
    calls.reserve(requests.size());
    for (ApiRequest& request : requests) {
      auto call = call_of(std::move(request), user_);
      if (!call) return call.error();
      calls.push_back(std::move(*call));
    }
    Promise<std::vector<ApiResponse>> promise;
    auto pending = promise.pending();
    core_->batch(std::move(calls), [promise](std::vector<Reply> replies) {
      std::vector<ApiResponse> responses;
      responses.reserve(replies.size());
      for (Reply& reply : replies) responses.push_back(response_of(std::move(reply)));
      promise.set(std::move(responses));
    });
    return pending;
  }

  Pending<std::shared_ptr<ByteStream>> log(ApiRequest request) override {
    return access<std::shared_ptr<ByteStream>>(
        std::move(request), "get", "log",
        [](PodStreams& streams, const PodAccess& pod) { return streams.log(pod.target, pod.log); });
  }
  Pending<std::shared_ptr<ProcessStream>> exec(ApiRequest request) override {
    const std::string sub = request.subresource.empty() ? "exec" : request.subresource;
    return access<std::shared_ptr<ProcessStream>>(
        std::move(request), "create", sub,
        [](PodStreams& streams, const PodAccess& pod) { return streams.exec(pod.target, pod.exec); });
  }
  Pending<std::shared_ptr<DuplexStream>> port_forward(ApiRequest request, int port) override {
    return access<std::shared_ptr<DuplexStream>>(
        std::move(request), "create", "portforward",
        [port](PodStreams& streams, const PodAccess& pod) { return streams.port_forward(pod.target, port); });
  }

 private:
  template <class T, class F>
  Pending<T> access(ApiRequest request, std::string verb, std::string subresource, F open) {
    request.verb = std::move(verb);
    request.subresource = std::move(subresource);
    auto parameters = stream_parameters(request);
    if (!parameters) return parameters.error();
    request.query.clear();
    request.body.clear();
    auto call = call_of(std::move(request), user_);
    if (!call) return call.error();
    for (auto& [name, value] : *parameters) call->info.query.emplace(name, std::move(value));
    if (auto allowed = authorize(*core_, call->user, call->info); !allowed) return allowed.error();
    Promise<T> promise;
    auto pending = promise.pending();
    find_pod(*core_, *call, [promise, open, core = core_](Result<PodAccess> pod) {
      if (!pod) return promise.set(pod.error());
      open(*pod->streams, *pod).on_ready([promise](Result<T> stream) { promise.set(std::move(stream)); });
    });
    return pending;
  }

  std::shared_ptr<ApiCore> core_;
  Identity user_;
};
}  // namespace

Client make_in_process_client(std::shared_ptr<ApiCore> core, Identity user) {
  return Client(std::make_shared<InProcessClient>(std::move(core), std::move(user)));
}

}  // namespace orchestra::apiserver
