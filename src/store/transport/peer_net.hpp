#pragma once
// PeerNet: the connections between the peers of one store.
//
// Each peer dials every other one and sends on the connection it dialled; what it receives comes on the
// connections it accepted. So a message needs no lock step with its answer, and a half-open connection is
// noticed by its own side (a ping each second, three seconds of silence end it). A connection begins with a
// handshake: protocol version, cluster id, both peer ids, name and address, both clocks. Unreachable: again
// after 50 ms .. 2 s with jitter. Sending never waits; what cannot be sent is dropped, and Raft repeats it.
// Answers to requests go over the asked peer's own connection, so they keep their place among its appends.
// Handlers are called without any lock of this class held.
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/env.hpp"
#include "store/raft/types.hpp"
#include "store/transport/peer_wire.hpp"

namespace orchestra::store {

/// The receiving end of one snapshot transfer; calls come in order.
class SnapshotReceiver {
 public:
  virtual ~SnapshotReceiver() = default;
  virtual std::uint64_t offset() const = 0;  ///< bytes that are there already
  virtual Result<void> write(std::uint64_t offset, std::string_view bytes) = 0;
  /// Verifies and installs.
  virtual Result<void> finish(Message message) = 0;
};

struct PeerHandlers {
  std::function<void(Message)> on_message;
  std::function<void(PeerId)> on_unreachable;  ///< our connection to it broke
  std::function<void(PeerId)> on_reset;        ///< its connection to us broke
  using Reply = std::function<void(Result<std::string>)>;
  std::function<void(PeerId from, RequestKind kind, std::string body, Reply reply)> on_request;
  /// Whether a peer may connect; its error is told to it.
  std::function<Result<void>(const Hello&)> admit;
  using TellPlace = std::function<void(Result<Place>)>;
  std::function<void(const Hello&, TellPlace)> enrol;
  std::function<void(const Hello&, TellPlace)> replace;  ///< of the own cluster
  std::function<Result<std::shared_ptr<SnapshotReceiver>>(const Hello&)> receive_snapshot;
};

struct PeerNetOptions {
  LogIdentity identity;
  std::string name;
  std::string listen;                      ///< host:port
  std::string address;                     ///< what others dial; empty: the real listening address
  std::uint64_t snapshot_bytes_per_s = 0;  ///< 0: as fast as it goes
  std::shared_ptr<Transport> tls = {};     ///< none: the engine's, not encrypted
  std::uint8_t commands_known = 0;         ///< which the others are told
};

struct LinkInfo {
  PeerId id;
  bool connected = false;
  std::string trouble;          ///< why it is not connected
  Duration round_trip{};        ///< of the last ping
  Duration clock_difference{};  ///< the other's wall clock minus ours, at the handshake
};

class PeerNet : public std::enable_shared_from_this<PeerNet> {
 public:
  static Result<std::shared_ptr<PeerNet>> start(Engine& engine, PeerNetOptions options,
                                                PeerHandlers handlers);
  ~PeerNet();
  void stop();

  const std::string& address() const { return address_; }
  /// Dials those that are new, forgets (after a while) those that are gone.
  void set_members(const std::vector<Member>& members);
  /// The own disk holds entries now.
  void set_fresh(bool fresh);
  void send(const Message& message);
  /// False when there is no connection: certainly not sent. Else `reply` is called once; `unknown_outcome`
  /// when the connection breaks first.
  bool request(PeerId to, RequestKind kind, std::string body, PeerHandlers::Reply reply);
  /// Sends a file; `done` tells how it ended. Two at a time; `busy` beyond.
  void send_snapshot(PeerId to, std::shared_ptr<DiskFile> file, std::uint64_t bytes, Message message,
                     std::function<void(Result<void>)> done);
  std::vector<LinkInfo> links() const;
  bool connected(PeerId peer) const;
  /// What it told; 0: its release tells nothing. nullopt: it was never reached.
  std::optional<std::uint8_t> commands_known(PeerId peer) const;

  /// Asks the peer at `address` who this new one is; for a store that does not run yet.
  static Pending<Place> enrol(Transport& transport, const std::string& address, const Hello& hello);

 private:
  struct Link;
  struct Incoming;
  struct Transfer;
  PeerNet(Engine& engine, PeerNetOptions options, PeerHandlers handlers);
  TransportHandler accept(std::shared_ptr<TransportConnection> connection);
  void tell_place(const std::shared_ptr<Incoming>& incoming, const Hello& hello);
  void on_first_frame(const std::shared_ptr<Incoming>& incoming, const std::string& frame);
  void on_frame(const std::shared_ptr<Incoming>& incoming, std::string frame);
  void on_snapshot_frame(const std::shared_ptr<Incoming>& incoming, std::string frame);
  void drain_snapshot(const std::shared_ptr<Incoming>& incoming);
  void beat(const std::shared_ptr<Incoming>& incoming, std::uint64_t offset);
  void on_answer(const Answer& answer);
  void dial(const std::shared_ptr<Link>& link);
  void on_link_frame(const std::shared_ptr<Link>& link, std::uint64_t attempt, const std::string& frame);
  void link_down(const std::shared_ptr<Link>& link, std::uint64_t attempt, const std::string& why);
  void add_link_locked(PeerId id, const std::string& address);
  void look_after();
  void arm_look_after();
  Hello hello_to(PeerId to, Purpose purpose) const;
  void transfer_next(const std::shared_ptr<Transfer>& transfer);
  std::int64_t transfer_patience_ns(const Transfer& transfer) const;
  void transfer_end(const std::shared_ptr<Transfer>& transfer, const Result<void>& result);
  std::int64_t steady_now() const { return engine_.clock().now().steady_ns; }
  Transport& transport() const { return options_.tls ? *options_.tls : engine_.transport(); }

  Engine& engine_;
  const PeerNetOptions options_;
  const PeerHandlers handlers_;
  std::string address_;
  std::unique_ptr<TransportListener> listener_;
  mutable std::mutex mutex_;
  bool stopped_ = false;
  bool fresh_ = true;
  std::map<PeerId, std::shared_ptr<Link>> links_;
  std::map<std::uint64_t, std::shared_ptr<Incoming>> incoming_;
  std::uint64_t next_incoming_ = 1;
  struct Asked {
    PeerId to;
    PeerHandlers::Reply reply;
  };
  std::map<std::uint64_t, Asked> asked_;
  std::uint64_t next_request_;  ///< begins by chance: an answer may be for who was here before
  std::map<PeerId, std::shared_ptr<Transfer>> transfers_;
  Engine::TimerId timer_ = 0;
};

}  // namespace orchestra::store
