#pragma once
// A blocking HTTP/2 client over TLS on libnghttp2, for tests; and the bare TLS socket below it, for frames
// that no library would send.
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>

#include <csignal>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/raw_socket.hpp"

namespace orchestra::test {

class TlsSocket {
 public:
  /// `protocols` in the form of ALPN; empty: none is offered.
  explicit TlsSocket(const std::string& address, std::string_view protocols = std::string_view("\x02h2", 3))
      : socket_(address), context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free) {
    std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes to closed connections without MSG_NOSIGNAL
    if (!protocols.empty())
      SSL_CTX_set_alpn_protos(context_.get(), reinterpret_cast<const unsigned char*>(protocols.data()),
                              static_cast<unsigned>(protocols.size()));
    ssl_ = {SSL_new(context_.get()), SSL_free};
    SSL_set_fd(ssl_.get(), socket_.get());
    connected_ = SSL_connect(ssl_.get()) == 1;
  }
  bool connected() const { return connected_; }
  std::string protocol() const {
    const unsigned char* name = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl_.get(), &name, &size);
    return {reinterpret_cast<const char*>(name), size};
  }
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const int sent = SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()));
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  /// What comes next; empty at the end, or after `milliseconds` of silence.
  std::string read_some(int milliseconds = 30000) {
    if (SSL_pending(ssl_.get()) == 0) {
      pollfd wait{socket_.get(), POLLIN, 0};
      if (::poll(&wait, 1, milliseconds) <= 0) {
        timed_out_ = true;
        return {};
      }
    }
    char bytes[16384];
    const int count = SSL_read(ssl_.get(), bytes, sizeof bytes);
    return count > 0 ? std::string(bytes, static_cast<std::size_t>(count)) : std::string();
  }
  std::string read_all() {
    std::string out;
    for (std::string more = read_some(); !more.empty(); more = read_some()) out += more;
    return out;
  }
  bool timed_out() const { return timed_out_; }
  SSL* ssl() const { return ssl_.get(); }
  int get() const { return socket_.get(); }

 private:
  RawSocket socket_;
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_{nullptr, SSL_free};
  bool connected_ = false, timed_out_ = false;
};

class H2Client {
 public:
  using Headers = std::vector<std::pair<std::string, std::string>>;
  struct Answer {
    int status = 0;
    std::map<std::string, std::string> headers;
    std::string body;
    bool ended = false;       ///< the stream is closed
    std::uint32_t error = 0;  ///< of its reset
  };
  struct Options {
    int window_bytes = 1 << 20;  ///< of each stream
    bool take = true;            ///< gives back what was read of the windows
  };

  explicit H2Client(const std::string& address) : H2Client(address, Options{}) {}
  H2Client(const std::string& address, Options options) : socket_(address) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_option* option = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_option_new(&option);
    nghttp2_option_set_no_auto_window_update(option, options.take ? 0 : 1);
    nghttp2_session_callbacks_set_on_header_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t n,
                      const std::uint8_t* value, std::size_t v, std::uint8_t, void* user) {
          Answer& answer = static_cast<H2Client*>(user)->answers[frame->hd.stream_id];
          const std::string key(reinterpret_cast<const char*>(name), n);
          const std::string text(reinterpret_cast<const char*>(value), v);
          if (key == ":status") answer.status = std::atoi(text.c_str());
          answer.headers[key] = text;
          return 0;
        });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        callbacks, [](nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* data,
                      std::size_t size, void* user) {
          static_cast<H2Client*>(user)->answers[id].body.append(reinterpret_cast<const char*>(data), size);
          return 0;
        });
    nghttp2_session_callbacks_set_on_stream_close_callback(
        callbacks, [](nghttp2_session*, std::int32_t id, std::uint32_t code, void* user) {
          Answer& answer = static_cast<H2Client*>(user)->answers[id];
          answer.ended = true;
          answer.error = code;
          return 0;
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* user) {
          if (frame->hd.type == NGHTTP2_GOAWAY)
            static_cast<H2Client*>(user)->goaways.push_back(frame->goaway.error_code);
          return 0;
        });
    nghttp2_session_client_new2(&session_, callbacks, this, option);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    const nghttp2_settings_entry window{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
                                        static_cast<std::uint32_t>(options.window_bytes)};
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, &window, 1);
    flush();
  }
  H2Client(const H2Client&) = delete;
  H2Client& operator=(const H2Client&) = delete;
  ~H2Client() { nghttp2_session_del(session_); }

  /// Sends a request; the stream it is on. With `body_later` its end is sent by end_body().
  std::int32_t request(const std::string& method, const std::string& path, std::string body = "",
                       const Headers& more = {}, bool body_later = false) {
    Headers fields{{":method", method}, {":scheme", "https"}, {":authority", "localhost"}, {":path", path}};
    fields.insert(fields.end(), more.begin(), more.end());
    std::vector<nghttp2_nv> list;
    const auto bytes = [](const std::string& s) {
      return reinterpret_cast<std::uint8_t*>(const_cast<char*>(s.data()));
    };
    for (const auto& [name, value] : fields)
      list.push_back({bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
    auto upload = std::make_unique<Upload>(Upload{std::move(body), 0, body_later});
    nghttp2_data_provider source{{.ptr = upload.get()}, read_upload};
    const bool has_body = !upload->bytes.empty() || body_later;
    const std::int32_t id = nghttp2_submit_request(session_, nullptr, list.data(), list.size(),
                                                   has_body ? &source : nullptr, nullptr);
    uploads_[id] = std::move(upload);
    flush();
    return id;
  }
  void end_body(std::int32_t id) {
    uploads_[id]->open = false;
    nghttp2_session_resume_data(session_, id);
    flush();
  }
  void cancel(std::int32_t id) {
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
    flush();
  }
  /// Gives the server room for `bytes` more on this stream (0: the connection).
  void open_window(std::int32_t id, std::size_t bytes) {
    nghttp2_session_consume_connection(session_, id == 0 ? bytes : 0);
    if (id != 0) nghttp2_session_consume_stream(session_, id, bytes);
    flush();
  }
  /// Reads until `enough`, the end of the connection, or 30 s of silence. False: not enough came.
  bool run_until(const std::function<bool()>& enough, int milliseconds = 30000) {
    while (!enough()) {
      const std::string bytes = socket_.read_some(milliseconds);
      if (bytes.empty()) {
        ended = !socket_.timed_out();
        return enough();
      }
      if (nghttp2_session_mem_recv(session_, reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                   bytes.size()) < 0)
        return false;
      flush();
    }
    return true;
  }
  const Answer& wait(std::int32_t id) {
    run_until([&] { return answers[id].ended; });
    return answers[id];
  }
  Answer send(const std::string& method, const std::string& path, const std::string& body = "",
              const Headers& more = {}) {
    return wait(request(method, path, body, more));
  }
  TlsSocket& socket() { return socket_; }

  std::map<std::int32_t, Answer> answers;
  std::vector<std::uint32_t> goaways;  ///< error codes
  bool ended = false;                  ///< the server closed the connection

 private:
  struct Upload {
    std::string bytes;
    std::size_t sent = 0;
    bool open = false;
  };
  static ssize_t read_upload(nghttp2_session*, std::int32_t, std::uint8_t* out, std::size_t size,
                             std::uint32_t* flags, nghttp2_data_source* source, void*) {
    auto& upload = *static_cast<Upload*>(source->ptr);
    const std::size_t count = std::min(size, upload.bytes.size() - upload.sent);
    if (count == 0 && upload.open) return NGHTTP2_ERR_DEFERRED;
    std::copy_n(upload.bytes.data() + upload.sent, count, reinterpret_cast<char*>(out));
    upload.sent += count;
    if (upload.sent == upload.bytes.size() && !upload.open) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(count);
  }
  void flush() {
    while (true) {
      const std::uint8_t* bytes = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_, &bytes);
      if (size <= 0) return;
      if (!socket_.send({reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size)})) return;
    }
  }

  TlsSocket socket_;
  nghttp2_session* session_ = nullptr;
  std::map<std::int32_t, std::unique_ptr<Upload>> uploads_;
};

/// One frame as bytes (RFC 9113 section 4.1).
inline std::string h2_frame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream,
                            std::string_view payload) {
  std::string out;
  for (const int shift : {16, 8, 0}) out += static_cast<char>(payload.size() >> shift);
  out += static_cast<char>(type);
  out += static_cast<char>(flags);
  for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(stream >> shift);
  return out + std::string(payload);
}
inline const std::string kH2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2_frame(4, 0, 0, "");
/// GET https://a/ without names in the tables, so that it can be repeated (RFC 7541 section 6.1).
inline const std::string kH2Get = std::string("\x82\x87\x84\x01\x01") + "a";

}  // namespace orchestra::test
