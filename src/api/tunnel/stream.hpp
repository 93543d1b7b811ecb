#pragma once
// One stream of a node tunnel: ordered events in, ordered frames out, both within the window. Internal to
// Peer.
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "api/tunnel/peer.hpp"

namespace orchestra::tunnel {

/// What the other end has sent, in order.
struct StreamEvent {
  enum class Kind : std::uint8_t { data, end, exit, resize } kind = Kind::data;
  std::uint8_t channel = 0;
  std::string bytes;  ///< exit: its JSON
  std::uint16_t columns = 0, rows = 0;
};

class Stream : public std::enable_shared_from_this<Stream> {
 public:
  /// `both_end`: over when both sides sent `end`. Else over when the agent sent `end` or `exit`.
  Stream(std::weak_ptr<Peer> peer, Peer::Send send, std::uint32_t id, bool served, bool both_end);

  std::uint32_t id() const { return id_; }
  /// The next event; one at a time. After the last one, and after a reset, an error.
  Pending<StreamEvent> read();
  /// Done when all bytes are on their way.
  Pending<void> write(std::uint8_t channel, std::string bytes);
  /// end, exit, resize, opened: after all that was written before.
  void send(Frame frame);
  /// Ends it here and, if `tell`, at the other end.
  void reset(const Error& why, bool tell);

  /// Called once, when it is reset (at once if it was): who reads elsewhere for this stream stops.
  void when_reset(std::function<void()> call);

  /// Done when the other end has opened it.
  Pending<void> opened() const { return opened_.pending(); }
  void on_opened() { opened_.set({}); }
  /// From the other end. False: more data than the window allows.
  bool arrive(StreamEvent event);
  void credit(std::uint32_t bytes);

 private:
  struct Outgoing {
    Frame frame;
    std::size_t done = 0;  ///< bytes of the payload that are on their way (data)
    std::optional<Promise<void>> sent;
  };
  /// With mutex_ held: sends what credit allows; answers the promises to fulfil after unlocking.
  std::vector<Promise<void>> pump();
  bool over() const { return both_end_ ? sent_end_ && got_end_ : (served_ ? sent_end_ : got_end_); }
  void leave_if_over();

  const std::weak_ptr<Peer> peer_;
  const Peer::Send send_;
  const std::uint32_t id_;
  const bool served_, both_end_;
  const Promise<void> opened_;
  std::mutex mutex_;
  std::deque<StreamEvent> arrived_;
  std::size_t arrived_bytes_ = 0;  ///< arrived and not yet given back as credit
  std::size_t taken_bytes_ = 0;    ///< of those: read, to be given back soon
  std::optional<Promise<StreamEvent>> reader_;
  std::deque<Outgoing> out_;
  std::size_t credit_ = kWindowBytes;
  bool sent_end_ = false, got_end_ = false, left_ = false;
  std::optional<Error> error_;
  std::function<void()> on_reset_;
};

}  // namespace orchestra::tunnel
