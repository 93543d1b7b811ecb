// TLS over a DuplexStream: see tls_stream.hpp.
#include "net/http/tls_stream.hpp"

#include <openssl/ssl.h>

#include <algorithm>
#include <mutex>
#include <optional>

#include "base/openssl.hpp"

namespace orchestra::http {
namespace {

constexpr std::size_t kReadBytes = 16 << 10;

class TlsStream final : public DuplexStream, public std::enable_shared_from_this<TlsStream> {
 public:
  TlsStream(Engine& engine, SharedTlsContext context, std::shared_ptr<DuplexStream> below)
      : engine_(engine), context_(std::move(context)), below_(std::move(below)) {
    ssl_.reset(::SSL_new(context_->get()));
    in_ = ::BIO_new(::BIO_s_mem());
    out_ = ::BIO_new(::BIO_s_mem());
    ::SSL_set_bio(ssl_.get(), in_, out_);  // owns both
    ::SSL_set_connect_state(ssl_.get());
  }

  Pending<std::shared_ptr<DuplexStream>> open() {
    Promise<std::shared_ptr<DuplexStream>> promise;
    auto pending = promise.pending();
    shake(promise);
    return pending;
  }

  Pending<std::string> read(std::size_t bytes_max) override {
    Promise<std::string> promise;
    auto pending = promise.pending();
    take(std::clamp<std::size_t>(bytes_max, 1, kReadBytes), promise);
    return pending;
  }

  Pending<void> write(std::string bytes) override {
    {
      std::lock_guard lock(mutex_);
      ::ERR_clear_error();
      std::string_view rest = bytes;
      while (!rest.empty()) {  // one record a call
        const int taken = ::SSL_write(ssl_.get(), rest.data(), static_cast<int>(rest.size()));
        if (taken <= 0) return failed();
        rest.remove_prefix(static_cast<std::size_t>(taken));
      }
    }
    return below_->write(sealed());
  }

  void close_write() override {
    {
      std::lock_guard lock(mutex_);
      (void)::SSL_shutdown(ssl_.get());
      ::ERR_clear_error();
    }
    below_->write(sealed()).on_ready([below = below_](Result<void>) { below->close_write(); });
  }
  void close() override { below_->close(); }

 private:
  static Error failed() { return {Error::unavailable, "tls", "TLS: " + openssl::reasons()}; }

  /// What OpenSSL wants to be sent.
  std::string sealed() {
    std::lock_guard lock(mutex_);
    std::string out(::BIO_ctrl_pending(out_), '\0');
    if (!out.empty()) ::BIO_read(out_, out.data(), static_cast<int>(out.size()));
    return out;
  }
  void arrived(std::string_view bytes) {
    std::lock_guard lock(mutex_);
    ::BIO_write(in_, bytes.data(), static_cast<int>(bytes.size()));
  }

  void shake(const Promise<std::shared_ptr<DuplexStream>>& promise) {
    int result = 0, why = 0;
    std::optional<Error> error;
    {
      std::lock_guard lock(mutex_);
      ::ERR_clear_error();
      result = ::SSL_do_handshake(ssl_.get());
      why = ::SSL_get_error(ssl_.get(), result);
      if (result != 1 && why != SSL_ERROR_WANT_READ) error = failed();
    }
    if (error) {
      below_->close();
      return promise.set(*error);
    }
    const bool done = result == 1;
    below_->write(sealed()).on_ready([self = shared_from_this(), promise, done](Result<void> written) {
      if (!written) return promise.set(written.error());
      if (done) return promise.set(std::shared_ptr<DuplexStream>(self));
      self->below_->read(kReadBytes).on_ready([self, promise](Result<std::string> bytes) {
        if (!bytes) return promise.set(bytes.error());
        if (bytes->empty())
          return promise.set(Error(Error::unavailable, "tls", "TLS: the connection ended in its handshake"));
        self->arrived(*bytes);
        self->engine_.post([self, promise] { self->shake(promise); });
      });
    });
  }

  void take(std::size_t bytes_max, const Promise<std::string>& promise) {
    std::string out(bytes_max, '\0');
    Result<std::string> answer = std::string();
    bool more = false;
    {
      std::lock_guard lock(mutex_);
      ::ERR_clear_error();
      const int got = ::SSL_read(ssl_.get(), out.data(), static_cast<int>(out.size()));
      const int why = ::SSL_get_error(ssl_.get(), got);
      if (got > 0) {
        out.resize(static_cast<std::size_t>(got));
        answer = std::move(out);
      } else if (why == SSL_ERROR_WANT_READ) {
        more = true;
      } else if (why != SSL_ERROR_ZERO_RETURN) {
        answer = failed();
      }
    }
    if (!more) return promise.set(std::move(answer));
    below_->read(kReadBytes)
        .on_ready([self = shared_from_this(), bytes_max, promise](Result<std::string> bytes) {
          if (!bytes) return promise.set(bytes.error());
          // Without TLS's own end it may be cut short (RFC 8446 section 6.1).
          if (bytes->empty())
            return promise.set(
                Error(Error::unavailable, "tls", "TLS: the connection ended without saying so"));
          self->arrived(*bytes);
          self->engine_.post([self, bytes_max, promise] { self->take(bytes_max, promise); });
        });
  }

  struct Free {
    void operator()(SSL* ssl) const { ::SSL_free(ssl); }
  };
  Engine& engine_;
  const SharedTlsContext context_;
  const std::shared_ptr<DuplexStream> below_;
  std::mutex mutex_;  ///< a read and a write may come at once
  std::unique_ptr<SSL, Free> ssl_;
  BIO *in_ = nullptr, *out_ = nullptr;
};

}  // namespace

Pending<std::shared_ptr<DuplexStream>> open_tls_stream(Engine& engine, SharedTlsContext context,
                                                       std::shared_ptr<DuplexStream> below) {
  return std::make_shared<TlsStream>(engine, std::move(context), std::move(below))->open();
}

}  // namespace orchestra::http
