#pragma once
// One request on one connection: resolve, connect, send, receive. Retries and redirects are the
// client's (client.cpp), which starts a new attempt for each.
//
//   resolving -> connecting -> handshaking -> exchanging -> ended
//
// While the request body goes out the answer is read already: a server that refuses an upload says so
// early. Everything happens on the strand of the connection.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/http_client.hpp"
#include "net/http/address.hpp"
#include "net/http/body.hpp"
#include "net/http/client_pool.hpp"
#include "net/http/forward_proxy.hpp"
#include "net/http/head.hpp"

namespace orchestra::http {

struct AttemptResult {
  Result<HttpResponse> response;
  bool stale = false;  ///< a reused connection was closed before the first byte of the answer
  bool sent = false;   ///< the server may have seen the request
  /// After 101, where it was asked for: the connection, with what was read ahead.
  std::unique_ptr<ClientConnection> upgraded = nullptr;
};

class ClientAttempt : public std::enable_shared_from_this<ClientAttempt> {
 public:
  using Done = std::function<void(AttemptResult)>;
  /// Decides by status and headers whether the caller's on_headers and on_body see this answer.
  using IsFinal = std::function<bool(int status, const std::map<std::string, std::string>& headers)>;

  ClientAttempt(Engine& engine, std::shared_ptr<ClientPool> pool, std::shared_ptr<HttpRequest> request,
                Url url, IsFinal is_final, Done done);
  /// To be called before start(): an answer 101 hands the connection over.
  void accept_upgrade() { accepts_upgrade_ = true; }
  void start(bool fresh_connection, Duration total_left);
  /// Any thread.
  void cancel();

 private:
  void resolve();
  void connect_next();
  void open_tunnel(Fd socket, int family);
  void read_tunnel_answer(Fd socket, int family);
  void refused_by_proxy(const std::string& why);
  void handshake(Fd socket, int family);
  void exchange();
  std::string head_text() const;
  void send_more();
  void sent_all();
  void receive();
  void on_read(ErrorCode failed, std::size_t bytes);
  bool take_head();
  bool take_body();
  bool deliver(std::string_view data);
  void complete();
  void hand_over();
  void fail(Error error);
  void fail_io(const std::string& what, ErrorCode failed);
  void expire(const std::string& what, Duration deadline);
  std::string where() const { return request_->method + " " + url_.text(); }

  Engine& engine_;
  std::shared_ptr<ClientPool> pool_;
  std::shared_ptr<HttpRequest> request_;
  const Url url_;
  IsFinal is_final_;
  Done done_;
  std::unique_ptr<ClientConnection> connection_;
  Strand strand_;
  SharedTlsContext tls_;
  std::optional<ForwardProxy> proxy_;
  std::shared_ptr<Wire> tunnel_;  ///< while the proxy is asked for a connection
  std::string tunnel_answer_;
  std::string key_;
  std::vector<SocketAddress> addresses_;
  std::size_t next_address_ = 0;
  std::string last_connect_error_;
  std::shared_ptr<Deadline> deadline_, total_;
  HeadScanner scanner_;
  BodyDecoder body_;
  HttpResponse response_;
  std::string out_;  ///< head, or the piece of the body being written
  std::size_t body_sent_ = 0;
  std::uint64_t bytes_received_ = 0;
  bool head_done_ = false, final_ = true, keep_alive_ = false, all_sent_ = false, any_sent_ = false,
       ended_ = false, accepts_upgrade_ = false;
};

}  // namespace orchestra::http
