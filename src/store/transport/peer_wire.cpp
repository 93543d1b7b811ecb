// Frames between peers as bytes (peer_wire.hpp).
#include "store/transport/peer_wire.hpp"

#include "store/mvcc/wire.hpp"

namespace orchestra::store {
namespace {

constexpr std::uint32_t kHelloMagic = 0x5043524F;  // "ORCP"
constexpr std::size_t kTextMax = 4096;

Error malformed(const char* what) {
  return Error(Error::corrupt, "store", std::string("malformed ") + what + " frame of a peer");
}
void write_identity(Writer& out, std::string& bytes, const LogIdentity& identity) {
  bytes.append(identity.cluster.data(), identity.cluster.size());
  out.u32(identity.epoch);
  out.u64(identity.peer);
}
LogIdentity read_identity(Reader& in) {
  LogIdentity identity;
  for (char& c : identity.cluster) c = static_cast<char>(in.u8());
  identity.epoch = in.u32();
  identity.peer = in.u64();
  return identity;
}
bool begins(Reader& in, FrameKind kind) { return in.u8() == static_cast<std::uint8_t>(kind); }
void begin(Writer& out, FrameKind kind) { out.u8(static_cast<std::uint8_t>(kind)); }

}  // namespace

std::string encode_hello(const Hello& hello) {
  std::string bytes;
  Writer out(bytes);
  begin(out, FrameKind::hello);
  out.u32(kHelloMagic);
  out.u8(kPeerProtocolVersion);
  out.u8(static_cast<std::uint8_t>(hello.purpose));
  write_identity(out, bytes, hello.identity);
  out.u64(hello.to.value);
  out.bytes(hello.name);
  out.bytes(hello.address);
  out.u64(static_cast<std::uint64_t>(hello.wall_ns));
  out.u8(hello.fresh ? 1 : 0);
  out.u64(hello.nonce);
  out.u64(hello.file_bytes);
  out.u64(hello.index.value);
  out.u64(hello.term.value);
  return bytes;
}

Result<Hello> decode_hello(std::string_view frame) {
  Reader in(frame);
  Hello hello;
  if (!begins(in, FrameKind::hello) || in.u32() != kHelloMagic) {
    return Error(Error::invalid, "store", "the other side does not speak the protocol of store peers");
  }
  const std::uint8_t version = in.u8();
  if (in.ok() && version != kPeerProtocolVersion) {
    return Error(Error::unsupported, "store",
                 "the other side speaks version " + std::to_string(version) +
                     " of the peer protocol, this one version 1: run releases that are one step apart");
  }
  const std::uint8_t purpose = in.u8();
  if (purpose < 1 || purpose > static_cast<std::uint8_t>(kLastPurpose)) return malformed("hello");
  hello.purpose = static_cast<Purpose>(purpose);
  hello.identity = read_identity(in);
  hello.to = PeerId{in.u64()};
  hello.name = in.bytes();
  hello.address = in.bytes();
  hello.wall_ns = static_cast<std::int64_t>(in.u64());
  hello.fresh = in.u8() != 0;
  hello.nonce = in.u64();
  hello.file_bytes = in.u64();
  hello.index = Index{in.u64()};
  hello.term = Term{in.u64()};
  if (!in.done() || hello.name.size() > kTextMax || hello.address.size() > kTextMax)
    return malformed("hello");
  return hello;
}

std::string encode_hello_answer(const HelloAnswer& answer) {
  std::string bytes;
  Writer out(bytes);
  begin(out, FrameKind::hello_answer);
  out.u8(kPeerProtocolVersion);
  out.u8(answer.code);
  out.bytes(answer.text);
  out.u64(static_cast<std::uint64_t>(answer.wall_ns));
  out.u64(answer.offset);
  write_identity(out, bytes, answer.identity);
  return bytes;
}

Result<HelloAnswer> decode_hello_answer(std::string_view frame) {
  Reader in(frame);
  HelloAnswer answer;
  if (!begins(in, FrameKind::hello_answer)) return malformed("hello answer");
  const std::uint8_t version = in.u8();
  answer.code = in.u8();
  answer.text = in.bytes();
  answer.wall_ns = static_cast<std::int64_t>(in.u64());
  answer.offset = in.u64();
  answer.identity = read_identity(in);
  if (!in.done() || version != kPeerProtocolVersion || answer.code > Error::internal)
    return malformed("hello answer");
  return answer;
}

std::string encode_request(const Request& request) {
  std::string bytes;
  bytes.reserve(request.body.size() + 12);
  Writer out(bytes);
  begin(out, FrameKind::request);
  out.u64(request.id);
  out.u8(static_cast<std::uint8_t>(request.kind));
  bytes.append(request.body);
  return bytes;
}
Result<Request> decode_request(std::string_view frame) {
  Reader in(frame);
  Request request;
  if (!begins(in, FrameKind::request)) return malformed("request");
  request.id = in.u64();
  const std::uint8_t kind = in.u8();
  if (!in.ok() || kind < 1 || kind > static_cast<std::uint8_t>(kLastRequestKind)) return malformed("request");
  request.kind = static_cast<RequestKind>(kind);
  request.body = frame.substr(frame.size() - in.left());
  return request;
}

std::string encode_answer(const Answer& answer) {
  std::string bytes;
  bytes.reserve(answer.body.size() + 12);
  Writer out(bytes);
  begin(out, FrameKind::answer);
  out.u64(answer.id);
  out.u8(answer.code);
  bytes.append(answer.body);
  return bytes;
}
Result<Answer> decode_answer(std::string_view frame) {
  Reader in(frame);
  Answer answer;
  if (!begins(in, FrameKind::answer)) return malformed("answer");
  answer.id = in.u64();
  answer.code = in.u8();
  if (!in.ok() || answer.code > Error::internal) return malformed("answer");
  answer.body = frame.substr(frame.size() - in.left());
  return answer;
}

std::string encode_chunk(const Chunk& chunk) {
  std::string bytes;
  bytes.reserve(chunk.bytes.size() + 12);
  Writer out(bytes);
  begin(out, FrameKind::chunk);
  out.u64(chunk.offset);
  bytes.append(chunk.bytes);
  return bytes;
}
Result<Chunk> decode_chunk(std::string_view frame) {
  Reader in(frame);
  Chunk chunk;
  if (!begins(in, FrameKind::chunk)) return malformed("chunk");
  chunk.offset = in.u64();
  if (!in.ok()) return malformed("chunk");
  chunk.bytes = frame.substr(frame.size() - in.left());
  return chunk;
}

std::string encode_chunk_answer(std::uint64_t offset, const std::string& error) {
  std::string bytes;
  Writer out(bytes);
  begin(out, FrameKind::chunk_answer);
  out.u64(offset);
  bytes.append(error);
  return bytes;
}
Result<std::uint64_t> decode_chunk_answer(std::string_view frame) {
  Reader in(frame);
  if (!begins(in, FrameKind::chunk_answer)) return malformed("chunk answer");
  const std::uint64_t offset = in.u64();
  if (!in.ok()) return malformed("chunk answer");
  if (!in.empty()) {
    return Error(
        Error::unavailable, "store",
        "the other side refused the snapshot: " + std::string(frame.substr(frame.size() - in.left())));
  }
  return offset;
}

std::string encode_message_frame(FrameKind kind, const std::array<char, 16>& cluster,
                                 std::string_view message) {
  std::string bytes;
  bytes.reserve(message.size() + 17);
  Writer out(bytes);
  begin(out, kind);
  bytes.append(cluster.data(), cluster.size());
  bytes.append(message);
  return bytes;
}
Result<std::string_view> message_of_frame(std::string_view frame, const std::array<char, 16>& cluster) {
  if (frame.size() < 17) return malformed("message");
  if (frame.substr(1, 16) != std::string_view(cluster.data(), 16))
    return Error(Error::invalid, "store", "a message of another cluster");
  return frame.substr(17);
}

Result<FrameKind> frame_kind(std::string_view frame) {
  if (frame.empty()) return malformed("empty");
  const auto kind = static_cast<std::uint8_t>(frame[0]);
  if (kind < 1 || kind > static_cast<std::uint8_t>(FrameKind::snapshot_end)) return malformed("unknown");
  return static_cast<FrameKind>(kind);
}

}  // namespace orchestra::store
