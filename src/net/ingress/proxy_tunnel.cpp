// Tunnels: after 101 (WebSocket and other upgrades) bytes pass unread, both ways, each with one buffer.
#include "net/ingress/proxy_connection.hpp"

namespace orchestra::ingress {
namespace {
constexpr std::size_t kTunnelReadBytes = 16 << 10;
}

void ProxyConnection::begin_tunnel(const std::string& head_text) {
  state_ = State::tunnel;
  response_begun_ = true;
  deadline_->set(options().tunnel_idle_deadline, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->close();
  });
  to_client_ = head_text;
  client_busy_ = true;
  wire_->write({http::asio::buffer(to_client_)},
               [self = shared_from_this()](http::ErrorCode failed, std::size_t) {
                 self->client_busy_ = false;
                 if (failed || self->state_ == State::closed) return self->close();
                 self->tunnel_to_client();
               });
  tunnel_to_upstream();
}

/// Client to upstream server: what is buffered is written, then more is read.
void ProxyConnection::tunnel_to_upstream() {
  if (upstream_busy_ || state_ != State::tunnel) return;
  if (buffer_.empty()) {
    if (!ended_) return read_client();
    if (!std::exchange(request_sent_, false)) return;  // said already
    upstream_->wire->shutdown_write();
    return end_tunnel_half();
  }
  upstream_busy_ = true;
  const std::string_view bytes = buffer_.view();
  upstream_->wire->write(
      {http::asio::buffer(bytes.data(), bytes.size())},
      [self = shared_from_this(), size = bytes.size()](http::ErrorCode failed, std::size_t) {
        self->upstream_busy_ = false;
        if (failed || self->state_ == State::closed) return self->close();
        self->buffer_.consume(size);
        self->deadline_->extend(self->options().tunnel_idle_deadline);
        self->tunnel_to_upstream();
      });
}

void ProxyConnection::tunnel_to_client() {
  if (client_busy_ || state_ != State::tunnel) return;
  http::ReadBuffer& buffer = upstream_->buffer;
  if (buffer.empty()) {
    if (!upstream_ended_) {
      if (reading_upstream_) return;
      reading_upstream_ = true;
      char* room = buffer.prepare(kTunnelReadBytes);
      upstream_->wire->read_some(room, buffer.room(),
                                 [self = shared_from_this()](http::ErrorCode failed, std::size_t bytes) {
                                   if (self->state_ != State::closed) self->on_upstream_bytes(failed, bytes);
                                 });
      return;
    }
    wire_->shutdown_write();
    return end_tunnel_half();
  }
  client_busy_ = true;
  const std::string_view bytes = buffer.view();
  wire_->write({http::asio::buffer(bytes.data(), bytes.size())},
               [self = shared_from_this(), size = bytes.size()](http::ErrorCode failed, std::size_t) {
                 self->client_busy_ = false;
                 if (failed || self->state_ == State::closed) return self->close();
                 self->upstream_->buffer.consume(size);
                 self->deadline_->extend(self->options().tunnel_idle_deadline);
                 self->tunnel_to_client();
               });
}

/// One direction is done; the other goes on until it is done too.
void ProxyConnection::end_tunnel_half() {
  if (ended_ && upstream_ended_ && buffer_.empty() && upstream_->buffer.empty()) close();
}

}  // namespace orchestra::ingress
