// StoreServer: calls of clients onto a StateStore. No call blocks a thread here; answers come when they come.
#include <deque>
#include <map>
#include <mutex>

#include "orchestra/env.hpp"
#include "orchestra/store_client.hpp"
#include "store/mvcc/command_codec.hpp"
#include "store/transport/client_wire.hpp"
#include "store/transport/shell/tls_transport.hpp"

namespace orchestra {

using namespace store;

namespace {

constexpr std::size_t kRangeItems = 10'000;  ///< of one answer; the client asks for the rest
constexpr std::size_t kAnswerBytesMax = 48u << 20;
constexpr std::size_t kWritesMax = 2048;  ///< of all clients at the store; more wait for their turn
constexpr unsigned kBatchesAhead = 2;     ///< sent before the client asks for more

Error bad_call() { return Error(Error::invalid, "store", "a malformed call of the store protocol"); }
bool is_loopback(const std::string& address) {
  return address.rfind("127.", 0) == 0 || address.rfind("[::1]", 0) == 0 ||
         address.rfind("localhost:", 0) == 0;
}

}  // namespace

struct StoreServer::Impl : std::enable_shared_from_this<StoreServer::Impl> {
  Impl(Engine& host, std::shared_ptr<StateStore> what, Options given)
      : engine(host), store(std::move(what)), options(std::move(given)) {}

  struct Watching {
    std::unique_ptr<Watch> watch;
    unsigned ahead = kBatchesAhead;  ///< batches that may still be sent
    bool armed = false;
    std::mutex mutex;  ///< one pump at a time
    bool ended = false;
  };
  struct Client : std::enable_shared_from_this<Client> {
    std::uint64_t number = 0;
    std::shared_ptr<TransportConnection> connection;
    bool greeted = false;
    std::atomic<std::size_t> calls{0};
    std::mutex mutex;
    std::map<std::uint64_t, std::shared_ptr<Watching>> watches;
    bool gone = false;
    std::deque<std::function<void()>> queued;  ///< writes that wait; guarded by turns_mutex
  };

  Result<void> start();
  TransportHandler accept(std::shared_ptr<TransportConnection> connection);
  void on_frame(const std::shared_ptr<Client>& client, const std::string& frame);
  void call(const std::shared_ptr<Client>& client, const Call& call);
  void member_call(const std::shared_ptr<Client>& client, const Call& call);
  void open_watch(const std::shared_ptr<Client>& client, std::uint64_t id, std::string_view body);
  void pump(const std::shared_ptr<Client>& client, std::uint64_t id,
            const std::shared_ptr<Watching>& watching);
  void save(const std::shared_ptr<Client>& client, std::uint64_t id);
  void drop(const std::shared_ptr<Client>& client);

  static void answer(const std::shared_ptr<Client>& client, std::uint64_t id, ServerFrame kind,
                     std::string_view body) {
    if (body.size() > kAnswerBytesMax) {
      const Error large(
          Error::too_large, "store",
          "the answer has " + std::to_string(body.size()) + " bytes; ask for less with a limit");
      (void)client->connection->send(encode_server_frame(ServerFrame::error, id, encode_error(large)));
      return;
    }
    // A client that does not read its answers fills the connection's queue and is cut off.
    if (!client->connection->send(encode_server_frame(kind, id, body))) client->connection->close();
  }
  /// Waits for the answer and sends it; `write(Writer&, const T&)` makes its bytes.
  template <class T, class Write>
  void reply(const std::shared_ptr<Client>& client, std::uint64_t id, Pending<T> pending, Write write) {
    ++client->calls;
    pending.on_ready([client, id, write](Result<T> result) {
      --client->calls;
      if (!result) return answer(client, id, ServerFrame::error, encode_error(result.error()));
      std::string body;
      Writer out(body);
      if constexpr (std::is_void_v<T>) {
        write(out);
      } else {
        write(out, *result);
      }
      answer(client, id, ServerFrame::answer, body);
    });
  }

  // Writes take turns: a client with thousands of them under way delays another one by kWritesMax at most.
  // What a lease needs does not wait in line.

  template <class T, class Start, class Write>
  void write_reply(const std::shared_ptr<Client>& client, std::uint64_t id, Start start_write, Write write) {
    ++client->calls;
    bool queued = false;
    auto run = [self = shared_from_this(), client, id, start_write = std::move(start_write),
                write]() mutable {
      Pending<T> pending = start_write(*self->store);
      pending.on_ready([self, client, id, write](Result<T> result) {
        --client->calls;
        if (result) {
          std::string body;
          body.reserve(64);
          Writer out(body);
          write(out, *result);
          answer(client, id, ServerFrame::answer, body);
        } else {
          answer(client, id, ServerFrame::error, encode_error(result.error()));
        }
        self->next_turns(1);
      });
    };
    {
      std::lock_guard lock(turns_mutex);
      if (!taking_turns && turns.empty() && writing < kWritesMax) {
        ++writing;  // nobody waits: it need not stand in line
      } else {
        if (client->queued.empty()) turns.push_back(client);
        client->queued.push_back(std::move(run));
        queued = true;
      }
    }
    if (!queued) return run();
    next_turns(0);
  }
  /// `ended` writes are done: others may begin. One caller at a time works, so that answers that come at once
  /// do not nest.
  void next_turns(std::size_t ended) {
    std::unique_lock lock(turns_mutex);
    writing -= ended;
    if (std::exchange(taking_turns, true)) return;
    while (writing < kWritesMax && !turns.empty()) {
      const std::shared_ptr<Client> client = std::move(turns.front());
      turns.pop_front();
      const std::function<void()> run = std::move(client->queued.front());
      client->queued.pop_front();
      if (!client->queued.empty()) turns.push_back(client);
      ++writing;
      lock.unlock();
      run();
      lock.lock();
    }
    taking_turns = false;
  }

  Engine& engine;
  const std::shared_ptr<StateStore> store;
  const Options options;
  std::mutex turns_mutex;
  std::deque<std::shared_ptr<Client>> turns;  ///< those with something queued
  std::size_t writing = 0;
  bool taking_turns = false;
  std::shared_ptr<Transport> tls;  ///< none: not encrypted
  std::unique_ptr<TransportListener> listener;
  std::mutex mutex;
  std::map<std::uint64_t, std::shared_ptr<Client>> clients;
  std::uint64_t next_client = 1;
  bool stopped = false;
};

Result<void> StoreServer::Impl::start() {
  if (!options.tls.empty()) {
    ORC_ASSIGN(tls, make_tls_transport(engine, options.tls));
  }
  if (!is_loopback(options.listen) && !options.insecure && !tls) {
    return Error(Error::denied, "store",
                 "listening on " + options.listen +
                     " would offer the store unencrypted to the network; use TLS (--cacert, --cert, --key), "
                     "a loopback "
                     "address, or --insecure");
  }
  ORC_ASSIGN(
      listener,
      (tls ? *tls : engine.transport())
          .listen(options.listen, [weak = weak_from_this()](std::shared_ptr<TransportConnection> connection) {
            if (auto self = weak.lock()) return self->accept(std::move(connection));
            connection->close();
            return TransportHandler{};
          }));
  return {};
}

TransportHandler StoreServer::Impl::accept(std::shared_ptr<TransportConnection> connection) {
  auto client = std::make_shared<Client>();
  client->connection = std::move(connection);
  {
    std::lock_guard lock(mutex);
    if (stopped || clients.size() >= options.clients_max) {
      client->connection->close();
      return {};
    }
    client->number = next_client++;
    clients[client->number] = client;
  }
  TransportHandler handler;
  // Weak: the client holds the connection, and a connection whose engine ends is not told that it is closed.
  handler.on_message = [weak = weak_from_this(),
                        weak_client = std::weak_ptr<Client>(client)](const std::string& frame) {
    const auto self = weak.lock();
    const auto known = weak_client.lock();
    if (self && known) self->on_frame(known, frame);
  };
  handler.on_closed = [weak = weak_from_this(), weak_client = std::weak_ptr<Client>(client)](const Error&) {
    const auto self = weak.lock();
    const auto known = weak_client.lock();
    if (self && known) self->drop(known);
  };
  return handler;
}

void StoreServer::Impl::drop(const std::shared_ptr<Client>& client) {
  {
    std::lock_guard lock(mutex);
    clients.erase(client->number);
  }
  std::map<std::uint64_t, std::shared_ptr<Watching>> watches;
  {
    std::lock_guard lock(client->mutex);
    client->gone = true;
    watches.swap(client->watches);
  }
  std::deque<std::function<void()>> never;  // its writes that have not begun
  {
    std::lock_guard lock(turns_mutex);
    std::erase(turns, client);
    never.swap(client->queued);
  }
  for (auto& [id, watching] : watches) {
    std::lock_guard lock(watching->mutex);
    watching->ended = true;
    watching->watch.reset();
  }
}

void StoreServer::Impl::on_frame(const std::shared_ptr<Client>& client, const std::string& frame) {
  if (!client->greeted) {
    if (auto ok = check_client_hello(frame); !ok) return client->connection->close();
    client->greeted = true;
    (void)client->connection->send(encode_server_hello(store->cluster_id(), store->capabilities()));
    return;
  }
  const auto decoded = decode_call(frame);
  if (!decoded) return client->connection->close();
  if (client->calls >= options.calls_max) {
    const Error full(
        Error::overloaded, "store",
        std::to_string(options.calls_max) + " calls of this client are under way; wait for some");
    return answer(client, decoded->id, ServerFrame::error,
                  encode_error(Error(full).with_detail(RetryAfter{kRetryCall})));
  }
  call(client, *decoded);
}

void StoreServer::Impl::call(const std::shared_ptr<Client>& client, const Call& call) {
  Reader in(call.body);
  const auto refuse = [&](const Error& error) {
    answer(client, call.id, ServerFrame::error, encode_error(error));
  };
  const auto nothing = [store = this->store](Writer& out) {
    out.u64(static_cast<std::uint64_t>(store->revision()));
  };
  const auto write = [](Writer& out, const auto& result) { write_result(out, result); };
  switch (call.op) {
    case ClientOp::get: {
      std::string key(in.bytes());
      const RangeOptions options = read_options(in);
      if (!in.done()) return refuse(bad_call());
      return reply(client, call.id, store->get(std::move(key), {options.revision, options.consistency}),
                   [](Writer& out, const GetResult& result) {
                     out.u64(static_cast<std::uint64_t>(result.revision));
                     out.u8(result.kv ? 1 : 0);
                     if (result.kv) write_key_value(out, *result.kv);
                   });
    }
    case ClientOp::range: {
      KeyRange range = read_key_range(in);
      RangeOptions options = read_options(in);
      if (!in.done()) return refuse(bad_call());
      // Large ranges come in parts: the client asks for the rest at the same revision.
      if (options.limit == 0 || options.limit > kRangeItems) options.limit = kRangeItems;
      return reply(client, call.id, store->range(std::move(range), options), write);
    }
    case ClientOp::put:
    case ClientOp::put_once: {
      std::string key(in.bytes());
      Value value(in.bytes());
      PutOptions options;
      const std::uint8_t flags = in.u8();
      if ((flags & 1) != 0) options.if_mod_revision = static_cast<Revision>(in.u64());
      if ((flags & 2) != 0) options.if_version = static_cast<std::int64_t>(in.u64());
      options.want_previous = (flags & 4) != 0;
      options.lease = static_cast<LeaseId>(in.u64());
      options.request_id = in.bytes();
      if (!in.done()) return refuse(bad_call());
      return write_reply<WriteResult>(
          client, call.id,
          [key = std::move(key), value = std::move(value),
           options = std::move(options)](StateStore& to) mutable {
            return to.put(std::move(key), std::move(value), std::move(options));
          },
          write);
    }
    case ClientOp::remove: {
      KeyRange range = read_key_range(in);
      RemoveOptions options;
      const std::uint8_t flags = in.u8();
      if ((flags & 1) != 0) options.if_mod_revision = static_cast<Revision>(in.u64());
      options.want_previous = (flags & 4) != 0;
      if (!in.done()) return refuse(bad_call());
      return write_reply<WriteResult>(
          client, call.id,
          [range = std::move(range), options](StateStore& to) mutable {
            return to.remove(std::move(range), options);
          },
          write);
    }
    case ClientOp::txn: {
      auto command = decode_command(call.body);
      if (!command || !std::holds_alternative<Txn>(*command)) return refuse(bad_call());
      return write_reply<TxnResult>(
          client, call.id,
          [txn = std::move(std::get<Txn>(*command))](StateStore& to) mutable {
            return to.txn(std::move(txn));
          },
          write);
    }
    case ClientOp::watch:
      return open_watch(client, call.id, call.body);
    case ClientOp::watch_more:
    case ClientOp::watch_cancel: {
      std::shared_ptr<Watching> watching;
      {
        std::lock_guard lock(client->mutex);
        const auto found = client->watches.find(call.id);
        if (found == client->watches.end()) return;
        watching = found->second;
        if (call.op == ClientOp::watch_cancel) client->watches.erase(found);
      }
      if (call.op == ClientOp::watch_cancel) {
        std::lock_guard lock(watching->mutex);
        watching->ended = true;
        watching->watch.reset();
        return;
      }
      {
        std::lock_guard lock(watching->mutex);
        ++watching->ahead;
      }
      return pump(client, call.id, watching);
    }
    case ClientOp::lease_grant: {
      const std::chrono::seconds ttl(static_cast<std::int64_t>(in.u64()));
      const auto id = static_cast<LeaseId>(in.u64());
      if (!in.done()) return refuse(bad_call());
      return reply(client, call.id, store->lease_grant(ttl, id),
                   [](Writer& out, LeaseId made) { out.u64(static_cast<std::uint64_t>(made)); });
    }
    case ClientOp::lease_keep_alive:
      return reply(client, call.id, store->lease_keep_alive(static_cast<LeaseId>(in.u64())), nothing);
    case ClientOp::lease_revoke:
      return reply(client, call.id, store->lease_revoke(static_cast<LeaseId>(in.u64())), nothing);
    case ClientOp::lease_time_to_live: {
      const auto id = static_cast<LeaseId>(in.u64());
      return reply(client, call.id, store->lease_time_to_live(id, in.u8() != 0),
                   [](Writer& out, const LeaseInfo& info) { write_lease_info(out, info); });
    }
    case ClientOp::lease_list:
      return reply(client, call.id, store->lease_list(), [](Writer& out, const std::vector<LeaseInfo>& all) {
        for (const LeaseInfo& info : all) write_lease_info(out, info);
      });
    case ClientOp::compact:
      return reply(client, call.id, store->compact(static_cast<Revision>(in.u64())), nothing);
    case ClientOp::wait_revision: {
      const auto revision = static_cast<Revision>(in.u64());
      return reply(client, call.id,
                   store->wait_revision(revision, Duration(static_cast<std::int64_t>(in.u64()))), nothing);
    }
    case ClientOp::status: {
      std::string body;
      Writer out(body);
      write_status(out, store->status());
      return answer(client, call.id, ServerFrame::answer, body);
    }
    case ClientOp::session_open: {
      auto* sessions = dynamic_cast<StoreSessions*>(store.get());
      if (sessions == nullptr)
        return refuse(Error(Error::unsupported, "store", "this store has no sessions"));
      return reply(client, call.id, sessions->session_open(),
                   [](Writer& out, const std::string& session) { out.bytes(session); });
    }
    case ClientOp::save_snapshot:
      return save(client, call.id);
    default:
      return member_call(client, call);
  }
}

void StoreServer::Impl::member_call(const std::shared_ptr<Client>& client, const Call& call) {
  auto* members = dynamic_cast<StoreMembers*>(store.get());
  if (members == nullptr) {
    return answer(client, call.id, ServerFrame::error,
                  encode_error(Error(Error::unsupported, "store", "this store has no peers")));
  }
  Reader in(call.body);
  const auto nothing = [store = this->store](Writer& out) {
    out.u64(static_cast<std::uint64_t>(store->revision()));
  };
  if (call.op == ClientOp::members) {
    return reply(client, call.id, members->members(), [](Writer& out, const std::vector<StoreMember>& all) {
      for (const StoreMember& member : all) write_store_member(out, member);
    });
  }
  if (call.op == ClientOp::add_member) {
    std::string name(in.bytes());
    std::string address(in.bytes());
    const std::uint8_t flags = in.u8();
    return reply(client, call.id,
                 members->add_member(std::move(name), std::move(address), (flags & 1) != 0, (flags & 2) != 0),
                 [](Writer& out, std::uint64_t id) { out.u64(id); });
  }
  const std::uint64_t id = in.u64();
  if (call.op == ClientOp::promote_member)
    return reply(client, call.id, members->promote_member(id), nothing);
  if (call.op == ClientOp::remove_member)
    return reply(client, call.id, members->remove_member(id, in.u8() != 0), nothing);
  if (call.op == ClientOp::update_member)
    return reply(client, call.id, members->update_member(id, std::string(in.bytes())), nothing);
  reply(client, call.id, members->transfer_leadership(id), nothing);
}

void StoreServer::Impl::open_watch(const std::shared_ptr<Client>& client, std::uint64_t id,
                                   std::string_view body) {
  Reader in(body);
  WatchOptions options;
  options.range = read_key_range(in);
  const std::uint8_t flags = in.u8();
  if ((flags & 1) != 0) options.after = static_cast<Revision>(in.u64());
  options.no_put = (flags & 2) != 0;
  options.no_remove = (flags & 4) != 0;
  options.want_previous = (flags & 8) != 0;
  options.credit = Bytes{in.u64()};
  const auto refuse = [&](const Error& error) {
    answer(client, id, ServerFrame::error, encode_error(error));
  };
  if (!in.done()) return refuse(bad_call());
  auto opened = store->watch(std::move(options));
  if (!opened) return refuse(opened.error());
  auto watching = std::make_shared<Watching>();
  watching->watch = std::make_unique<Watch>(std::move(*opened));
  {
    std::lock_guard lock(client->mutex);
    if (client->gone || client->watches.contains(id)) return;
    client->watches[id] = watching;
  }
  std::string first;
  Writer out(first);
  out.u64(static_cast<std::uint64_t>(watching->watch->progress()));
  answer(client, id, ServerFrame::answer, first);
  pump(client, id, watching);
}

/// Sends what there is, as far as the client wants it, and arms the next wake.
void StoreServer::Impl::pump(const std::shared_ptr<Client>& client, std::uint64_t id,
                             const std::shared_ptr<Watching>& watching) {
  std::lock_guard lock(watching->mutex);
  while (!watching->ended && watching->ahead > 0) {
    auto batch = watching->watch->poll();
    if (!batch) break;
    std::string body;
    Writer out(body);
    write_batch(out, *batch);
    --watching->ahead;
    answer(client, id, ServerFrame::batch, body);
  }
  if (watching->ended) return;
  if (const auto& error = watching->watch->error()) {
    watching->ended = true;
    return answer(client, id, ServerFrame::error, encode_error(*error));
  }
  if (watching->ahead == 0 || std::exchange(watching->armed, true)) return;
  // The callback must not use the watch itself.
  watching->watch->notify([weak = weak_from_this(), client, id, weak_watching = std::weak_ptr(watching)] {
    auto self = weak.lock();
    if (!self) return;
    self->engine.post([weak, client, id, weak_watching] {
      auto again = weak.lock();
      auto still = weak_watching.lock();
      if (!again || !still) return;
      {
        std::lock_guard guard(still->mutex);
        still->armed = false;
      }
      again->pump(client, id, still);
    });
  });
}

void StoreServer::Impl::save(const std::shared_ptr<Client>& client, std::uint64_t id) {
  ++client->calls;
  // The transport's queue bounds what a slow reader holds here: a full one is waited for.
  auto sink = [client, id](std::string_view bytes) -> Result<void> {
    const std::string frame = encode_server_frame(ServerFrame::chunk, id, bytes);
    for (int tries = 0; tries < 3000; ++tries) {
      auto sent = client->connection->send(frame);
      if (sent || !sent.error().is(Error::overloaded)) return sent;
      const Promise<> nobody;
      (void)nobody.pending().wait(std::chrono::milliseconds(10));
    }
    return Error(Error::cancelled, "store", "the reader of the snapshot is too slow");
  };
  store->save_snapshot(std::move(sink)).on_ready([client, id](Result<Revision> saved) {
    --client->calls;
    if (!saved) return answer(client, id, ServerFrame::error, encode_error(saved.error()));
    std::string body;
    Writer out(body);
    out.u64(static_cast<std::uint64_t>(*saved));
    answer(client, id, ServerFrame::answer, body);
  });
}

StoreServer::StoreServer(Engine& engine, std::shared_ptr<StateStore> store, Options options)
    : impl_(std::make_shared<Impl>(engine, std::move(store), std::move(options))) {}
StoreServer::~StoreServer() { stop(); }
Result<void> StoreServer::start() { return impl_->start(); }
std::string StoreServer::address() const { return impl_->listener ? impl_->listener->address() : ""; }

void StoreServer::stop() {
  std::map<std::uint64_t, std::shared_ptr<Impl::Client>> clients;
  {
    std::lock_guard lock(impl_->mutex);
    if (std::exchange(impl_->stopped, true)) return;
    clients = impl_->clients;
    impl_->listener.reset();
  }
  for (auto& [number, client] : clients) {
    client->connection->close();
    impl_->drop(client);
  }
}

}  // namespace orchestra
