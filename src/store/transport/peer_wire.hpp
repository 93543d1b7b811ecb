#pragma once
// What peers say to each other beside Raft messages: the handshake, requests, snapshot chunks. Pure
// (docs/formats/store-wire.md). A frame's first byte is its kind; the transport adds length and checksum.
#include <string>
#include <string_view>

#include "orchestra/result.hpp"
#include "store/disk/segment.hpp"
#include "store/raft/types.hpp"

namespace orchestra::store {

constexpr std::uint8_t kPeerProtocolVersion = 1;

enum class FrameKind : std::uint8_t {
  hello = 1,
  hello_answer,
  message,  ///< a Raft message
  request,  ///< id, kind, body; answered by `answer` on the asked peer's own connection
  answer,
  ping,
  pong,
  chunk,  ///< snapshot bytes at an offset
  chunk_answer,
  snapshot_end,  ///< all chunks were sent: the Raft message to install it
};

enum class Purpose : std::uint8_t {
  raft = 1,
  snapshot,
  enrol,   ///< a new peer asks who it is
  replace  ///< one whose files are damaged asks to be somebody new
};
constexpr Purpose kLastPurpose = Purpose::replace;

/// Who a new peer is.
struct Place {
  LogIdentity identity;
  Term term;  ///< as of which it takes part; none: from the beginning of its cluster
};

/// The first frame of a connection, from the side that dialled.
struct Hello {
  Purpose purpose = Purpose::raft;
  LogIdentity identity;  ///< the dialling peer's; enrol: zero; replace: who it was
  PeerId to;             ///< enrol: none
  std::string name;
  std::string address;  ///< where the dialling peer listens
  std::int64_t wall_ns = 0;
  bool fresh = false;            ///< its disk holds no entries yet
  std::uint64_t nonce = 0;       ///< enrol, replace: of this attempt
  std::uint64_t file_bytes = 0;  ///< snapshot: of the whole file
  Index index;                   ///< snapshot
  Term term;                     ///< snapshot; enrol, replace: not 0, it will keep Place::term
};
/// What a receiver says that tells each second of its verifying.
constexpr std::string_view kBeats = "beats";
/// The answer; an error closes the connection after it.
struct HelloAnswer {
  std::uint8_t code = 0;  ///< 0, or an Error::Code
  std::string text;       ///< of the error; without one, of a receiver of snapshots: kBeats
  std::int64_t wall_ns = 0;
  std::uint64_t offset =
      0;  ///< snapshot: what is there already; enrol, replace: Place::term; raft: commands known
  LogIdentity identity;  ///< enrol, replace: who you are
};

enum class RequestKind : std::uint8_t {
  propose = 1,
  lease_keep_alive,
  lease_time_to_live,
  lease_list,
  change_members,
  transfer,
  members,
  state_hash,  ///< of the state at a mark in the log
  diverged,    ///< from the leader: your state is not that of the majority
};
constexpr RequestKind kLastRequestKind = RequestKind::diverged;
struct Request {
  std::uint64_t id = 0;
  RequestKind kind{};
  std::string body;
};
struct Answer {
  std::uint64_t id = 0;
  std::uint8_t code = 0;  ///< 0, or an Error::Code; then body is its text
  std::string body;
};
struct Chunk {
  std::uint64_t offset = 0;
  std::string bytes;
};

std::string encode_hello(const Hello& hello);
Result<Hello> decode_hello(std::string_view frame);
std::string encode_hello_answer(const HelloAnswer& answer);
Result<HelloAnswer> decode_hello_answer(std::string_view frame);
std::string encode_request(const Request& request);
Result<Request> decode_request(std::string_view frame);
std::string encode_answer(const Answer& answer);
Result<Answer> decode_answer(std::string_view frame);
std::string encode_chunk(const Chunk& chunk);
Result<Chunk> decode_chunk(std::string_view frame);
std::string encode_chunk_answer(std::uint64_t offset, const std::string& error);
/// The offset up to which bytes are there; an error of the other side.
Result<std::uint64_t> decode_chunk_answer(std::string_view frame);
/// A frame with the kind in front of an encoded Message.
std::string encode_message_frame(FrameKind kind, const std::array<char, 16>& cluster,
                                 std::string_view message);
/// The encoded message, if the cluster id is the right one.
Result<std::string_view> message_of_frame(std::string_view frame, const std::array<char, 16>& cluster);

/// The kind of a frame, or an error for an unknown one.
Result<FrameKind> frame_kind(std::string_view frame);

}  // namespace orchestra::store
