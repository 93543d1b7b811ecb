#include "net/dns/upstream_query.hpp"

#include <sys/socket.h>

#include <cerrno>

#include "orchestra/env.hpp"

namespace orchestra::dns {
namespace {

using http::ErrorCode;

std::string mix_case(std::string name, std::uint64_t bits) {
  for (char& c : name) {
    const bool letter = c >= 'a' && c <= 'z';
    if (letter && (bits & 1) != 0) c = static_cast<char>(c - 32);
    if (letter) bits = bits >> 1 | bits << 63;
  }
  return name;
}

}  // namespace

UpstreamQuery::UpstreamQuery(Engine& engine, http::Strand strand, Upstream server, UpstreamQuestion question,
                             Done done)
    : engine_(engine),
      strand_(std::move(strand)),
      server_(std::move(server)),
      question_(std::move(question)),
      done_(std::move(done)),
      deadline_(std::make_shared<http::Deadline>(engine, strand_)) {
  std::uint64_t bits[2] = {};
  engine_.random().fill(bits, sizeof bits);
  id_ = static_cast<std::uint16_t>(bits[0]);
  question_.question.sent = mix_case(question_.question.name, bits[1]);
  packet_ = write_query(id_, question_.question, question_.dnssec_ok, question_.checking_disabled, {},
                        server_.tls ? kQueryBlock : 0);
}

void UpstreamQuery::start(Duration deadline) {
  deadline_->set(deadline, [weak = weak_from_this()] {
    if (const auto self = weak.lock())
      self->finish(self->failure(Error::deadline_exceeded, "no answer in time"));
  });
  if (server_.tls) return start_tcp();
  const http::SocketAddress& address = server_.address;
  Fd fd(::socket(address.family(), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // connect() takes a random free port, and the kernel then drops what others send to it.
  if (!fd || ::connect(fd.get(), address.get(), address.size) != 0 ||
      ::send(fd.get(), packet_.data(), packet_.size(), MSG_NOSIGNAL) < 0) {
    return finish(failure(Error::unavailable, std::string("send: ") + ::strerror(errno)));
  }
  udp_ = std::make_unique<Descriptor>(strand_, fd.release());
  wait_udp();
}

void UpstreamQuery::wait_udp() {
  udp_->async_wait(Descriptor::wait_read, [self = shared_from_this()](ErrorCode failed) {
    if (!failed && self->done_) self->read_udp();
  });
}

void UpstreamQuery::read_udp() {
  char packet[4096];
  while (done_) {
    const ssize_t size = ::recv(udp_->native_handle(), packet, sizeof packet, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return wait_udp();
    if (size < 0) return finish(failure(Error::unavailable, ::strerror(errno)));
    auto message = read_message({packet, static_cast<std::size_t>(size)});
    if (!message || !is_answer(*message, false)) continue;  // not ours: keep waiting for the true one
    if (message->truncated || !is_answer(*message, true)) return start_tcp();
    return finish(std::move(*message));
  }
}

bool UpstreamQuery::is_answer(const Message& message, bool exact_case) const {
  if (!message.response || message.id != id_ || !message.question) return false;
  const Question& seen = *message.question;
  return seen.name == question_.question.name && seen.type == question_.question.type &&
         seen.klass == question_.question.klass && (!exact_case || seen.sent == question_.question.sent);
}

void UpstreamQuery::start_tcp() {
  ErrorCode ignored;
  if (udp_) udp_->close(ignored);
  http::connect_socket(strand_, server_.address, [self = shared_from_this()](ErrorCode failed, Fd socket) {
    if (!self->done_) return;
    if (failed) return self->finish(self->failure(Error::unavailable, "connect by TCP: " + failed.message()));
    const int family = self->server_.address.family();
    if (!self->server_.tls) {
      self->tcp_ = http::make_plain_wire(self->strand_, std::move(socket), family);
      return self->send_tcp();
    }
    self->tcp_ = http::make_tls_wire(self->strand_, std::move(socket), family, self->server_.tls,
                                     http::TlsRole::client, self->server_.tls_name);
    self->tcp_->handshake([self](ErrorCode refused) {
      if (!self->done_) return;
      if (!refused) return self->send_tcp();
      const std::string why = self->tcp_->tls_verify_error();
      self->finish(self->failure(Error::unavailable, "TLS: " + (why.empty() ? refused.message() : why)));
    });
  });
}

void UpstreamQuery::send_tcp() {
  const std::size_t size = packet_.size();
  packet_.insert(0, {static_cast<char>(size >> 8), static_cast<char>(size & 0xff)});
  tcp_->write({http::asio::buffer(packet_)}, [self = shared_from_this()](ErrorCode, std::size_t) {});
  read_tcp();
}

void UpstreamQuery::read_tcp() {
  char* room = buffer_.prepare(4096);
  tcp_->read_some(room, buffer_.room(), [self = shared_from_this()](ErrorCode failed, std::size_t bytes) {
    self->buffer_.commit(bytes);
    if (!self->done_) return;
    if (failed) return self->finish(self->failure(Error::unavailable, "read by TCP: " + failed.message()));
    const std::string_view view = self->buffer_.view();
    if (view.size() < 2) return self->read_tcp();
    const std::size_t size =
        std::size_t{static_cast<unsigned char>(view[0])} << 8 | static_cast<unsigned char>(view[1]);
    if (view.size() < size + 2) return self->read_tcp();
    auto message = read_message(view.substr(2, size));
    if (!message || !self->is_answer(*message, false)) {
      return self->finish(self->failure(Error::io, "a malformed answer by TCP"));
    }
    self->finish(std::move(*message));
  });
}

void UpstreamQuery::cancel() { finish(failure(Error::cancelled, "cancelled")); }

void UpstreamQuery::finish(Result<Message> result) {
  if (!done_) return;
  const auto self = shared_from_this();
  deadline_->clear();
  ErrorCode ignored;
  if (udp_ && udp_->is_open()) udp_->close(ignored);
  if (tcp_) tcp_->close();
  std::exchange(done_, nullptr)(std::move(result));
}

Error UpstreamQuery::failure(Error::Code code, const std::string& what) const {
  return {code, "dns", "upstream server " + server_.address.text() + ": " + what};
}

}  // namespace orchestra::dns
