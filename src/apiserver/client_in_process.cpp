// The in-process client: see client_in_process.hpp.
#include "apiserver/client_in_process.hpp"

#include <algorithm>
#include <atomic>

#include "api/status.hpp"
#include "apiserver/audit/audit.hpp"
#include "apiserver/client_request.hpp"
#include "apiserver/encode.hpp"
#include "apiserver/in_process_watch.hpp"
#include "apiserver/streams/pod_access.hpp"

namespace orchestra::apiserver {
namespace {

constexpr const char* kUserAgent = "orchestra";

/// A request of this process on its way, and who hears of it.
struct AuditedCall {
  Call call;
  std::shared_ptr<AuditRecord> record;  ///< null: nobody
};

Result<Call> read_call(ApiRequest request, const Identity& user) {
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
  call.user_agent = kUserAgent;
  if (request.accept != "application/json") {
    ORC_ASSIGN(call.want, negotiate(request.accept, info.query));
    call.want_object = false;
  }
  return call;
}

// As upstream's loopback client: the same stages as a request over HTTP, but without an address.
// `target`: the path with parameters where it is not that of the request.
Result<AuditedCall> call_of(const ApiCore& core, ApiRequest request, const Identity& user,
                            std::string target = {}) {
  if (core.audit() != nullptr && target.empty()) {
    ApiRequest shown = request;
    if (shown.verb == "watch") shown.query["watch"] = "true";
    target = path_of_request(shown);
  }
  ORC_ASSIGN(Call call, read_call(std::move(request), user));
  AuditedCall out{std::move(call), nullptr};
  if (core.audit() == nullptr) return out;
  out.record = core.audit()->begin(out.call.info, {std::move(target), kUserAgent, ""});
  out.record->received(user);
  out.record->request(out.call.body, out.call.content_type, out.call.object);
  out.call.notes = out.record->notes();
  return out;
}

void told(const std::shared_ptr<AuditRecord>& record, Reply& reply) {
  if (record == nullptr) return;
  record->answered(reply);
  record->started(reply.code);
}

/// A refusal, told and given back.
Error refused(const std::shared_ptr<AuditRecord>& record, Error error) {
  if (record == nullptr) return error;
  const Reply reply = error_reply(error);
  record->answered(reply.code, reply.body);
  record->started(reply.code);
  record->complete();
  return error;
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

/// A Promise with a deadline: when that comes before the answer it is a 504, as over HTTP. What was on its
/// way goes on, and nobody hears of it.
template <class T>
class Waiter : public std::enable_shared_from_this<Waiter<T>> {
 public:
  explicit Waiter(Engine& engine) : engine_(engine) {}
  ~Waiter() { state_->complete(detail::abandoned_error()); }
  Pending<T> pending() { return Pending<T>(state_); }
  void set(Result<T> result) {
    state_->complete(std::move(result));
    if (const Engine::TimerId timer = timer_.exchange(0); timer != 0) engine_.cancel_timer(timer);
  }
  /// Once the request has been handed over: what was answered at once needs no timer.
  void watch(std::int64_t deadline_ns) {
    if (answered()) return;
    const std::int64_t left = std::max<std::int64_t>(0, deadline_ns - engine_.clock().now().steady_ns);
    timer_ = engine_.after(Duration(left), [weak = this->weak_from_this()] {
      if (const auto self = weak.lock()) self->state_->complete(api::timed_out(kTimedOut));
    });
    if (!answered()) return;
    if (const Engine::TimerId timer = timer_.exchange(0); timer != 0) engine_.cancel_timer(timer);
  }

 private:
  bool answered() const { return state_->is_done(); }
  Engine& engine_;
  std::shared_ptr<detail::PendingState<T>> state_ = std::make_shared<detail::PendingState<T>>();
  std::atomic<Engine::TimerId> timer_{0};
};

class InProcessClient final : public Client::Impl {
 public:
  InProcessClient(std::shared_ptr<ApiCore> core, Identity user, std::shared_ptr<void> handle)
      : handle_(std::move(handle)), core_(std::move(core)), user_(std::move(user)) {}

  Pending<ApiResponse> request(ApiRequest request) override {
    const std::int64_t deadline_ns = deadline_of(request.deadline);
    auto call = call_of(*core_, std::move(request), user_);
    if (!call) return call.error();
    call->call.deadline_ns = deadline_ns;
    const auto waiter = std::make_shared<Waiter<ApiResponse>>(core_->engine());
    Pending<ApiResponse> pending = waiter->pending();
    core_->handle(std::move(call->call), [waiter, record = std::move(call->record)](Reply reply) {
      told(record, reply);
      ApiResponse response = response_of(std::move(reply));
      if (record != nullptr) record->complete();
      waiter->set(std::move(response));
    });
    waiter->watch(deadline_ns);
    return pending;
  }

  Pending<ObjectList> list(ApiRequest request) override {
    request.want_object = true;
    const std::int64_t deadline_ns = deadline_of(request.deadline);
    auto call = call_of(*core_, std::move(request), user_);
    if (!call) return call.error();
    call->call.deadline_ns = deadline_ns;
    const auto waiter = std::make_shared<Waiter<ObjectList>>(core_->engine());
    Pending<ObjectList> pending = waiter->pending();
    core_->handle(std::move(call->call), [waiter, record = std::move(call->record)](Reply reply) {
      told(record, reply);
      if (record != nullptr) record->complete();
      if (reply.list) return waiter->set(std::move(*reply.list));
      waiter->set(error_of_response(response_of(std::move(reply))));
    });
    waiter->watch(deadline_ns);
    return pending;
  }

  Result<ObjectWatch> watch(ApiRequest request) override {
    request.verb = "watch";
    ORC_ASSIGN(AuditedCall call, call_of(*core_, std::move(request), user_));
    auto cursor = open_watch(call.call);
    if (!cursor) return refused(call.record, cursor.error());
    if (call.record != nullptr) call.record->started(200);
    return ObjectWatch(in_process_watch(core_, std::move(*cursor), std::move(call.record), handle_));
  }

  Pending<std::vector<ApiResponse>> batch(std::vector<ApiRequest> requests) override {
    std::vector<Call> calls;
    std::vector<std::shared_ptr<AuditRecord>> records;
    calls.reserve(requests.size());
    std::int64_t last_ns = deadline_of(Duration::zero());
    for (ApiRequest& request : requests) {
      const std::int64_t deadline_ns = deadline_of(request.deadline);
      last_ns = std::max(last_ns, deadline_ns);
      auto call = call_of(*core_, std::move(request), user_);
      if (!call) return call.error();
      call->call.deadline_ns = deadline_ns;
      calls.push_back(std::move(call->call));
      records.push_back(std::move(call->record));
    }
    const auto waiter = std::make_shared<Waiter<std::vector<ApiResponse>>>(core_->engine());
    auto pending = waiter->pending();
    core_->batch(std::move(calls), [waiter, records = std::move(records)](std::vector<Reply> replies) {
      std::vector<ApiResponse> responses;
      responses.reserve(replies.size());
      for (std::size_t i = 0; i < replies.size(); ++i) {
        told(records[i], replies[i]);
        if (records[i] != nullptr) records[i]->complete();
        responses.push_back(response_of(std::move(replies[i])));
      }
      waiter->set(std::move(responses));
    });
    waiter->watch(last_ns);
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
  /// A client may ask for less time than the server gives.
  std::int64_t deadline_of(Duration asked) const {
    return core_->engine().clock().now().steady_ns +
           std::min(asked, core_->options().request_deadline).count();
  }
  Result<std::unique_ptr<WatchCursor>> open_watch(const Call& call) const {
    ORC_TRY(authorize(*core_, call.user, call.info, call.notes.get()));
    ORC_ASSIGN(api::TypePtr type, core_->resolve(call.info));
    ORC_ASSIGN(WatchRequest wanted, read_watch(*core_, call, std::move(type)));
    return WatchCursor::open(*core_, std::move(wanted));
  }

  template <class T, class F>
  Pending<T> access(ApiRequest request, std::string verb, std::string subresource, F open) {
    request.verb = std::move(verb);
    request.subresource = std::move(subresource);
    auto parameters = stream_parameters(request);
    if (!parameters) return parameters.error();
    auto target = path_of_stream(request);
    if (!target) return target.error();
    request.query.clear();
    request.body.clear();
    auto made = call_of(*core_, std::move(request), user_, std::move(*target));
    if (!made) return made.error();
    const auto record = std::move(made->record);
    Call& call = made->call;
    for (auto& [name, value] : *parameters) call.info.query.emplace(name, std::move(value));
    if (auto allowed = authorize(*core_, call.user, call.info, call.notes.get()); !allowed)
      return refused(record, allowed.error());
    Promise<T> promise;
    auto pending = promise.pending();
    find_pod(*core_, call, [promise, open, record, core = core_](Result<PodAccess> pod) {
      if (!pod) return promise.set(refused(record, pod.error()));
      open(*pod->streams, *pod).on_ready([promise, record](Result<T> stream) {
        if (!stream) return promise.set(refused(record, stream.error()));
        if (record != nullptr) record->started(200);
        promise.set(audited_stream(record, std::move(*stream)));
      });
    });
    return pending;
  }

  const std::shared_ptr<void> handle_;  ///< first: it goes last
  std::shared_ptr<ApiCore> core_;
  Identity user_;
};
}  // namespace

Client make_in_process_client(std::shared_ptr<ApiCore> core, Identity user, std::shared_ptr<void> handle) {
  return Client(std::make_shared<InProcessClient>(std::move(core), std::move(user), std::move(handle)));
}

}  // namespace orchestra::apiserver
