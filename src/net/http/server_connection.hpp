#pragma once
// One connection of an HttpServer: a state machine over a Wire.
//
//   head -> body -> handling -> (answer written) -> head ...      keep-alive
//                        \-> upgraded                             the caller's from here
//   any -> lingering -> closed                                    an error of the client was answered
//
// One read is outstanding at most, also while a request is being handled: that is how we notice that the
// client went away. Everything happens on the wire's strand; responders post to it from any thread.
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/http/body.hpp"
#include "net/http/head.hpp"
#include "net/http/read_buffer.hpp"
#include "net/http/server_session.hpp"
#include "net/http/wire.hpp"

namespace orchestra::http {

class ServerConnection final : public ServerSession {
 public:
  ServerConnection(std::shared_ptr<ServerShared> shared, std::shared_ptr<Wire> wire,
                   std::string peer_address);

  void start() override;
  void drain() override;  ///< ends when idle, else after the current answer
  void abort() override;

  void respond(Turn turn, int status, const Headers& headers, Parts parts) override;
  void begin_stream(Turn turn, int status, const Headers& headers) override;
  void write_chunk(Turn turn, std::string bytes, Promise<void> written) override;
  std::optional<Pending<void>> write_chunk_now(Turn turn,
                                               const std::shared_ptr<const std::string>& bytes) override;
  void finish_stream(Turn turn) override;
  void abort_stream(Turn turn) override;
  void begin_upgrade(Turn turn, const Headers& headers) override;
  void add_on_closed(Turn turn, std::function<void()> call) override;
  void upgraded_read(Turn turn, std::size_t bytes_max, Promise<std::string> reader) override;
  void upgraded_write(Turn turn, std::string bytes, Promise<void> written) override;
  void upgraded_close_write(Turn turn) override;
  void upgraded_close(Turn turn) override;

  const Strand& strand() const override { return wire_->strand(); }

 private:
  std::shared_ptr<ServerConnection> shared_from_this() {
    return std::static_pointer_cast<ServerConnection>(ServerSession::shared_from_this());
  }
  std::weak_ptr<ServerConnection> weak_from_this() { return shared_from_this(); }

  enum class State : std::uint8_t { head, body, handling, upgraded, lingering, closed };
  struct Write {
    std::vector<std::shared_ptr<const std::string>> parts;
    std::function<void(ErrorCode)> done;
  };

  void hand_over();
  void read_more();
  void on_read(ErrorCode failed, std::size_t bytes);
  void advance();
  bool advance_head();
  bool take_head(const Head& head);
  void await_head();
  void head_expired();
  bool advance_body();
  void advance_upgraded();
  void advance_lingering();
  void dispatch();
  void refuse(int status, const char* why);
  void linger();
  void end_of_answer();
  void peer_gone();
  void call_on_closed();
  void close();

  void enqueue(Parts parts, std::function<void(ErrorCode)> done);
  void enqueue_chunk(Parts parts, Promise<void> written);
  void write_next();
  std::string head_text(int status, const Headers& headers, std::optional<std::uint64_t> length) const;

  std::shared_ptr<ServerShared> shared_;
  std::shared_ptr<Wire> wire_;
  std::shared_ptr<Deadline> deadline_;
  ReadBuffer buffer_;
  HeadScanner scanner_;
  BodyDecoder body_;
  HttpServerRequest request_;
  HttpPeer peer_;
  State state_ = State::head;
  Turn turn_ = 0;
  bool reading_ = false, writing_ = false, ended_ = false;  // ended_: no more bytes will come
  bool draining_ = false, head_begun_ = false;
  bool keep_alive_ = true, head_request_ = false, answered_ = false, streaming_ = false, chunked_ = false;
  int minor_version_ = 1;
  std::size_t lingered_bytes_ = 0;
  std::deque<Write> writes_;
  std::vector<std::function<void()>> on_closed_;
  std::optional<Promise<std::string>> reader_;
  std::size_t reader_bytes_max_ = 0;
};

}  // namespace orchestra::http
