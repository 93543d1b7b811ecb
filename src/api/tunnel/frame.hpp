#pragma once
// What goes over a node tunnel (peer.hpp), as a pure codec: one message is one frame.
//
//   byte 0     type
//   bytes 1-4  stream, big endian; 0: the tunnel itself. The API server numbers them from 1 up, never again
//   the rest   by type, see below
//
// Whoever sends what this does not allow ends the connection; frames of a stream that is not known (any
// more) are dropped by the receiver, because both ends may end a stream at the same time.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/pod_streams.hpp"
#include "orchestra/metrics_source.hpp"

namespace orchestra::tunnel {

/// Where the agent of a node asks for its tunnel: /apis/GROUP/VERSION/RESOURCE/NODE/SUBRESOURCE, as a
/// WebSocket.
inline constexpr std::string_view kGroup = "orchestra.dev", kVersion = "v1", kResource = "nodes",
                                  kSubresource = "tunnel";

/// Bytes of data that a stream may have under way in one direction before the reader has taken some.
constexpr std::size_t kWindowBytes = 128 << 10;
/// Of one data frame, so that streams take turns.
constexpr std::size_t kDataBytesMax = 32 << 10;
/// Of one message: statistics of a node with hundreds of pods fit.
constexpr std::size_t kMessageBytesMax = 2 << 20;
/// Streams of one node at a time; one more is refused with `overloaded`.
constexpr std::size_t kStreamsMax = 256;

enum class FrameType : std::uint8_t {
  open = 1,        ///< server -> agent; payload: JSON of a Request
  opened = 2,      ///< agent -> server
  data = 3,        ///< payload: one byte of channel (0 input, 1 output, 2 error output), then bytes
  credit = 4,      ///< payload: 4 bytes, how many bytes of data the reader has taken
  end = 5,         ///< the sender has no more data
  exit = 6,        ///< agent -> server: the process ended; payload: JSON {"code", "error"?}; nothing follows
  resize = 7,      ///< server -> agent; payload: columns and rows, 2 bytes each
  reset = 8,       ///< the stream is over; payload: JSON of an error
  statistics = 9,  ///< agent -> server, stream 0; payload: JSON of Statistics
};

struct Frame {
  FrameType type = FrameType::data;
  std::uint32_t stream = 0;
  std::string payload;  ///< of data: without the channel
  std::uint8_t channel = 0;
  std::uint32_t credit = 0;
  std::uint16_t columns = 0, rows = 0;
};

std::string encode(const Frame& frame);
/// `invalid` says what is wrong with it.
Result<Frame> decode(std::string_view message);

/// What a stream is opened for.
struct Request {
  enum class Kind : std::uint8_t { log, exec, port_forward, page } kind = Kind::log;
  PodTarget target;
  LogOptions log;
  ExecOptions exec;  ///< no command: attach
  int port = 0;
  std::string path = {};  ///< of a page
};
std::string encode_request(const Request& request);
Result<Request> decode_request(const std::string& json);

std::string encode_error(const Error& error);
Error decode_error(const std::string& json);

std::string encode_exit(const ProcessChunk& exit);
Result<ProcessChunk> decode_exit(const std::string& json);

/// The data of a page: a line of JSON {"code", "contentType"}, then the body.
std::string encode_page(const NodePage& page);
Result<NodePage> decode_page(const std::string& bytes);

/// What a node and its pods use, from the agent's last pass.
struct Statistics {
  std::vector<PodUse> pods;
  std::vector<NodeUse> nodes;
};
std::string encode_statistics(const Statistics& statistics);
Result<Statistics> decode_statistics(const std::string& json);

}  // namespace orchestra::tunnel
