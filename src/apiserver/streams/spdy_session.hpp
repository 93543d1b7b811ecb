#pragma once
// The server's side of a SPDY/3.1 connection: streams that the client opens, each with headers, data in
// order and an end in both directions.
//
// Data that a stream's reader has not taken is kept up to 64 KiB; past that the whole connection is not
// read on. Writers wait for the kernel, not for window updates: the clients there are (Go's spdystream) do
// not send any.
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "apiserver/streams/frame_sink.hpp"
#include "apiserver/streams/remote_command.hpp"
#include "apiserver/streams/spdy_codec.hpp"

namespace orchestra::apiserver {

class SpdySession;

class SpdyStream : public std::enable_shared_from_this<SpdyStream> {
 public:
  /// `bytes` may be empty with `end`. The next piece comes when `taken` is called.
  using OnData = std::function<void(std::string bytes, bool end, std::function<void()> taken)>;
  SpdyStream(std::shared_ptr<SpdySession> session, std::uint32_t id, SpdyHeaders headers)
      : session_(std::move(session)), id_(id), headers_(std::move(headers)) {}
  std::uint32_t id() const { return id_; }
  std::string header(const std::string& name) const;
  void on_data(OnData call);
  Pending<void> write(std::string_view bytes);
  /// Ends our direction.
  void finish();
  void reset();

 private:
  friend class SpdySession;
  void arrived(std::string bytes, bool end);
  void deliver();
  void abandon();
  std::size_t queued() const;
  std::weak_ptr<SpdySession> session_;
  const std::uint32_t id_;
  const SpdyHeaders headers_;
  mutable std::mutex mutex_;
  OnData on_data_;
  std::deque<std::pair<std::string, bool>> queue_;
  std::size_t queued_bytes_ = 0;
  bool delivering_ = false, ended_ = false, finished_ = false;
};

class SpdySession : public std::enable_shared_from_this<SpdySession> {
 public:
  static constexpr std::size_t kStreamsMax = 1000;
  static constexpr std::size_t kQueuedBytesMax = 64 << 10;
  SpdySession(Engine& engine, std::shared_ptr<DuplexStream> connection);
  using OnStream = std::function<void(std::shared_ptr<SpdyStream>)>;
  void start(OnStream on_stream, std::function<void()> on_closed);
  /// GOAWAY; the connection ends when the client closes it, or after some seconds.
  void close();

 private:
  friend class SpdyStream;
  void read();
  void handle();
  bool take(SpdyFrame frame);
  void drained();
  void closed();
  bool crowded();

  Engine& engine_;
  std::shared_ptr<DuplexStream> connection_;
  std::shared_ptr<FrameSink> sink_;
  SpdyParser parser_;  ///< touched by the one read that is under way
  std::mutex mutex_;
  OnStream on_stream_;
  SpdyWriter writer_;  ///< header blocks must be made in the order in which they are sent
  std::function<void()> on_closed_;
  std::map<std::uint32_t, std::shared_ptr<SpdyStream>> streams_;
  std::uint32_t last_stream_ = 0;
  bool paused_ = false, ended_ = false;
};

/// What X-Stream-Protocol-Version has agreed on.
struct SpdyCoding {
  bool resizes = true;          ///< v3 and later: there is a stream for sizes of the terminal
  bool status_as_text = false;  ///< before v4: the error stream has text, and only of a failure
};
/// exec and attach over SPDY: one stream per channel, named by the header streamType.
std::shared_ptr<RemoteChannels> make_spdy_channels(Engine& engine, std::shared_ptr<DuplexStream> connection,
                                                   const ExecOptions& options, SpdyCoding coding);

/// Port-forward: pairs of error and data streams, each pair a connection into the pod.
void run_port_forward(Engine& engine, std::shared_ptr<DuplexStream> connection, PodTarget target,
                      std::shared_ptr<PodStreams> streams);

}  // namespace orchestra::apiserver
