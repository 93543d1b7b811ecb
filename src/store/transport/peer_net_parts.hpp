#pragma once
// The parts of PeerNet that its two files share; guarded by its mutex unless said otherwise.
#include <atomic>
#include <deque>

#include "store/transport/peer_net.hpp"

namespace orchestra::store {

/// The connection to one peer that this side dials.
struct PeerNet::Link {
  PeerId id;
  std::string address;
  std::shared_ptr<TransportConnection> connection;
  std::uint64_t attempt = 0;  ///< callbacks of an older one are ignored
  bool dialling = false;
  bool up = false;  ///< the handshake is done
  std::int64_t heard_ns = 0, ping_ns = 0, forget_at = 0, backoff = 0;
  Duration round_trip{}, clock_difference{};
  std::string trouble;
  std::optional<std::uint8_t> commands_known;  ///< as of the last handshake
};

/// A connection that another peer dialled. Its frames come one at a time.
struct PeerNet::Incoming {
  std::uint64_t id = 0;
  std::shared_ptr<TransportConnection> connection;
  bool first_seen = false, greeted = false;
  PeerId peer;
  Purpose purpose = Purpose::raft;
  std::shared_ptr<SnapshotReceiver> receiver;
  std::mutex frames_mutex;
  std::deque<std::string> frames;  ///< of a snapshot, for the worker that writes them
  bool draining = false;
  std::atomic<bool> verifying = false;  ///< a snapshot that is whole
};

/// A snapshot on its way to a peer.
struct PeerNet::Transfer {
  PeerId to;
  std::shared_ptr<DiskFile> file;
  std::uint64_t bytes = 0;
  Message message;
  std::function<void(Result<void>)> done;
  std::shared_ptr<TransportConnection> connection;
  bool beats = false;  ///< the receiver tells that it is verifying
  bool greeted = false, end_sent = false, ended = false, reading = false;
  std::uint64_t sent = 0, arrived = 0;
  std::int64_t progress_ns = 0;  ///< when it last went on
};

}  // namespace orchestra::store
