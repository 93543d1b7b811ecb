#pragma once
// One HTTP/2 connection of an HttpServer (RFC 9113), on a Wire like an HTTP/1.1 one, with the same
// responders: a stream of the connection is one turn of the session.
//
// libnghttp2 knows frames, header compression, flow control and the rules between them; this file keeps
// requests and answers, and the bounds. Nothing of ours is called from inside of the library: callbacks
// note what happened, and pump() does it afterwards. One read is outstanding always (else no window would
// open), one write at most: what does not fit into it stays with its stream, whose writer waits.
//
// What bounds a client: streams at once, head and body of a request, bytes of unfinished requests, bytes of
// answers that it does not read (then new streams are refused, which clients repeat later), time for the
// first settings, for a head, for a body, and without any progress. The library counts resets,
// acknowledgements that pile up, settings and CONTINUATION frames (CVE-2023-44487, -2019-9512, -9515,
// -2024-28182) and ends the connection.
#include <nghttp2/nghttp2.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "net/http/server_session.hpp"

namespace orchestra::http {

class Http2Connection final : public ServerSession {
 public:
  Http2Connection(std::shared_ptr<ServerShared> shared, std::shared_ptr<Wire> wire, HttpPeer peer);
  ~Http2Connection() override;

  void start() override;
  void drain() override;  ///< GOAWAY; ends after the streams that are open
  void abort() override;

  void respond(Turn turn, int status, const Headers& headers, Parts parts) override;
  void begin_stream(Turn turn, int status, const Headers& headers) override;
  void write_chunk(Turn turn, std::string bytes, Promise<void> written) override;
  void finish_stream(Turn turn) override;
  void abort_stream(Turn turn) override;
  void add_on_closed(Turn turn, std::function<void()> call) override;
  // A stream cannot be taken over: HTTP_1_1_REQUIRED.
  void begin_upgrade(Turn turn, const Headers& headers) override;
  void upgraded_read(Turn turn, std::size_t bytes_max, Promise<std::string> reader) override;
  void upgraded_write(Turn turn, std::string bytes, Promise<void> written) override;
  void upgraded_close_write(Turn) override {}
  void upgraded_close(Turn) override {}

  const Strand& strand() const override { return wire_->strand(); }

 private:
  using StreamId = std::int32_t;
  using Done = std::function<void(ErrorCode)>;
  struct Piece {
    std::shared_ptr<const std::string> bytes;
    std::size_t sent = 0;
    Done done = nullptr;
  };
  struct Stream {
    HttpServerRequest request;
    std::size_t request_bytes = 0, fields = 0;
    int refusal = 0;  ///< status, when the request breaks a bound
    const char* why = "";
    bool head_ended = false, request_ended = false, handled = false;  // handled: a responder has it
    bool whole = false;                                               ///< the answer was given in one piece
    bool answered = false, streaming = false, bodyless = false;
    bool finished = false;  ///< no piece will follow those in the queue
    std::deque<Piece> pieces;
    std::vector<std::function<void()>> on_closed;
  };
  struct Waiting {  ///< for the end of a request's body
    StreamId id;
    std::int64_t until_ns;
  };
  enum class State : std::uint8_t { open, lingering, closed };
  struct Callbacks;

  std::shared_ptr<Http2Connection> self() {
    return std::static_pointer_cast<Http2Connection>(shared_from_this());
  }
  std::int64_t now_ns() const;

  // What the library tells, from inside of it.
  void on_begin_head(StreamId id);
  void on_field(StreamId id, std::string_view name, std::string_view value);
  void on_frame(const nghttp2_frame& frame);
  void on_head(const nghttp2_frame& frame);
  void on_data(StreamId id, std::string_view bytes);
  void on_frame_sent(const nghttp2_frame& frame);
  void on_stream_closed(StreamId id, std::uint32_t code);
  ssize_t next_length(StreamId id, std::size_t length_max, std::uint32_t& flags);
  int take_data(StreamId id, std::string_view frame_head, std::size_t length);

  // Outside of it.
  void read_more();
  void on_read(ErrorCode failed, std::size_t bytes);
  void pump();
  void dispatch(StreamId id);
  void write_more();
  void end_if_over();
  void fail(std::uint32_t code);
  void linger();
  void close();
  void set_deadline();
  void deadline_passed();

  Stream* find(StreamId id);
  Stream* find_unanswered(Turn turn);
  void refuse(StreamId id, Stream& stream, int status, const char* why);
  void submit_head(StreamId id, Stream& stream, int status, const Headers& headers,
                   const std::uint64_t* length);
  void enqueue(StreamId id, Stream& stream, std::shared_ptr<const std::string> bytes, Done done);
  void reset(StreamId id, std::uint32_t code);

  std::shared_ptr<ServerShared> shared_;
  std::shared_ptr<Wire> wire_;
  HttpPeer peer_;
  std::shared_ptr<Deadline> deadline_;
  nghttp2_session* session_ = nullptr;
  State state_ = State::open;
  std::unordered_map<StreamId, Stream> streams_;
  std::vector<StreamId> ready_;               ///< requests that are complete
  std::vector<std::function<void()>> after_;  ///< what to tell users once the library has returned
  std::deque<Waiting> waiting_;               ///< oldest first
  std::size_t request_bytes_ = 0;             ///< of requests that no handler has yet
  std::size_t unsent_bytes_ = 0;              ///< of answers
  std::size_t whole_bytes_ = 0;  ///< of those given whole; what comes in pieces waits in its writer
  std::unique_ptr<char[]> input_;
  std::string output_;         ///< of the write that is outstanding
  std::vector<Done> written_;  ///< whose bytes are in it
  bool reading_ = false, writing_ = false, pumping_ = false, write_ended_ = false;
  bool settled_ = false;  ///< the client's first SETTINGS came
  bool draining_ = false, draining_told_ = false;
  std::int64_t began_ns_ = 0, head_ns_ = 0, idle_ns_ = 0, progress_ns_ = 0;  // 0: not running
  std::int64_t due_ns_ = INT64_MAX;
  StreamId head_id_ = 0;
  std::size_t lingered_bytes_ = 0;
};

}  // namespace orchestra::http
