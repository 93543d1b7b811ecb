#include "net/http/wire.hpp"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <algorithm>
#include <array>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <mutex>

#include "base/assert.hpp"
#include "base/engine_impl.hpp"
#include "net/http/address.hpp"
#include "orchestra/env.hpp"

namespace orchestra::http {
namespace {

using Socket = asio::basic_stream_socket<asio::generic::stream_protocol, Strand>;
using TlsStream = asio::ssl::stream<Socket>;
constexpr int kAcceptsPerWakeMax = 64;
constexpr std::size_t kBuffersNowMax = 4;                      // of write_now(): a chunk has three
constexpr auto kAcceptRetry = std::chrono::milliseconds(100);  // after running out of descriptors

Socket adopt(const Strand& strand, Fd fd, int family) {
  if (family != AF_UNIX) {
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  Socket socket(strand);
  ErrorCode ignored;
  socket.assign(asio::generic::stream_protocol(family, 0), fd.release(), ignored);
  return socket;
}

class PlainWire final : public Wire {
 public:
  PlainWire(const Strand& strand, Fd fd, int family)
      : Wire(strand), socket_(adopt(strand, std::move(fd), family)) {}

  void handshake(std::function<void(ErrorCode)> done) override { done({}); }
  void read_some(char* bytes, std::size_t size, IoHandler done) override {
    socket_.async_read_some(asio::buffer(bytes, size), std::move(done));
  }
  void write(std::vector<asio::const_buffer> buffers, IoHandler done) override {
    asio::async_write(socket_, std::move(buffers), std::move(done));
  }
  std::size_t write_now(std::span<const asio::const_buffer> buffers) override {
    std::array<iovec, kBuffersNowMax> parts;
    ORC_ASSERT(buffers.size() <= parts.size());
    for (std::size_t i = 0; i < buffers.size(); ++i)
      parts[i] = {const_cast<void*>(buffers[i].data()), buffers[i].size()};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = buffers.size();
    const ssize_t taken = ::sendmsg(socket_.native_handle(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    return taken < 0 ? 0 : static_cast<std::size_t>(taken);
  }
  void shutdown_write() override {
    ErrorCode ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
  }
  void close() override {
    ErrorCode ignored;
    socket_.close(ignored);
  }
  int native() override { return socket_.native_handle(); }

 private:
  Socket socket_;
};

class TlsWire final : public Wire {
 public:
  TlsWire(const Strand& strand, Fd fd, int family, SharedTlsContext context, TlsRole role,
          const std::string& name)
      : Wire(strand),
        context_(std::move(context)),
        stream_(adopt(strand, std::move(fd), family), ::SSL_new(context_->get())),
        role_(role) {
    if (role == TlsRole::client && !name.empty()) verify_name(name);
  }

  void handshake(std::function<void(ErrorCode)> done) override {
    const auto side = role_ == TlsRole::server ? TlsStream::server : TlsStream::client;
    stream_.async_handshake(
        side, [self = shared_from_this(), done = std::move(done)](ErrorCode failed) { done(failed); });
  }
  void read_some(char* bytes, std::size_t size, IoHandler done) override {
    stream_.async_read_some(asio::buffer(bytes, size), std::move(done));
  }
  void write(std::vector<asio::const_buffer> buffers, IoHandler done) override {
    asio::async_write(stream_, std::move(buffers), std::move(done));
  }
  void shutdown_write() override {
    stream_.async_shutdown([self = shared_from_this()](ErrorCode) {});
  }
  void close() override {
    ErrorCode ignored;
    stream_.next_layer().close(ignored);
  }
  TlsPeer tls_peer() const override;
  std::string tls_server_name() const override {
    const char* name = ::SSL_get_servername(handle(), TLSEXT_NAMETYPE_host_name);
    return name == nullptr ? "" : name;
  }
  std::string tls_protocol() const override {
    const unsigned char* name = nullptr;
    unsigned int size = 0;
    ::SSL_get0_alpn_selected(handle(), &name, &size);
    return size == 0 ? std::string() : std::string(reinterpret_cast<const char*>(name), size);
  }
  std::string tls_verify_error() const override {
    const long result = ::SSL_get_verify_result(handle());
    return result == X509_V_OK ? "" : ::X509_verify_cert_error_string(result);
  }
  int native() override { return stream_.next_layer().native_handle(); }

 private:
  SSL* handle() const { return const_cast<TlsStream&>(stream_).native_handle(); }
  // SNI carries names only; for an address the certificate must hold that address.
  void verify_name(const std::string& name) {
    if (make_address(name, 0)) {
      ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(handle()), name.c_str());
    } else {
      ::SSL_set_tlsext_host_name(handle(), name.c_str());
      ::SSL_set1_host(handle(), name.c_str());
    }
  }

  SharedTlsContext context_;
  TlsStream stream_;
  TlsRole role_;
};

std::string to_utf8(const ASN1_STRING* text) {
  unsigned char* bytes = nullptr;
  const int size = ::ASN1_STRING_to_UTF8(&bytes, text);
  if (size < 0) return {};
  std::string out(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
  ::OPENSSL_free(bytes);
  return out;
}

TlsPeer TlsWire::tls_peer() const {
  TlsPeer peer;
  X509* certificate = ::SSL_get1_peer_certificate(handle());
  if (certificate == nullptr) return peer;
  if (::SSL_get_verify_result(handle()) == X509_V_OK) {
    const X509_NAME* subject = ::X509_get_subject_name(certificate);
    for (int i = 0; i < ::X509_NAME_entry_count(subject); ++i) {
      const X509_NAME_ENTRY* entry = ::X509_NAME_get_entry(subject, i);
      const int kind = ::OBJ_obj2nid(::X509_NAME_ENTRY_get_object(entry));
      if (kind == NID_commonName) peer.common_name = to_utf8(::X509_NAME_ENTRY_get_data(entry));
      if (kind == NID_organizationName)
        peer.organizations.push_back(to_utf8(::X509_NAME_ENTRY_get_data(entry)));
    }
  }
  ::X509_free(certificate);
  return peer;
}

}  // namespace

std::shared_ptr<Wire> make_plain_wire(const Strand& strand, Fd socket, int family) {
  return std::make_shared<PlainWire>(strand, std::move(socket), family);
}

std::shared_ptr<Wire> make_tls_wire(const Strand& strand, Fd socket, int family, SharedTlsContext context,
                                    TlsRole role, const std::string& server_name) {
  return std::make_shared<TlsWire>(strand, std::move(socket), family, std::move(context), role, server_name);
}

void connect_socket(const Strand& strand, const SocketAddress& address,
                    std::function<void(ErrorCode, Fd)> done) {
  Fd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto fail = [&](int error_number) {
    asio::post(strand, [done, error_number] {
      done(ErrorCode(error_number, boost::system::system_category()), Fd());
    });
  };
  if (!fd) return fail(errno);
  if (::connect(fd.get(), address.get(), address.size) == 0) {
    auto shared = std::make_shared<Fd>(std::move(fd));
    asio::post(strand, [done, shared] { done({}, std::move(*shared)); });
    return;
  }
  if (errno != EINPROGRESS) return fail(errno);
  auto waiting = std::make_shared<asio::posix::basic_stream_descriptor<Strand>>(strand, fd.release());
  waiting->async_wait(asio::posix::descriptor_base::wait_write, [waiting, done](ErrorCode failed) {
    Fd connected(waiting->release());
    int error_number = 0;
    socklen_t size = sizeof error_number;
    if (!failed) ::getsockopt(connected.get(), SOL_SOCKET, SO_ERROR, &error_number, &size);
    if (error_number != 0) failed = ErrorCode(error_number, boost::system::system_category());
    if (failed) connected.reset();
    done(failed, std::move(connected));
  });
}

void Deadline::set(Duration delay, std::function<void()> expired) {
  expired_ = std::move(expired);
  extend(delay);
}

void Deadline::extend(Duration delay) {
  expires_ns_ = engine_.clock().now().steady_ns + delay.count();
  if (armed_ns_ == 0 || expires_ns_ < armed_ns_) arm();
}

void Deadline::arm() {
  const std::int64_t wait = std::max<std::int64_t>(0, expires_ns_ - engine_.clock().now().steady_ns);
  armed_ns_ = expires_ns_;
  timer_.expires_after(std::chrono::nanoseconds(wait));
  const std::uint64_t generation = ++generation_;
  timer_.async_wait([weak = weak_from_this(), generation](ErrorCode) {
    const auto self = weak.lock();
    if (!self || self->generation_ != generation) return;
    self->armed_ns_ = 0;
    if (!self->expired_) return;
    if (self->engine_.clock().now().steady_ns < self->expires_ns_) return self->arm();
    const auto expired = std::exchange(self->expired_, nullptr);
    expired();
  });
}

void Deadline::clear() { expired_ = nullptr; }

namespace {
class AcceptorImpl final : public Acceptor {
 public:
  AcceptorImpl(Engine& engine, Fd listener, OnAccept on_accept)
      : descriptor_(event_context(engine), listener.release()),
        retry_(event_context(engine)),
        on_accept_(std::move(on_accept)) {}

  void wait() {
    std::lock_guard lock(mutex_);
    wait_locked();
  }

  void stop() override {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    ErrorCode ignored;
    descriptor_.close(ignored);
    retry_.cancel();
    on_accept_ = nullptr;
  }

 private:
  void wait_locked() {
    if (stopped_) return;
    auto self = std::static_pointer_cast<AcceptorImpl>(shared_from_this());
    descriptor_.async_wait(asio::posix::descriptor_base::wait_read, [self](ErrorCode failed) {
      if (!failed) self->accept();
    });
  }

  void accept() {
    std::lock_guard lock(mutex_);
    for (int i = 0; i < kAcceptsPerWakeMax && !stopped_; ++i) {
      SocketAddress peer;
      peer.size = sizeof peer.storage;
      Fd fd(::accept4(descriptor_.native_handle(), peer.get(), &peer.size, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!fd && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) return pause();
      if (!fd && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
      if (fd) on_accept_(std::move(fd), peer.family() == AF_UNIX ? "unix" : peer.text());
    }
    wait_locked();
  }

  void pause() {
    retry_.expires_after(kAcceptRetry);
    auto self = std::static_pointer_cast<AcceptorImpl>(shared_from_this());
    retry_.async_wait([self](ErrorCode failed) {
      if (!failed) self->wait();
    });
  }

  std::mutex mutex_;
  asio::posix::basic_stream_descriptor<asio::io_context::executor_type> descriptor_;
  asio::steady_timer retry_;
  OnAccept on_accept_;
  bool stopped_ = false;
};
}  // namespace

std::shared_ptr<Acceptor> Acceptor::start(Engine& engine, Fd listener, OnAccept on_accept) {
  auto acceptor = std::make_shared<AcceptorImpl>(engine, std::move(listener), std::move(on_accept));
  acceptor->wait();
  return acceptor;
}

}  // namespace orchestra::http
