// PeerNet: dialling, accepting, the handshake, messages and requests; snapshots are in snapshot_transfer.cpp.
#include "store/transport/peer_net.hpp"

#include <algorithm>

#include "store/raft/codec.hpp"
#include "store/transport/peer_net_parts.hpp"

namespace orchestra::store {
namespace {

constexpr std::int64_t kMillisecond = 1'000'000;
constexpr Duration kLookAfter = std::chrono::milliseconds(500);
constexpr std::int64_t kPingEvery = 1000 * kMillisecond;
constexpr std::int64_t kSilenceMax = 3000 * kMillisecond;   ///< also of a connection attempt
constexpr std::int64_t kForgetAfter = 5000 * kMillisecond;  ///< a removed peer still hears of its removal
constexpr std::int64_t kBackoffMin = 50 * kMillisecond;
constexpr std::int64_t kBackoffMax = 2000 * kMillisecond;
constexpr std::int64_t kSkewReported = 1000 * kMillisecond;
constexpr std::size_t kIncomingMax = 256;
constexpr std::size_t kAskedMax = 1u << 20;

Error refused_by(const HelloAnswer& answer) {
  return Error(static_cast<Error::Code>(answer.code), "store", answer.text);
}

}  // namespace

PeerNet::PeerNet(Engine& engine, PeerNetOptions options, PeerHandlers handlers)
    : engine_(engine),
      options_(std::move(options)),
      handlers_(std::move(handlers)),
      next_request_(engine.random().next()) {}

PeerNet::~PeerNet() { stop(); }

Result<std::shared_ptr<PeerNet>> PeerNet::start(Engine& engine, PeerNetOptions options,
                                                PeerHandlers handlers) {
  std::shared_ptr<PeerNet> net(new PeerNet(engine, std::move(options), std::move(handlers)));
  auto listening = net->transport().listen(
      net->options_.listen, [weak = std::weak_ptr(net)](std::shared_ptr<TransportConnection> connection) {
        const auto self = weak.lock();
        if (self) return self->accept(std::move(connection));
        connection->close();
        return TransportHandler{};
      });
  if (!listening) return listening.error().with_context("peer listener");
  net->listener_ = std::move(*listening);
  net->address_ = net->options_.address.empty() ? net->listener_->address() : net->options_.address;
  net->arm_look_after();
  return net;
}

void PeerNet::stop() {
  std::map<PeerId, std::shared_ptr<Link>> links;
  std::map<std::uint64_t, std::shared_ptr<Incoming>> incoming;
  std::map<std::uint64_t, Asked> asked;
  std::map<PeerId, std::shared_ptr<Transfer>> transfers;
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(stopped_, true)) return;
    links.swap(links_);
    incoming.swap(incoming_);
    asked.swap(asked_);
    transfers.swap(transfers_);
    if (timer_ != 0) engine_.cancel_timer(timer_);
    listener_.reset();
    for (auto& [id, link] : links) {
      ++link->attempt;
      if (link->connection) link->connection->close();
    }
    for (auto& [id, one] : incoming) one->connection->close();
    for (auto& [id, transfer] : transfers) {
      if (transfer->connection) transfer->connection->close();
    }
  }
  for (auto& [id, each] : asked)
    each.reply(Error(Error::unknown_outcome, "store", "the store was stopped while another peer did this"));
}

Hello PeerNet::hello_to(PeerId to, Purpose purpose) const {
  Hello hello;
  hello.purpose = purpose;
  hello.identity = options_.identity;
  hello.to = to;
  hello.name = options_.name;
  hello.address = address_;
  hello.wall_ns = engine_.clock().now().wall_ns;
  hello.fresh = fresh_;
  return hello;
}

void PeerNet::set_fresh(bool fresh) {
  std::lock_guard lock(mutex_);
  fresh_ = fresh;
}

// ---- dialling

void PeerNet::add_link_locked(PeerId id, const std::string& address) {
  auto& link = links_[id];
  if (link && link->address == address) {
    link->forget_at = 0;
    return;
  }
  if (link) {
    ++link->attempt;
    if (link->connection) link->connection->close();
  }
  link = std::make_shared<Link>();
  link->id = id;
  link->address = address;
  link->backoff = kBackoffMin;
  engine_.post([weak = weak_from_this(), link] {
    if (auto self = weak.lock()) self->dial(link);
  });
}

void PeerNet::set_members(const std::vector<Member>& members) {
  std::lock_guard lock(mutex_);
  if (stopped_) return;
  for (const Member& member : members) {
    if (member.id.value != options_.identity.peer && !member.address.empty())
      add_link_locked(member.id, member.address);
  }
  for (auto& [id, link] : links_) {
    const bool there = std::any_of(members.begin(), members.end(),
                                   [&, peer = id](const Member& member) { return member.id == peer; });
    if (!there && link->forget_at == 0) link->forget_at = steady_now() + kForgetAfter;
  }
}

void PeerNet::dial(const std::shared_ptr<Link>& link) {
  std::uint64_t attempt = 0;
  Hello hello;
  {
    std::lock_guard lock(mutex_);
    if (stopped_ || link->connection) return;
    const auto found = links_.find(link->id);
    if (found == links_.end() || found->second != link) return;
    attempt = ++link->attempt;
    link->dialling = true;
    link->heard_ns = steady_now();
    hello = hello_to(link->id, Purpose::raft);
  }
  TransportHandler handler;
  handler.on_message = [weak = weak_from_this(), link, attempt](std::string frame) {
    if (auto self = weak.lock()) self->on_link_frame(link, attempt, frame);
  };
  handler.on_closed = [weak = weak_from_this(), link, attempt](const Error& why) {
    if (auto self = weak.lock()) self->link_down(link, attempt, why.message());
  };
  transport()
      .connect(link->address, std::move(handler))
      .on_ready([weak = weak_from_this(), link, attempt,
                 hello](Result<std::shared_ptr<TransportConnection>> connected) {
        auto self = weak.lock();
        if (!self) {
          if (connected) (*connected)->close();
          return;
        }
        if (!connected) return self->link_down(link, attempt, connected.error().message());
        {
          std::lock_guard lock(self->mutex_);
          if (self->stopped_ || link->attempt != attempt) {
            (*connected)->close();
            return;
          }
          link->connection = *connected;
        }
        (void)(*connected)->send(encode_hello(hello));
      });
}

/// What comes back on a connection that this side dialled: the answer to the hello, pongs.
void PeerNet::on_link_frame(const std::shared_ptr<Link>& link, std::uint64_t attempt,
                            const std::string& frame) {
  std::string refused;
  {
    std::lock_guard lock(mutex_);
    if (link->attempt != attempt) return;
    const std::int64_t now = steady_now();
    link->heard_ns = now;
    const auto kind = frame_kind(frame);
    if (!kind) {
      refused = kind.error().message();
    } else if (*kind == FrameKind::pong) {
      link->round_trip = Duration(now - link->ping_ns);
    } else if (*kind == FrameKind::hello_answer && !link->up) {
      const auto answer = decode_hello_answer(frame);
      if (!answer || answer->code != 0) {
        refused = answer ? refused_by(*answer).message() : answer.error().message();
      } else {
        link->up = true;
        link->dialling = false;
        link->trouble.clear();
        link->commands_known = static_cast<std::uint8_t>(std::min<std::uint64_t>(answer->offset, 255));
        link->backoff = kBackoffMin;
        link->clock_difference = Duration(answer->wall_ns - engine_.clock().now().wall_ns);
        if (std::abs(link->clock_difference.count()) > kSkewReported) {
          engine_.log(LogLevel::warning, "store",
                      "the clock of peer " + std::to_string(link->id.value) + " differs by " +
                          std::to_string(link->clock_difference.count() / kMillisecond) +
                          " ms; nothing depends on it, but set the clocks");
        }
      }
    }
    if (!refused.empty() && link->connection) link->connection->close();
  }
  if (!refused.empty()) link_down(link, attempt, refused);
}

void PeerNet::link_down(const std::shared_ptr<Link>& link, std::uint64_t attempt, const std::string& why) {
  std::vector<Asked> lost;
  std::shared_ptr<Transfer> transfer;
  bool was_up = false;
  {
    std::lock_guard lock(mutex_);
    if (stopped_ || link->attempt != attempt) return;
    ++link->attempt;
    was_up = std::exchange(link->up, false);
    link->dialling = false;
    link->connection.reset();
    link->trouble = why;
    // A receiver that restarts, or is cut off, says nothing about its snapshot either; it goes on where it
    // broke off.
    if (const auto found = transfers_.find(link->id); found != transfers_.end() && was_up)
      transfer = found->second;
    std::erase_if(asked_, [&](auto& entry) {
      if (entry.second.to != link->id) return false;
      lost.push_back(std::move(entry.second));
      return true;
    });
    const std::int64_t wait =
        link->backoff +
        static_cast<std::int64_t>(engine_.random().below(static_cast<std::uint64_t>(link->backoff)));
    link->backoff = std::min(kBackoffMax, link->backoff * 2);
    engine_.after(Duration(wait), [weak = weak_from_this(), link] {
      if (auto self = weak.lock()) self->dial(link);
    });
  }
  if (was_up && handlers_.on_unreachable) handlers_.on_unreachable(link->id);
  if (transfer)
    transfer_end(transfer, Error(Error::unavailable, "store", "the connection to it broke: " + why));
  for (Asked& asked : lost) {
    asked.reply(Error(Error::unknown_outcome, "store",
                      "the connection to peer " + std::to_string(link->id.value) + " broke: " + why +
                          "; it may or may not have been done"));
  }
}

void PeerNet::arm_look_after() {
  std::lock_guard lock(mutex_);
  if (stopped_) return;
  timer_ = engine_.after(kLookAfter, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->look_after();
  });
}

/// Pings, silence, peers to forget.
void PeerNet::look_after() {
  std::vector<std::pair<std::shared_ptr<Link>, std::uint64_t>> silent;
  std::vector<std::shared_ptr<Transfer>> stuck;
  {
    std::lock_guard lock(mutex_);
    const std::int64_t now = steady_now();
    for (const auto& [to, transfer] : transfers_) {
      if (now - transfer->progress_ns > transfer_patience_ns(*transfer)) stuck.push_back(transfer);
    }
    std::erase_if(links_, [&](auto& entry) {
      Link& link = *entry.second;
      if (link.forget_at == 0 || link.forget_at > now) return false;
      ++link.attempt;
      if (link.connection) link.connection->close();
      return true;
    });
    for (auto& [id, link] : links_) {
      if (!link->connection && !link->dialling) continue;
      if (now - link->heard_ns > kSilenceMax) {
        if (link->connection) link->connection->close();
        silent.emplace_back(link, link->attempt);
      } else if (link->up && now - link->ping_ns >= kPingEvery) {
        link->ping_ns = now;
        (void)link->connection->send(std::string(1, static_cast<char>(FrameKind::ping)));
      }
    }
  }
  for (const auto& transfer : stuck)
    transfer_end(transfer, Error(Error::deadline_exceeded, "store", "its receiver says nothing any more"));
  for (auto& [link, attempt] : silent) link_down(link, attempt, "no answer for 3 s from " + link->address);
  arm_look_after();
}

// ---- accepting

TransportHandler PeerNet::accept(std::shared_ptr<TransportConnection> connection) {
  auto incoming = std::make_shared<Incoming>();
  incoming->connection = std::move(connection);
  {
    std::lock_guard lock(mutex_);
    if (stopped_ || incoming_.size() >= kIncomingMax) {
      incoming->connection->close();
      return {};
    }
    incoming->id = next_incoming_++;
    incoming_[incoming->id] = incoming;
  }
  TransportHandler handler;
  handler.on_message = [weak = weak_from_this(), incoming](std::string frame) {
    if (auto self = weak.lock()) self->on_frame(incoming, std::move(frame));
  };
  handler.on_closed = [weak = weak_from_this(), incoming](const Error&) {
    auto self = weak.lock();
    if (!self) return;
    bool known = false;
    {
      std::lock_guard lock(self->mutex_);
      known = self->incoming_.erase(incoming->id) != 0 && incoming->greeted;
    }
    if (known && incoming->purpose == Purpose::raft && self->handlers_.on_reset)
      self->handlers_.on_reset(incoming->peer);
  };
  return handler;
}

/// To a peer that has no place yet; nothing more comes on this connection.
void PeerNet::tell_place(const std::shared_ptr<Incoming>& incoming, const Hello& hello) {
  const auto tell = [weak = weak_from_this(), connection = incoming->connection](const Result<Place>& place) {
    const auto self = weak.lock();
    if (!self) return;
    HelloAnswer answer;
    answer.wall_ns = self->engine_.clock().now().wall_ns;
    if (place) {
      answer.identity = place->identity;
      answer.offset = place->term.value;
    } else {
      answer.code = place.error().code();
      answer.text = place.error().message();
      if (!place.error().is(Error::unavailable))  // else it asks again
        self->engine_.log(LogLevel::warning, "store", "a new peer was refused: " + answer.text);
    }
    (void)connection->send(encode_hello_answer(answer));
  };
  if (hello.purpose == Purpose::enrol) return handlers_.enrol(hello, tell);
  handlers_.replace(hello, tell);
}

/// The hello: who is this, and may it talk to us?
void PeerNet::on_first_frame(const std::shared_ptr<Incoming>& incoming, const std::string& frame) {
  HelloAnswer answer;
  answer.wall_ns = engine_.clock().now().wall_ns;
  std::optional<Hello> seeks_place;
  const auto decide = [&]() -> Result<void> {
    ORC_ASSIGN(const Hello hello, decode_hello(frame));
    incoming->purpose = hello.purpose;
    incoming->peer = PeerId{hello.identity.peer};
    if (hello.purpose == Purpose::enrol) {
      seeks_place = hello;
      return {};
    }
    if (hello.identity.cluster != options_.identity.cluster ||
        hello.identity.epoch != options_.identity.epoch) {
      return Error(Error::invalid, "store",
                   "peer \"" + hello.name + "\" at " + hello.address +
                       " belongs to another cluster than peer \"" + options_.name +
                       "\"; start it with the right addresses, or on an empty data folder with --join");
    }
    if (hello.purpose == Purpose::replace) {
      seeks_place = hello;
      return {};
    }
    if (hello.identity.peer == options_.identity.peer) {
      return Error(Error::invalid, "store",
                   "two processes use the id of peer \"" + options_.name +
                       "\"; a data folder must not be copied: stop one and join it as a new member");
    }
    if (hello.to.value != options_.identity.peer) {
      return Error(Error::invalid, "store",
                   "at this address runs peer " + std::to_string(options_.identity.peer) + ", not peer " +
                       std::to_string(hello.to.value) +
                       "; its disk may have been replaced: remove that member and add it anew");
    }
    ORC_TRY(handlers_.admit(hello));
    if (hello.purpose == Purpose::snapshot) {
      ORC_ASSIGN(incoming->receiver, handlers_.receive_snapshot(hello));
      answer.offset = incoming->receiver->offset();
      answer.text = kBeats;
      return {};
    }
    answer.offset = options_.commands_known;
    // Somebody that we do not dial yet: a leader of a configuration that has not come here yet.
    std::lock_guard lock(mutex_);
    if (!stopped_ && !links_.contains(incoming->peer)) add_link_locked(incoming->peer, hello.address);
    return {};
  };
  const auto decided = decide();
  if (seeks_place) return tell_place(incoming, *seeks_place);
  if (!decided) {
    answer.code = decided.error().code();
    answer.text = decided.error().message();
    engine_.log(LogLevel::warning, "store", "a peer was refused: " + answer.text);
  }
  incoming->greeted = decided.has_value();
  (void)incoming->connection->send(encode_hello_answer(answer));
  // After a refusal the other side closes; if it does not, its next frame does.
}

void PeerNet::on_frame(const std::shared_ptr<Incoming>& incoming, std::string frame) {
  if (!incoming->first_seen) {
    incoming->first_seen = true;
    return on_first_frame(incoming, frame);
  }
  if (!incoming->greeted) return incoming->connection->close();
  const auto kind = frame_kind(frame);
  if (!kind) return incoming->connection->close();
  switch (*kind) {
    case FrameKind::message: {
      const auto bytes = message_of_frame(frame, options_.identity.cluster);
      auto message = bytes ? decode_message(*bytes) : Result<Message>(bytes.error());
      if (!message || message->from != incoming->peer || message->to.value != options_.identity.peer ||
          message->type == MessageType::snapshot) {
        return incoming->connection->close();
      }
      return handlers_.on_message(std::move(*message));
    }
    case FrameKind::request: {
      auto request = decode_request(frame);
      if (!request) return incoming->connection->close();
      const auto reply = [weak = weak_from_this(), to = incoming->peer,
                          id = request->id](Result<std::string> result) {
        auto self = weak.lock();
        if (!self) return;
        Answer answer{id, 0, {}};
        if (result) {
          answer.body = std::move(*result);
        } else {
          answer.code = result.error().code();
          answer.body = result.error().message();
        }
        std::lock_guard lock(self->mutex_);
        const auto link = self->links_.find(to);
        if (link != self->links_.end() && link->second->up)
          (void)link->second->connection->send(encode_answer(answer));
      };
      return handlers_.on_request(incoming->peer, request->kind, std::move(request->body), reply);
    }
    case FrameKind::answer: {
      auto answer = decode_answer(frame);
      return answer ? on_answer(*answer) : incoming->connection->close();
    }
    case FrameKind::ping:
      (void)incoming->connection->send(std::string(1, static_cast<char>(FrameKind::pong)));
      return;
    case FrameKind::chunk:
    case FrameKind::snapshot_end:
      if (incoming->receiver) return on_snapshot_frame(incoming, std::move(frame));
      return incoming->connection->close();
    default:
      return incoming->connection->close();
  }
}

// ---- messages and requests

void PeerNet::send(const Message& message) {
  std::lock_guard lock(mutex_);
  const auto link = links_.find(message.to);
  if (link == links_.end() || !link->second->up) return;
  (void)link->second->connection->send(
      encode_message_frame(FrameKind::message, options_.identity.cluster, encode_message(message)));
}

bool PeerNet::connected(PeerId peer) const {
  std::lock_guard lock(mutex_);
  const auto link = links_.find(peer);
  return link != links_.end() && link->second->up;
}

std::optional<std::uint8_t> PeerNet::commands_known(PeerId peer) const {
  std::lock_guard lock(mutex_);
  const auto link = links_.find(peer);
  return link != links_.end() ? link->second->commands_known : std::nullopt;
}

bool PeerNet::request(PeerId to, RequestKind kind, std::string body, PeerHandlers::Reply reply) {
  std::lock_guard lock(mutex_);
  const auto link = links_.find(to);
  if (stopped_ || link == links_.end() || !link->second->up || asked_.size() >= kAskedMax) return false;
  const std::uint64_t id = next_request_++;
  auto sent = link->second->connection->send(encode_request({id, kind, std::move(body)}));
  if (!sent) return false;
  asked_.emplace(id, Asked{to, std::move(reply)});
  return true;
}

void PeerNet::on_answer(const Answer& answer) {
  PeerHandlers::Reply reply;
  {
    std::lock_guard lock(mutex_);
    const auto found = asked_.find(answer.id);
    if (found == asked_.end()) return;
    reply = std::move(found->second.reply);
    asked_.erase(found);
  }
  if (answer.code == 0) return reply(answer.body);
  reply(Error(static_cast<Error::Code>(answer.code), "store", answer.body));
}

std::vector<LinkInfo> PeerNet::links() const {
  std::vector<LinkInfo> all;
  std::lock_guard lock(mutex_);
  for (const auto& [id, link] : links_)
    all.push_back({id, link->up, link->trouble, link->round_trip, link->clock_difference});
  return all;
}

Pending<Place> PeerNet::enrol(Transport& transport, const std::string& address, const Hello& hello) {
  Promise<Place> promise;
  auto pending = promise.pending();
  auto open = std::make_shared<std::shared_ptr<TransportConnection>>();
  TransportHandler handler;
  handler.on_message = [promise, open](const std::string& frame) {
    const auto answer = decode_hello_answer(frame);
    if (!answer) return promise.set(answer.error());
    promise.set(answer->code == 0 ? Result<Place>(Place{answer->identity, Term{answer->offset}})
                                  : Result<Place>(refused_by(*answer)));
    if (*open) (*open)->close();
    open->reset();
  };
  handler.on_closed = [promise](const Error& why) { promise.set(why); };
  transport.connect(address, std::move(handler))
      .on_ready([promise, open, hello](Result<std::shared_ptr<TransportConnection>> connected) {
        if (!connected) return promise.set(connected.error());
        *open = *connected;
        (void)(*connected)->send(encode_hello(hello));
      });
  return pending;
}

}  // namespace orchestra::store
