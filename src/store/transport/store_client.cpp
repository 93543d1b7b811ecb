// StoreClient: a StateStore that asks servers (store_client.hpp).
//
// One connection at a time, to the first endpoint that answers. Calls wait in a map until their answer; when
// the connection breaks, those that may be repeated go out again on the next one, the others end with
// `unknown_outcome` if they had left. Watches are opened again after the last revision they delivered.
#include <algorithm>
#include <deque>
#include <map>
#include <mutex>

#include "orchestra/env.hpp"
#include "orchestra/store_client.hpp"
#include "store/mvcc/command_codec.hpp"
#include "store/mvcc/state.hpp"
#include "store/transport/client_wire.hpp"
#include "store/transport/shell/tls_transport.hpp"
#include "store/watch_hub.hpp"

namespace orchestra {
namespace store {
namespace {

constexpr Duration kLook = std::chrono::milliseconds(100);
constexpr std::int64_t kBackoffMin = 20'000'000;
constexpr std::int64_t kBackoffMax = 1'000'000'000;
constexpr std::int64_t kConnectMax = 2'000'000'000;
constexpr std::size_t kCallsMax = 1u << 20;
constexpr Duration kSnapshotAge = std::chrono::minutes(5);

std::uint64_t bits(std::int64_t value) { return static_cast<std::uint64_t>(value); }

/// The reading end of one watch. A cursor that the server feeds: at most two batches wait here.
struct ClientWatch {
  Watcher signals;  ///< only its waking
  std::mutex mutex;
  std::deque<WatchBatch> batches;
  std::optional<Error> ended;
  Revision delivered = 0;   ///< handed to the reader
  Revision received = 0;    ///< continue after this one on another connection
  bool positioned = false;  ///< `received` is known
  WatchOptions options;
  std::uint64_t id = 0;
};

}  // namespace

class ClientImpl final : public StateStore,
                         public StoreMembers,
                         public StoreSessions,
                         public std::enable_shared_from_this<ClientImpl> {
 public:
  ClientImpl(Engine& engine, StoreClientOptions options) : engine_(engine), options_(std::move(options)) {}
  ~ClientImpl() override { ClientImpl::stop(); }
  Result<void> start() {
    if (!options_.tls.empty()) {
      ORC_ASSIGN(tls_, make_tls_transport(engine_, options_.tls));
    }
    std::lock_guard lock(mutex_);
    dial_locked();
    arm_locked();
    return {};
  }

  Pending<GetResult> get(std::string key, GetOptions options) override {
    std::string body;
    Writer out(body);
    out.bytes(key);
    RangeOptions range;
    range.revision = options.revision;
    range.consistency = options.consistency;
    write_options(out, range);
    return ask<GetResult>(ClientOp::get, std::move(body), [](Reader& in) {
      GetResult result;
      result.revision = static_cast<Revision>(in.u64());
      if (in.u8() != 0) result.kv = read_key_value(in);
      return result;
    });
  }
  Pending<RangeResult> range(KeyRange range, RangeOptions options) override {
    Promise<RangeResult> promise;
    auto pending = promise.pending();
    auto state = std::make_shared<RangeState>(RangeState{std::move(range), options, {}, promise});
    range_more(state);
    return pending;
  }
  Pending<Snapshot> snapshot(Revision revision, Consistency consistency) override;
  Pending<WriteResult> put(std::string key, Value value, PutOptions options) override {
    std::string body;
    body.reserve(key.size() + value.size() + options.request_id.size() + 48);
    Writer out(body);
    out.bytes(key);
    out.bytes(value.bytes());
    out.u8(static_cast<std::uint8_t>((options.if_mod_revision ? 1 : 0) | (options.if_version ? 2 : 0) |
                                     (options.want_previous ? 4 : 0)));
    if (options.if_mod_revision) out.u64(bits(*options.if_mod_revision));
    if (options.if_version) out.u64(bits(*options.if_version));
    out.u64(bits(options.lease));
    out.bytes(options.request_id);
    const ClientOp op = options.request_id.empty() ? ClientOp::put : ClientOp::put_once;
    return ask<WriteResult>(op, std::move(body), read_write_result);
  }
  Pending<WriteResult> remove(KeyRange range, RemoveOptions options) override {
    std::string body;
    Writer out(body);
    write_range(out, range);
    out.u8(static_cast<std::uint8_t>((options.if_mod_revision ? 1 : 0) | (options.want_previous ? 4 : 0)));
    if (options.if_mod_revision) out.u64(bits(*options.if_mod_revision));
    return ask<WriteResult>(ClientOp::remove, std::move(body), read_write_result);
  }
  Pending<TxnResult> txn(Txn txn) override {
    if (auto ok = check_nesting(txn, capabilities().txn_depth_max); !ok) return ok.error();
    return ask<TxnResult>(ClientOp::txn, encode_command(Command(std::move(txn))), read_txn_result);
  }
  Result<Watch> watch(WatchOptions options) override;

  Pending<LeaseId> lease_grant(std::chrono::seconds ttl, LeaseId id) override {
    std::string body;
    Writer out(body);
    out.u64(bits(ttl.count()));
    out.u64(bits(id));
    return ask<LeaseId>(ClientOp::lease_grant, std::move(body),
                        [](Reader& in) { return static_cast<LeaseId>(in.u64()); });
  }
  Pending<void> lease_keep_alive(LeaseId id) override {
    return ask_number(ClientOp::lease_keep_alive, bits(id));
  }
  Pending<void> lease_revoke(LeaseId id) override { return ask_number(ClientOp::lease_revoke, bits(id)); }
  Pending<LeaseInfo> lease_time_to_live(LeaseId id, bool want_keys) override {
    std::string body;
    Writer out(body);
    out.u64(bits(id));
    out.u8(want_keys ? 1 : 0);
    return ask<LeaseInfo>(ClientOp::lease_time_to_live, std::move(body), read_lease_info);
  }
  Pending<std::vector<LeaseInfo>> lease_list() override {
    return ask<std::vector<LeaseInfo>>(ClientOp::lease_list, {}, [](Reader& in) {
      std::vector<LeaseInfo> all;
      while (in.ok() && !in.empty()) all.push_back(read_lease_info(in));
      return all;
    });
  }
  Pending<void> compact(Revision revision) override {
    std::weak_ptr<ClientImpl> weak = weak_from_this();
    return ask_number(ClientOp::compact, bits(revision)).then([weak, revision](Result<void> done) {
      if (auto self = weak.lock(); self && done) {
        std::lock_guard lock(self->mutex_);
        self->compacted_ = std::max(self->compacted_, revision);
      }
      return done;
    });
  }
  Revision revision() const override {
    std::lock_guard lock(mutex_);
    return seen_;
  }
  Revision compacted_revision() const override {
    std::lock_guard lock(mutex_);
    return compacted_;
  }
  Pending<void> wait_revision(Revision revision, Duration deadline) override {
    std::string body;
    Writer out(body);
    out.u64(bits(revision));
    out.u64(bits(deadline.count()));
    return ask_void(ClientOp::wait_revision, std::move(body), deadline + options_.call_deadline);
  }
  StoreStatus status() const override;
  StoreCapabilities capabilities() const override {
    std::lock_guard lock(mutex_);
    return hello_.capabilities;
  }
  Pending<Revision> save_snapshot(std::function<Result<void>(std::string_view)> sink) override;
  std::string cluster_id() const override {
    std::lock_guard lock(mutex_);
    return hello_.cluster_id;
  }
  void stop() override;

  Pending<std::string> session_open() override {
    return ask<std::string>(ClientOp::session_open, {}, [](Reader& in) { return std::string(in.bytes()); });
  }
  Pending<std::vector<StoreMember>> members() override {
    return ask<std::vector<StoreMember>>(ClientOp::members, {}, [](Reader& in) {
      std::vector<StoreMember> all;
      while (in.ok() && !in.empty()) all.push_back(read_store_member(in));
      return all;
    });
  }
  Pending<std::uint64_t> add_member(std::string name, std::string address, bool learner,
                                    bool force) override {
    std::string body;
    Writer out(body);
    out.bytes(name);
    out.bytes(address);
    out.u8(static_cast<std::uint8_t>((learner ? 1 : 0) | (force ? 2 : 0)));
    return ask<std::uint64_t>(ClientOp::add_member, std::move(body), [](Reader& in) { return in.u64(); });
  }
  Pending<void> promote_member(std::uint64_t id) override { return ask_number(ClientOp::promote_member, id); }
  Pending<void> remove_member(std::uint64_t id, bool force) override {
    std::string body;
    Writer out(body);
    out.u64(id);
    out.u8(force ? 1 : 0);
    return ask_void(ClientOp::remove_member, std::move(body));
  }
  Pending<void> update_member(std::uint64_t id, std::string address) override {
    std::string body;
    Writer out(body);
    out.u64(id);
    out.bytes(address);
    return ask_void(ClientOp::update_member, std::move(body));
  }
  Pending<void> transfer_leadership(std::uint64_t id) override {
    return ask_number(ClientOp::transfer_leadership, id);
  }

  // For the watches.
  Engine& engine() { return engine_; }
  void more(ClientWatch& watch);
  void close(const std::shared_ptr<ClientWatch>& watch);

 private:
  struct Waiting {
    ClientOp op{};
    std::string body;
    std::function<void(Result<std::string_view>)> done;
    std::function<Result<void>(std::string_view)> chunk;
    std::int64_t until_ns = 0;
    bool sent = false;
  };
  struct RangeState {
    KeyRange range;
    RangeOptions options;
    RangeResult all;
    Promise<RangeResult> promise;
  };

  template <class T, class Read>
  Pending<T> ask(ClientOp op, std::string body, Read read, Duration deadline = {}) {
    Promise<T> promise;
    auto pending = promise.pending();
    submit(
        op, std::move(body),
        [promise, read, weak = weak_from_this()](Result<std::string_view> answer) {
          if (!answer) return promise.set(answer.error());
          Reader in(*answer);
          T value = read(in);
          if (!in.done())
            return promise.set(Error(Error::internal, "store", "a malformed answer of the server"));
          if constexpr (requires { value.revision; }) {
            if (auto self = weak.lock()) self->saw(value.revision);
          }
          promise.set(std::move(value));
        },
        deadline);
    return pending;
  }
  Pending<void> ask_void(ClientOp op, std::string body, Duration deadline = {}) {
    Promise<void> promise;
    auto pending = promise.pending();
    submit(
        op, std::move(body),
        [promise, weak = weak_from_this()](Result<std::string_view> answer) {
          if (!answer) return promise.set(answer.error());
          Reader in(*answer);  // the store's revision after it, where it changed something
          const auto revision = static_cast<Revision>(in.u64());
          if (auto self = weak.lock(); self && in.ok()) self->saw(revision);
          promise.set({});
        },
        deadline);
    return pending;
  }
  Pending<void> ask_number(ClientOp op, std::uint64_t number) {
    std::string body;
    Writer out(body);
    out.u64(number);
    return ask_void(op, std::move(body));
  }
  void saw(Revision revision) {
    std::lock_guard lock(mutex_);
    seen_ = std::max(seen_, revision);
  }
  void submit(ClientOp op, std::string body, std::function<void(Result<std::string_view>)> done,
              Duration deadline, std::function<Result<void>(std::string_view)> chunk = {});
  void range_more(const std::shared_ptr<RangeState>& state);
  void dial_locked();
  void on_frame(std::uint64_t attempt, const std::string& frame);
  void on_up_locked();
  void down(std::uint64_t attempt, const Error& why);
  void on_watch_frame(const std::shared_ptr<ClientWatch>& watch, const ServerMessage& message);
  std::string watch_body(const ClientWatch& watch) const;
  void arm_locked();
  void look();
  std::int64_t steady_now() const { return engine_.clock().now().steady_ns; }

  Engine& engine_;
  const StoreClientOptions options_;
  std::shared_ptr<Transport> tls_;  ///< none: not encrypted
  mutable std::mutex mutex_;
  bool stopped_ = false;
  std::uint64_t attempt_ = 0;
  std::size_t endpoint_ = 0;
  std::shared_ptr<TransportConnection> connection_;
  bool dialling_ = false, up_ = false;
  std::int64_t dialled_ns_ = 0, again_ns_ = 0, backoff_ = kBackoffMin;
  std::string trouble_ = "not connected yet";
  ServerHello hello_;
  std::map<std::uint64_t, Waiting> waiting_;
  std::map<std::uint64_t, std::weak_ptr<ClientWatch>> watches_;
  std::uint64_t next_id_ = 1;
  Revision seen_ = 0, compacted_ = 0;
  Engine::TimerId timer_ = 0;
};

namespace {

class ClientWatchImpl final : public Watch::Impl {
 public:
  ClientWatchImpl(std::shared_ptr<ClientImpl> client, std::shared_ptr<ClientWatch> watch)
      : client_(std::move(client)), watch_(std::move(watch)) {}
  ~ClientWatchImpl() override { cancel(); }
  Result<std::optional<WatchBatch>> next(Duration deadline) override {
    const std::int64_t until = client_->engine().clock().now().steady_ns + deadline.count();
    while (true) {
      watch_->signals.clear_signal();
      auto batch = poll();
      if (!batch || *batch) return batch;
      const std::int64_t left = until - client_->engine().clock().now().steady_ns;
      if (left <= 0) return std::optional<WatchBatch>();
      if (detail::on_event_thread()) return detail::would_deadlock_error();
      watch_->signals.wait_signal(Duration(left));
    }
  }
  Result<std::optional<WatchBatch>> poll() override {
    std::optional<WatchBatch> batch;
    {
      std::lock_guard lock(watch_->mutex);
      if (watch_->batches.empty()) {
        if (watch_->ended) return *watch_->ended;
        return batch;
      }
      batch = std::move(watch_->batches.front());
      watch_->batches.pop_front();
      watch_->delivered = batch->revision;
    }
    client_->more(*watch_);
    return batch;
  }
  void notify(std::function<void()> ready) override {
    watch_->signals.arm(std::move(ready));
    bool now = false;
    {
      std::lock_guard lock(watch_->mutex);
      now = watch_->ended.has_value() || !watch_->batches.empty();
    }
    if (now) watch_->signals.signal();
  }
  void cancel() override {
    client_->close(watch_);
    {
      std::lock_guard lock(watch_->mutex);
      watch_->batches.clear();
      if (!watch_->ended) watch_->ended = Error(Error::cancelled, "store", "the watch was cancelled");
    }
    watch_->signals.quiesce();
  }
  Revision progress() override {
    std::lock_guard lock(watch_->mutex);
    return watch_->delivered;
  }

 private:
  const std::shared_ptr<ClientImpl> client_;
  const std::shared_ptr<ClientWatch> watch_;
};

/// The newest revision, read page by page.
class ClientSnapshot final : public Snapshot::Impl {
 public:
  ClientSnapshot(std::shared_ptr<ClientImpl> client, Revision revision, std::int64_t until)
      : client_(std::move(client)), revision_(revision), until_(until) {}
  Revision revision() const override { return revision_; }
  Result<RangeResult> range(const KeyRange& range, const RangeOptions& options) override {
    if (client_->engine().clock().now().steady_ns > until_) {
      return Error(
          Error::expired, "store",
          "the snapshot of revision " + std::to_string(revision_) + " is older than 300 s; take a new one");
    }
    RangeOptions at = options;
    at.revision = revision_;
    at.consistency = Consistency::linearizable;
    ORC_ASSIGN(RangeResult result, client_->range(range, at).wait(std::chrono::seconds(60)));
    result.revision = revision_;
    return result;
  }

 private:
  const std::shared_ptr<ClientImpl> client_;
  const Revision revision_;
  const std::int64_t until_;
};

}  // namespace

// ---- calls

void ClientImpl::submit(ClientOp op, std::string body, std::function<void(Result<std::string_view>)> done,
                        Duration deadline, std::function<Result<void>(std::string_view)> chunk) {
  std::optional<Error> refused;
  {
    std::lock_guard lock(mutex_);
    if (stopped_) {
      refused = Error(Error::unavailable, "store", "the store client has been stopped; nothing was applied");
    } else if (waiting_.size() >= kCallsMax) {
      refused = Error(Error::overloaded, "store", std::to_string(kCallsMax) + " calls are under way already")
                    .with_detail(RetryAfter{kRetryCall});
    } else {
      const std::uint64_t id = next_id_++;
      const Duration limit = deadline == Duration{} ? options_.call_deadline : deadline;
      Waiting waiting{op,   std::move(body), std::move(done), std::move(chunk), steady_now() + limit.count(),
                      false};
      if (up_) {
        // What may be sent again is kept.
        auto sent = connection_->send(repeatable(op) ? encode_call(id, op, waiting.body)
                                                     : encode_call(id, op, std::move(waiting.body)));
        waiting.sent = sent.has_value();
        if (!sent) refused = sent.error();
      }
      if (!refused) {
        waiting_.emplace(id, std::move(waiting));
        return;
      }
      done = std::move(waiting.done);
    }
  }
  done(*refused);
}

/// The server answers large ranges in parts; the rest is asked for at the same revision.
void ClientImpl::range_more(const std::shared_ptr<RangeState>& state) {
  std::string body;
  Writer out(body);
  write_range(out, state->range);
  RangeOptions options = state->options;
  if (options.limit != 0) options.limit -= state->all.items.size();
  write_options(out, options);
  submit(ClientOp::range, std::move(body),
         [state, weak = weak_from_this()](Result<std::string_view> answer) {
           auto self = weak.lock();
           if (!answer) return state->promise.set(answer.error());
           Reader in(*answer);
           RangeResult part = read_range_result(in);
           if (!in.done() || !self)
             return state->promise.set(Error(Error::internal, "store", "a malformed answer of the server"));
           self->saw(part.revision);
           const bool first = state->all.items.empty();
           if (first) {
             state->all.count = part.count;
             state->all.revision = part.revision;
             if (state->options.revision == 0) state->options.revision = part.revision;
           }
           std::move(part.items.begin(), part.items.end(), std::back_inserter(state->all.items));
           state->all.more = part.more;
           const std::size_t limit = state->options.limit;
           if (!part.more || part.items.empty() || (limit != 0 && state->all.items.size() >= limit))
             return state->promise.set(std::move(state->all));
           if (state->options.descending) {
             state->range.end = state->all.items.back().key;
             state->range.to_the_end = false;
           } else {
             state->range.begin = state->all.items.back().key + '\0';
           }
           self->range_more(state);
         },
         {});
}

Pending<Snapshot> ClientImpl::snapshot(Revision revision, Consistency consistency) {
  Promise<Snapshot> promise;
  auto pending = promise.pending();
  RangeOptions options;
  options.limit = 1;
  options.count_only = true;
  options.revision = revision;
  options.consistency = consistency;
  range(KeyPrefix(""), options)
      .on_ready([promise, revision, self = shared_from_this()](Result<RangeResult> now) {
        if (!now) return promise.set(now.error());
        promise.set(Snapshot(std::make_shared<ClientSnapshot>(self, revision != 0 ? revision : now->revision,
                                                              self->steady_now() + kSnapshotAge.count())));
      });
  return pending;
}

StoreStatus ClientImpl::status() const {
  if (!detail::on_event_thread()) {
    auto asked = const_cast<ClientImpl*>(this)->ask<StoreStatus>(ClientOp::status, {}, read_status);
    if (auto status = asked.wait(options_.call_deadline + std::chrono::seconds(1))) return *status;
  }
  StoreStatus status;
  std::lock_guard lock(mutex_);
  status.kind = "client";
  status.role = up_ ? "connected" : "disconnected";
  status.cluster_id = hello_.cluster_id;
  status.revision = seen_;
  if (!up_) status.alarms.push_back("no server answers: " + trouble_);
  return status;
}

Pending<Revision> ClientImpl::save_snapshot(std::function<Result<void>(std::string_view)> sink) {
  Promise<Revision> promise;
  auto pending = promise.pending();
  submit(
      ClientOp::save_snapshot, {},
      [promise](Result<std::string_view> answer) {
        if (!answer) return promise.set(answer.error());
        Reader in(*answer);
        promise.set(static_cast<Revision>(in.u64()));
      },
      std::chrono::hours(24), std::move(sink));
  return pending;
}

// ---- watches

Result<Watch> ClientImpl::watch(WatchOptions options) {
  auto watch = std::make_shared<ClientWatch>();
  watch->options = std::move(options);
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return Error(Error::unavailable, "store", "the store client has been stopped");
    if (!watch->options.after && seen_ > 0)
      watch->options.after = seen_;  // nothing between now and the opening
    if (watch->options.after) {
      watch->received = watch->delivered = *watch->options.after;
      watch->positioned = true;
    }
    watch->id = next_id_++;
    watches_[watch->id] = watch;
    if (up_) (void)connection_->send(encode_call(watch->id, ClientOp::watch, watch_body(*watch)));
  }
  return Watch(std::make_unique<ClientWatchImpl>(shared_from_this(), watch));
}

std::string ClientImpl::watch_body(const ClientWatch& watch) const {
  std::string body;
  Writer out(body);
  write_range(out, watch.options.range);
  out.u8(static_cast<std::uint8_t>((watch.positioned ? 1 : 0) | (watch.options.no_put ? 2 : 0) |
                                   (watch.options.no_remove ? 4 : 0) |
                                   (watch.options.want_previous ? 8 : 0)));
  if (watch.positioned) out.u64(bits(watch.received));
  out.u64(watch.options.credit.value);
  return body;
}

void ClientImpl::on_watch_frame(const std::shared_ptr<ClientWatch>& watch, const ServerMessage& message) {
  {
    std::lock_guard lock(watch->mutex);
    if (watch->ended) return;
    Reader in(message.body);
    if (message.kind == ServerFrame::error) {
      watch->ended = decode_error(message.body);
    } else if (message.kind == ServerFrame::answer) {
      if (watch->positioned) return;
      watch->received = watch->delivered = static_cast<Revision>(in.u64());
      watch->positioned = true;
      return;
    } else {
      WatchBatch batch = read_batch(in);
      if (!in.done()) {
        watch->ended = Error(Error::internal, "store", "a malformed event of the server");
      } else {
        watch->received = std::max(watch->received, batch.revision);
        watch->positioned = true;
        watch->batches.push_back(std::move(batch));
      }
    }
  }
  watch->signals.signal();
}

void ClientImpl::more(ClientWatch& watch) {
  std::lock_guard lock(mutex_);
  if (up_) (void)connection_->send(encode_call(watch.id, ClientOp::watch_more, std::string()));
}
void ClientImpl::close(const std::shared_ptr<ClientWatch>& watch) {
  std::lock_guard lock(mutex_);
  if (watches_.erase(watch->id) == 0) return;
  if (up_) (void)connection_->send(encode_call(watch->id, ClientOp::watch_cancel, std::string()));
}

// ---- the connection

void ClientImpl::dial_locked() {
  if (stopped_ || dialling_ || connection_) return;
  dialling_ = true;
  dialled_ns_ = steady_now();
  const std::uint64_t attempt = ++attempt_;
  TransportHandler handler;
  handler.on_message = [weak = weak_from_this(), attempt](const std::string& frame) {
    if (auto self = weak.lock()) self->on_frame(attempt, frame);
  };
  handler.on_closed = [weak = weak_from_this(), attempt](const Error& why) {
    if (auto self = weak.lock()) self->down(attempt, why);
  };
  const std::string endpoint = options_.endpoints[endpoint_ % options_.endpoints.size()];
  engine_.post([weak = weak_from_this(), attempt, endpoint, handler = std::move(handler)] {
    auto self = weak.lock();
    if (!self) return;
    (self->tls_ ? *self->tls_ : self->engine_.transport())
        .connect(endpoint, handler)
        .on_ready([weak, attempt](Result<std::shared_ptr<TransportConnection>> connected) {
          auto again = weak.lock();
          if (!again) {
            if (connected) (*connected)->close();
            return;
          }
          if (!connected) return again->down(attempt, connected.error());
          std::lock_guard lock(again->mutex_);
          if (again->stopped_ || again->attempt_ != attempt) return (*connected)->close();
          again->connection_ = *connected;
          (void)(*connected)->send(encode_client_hello());
        });
  });
}

void ClientImpl::on_up_locked() {
  up_ = true;
  dialling_ = false;
  backoff_ = kBackoffMin;
  for (auto& [id, weak] : watches_) {
    auto watch = weak.lock();
    if (!watch) continue;
    std::lock_guard lock(watch->mutex);
    if (!watch->ended) (void)connection_->send(encode_call(id, ClientOp::watch, watch_body(*watch)));
  }
  // After the watches: what these change is "from now on" for them.
  for (auto& [id, waiting] : waiting_) {
    waiting.sent = connection_->send(encode_call(id, waiting.op, waiting.body)).has_value();
    if (waiting.sent && !repeatable(waiting.op)) std::string().swap(waiting.body);
  }
}

void ClientImpl::on_frame(std::uint64_t attempt, const std::string& frame) {
  std::shared_ptr<ClientWatch> watch;
  Waiting done;
  ServerMessage message;
  {
    std::lock_guard lock(mutex_);
    if (attempt != attempt_ || !connection_) return;
    if (!up_) {
      auto hello = decode_server_hello(frame);
      if (!hello) return connection_->close();
      if (!hello_.cluster_id.empty() && hello_.cluster_id != hello->cluster_id) {
        trouble_ = "the server belongs to another cluster now";
        return connection_->close();
      }
      hello_ = std::move(*hello);
      return on_up_locked();
    }
    const auto decoded = decode_server_frame(frame);
    if (!decoded) return connection_->close();
    message = *decoded;
    if (const auto found = watches_.find(message.id); found != watches_.end()) {
      watch = found->second.lock();
    } else if (const auto call = waiting_.find(message.id); call != waiting_.end()) {
      if (message.kind == ServerFrame::chunk) {
        done = call->second;  // called without the lock; it stays
      } else {
        done = std::move(call->second);
        waiting_.erase(call);
      }
    }
  }
  if (watch) return on_watch_frame(watch, message);
  if (!done.done) return;
  if (message.kind == ServerFrame::chunk) {
    if (!done.chunk) return;
    if (auto taken = done.chunk(message.body); !taken) {
      std::lock_guard lock(mutex_);
      waiting_.erase(message.id);
    } else {
      return;
    }
    return done.done(Error(Error::cancelled, "store", "the snapshot could not be written here"));
  }
  if (message.kind == ServerFrame::error) return done.done(decode_error(message.body));
  done.done(message.body);
}

void ClientImpl::down(std::uint64_t attempt, const Error& why) {
  std::vector<Waiting> lost;
  {
    std::lock_guard lock(mutex_);
    if (attempt != attempt_ || stopped_) return;
    ++attempt_;
    connection_.reset();
    up_ = dialling_ = false;
    trouble_ = why.message();
    ++endpoint_;
    again_ns_ = steady_now() + backoff_;
    backoff_ = std::min(kBackoffMax, backoff_ * 2);
    std::erase_if(waiting_, [&](auto& entry) {
      if (!entry.second.sent || repeatable(entry.second.op)) return false;
      lost.push_back(std::move(entry.second));
      return true;
    });
    for (auto& [id, waiting] : waiting_) waiting.sent = false;
    engine_.after(Duration(std::max<std::int64_t>(0, again_ns_ - steady_now())), [weak = weak_from_this()] {
      if (auto self = weak.lock()) {
        std::lock_guard guard(self->mutex_);
        self->dial_locked();
      }
    });
  }
  for (Waiting& each : lost) {
    each.done(Error(
        Error::unknown_outcome, "store",
        "the connection to the server broke (" + why.message() + "); it may or may not have been done"));
  }
}

void ClientImpl::arm_locked() {
  timer_ = engine_.after(kLook, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->look();
  });
}

/// Deadlines.
void ClientImpl::look() {
  std::vector<Waiting> late;
  std::shared_ptr<TransportConnection> dead;
  std::uint64_t attempt = 0;
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return;
    const std::int64_t now = steady_now();
    std::erase_if(waiting_, [&](auto& entry) {
      if (entry.second.until_ns > now) return false;
      late.push_back(std::move(entry.second));
      return true;
    });
    if (dialling_ && !up_ && now - dialled_ns_ > kConnectMax) {
      dead = connection_;
      attempt = attempt_;
    }
    arm_locked();
  }
  if (attempt != 0) {
    if (dead) dead->close();
    down(attempt, Error(Error::unavailable, "store", "no answer within 2 s"));
  }
  for (Waiting& each : late) {
    if (each.sent && !repeatable(each.op)) {
      each.done(
          Error(Error::unknown_outcome, "store", "no answer in time; it may or may not have been done"));
    } else {
      each.done(Error(Error::unavailable, "store",
                      "no server answered in time (" + trouble_ + "); nothing was applied"));
    }
  }
}

void ClientImpl::stop() {
  std::map<std::uint64_t, Waiting> waiting;
  std::map<std::uint64_t, std::weak_ptr<ClientWatch>> watches;
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(stopped_, true)) return;
    waiting.swap(waiting_);
    watches.swap(watches_);
    if (connection_) connection_->close();
    connection_.reset();
    up_ = false;
    if (timer_ != 0) engine_.cancel_timer(timer_);
  }
  for (auto& [id, each] : waiting) {
    const bool maybe = each.sent && !repeatable(each.op);
    each.done(Error(maybe ? Error::unknown_outcome : Error::unavailable, "store",
                    "the store client has been stopped"));
  }
  for (auto& [id, weak] : watches) {
    auto watch = weak.lock();
    if (!watch) continue;
    {
      std::lock_guard lock(watch->mutex);
      if (!watch->ended) watch->ended = Error(Error::cancelled, "store", "the store client has been stopped");
    }
    watch->signals.signal();
  }
}

}  // namespace store

Result<std::shared_ptr<StateStore>> StoreClient::connect(Engine& engine, StoreClientOptions options) {
  if (options.endpoints.empty()) return Error(Error::invalid, "store", "a StoreClient needs an endpoint");
  for (std::string& endpoint : options.endpoints) {
    const std::string scheme = "orchestra://";
    if (endpoint.rfind(scheme, 0) == 0) endpoint.erase(0, scheme.size());
    if (endpoint.find(':') == std::string::npos)
      return Error(Error::invalid, "store", "endpoint \"" + endpoint + "\" is not orchestra://HOST:PORT");
  }
  auto made = std::make_shared<store::ClientImpl>(engine, std::move(options));
  ORC_TRY(made->start());
  // Watches hold the client too: dropping the caller's last handle ends them there and then.
  store::ClientImpl* const impl = made.get();
  return std::shared_ptr<StateStore>(impl, [made = std::move(made)](StateStore*) { made->stop(); });
}

}  // namespace orchestra
