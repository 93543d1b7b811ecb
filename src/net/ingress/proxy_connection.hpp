#pragma once
// One client connection of the proxy and the upstream connection of its current request.
//
//   head -> connecting -> exchanging -> head ...      keep-alive
//                                  \-> tunnel         after 101
//   any -> lingering -> closed                        an error of the client, or the end of keep-alive
//
// While exchanging, two pumps run side by side, each holding at most one buffer: request body to the
// upstream server, answer to the client. A pump reads again only when its last write is done, so a slow
// reader slows its own sender and nobody else. Everything happens on the worker's strand.
#include <memory>
#include <string>
#include <vector>

#include "net/http/body.hpp"
#include "net/http/head.hpp"
#include "net/http/read_buffer.hpp"
#include "net/ingress/worker.hpp"

namespace orchestra::ingress {

class ProxyConnection : public std::enable_shared_from_this<ProxyConnection> {
 public:
  ProxyConnection(std::shared_ptr<Worker> worker, std::shared_ptr<http::Wire> wire, std::string client_ip,
                  std::string local_port, bool tls);

  // On the strand:
  void start();
  void drain();  ///< ends when idle, else after the current answer
  void close();

  const http::Strand& strand() const { return wire_->strand(); }
  const std::string& client_ip() const { return client_ip_; }

 private:
  enum class State : std::uint8_t { head, connecting, exchanging, tunnel, lingering, closed };
  /// The current request.
  struct Request {
    std::string method, upstream_head;
    http::Framing framing = http::Framing::none;
    int minor_version = 1;
    bool keep_alive = true, upgrade = false, idempotent = false;
    std::shared_ptr<const Published> published;
    const Route* route = nullptr;
    std::shared_ptr<const Backend> backend;  ///< of the route, or the one that its split chose
    std::shared_ptr<TrafficCounters> counters;
    bool held = false;  ///< it waited for the first endpoint
    std::uint64_t body_bytes = 0;
    bool body_taken = false;         ///< bytes of the body went out: the request cannot be sent again
    std::vector<std::string> tried;  ///< endpoints that refused the connection
    std::string avoid;               ///< the endpoint that closed without an answer
    int losses = 0;
  };

  // The client's side (proxy_connection.cpp)
  void read_client();
  void advance();
  void advance_head();
  void await_head();
  void head_expired();
  bool begin_request(const http::Head& head);
  void choose_backend(const http::Head& head, std::string_view query);
  void refuse(int status, const std::string& why);
  void answer_error(int status, const std::string& why);
  void linger();
  void advance_lingering();
  void end_exchange();

  // The upstream side (proxy_exchange.cpp)
  void choose_upstream();
  void hold_request();
  void resume_request();
  void connect(const Endpoint& endpoint);
  void on_connected(const std::string& endpoint, http::ErrorCode failed, Fd socket);
  void send_request();
  void pump_request();
  void read_upstream();
  void on_upstream_bytes(http::ErrorCode failed, std::size_t bytes);
  void on_upstream_lost(http::ErrorCode failed);
  bool take_response_head();
  void forward_interim(const http::Head& head);
  void pump_response(std::string head_text);
  void finish_response();
  void fail_upstream(int status, const std::string& why);

  // Tunnels (proxy_tunnel.cpp)
  void begin_tunnel(const std::string& head_text);
  void tunnel_to_upstream();
  void tunnel_to_client();
  void end_tunnel_half();

  void set_deadline(Duration delay, int status, const char* why);
  void expired(int status, const char* why);
  const HttpProxyOptions& options() const { return worker_->shared().options; }

  const std::shared_ptr<Worker> worker_;
  const std::shared_ptr<http::Wire> wire_;
  const std::string client_ip_, local_port_;
  const bool tls_;
  std::string server_name_;  ///< of the TLS handshake
  std::shared_ptr<http::Deadline> deadline_;
  http::ReadBuffer buffer_;
  http::HeadScanner scanner_;
  State state_ = State::head;
  bool reading_ = false, ended_ = false, draining_ = false, head_begun_ = false, first_ = true;
  bool client_busy_ = false;    ///< a write to the client is outstanding
  bool upstream_busy_ = false;  ///< a write to the upstream server is outstanding; it may point into buffer_
  bool reading_upstream_ = false, upstream_ended_ = false;
  std::size_t lingered_bytes_ = 0;

  Request request_;
  http::BodyDecoder request_body_, response_body_;
  bool request_sent_ = false;    ///< the whole of it, or nobody wants the rest
  bool response_begun_ = false;  ///< bytes of it went to the client
  std::uint64_t response_bytes_ = 0;
  http::HeadScanner response_scanner_;
  http::Framing delivered_framing_ = http::Framing::none;
  bool upstream_reusable_ = false;
  std::uint64_t attempt_ = 0;
  std::unique_ptr<UpstreamConnection> upstream_;
  std::string to_upstream_, to_client_;  ///< what the outstanding writes point to
};

}  // namespace orchestra::ingress
