#include "node/grpc_health.hpp"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/fd.hpp"
#include "node/probes.hpp"

namespace orchestra::node {

namespace {

enum FrameType : unsigned char { kData = 0, kHeaders = 1, kReset = 3, kSettings = 4, kPing = 6, kGoAway = 7 };
constexpr unsigned char kEndStream = 1, kAck = 1, kEndHeaders = 4, kPadded = 8;

std::string frame(FrameType type, unsigned char flags, std::uint32_t stream, std::string_view payload) {
  std::string out;
  for (const int shift : {16, 8, 0}) out += static_cast<char>(payload.size() >> shift & 0xFFU);
  out += static_cast<char>(type);
  out += static_cast<char>(flags);
  for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(stream >> shift & 0xFFU);
  out += payload;
  return out;
}

// A literal field without indexing, name and value as they are. Lengths stay below 127: one octet each.
void add_field(std::string& block, std::string_view name, std::string_view value) {
  block += '\0';
  block += static_cast<char>(name.size());
  block += name;
  value = value.substr(0, 126);
  block += static_cast<char>(value.size());
  block += value;
}

}  // namespace

GrpcHealthCall::GrpcHealthCall(std::string authority, std::string service)
    : authority_(std::move(authority)), service_(std::move(service)) {}

std::string GrpcHealthCall::request() const {
  std::string fields;
  add_field(fields, ":method", "POST");
  add_field(fields, ":scheme", "http");
  add_field(fields, ":path", "/grpc.health.v1.Health/Check");
  add_field(fields, ":authority", authority_);
  add_field(fields, "content-type", "application/grpc");
  add_field(fields, "te", "trailers");
  add_field(fields, "user-agent", "kube-probe/1.35");
  std::string body;
  if (!service_.empty()) {  // HealthCheckRequest.service, field 1
    body += '\x0A';
    std::size_t length = service_.size();
    while (length > 127) {
      body += static_cast<char>(0x80U | (length & 0x7FU));
      length >>= 7U;
    }
    body += static_cast<char>(length);
    body += service_;
  }
  std::string message(1, '\0');  // not compressed
  for (const int shift : {24, 16, 8, 0}) message += static_cast<char>(body.size() >> shift & 0xFFU);
  message += body;
  return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(kSettings, 0, 0, "") +
         frame(kHeaders, kEndHeaders, 1, fields) + frame(kData, kEndStream, 1, message);
}

Result<std::string> GrpcHealthCall::feed(std::string_view bytes) {
  const auto bad = [](const std::string& why) { return Error(Error::invalid, "node", "gRPC probe: " + why); };
  std::string answer;
  buffer_ += bytes;
  while (!done_ && buffer_.size() >= 9) {
    const auto octet = [&](std::size_t i) { return static_cast<unsigned char>(buffer_[i]); };
    const std::size_t length = octet(0) << 16U | octet(1) << 8U | octet(2);
    if (length > kFrameMax) return bad("the peer does not speak HTTP/2");
    if (buffer_.size() < 9 + length) break;
    const unsigned char type = octet(3);
    const unsigned char flags = octet(4);
    const std::uint32_t stream = (octet(5) & 0x7FU) << 24U | octet(6) << 16U | octet(7) << 8U | octet(8);
    std::string payload = buffer_.substr(9, length);
    buffer_.erase(0, 9 + length);
    if (type == kSettings && (flags & kAck) == 0) answer += frame(kSettings, kAck, 0, "");
    if (type == kPing && (flags & kAck) == 0 && length == 8) answer += frame(kPing, kAck, 0, payload);
    if (type == kGoAway) return bad("the peer ended the connection (GOAWAY)");
    if (stream != 1) continue;
    if (type == kReset) return bad("the peer refused the call (RST_STREAM)");
    if (type == kData) {
      if ((flags & kPadded) != 0) {
        const std::size_t padding = payload.empty() ? 1 : static_cast<unsigned char>(payload[0]) + 1U;
        if (padding > payload.size()) return bad("a frame has more padding than octets");
        payload = payload.substr(1, payload.size() - padding);
      }
      message_ += payload;
      if (message_.size() > kMessageMax) return bad("the answer is longer than 1 KiB");
      read_message();
    }
    if ((type == kData || type == kHeaders) && (flags & kEndStream) != 0) done_ = true;
  }
  if (status_) done_ = true;
  return answer;
}

void GrpcHealthCall::read_message() {
  if (message_.size() < 5) return;
  const auto octet = [&](std::size_t i) { return static_cast<unsigned char>(message_[i]); };
  const std::size_t length =
      static_cast<std::size_t>(octet(1)) << 24U | octet(2) << 16U | octet(3) << 8U | octet(4);
  if (octet(0) != 0 || message_.size() < 5 + length) return;
  // HealthCheckResponse: status = 1, a varint; absent is 0, UNKNOWN.
  status_ = length >= 2 && octet(5) == 0x08 ? octet(6) & 0x7F : 0;
}

std::string check_grpc_health(const std::string& ip, int port, const std::string& service,
                              std::chrono::nanoseconds timeout) {
  const std::string shown = ip + ":" + std::to_string(port);
  std::string why;
  Fd fd = connect_within(ip, port, timeout, why);
  if (!fd) return why;
  GrpcHealthCall call(shown, service);
  // Time left is counted by the waits themselves; each takes at most what the earlier ones left.
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count();
  const auto wait_for = [&](short events) {
    pollfd waiting{fd.get(), events, 0};
    const int step = static_cast<int>(std::min<long long>(left, 20));
    const int ready = poll(&waiting, 1, step);
    if (ready == 0) left -= std::max(1, step);
    return ready > 0;
  };
  std::string out = call.request();
  char bytes[4096];
  while (!call.done() && left > 0) {
    if (!out.empty()) {
      if (!wait_for(POLLOUT)) continue;
      const ssize_t sent = send(fd.get(), out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno != EAGAIN) return "gRPC probe of " + shown + ": " + std::strerror(errno);
      if (sent > 0) out.erase(0, static_cast<std::size_t>(sent));
      continue;
    }
    if (!wait_for(POLLIN)) continue;
    const ssize_t got = recv(fd.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) continue;
    if (got <= 0) {
      call.closed();
      break;
    }
    auto answer = call.feed(std::string_view(bytes, static_cast<std::size_t>(got)));
    if (!answer) return answer.error().message();
    out += *answer;
  }
  if (!call.status()) {
    return call.done() ? "gRPC probe of " + shown + ": the service answered without a status"
                       : "gRPC probe of " + shown + ": timeout";
  }
  if (*call.status() == 1) return {};
  static constexpr const char* kNames[] = {"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"};
  const int status = *call.status();
  return std::string("service unhealthy (responded with \"") + (status < 4 ? kNames[status] : "?") + "\")";
}

}  // namespace orchestra::node
