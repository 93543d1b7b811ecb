#pragma once
// One call of grpc.health.v1.Health/Check over HTTP/2 in clear (RFC 9113, prior knowledge), for gRPC probes.
//
// Only what the call needs: our request is one HEADERS and one DATA frame with literal fields (RFC
// 7541, 6.2.2); of the answer only the message in the DATA frames of stream 1 counts, so no field block has
// to be decoded. An answer without a message (an error in the trailers) is a failure. Pure: bytes in, bytes
// out.
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "orchestra/result.hpp"

namespace orchestra::node {

class GrpcHealthCall {
 public:
  GrpcHealthCall(std::string authority, std::string service);
  /// What to send first.
  std::string request() const;
  /// Bytes of the peer; answers what to send in return. An error ends the call.
  Result<std::string> feed(std::string_view bytes);
  /// The peer has closed the connection.
  void closed() { done_ = true; }
  bool done() const { return done_; }
  /// HealthCheckResponse.ServingStatus: 1 is SERVING; nullopt: no message came.
  std::optional<int> status() const { return status_; }

 private:
  static constexpr std::size_t kFrameMax = 16384;   // what a peer may send without asking
  static constexpr std::size_t kMessageMax = 1024;  // the answer has a few octets
  void read_message();

  std::string authority_, service_, buffer_, message_;
  bool done_ = false;
  std::optional<int> status_;
};

/// Connects to ip:port and makes the call within `timeout`; blocks. Empty: SERVING, else why not.
std::string check_grpc_health(const std::string& ip, int port, const std::string& service,
                              std::chrono::nanoseconds timeout);

}  // namespace orchestra::node
